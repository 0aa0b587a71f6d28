//! DPM-Solver++ of the diffusion SDE, multistep: every step draws noise. Equations: Lu et al. 2022,
//! "DPM-Solver++", section 5 and appendix; order 3 as k-diffusion extends it. (In diffusers 0.42 the
//! last 0.5 of order 3 has the wrong sign: its coefficient does not vanish with h.)

use super::Definition;
use super::config::SolverType;
use super::dpmpp::{differences, order_at};
use super::plan::{Grid, Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[
        ("dpmpp-sde", None),
        ("dpmpp-1-sde", Some(1)),
        ("dpmpp-2m-sde", Some(2)),
        ("dpmpp-3m-sde", Some(3)),
    ],
    summary: "DPM-Solver++ with noise in every step: more variety, more steps",
    grid: Grid::Open,
    orders: Some(1..=3),
    solver_types: &[SolverType::Midpoint, SolverType::Heun],
    rows: |plan| plan.rows(|k, here, next| row(plan, k, here, next)),
    ..Definition::PLAIN
};

fn row(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> Row {
    let order = order_at(plan, k, here, next);
    let alpha = next.alpha();
    // e^-h, and e^-2h below: the SDE forgets its noise twice as fast as the ODE.
    let shrink = next.sigma() / here.sigma();
    let gain = 1.0 - shrink * shrink;
    let first = Combination::X * (next.spread() / here.spread() * shrink)
        + Combination::X0 * (alpha * gain)
        + Combination::NOISE * (next.spread() * gain.max(0.0).sqrt());
    let combination = match (order, differences(plan, k, order)) {
        (2, (h, d1, _)) => match plan.config.solver_type {
            None | Some(SolverType::Midpoint) => first + d1 * (0.5 * alpha * gain),
            Some(_) => first + d1 * (alpha * (1.0 - gain / (2.0 * h))),
        },
        (3, (h, d1, d2)) => {
            first
                + d1 * (alpha * (1.0 - gain / (2.0 * h)))
                + d2 * (alpha * ((gain - 2.0 * h) / (4.0 * h * h) + 0.5))
        }
        _ => first,
    };
    Row { remember: Some(Combination::X0), ..plan.row(here, combination) }
}
