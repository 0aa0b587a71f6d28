//! DEIS with polynomials in log rho, multistep. Equations: Zhang and Chen, "Fast sampling of diffusion
//! models with exponential integrator", 2023, section 3.3 (t-AB-DEIS, here over ln rho); rho is
//! sigma of Karras et al. 2022, in which the ODE is d(x / alpha) = epsilon d rho.

use super::Definition;
use super::dpmpp::order_at;
use super::plan::{Grid, Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("deis", None), ("deis-1", Some(1)), ("deis-2", Some(2)), ("deis-3", Some(3))],
    summary: "exponential integrator of the noise: deterministic, good from about 10 steps",
    grid: Grid::Open,
    orders: Some(1..=3),
    rows: |plan| plan.rows(|k, here, next| row(plan, k, here, next)),
    ..Definition::PLAIN
};

/// x / alpha plus the integral over rho of the polynomial through the last epsilons.
fn row(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> Row {
    let order = order_at(plan, k, here, next);
    let epsilon = here.epsilon_of_x0();
    let [e1, e2, _] = Combination::HISTORY;
    let log_rho = |back: usize| plan.points[k - back].sigma().ln();
    let (from, to) = (here.sigma(), next.sigma());
    let integral = match order {
        2 => {
            let (s0, s1) = (log_rho(0), log_rho(1));
            let weight = |at: f64, other: f64| {
                linear_integral(to, at, other) - linear_integral(from, at, other)
            };
            epsilon * weight(s0, s1) + e1 * weight(s1, s0)
        }
        3 => {
            let (s0, s1, s2) = (log_rho(0), log_rho(1), log_rho(2));
            let weight = |at: f64, a: f64, b: f64| {
                square_integral(to, at, a, b) - square_integral(from, at, a, b)
            };
            epsilon * weight(s0, s1, s2) + e1 * weight(s1, s2, s0) + e2 * weight(s2, s0, s1)
        }
        _ => epsilon * (to - from),
    };
    let combination = (Combination::X * (1.0 / here.alpha()) + integral) * next.alpha();
    Row { remember: Some(epsilon), ..plan.row(here, combination) }
}

/// The antiderivative in rho of (ln rho - c) / (b - c), the Lagrange polynomial that is 1 at b.
fn linear_integral(rho: f64, b: f64, c: f64) -> f64 {
    rho * (rho.ln() - 1.0 - c) / (b - c)
}

/// The antiderivative in rho of (ln rho - c) (ln rho - d) / ((b - c) (b - d)).
fn square_integral(rho: f64, b: f64, c: f64, d: f64) -> f64 {
    let log = rho.ln();
    rho * (log * log - 2.0 * log + 2.0 - (c + d) * (log - 1.0) + c * d) / ((b - c) * (b - d))
}
