//! DPM-Solver++, multistep. Equations: Lu, Zhou, Bao, Chen, Li, Zhu, "DPM-Solver++: fast solver for
//! guided sampling of diffusion probabilistic models", 2022. lambda is half the logarithm of the SNR, h
//! a step in it; D are differences of predictions over h.

use super::Definition;
use super::config::SolverType;
use super::plan::{Grid, Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("dpmpp", None), ("dpmpp-1", Some(1)), ("dpmpp-2m", Some(2)), ("dpmpp-3m", Some(3))],
    summary: "DPM-Solver++: deterministic, good from about 10 steps",
    grid: Grid::Open,
    orders: Some(1..=3),
    solver_types: &[SolverType::Midpoint, SolverType::Heun],
    rows: |plan| plan.rows(|k, here, next| row(plan, k, here, next)),
    ..Definition::PLAIN
};

fn row(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> Row {
    let order = order_at(plan, k, here, next);
    let alpha = next.alpha();
    // e^-h, finite at both ends of the schedule.
    let shrink = next.sigma() / here.sigma();
    let first = Combination::X * (next.spread() / here.spread())
        + Combination::X0 * (alpha * (1.0 - shrink));
    let combination = match (order, differences(plan, k, order)) {
        (2, (h, d1, _)) => match plan.config.solver_type {
            // Algorithm 2.
            None | Some(SolverType::Midpoint) => first + d1 * (0.5 * alpha * (1.0 - shrink)),
            Some(_) => first + d1 * (alpha * ((shrink - 1.0) / h + 1.0)),
        },
        // The third order of the authors' code. A Taylor expansion has the D_2 term twice: as published
        // the rule converges with order 2 (tests/golden/README.md).
        (3, (h, d1, d2)) => {
            first + d1 * (alpha * ((shrink - 1.0) / h + 1.0))
                - d2 * (alpha * ((shrink - 1.0 + h) / (h * h) - 0.5))
        }
        _ => first,
    };
    Row { remember: Some(Combination::X0), ..plan.row(here, combination) }
}

/// The order of step k: no more than there is history for, 1 in a step to the clean sample (where h
/// is infinite) or of no length, and lower at the end of a short run, which stays stable that way.
pub(super) fn order_at(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> usize {
    let config = plan.config;
    let is_short = config.lower_order_final && plan.total < SHORT_RUN;
    if next.is_clean()
        || next.alpha_bar <= here.alpha_bar
        || (plan.left(k) == 1 && (config.euler_at_final || is_short))
    {
        return 1;
    }
    let most = if is_short { plan.left(k) } else { usize::MAX };
    config.order().min(k + 1).min(most)
}

/// Runs of fewer steps lower their order at the end (diffusers, for `lower_order_final`).
pub(super) const SHORT_RUN: usize = 15;

/// (h, D_1, D_2) of step k as diffusers scales them: D_1 is h times the first derivative of x_0 in
/// lambda and D_2 h^2/2 times the second, as far as `order` reaches.
pub(super) fn differences(
    plan: &Plan<'_>,
    k: usize,
    order: usize,
) -> (f64, Combination, Combination) {
    let nothing = Combination::default();
    if order < 2 {
        return (0.0, nothing, nothing);
    }
    let lambda = |k: usize| plan.points[k].lambda();
    let [m1, m2, _] = Combination::HISTORY;
    let h = plan.after(k).lambda() - lambda(k);
    let r0 = (lambda(k) - lambda(k - 1)) / h;
    let d1_0 = (Combination::X0 - m1) * (1.0 / r0);
    if order == 2 {
        return (h, d1_0, nothing);
    }
    let r1 = (lambda(k - 1) - lambda(k - 2)) / h;
    let d1_1 = (m1 - m2) * (1.0 / r1);
    let second = (d1_0 - d1_1) * (1.0 / (r0 + r1));
    (h, d1_0 + second * r0, second)
}
