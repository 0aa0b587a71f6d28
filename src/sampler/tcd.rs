//! Strategic stochastic sampling. Equations: Zheng, Hu, Fan, Wang, Zhuang, Chua, Cai, "Trajectory
//! consistency distillation", 2024, algorithm 4. gamma is called eta here.

use super::Definition;
use super::plan::{Grid, Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("tcd", None)],
    summary: "for models distilled for trajectory consistency: 2 to 8 steps",
    grid: Grid::Distilled,
    takes_sigmas: false,
    eta: Some(0.3),
    rows: |plan| plan.rows(|k, here, next| row(plan, k, here, next)),
    ..Definition::PLAIN
};

/// Denoises to s = (1 - gamma) t', below the next timestep t', then adds noise up to t'.
fn row(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> Row {
    let below = if plan.is_last(k) {
        *next
    } else {
        let s = ((1.0 - plan.config.eta()) * next.timestep).floor();
        plan.point(s, plan.alpha_bar_of(s as usize))
    };
    let denoised = Combination::X0 * below.alpha() + here.raw_epsilon() * below.spread();
    let ratio = next.alpha_bar / below.alpha_bar;
    let noise = Combination::NOISE * (1.0 - ratio).max(0.0).sqrt();
    plan.row(here, denoised * ratio.sqrt() + noise)
}
