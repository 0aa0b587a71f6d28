//! Euler's method for the probability-flow ODE in sigma space. Equations: Karras, Aittala, Aila, Laine,
//! "Elucidating the design space of diffusion-based generative models", 2022, whose x is x_t / alpha.

use super::Definition;
use super::plan::{Grid, Point};
use crate::step::Combination;

pub(super) const DEFINITION: Definition = Definition {
    names: &[("euler", None)],
    summary: "plain Euler steps in sigma: DDIM with other timesteps",
    grid: Grid::Sigma,
    rows: |plan| plan.rows(|_, here, next| plan.row(here, step(here, next.sigma(), next))),
    ..Definition::PLAIN
};

/// From `here` to `sigma`, in the scale of `to`: x' = x + (sigma' - sigma) (x - x_0) / sigma (algorithm 1
/// without its correction). In the variance-preserving scale, x is alpha times that.
pub(super) fn step(here: &Point, sigma: f64, to: &Point) -> Combination {
    let shrink = sigma / here.sigma();
    (Combination::X * (shrink / here.alpha()) + Combination::X0 * (1.0 - shrink)) * to.alpha()
}
