//! DDPM's reverse step. Equations: Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020.

use super::Definition;
use super::config::VarianceType;
use super::plan::{Plan, Point};
use crate::step::{Combination, LearnedVariance, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("ddpm", None)],
    summary: "ancestral sampling: fresh noise in every step; best with many steps",
    takes_zero_snr: true,
    rows: |plan| plan.rows(|k, here, next| row(plan, k, here, next)),
    ..Definition::PLAIN
};

/// x_{t-1} from x_t and x_0: the mean of eq. 7 plus noise.
///
/// Over a respaced list the one-step alpha is the ratio of neighbouring alpha_bars
/// (Nichol and Dhariwal 2021, section 4).
fn row(plan: &Plan<'_>, k: usize, here: &Point, next: &Point) -> Row {
    let (alpha_bar, alpha_bar_prev) = (here.alpha_bar, next.alpha_bar);
    let alpha = alpha_bar / alpha_bar_prev;
    let beta = (alpha_bar_prev - alpha_bar) / alpha_bar_prev;
    // beta tilde, eq. 7.
    let posterior_variance = (1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * beta;
    let mean = Combination::X * (alpha.sqrt() * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar))
        + Combination::X0 * (alpha_bar_prev.sqrt() * beta / (1.0 - alpha_bar));
    // Algorithm 2, line 3: no noise in the last step.
    if plan.is_last(k) {
        return plan.row(here, mean);
    }
    let (deviation, learned_variance) = match plan.config.variance_type {
        VarianceType::FixedSmall | VarianceType::FixedSmallLog => (posterior_variance.sqrt(), None),
        VarianceType::FixedLarge | VarianceType::FixedLargeLog => (beta.sqrt(), None),
        VarianceType::Learned => (1.0, Some(LearnedVariance { offset: 0.0, slope: 1.0 })),
        // Nichol and Dhariwal 2021, eq. 15, with v from -1 to 1 as their code has it.
        VarianceType::LearnedRange => {
            let (low, high) = (posterior_variance.max(LEAST_VARIANCE).ln(), beta.ln());
            let range = LearnedVariance { offset: (low + high) / 2.0, slope: (high - low) / 2.0 };
            (1.0, Some(range))
        }
    };
    let next = mean + Combination::NOISE * deviation;
    Row { learned_variance, ..plan.row(here, next) }
}

/// What the posterior's variance is held to before its logarithm, as in diffusers.
const LEAST_VARIANCE: f64 = 1e-20;
