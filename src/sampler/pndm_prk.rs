//! Pseudo linear multistep started by pseudo Runge-Kutta steps: F-PNDM as published. Equations: Liu,
//! Ren, Lin, Zhao, "Pseudo numerical methods for diffusion models on manifolds", 2022, algorithm 2.

use super::Definition;
use super::plan::{Plan, Point};
use super::pndm::{gradient, shares, transfer};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("pndm-prk", None)],
    summary: "pseudo linear multistep after three Runge-Kutta steps: nine evaluations more than steps",
    takes_sigmas: false,
    rows,
    ..Definition::PLAIN
};

/// Steps made by Runge-Kutta: as many as the multistep rule needs before it.
const WARM_UP: usize = 3;

fn rows(plan: &Plan<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (k, here) in plan.points.iter().enumerate() {
        let next = plan.after(k);
        // A Runge-Kutta step asks the model where it ends, which the last step cannot.
        if k < WARM_UP && !plan.is_last(k) {
            rows.extend(runge_kutta(plan, here, &next));
        } else {
            let e = here.raw_epsilon();
            let next = transfer(here, &next, Combination::X, gradient(e, k));
            rows.push(Row { remember: Some(e), ..plan.row(here, next) });
        }
    }
    rows
}

/// Eq. 13: epsilon at the start, twice half-way, and at the end, weighted 1, 2, 2, 1.
///
/// The first epsilon is remembered, for this step and for the multistep rule. The start is carried to the
/// third row, whose sample is a transfer of it along the second epsilon, which follows from both; from
/// there on what is carried is the step without the last epsilon's share.
fn runge_kutta(plan: &Plan<'_>, here: &Point, next: &Point) -> [Row; 4] {
    let half = next.timestep + ((here.timestep - next.timestep) / 2.0).floor();
    let half = plan.point(half, plan.alpha_bar_of(half as usize));
    let (to_half, half_noise) = shares(here, &half);
    let (to_next, next_noise) = shares(here, next);
    let start = Combination::CARRIED;
    let [first, ..] = Combination::HISTORY;
    let epsilon_at_half = half.raw_epsilon();
    let second = (Combination::X - start * to_half) * (1.0 / half_noise);
    let without_last =
        start * to_next + (first + (second + epsilon_at_half) * 2.0) * (next_noise / 6.0);
    [
        Row {
            carried: Some(Combination::X),
            remember: Some(here.raw_epsilon()),
            ..plan.row(here, transfer(here, &half, Combination::X, here.raw_epsilon()))
        },
        plan.row(&half, transfer(here, &half, start, epsilon_at_half)),
        Row {
            carried: Some(without_last),
            ..plan.row(&half, transfer(here, next, start, epsilon_at_half))
        },
        plan.row(next, Combination::CARRIED + next.raw_epsilon() * (next_noise / 6.0)),
    ]
}
