//! DDPM's reverse step as a row. Equations: Ho, Jain, Abbeel, "Denoising diffusion probabilistic
//! models", 2020.

use super::{Interval, SamplerConfig, VarianceType};
use crate::step::Combination;

/// The next sample from x_t and x_0, the mean of eq. 7 plus noise.
///
/// Over a respaced list the one-step alpha is the ratio of neighbouring alpha_bars
/// (Nichol and Dhariwal 2021, section 4).
pub(super) fn combination(interval: &Interval, config: &SamplerConfig) -> Combination {
    let Interval { alpha_bar, alpha_bar_prev, is_last, .. } = *interval;
    let alpha = alpha_bar / alpha_bar_prev;
    let beta = (alpha_bar_prev - alpha_bar) / alpha_bar_prev;
    let variance = match config.variance_type {
        // beta tilde, eq. 7.
        VarianceType::FixedSmall => (1.0 - alpha_bar_prev) / (1.0 - alpha_bar) * beta,
        VarianceType::FixedLarge => beta,
    };
    Combination {
        x: alpha.sqrt() * (1.0 - alpha_bar_prev) / (1.0 - alpha_bar),
        m: 0.0,
        x0: alpha_bar_prev.sqrt() * beta / (1.0 - alpha_bar),
        // Algorithm 2, line 3: no noise in the last step.
        noise: if is_last { 0.0 } else { variance.sqrt() },
    }
}
