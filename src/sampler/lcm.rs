//! Multistep sampling of a latent consistency model. Equations: Luo, Tan, Huang, Li, Zhao, "Latent
//! consistency models", 2023, algorithm 3; the boundary conditions are those of Song et al. 2023,
//! "Consistency models", appendix C, with sigma_data 0.5 and the timestep times 10.

use super::Definition;
use super::plan::{Grid, Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("lcm", None)],
    summary: "for models distilled into a latent consistency model: 1 to 8 steps",
    grid: Grid::Distilled,
    takes_sigmas: false,
    rows: |plan| plan.rows(|k, here, next| row(plan, k, here, next)),
    ..Definition::PLAIN
};

const SIGMA_DATA: f64 = 0.5;
const TIMESTEP_SCALING: f64 = 10.0;

/// The consistency function's value, with new noise up to the next level; none after the last step.
fn row(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> Row {
    let time = here.timestep * TIMESTEP_SCALING;
    let c_skip = SIGMA_DATA.powi(2) / (time.powi(2) + SIGMA_DATA.powi(2));
    let c_out = time / (time.powi(2) + SIGMA_DATA.powi(2)).sqrt();
    let denoised = Combination::X0 * c_out + Combination::X * c_skip;
    if plan.is_last(k) {
        return plan.row(here, denoised);
    }
    plan.row(here, denoised * next.alpha() + Combination::NOISE * next.spread())
}
