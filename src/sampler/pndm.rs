//! Pseudo linear multistep. Equations: Liu, Ren, Lin, Zhao, "Pseudo numerical methods for diffusion
//! models on manifolds", 2022. Started by an improved Euler step instead of Runge-Kutta, as
//! latent diffusion's PLMS does (diffusers' `skip_prk_steps`).

use super::Definition;
use super::plan::{Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("pndm", None), ("plms", None)],
    summary: "pseudo linear multistep: deterministic, good from about 20 steps",
    takes_sigmas: false,
    rows,
    ..Definition::PLAIN
};

/// The transfer part phi of eq. 11: DDIM's step along `epsilon`, from `start`.
pub(super) fn transfer(
    here: &Point,
    next: &Point,
    start: Combination,
    epsilon: Combination,
) -> Combination {
    let (signal, noise) = shares(here, next);
    start * signal + epsilon * noise
}

/// The shares of the start and of epsilon in a transfer.
pub(super) fn shares(here: &Point, next: &Point) -> (f64, f64) {
    let ratio = next.alpha() / here.alpha();
    (ratio, next.spread() - ratio * here.spread())
}

fn rows(plan: &Plan<'_>) -> Vec<Row> {
    let mut rows = Vec::new();
    for (k, here) in plan.points.iter().enumerate() {
        let next = plan.after(k);
        let e = here.raw_epsilon();
        rows.push(Row {
            carried: (k == 0).then_some(Combination::X),
            remember: Some(e),
            ..plan.row(here, transfer(here, &next, Combination::X, gradient(e, k)))
        });
        if k == 0 && !plan.is_last(k) {
            // The first step again, from its start, with the mean of both slopes.
            let mean = (next.raw_epsilon() + Combination::HISTORY[0]) * 0.5;
            rows.push(plan.row(&next, transfer(here, &next, Combination::CARRIED, mean)));
        }
    }
    rows
}

/// The gradient part, eq. 12: Adams and Bashforth's weights for the newest epsilon and `before` older
/// ones, as far as there are any.
pub(super) fn gradient(e: Combination, before: usize) -> Combination {
    let [e1, e2, e3] = Combination::HISTORY;
    match before {
        0 => e,
        1 => (e * 3.0 - e1) * (1.0 / 2.0),
        2 => (e * 23.0 - e1 * 16.0 + e2 * 5.0) * (1.0 / 12.0),
        _ => (e * 55.0 - e1 * 59.0 + e2 * 37.0 - e3 * 9.0) * (1.0 / 24.0),
    }
}
