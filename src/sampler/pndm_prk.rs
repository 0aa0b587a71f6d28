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
/// The first epsilon is remembered, for this step and for the multistep rule. There is one carried
/// sample for two things, the start and the weighted sum so far; what is missing of them is solved
/// for from the current sample, which is a transfer of the start.
fn runge_kutta(plan: &Plan<'_>, here: &Point, next: &Point) -> [Row; 4] {
    let half = next.timestep + ((here.timestep - next.timestep) / 2.0).floor();
    let half = plan.point(half, plan.alpha_bar_of(half as usize));
    let (to_half, half_noise) = shares(here, &half);
    let (to_next, next_noise) = shares(here, next);
    let start = Combination::CARRIED;
    let first = Combination::HISTORY[0];
    let second = half.raw_epsilon();
    let sum_of_two = start * to_next + (first + second * 2.0) * (next_noise / 6.0);
    // In the third row: x = to_half start + half_noise second, and the carried sum as above.
    let carried = Combination::CARRIED - first * (next_noise / 6.0);
    let determinant = to_half * next_noise / 3.0 - half_noise * to_next;
    let solved_start =
        (Combination::X * (next_noise / 3.0) - carried * half_noise) * (1.0 / determinant);
    let third = half.raw_epsilon();
    [
        Row {
            carried: Some(Combination::X),
            remember: Some(here.raw_epsilon()),
            ..plan.row(here, transfer(here, &half, Combination::X, here.raw_epsilon()))
        },
        Row { carried: Some(sum_of_two), ..plan.row(&half, transfer(here, &half, start, second)) },
        Row {
            carried: Some(Combination::CARRIED + third * (next_noise / 3.0)),
            ..plan.row(&half, transfer(here, next, solved_start, third))
        },
        plan.row(next, Combination::CARRIED + next.raw_epsilon() * (next_noise / 6.0)),
    ]
}
