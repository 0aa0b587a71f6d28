//! Euler steps below the next noise level, and noise to come back up to it. Source: k-diffusion's
//! `sample_euler_ancestral`, after Song et al. 2021, "Score-based generative modeling through stochastic
//! differential equations", appendix F (its ancestral sampler).

use super::Definition;
use super::euler;
use super::plan::{Grid, Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("euler-a", None), ("euler-ancestral", None)],
    summary: "Euler steps with fresh noise in between",
    grid: Grid::Sigma,
    rows: |plan| plan.rows(|_, here, next| row(plan, here, next)),
    ..Definition::PLAIN
};

fn row(plan: &Plan<'_>, here: &Point, next: &Point) -> Row {
    let (from, to) = (here.sigma(), next.sigma());
    // sigma_up^2 + sigma_down^2 = sigma_to^2.
    let up = to * ((from * from - to * to).max(0.0)).sqrt() / from;
    let down = to * to / from;
    let noise = Combination::NOISE * (up * next.alpha());
    plan.row(here, euler::step(here, down, next) + noise)
}
