//! DDIM's reverse step. Equations: Song, Meng, Ermon, "Denoising diffusion implicit models", 2021,
//! whose alpha is the alpha_bar of this crate.

use super::Definition;
use super::plan::{Plan, Point};
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("ddim", None)],
    summary: "deterministic at eta 0, good from about 20 steps",
    eta: Some(0.0),
    takes_zero_snr: true,
    rows: |plan| plan.rows(|_, here, next| row(plan, here, next)),
    ..Definition::PLAIN
};

/// The next sample of eq. 12: x_0, the direction to x_t along epsilon, and noise.
fn row(plan: &Plan<'_>, here: &Point, next: &Point) -> Row {
    let (alpha_bar, alpha_bar_prev) = (here.alpha_bar, next.alpha_bar);
    // Eq. 16.
    let sigma = plan.config.eta()
        * ((1.0 - alpha_bar_prev) / (1.0 - alpha_bar)).sqrt()
        * ((alpha_bar_prev - alpha_bar) / alpha_bar_prev).sqrt();
    // At eta 1 the radicand is a difference of nearly equal numbers and may round below 0.
    let direction = (1.0 - alpha_bar_prev - sigma * sigma).max(0.0).sqrt();
    let epsilon =
        if plan.config.clipped_epsilon { here.epsilon_of_x0() } else { here.raw_epsilon() };
    let combination =
        Combination::X0 * next.alpha() + epsilon * direction + Combination::NOISE * sigma;
    plan.row(here, combination)
}
