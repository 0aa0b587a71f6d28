//! DDIM's reverse step as a row. Equations: Song, Meng, Ermon, "Denoising diffusion implicit models",
//! 2021, whose alpha is the alpha_bar of this crate.

use super::{Interval, SamplerConfig};
use crate::step::Combination;

/// The next sample of eq. 12: x_0, the direction to x_t along epsilon, and noise.
pub(super) fn combination(interval: &Interval, config: &SamplerConfig, eta: f64) -> Combination {
    let Interval { alpha_bar, alpha_bar_prev, epsilon: (e_x, e_m), .. } = *interval;
    // Eq. 16.
    let sigma = eta
        * ((1.0 - alpha_bar_prev) / (1.0 - alpha_bar)).sqrt()
        * ((alpha_bar_prev - alpha_bar) / alpha_bar_prev).sqrt();
    // At eta 1 the radicand is a difference of nearly equal numbers and may round below 0.
    let direction = (1.0 - alpha_bar_prev - sigma * sigma).max(0.0).sqrt();
    let signal_prev = alpha_bar_prev.sqrt();
    if config.clipped_epsilon {
        // epsilon = (x_t - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar), eq. 9 solved with the clipped x_0.
        let spread = (1.0 - alpha_bar).sqrt();
        Combination {
            x: direction / spread,
            m: 0.0,
            x0: signal_prev - direction * alpha_bar.sqrt() / spread,
            noise: sigma,
        }
    } else {
        Combination { x: direction * e_x, m: direction * e_m, x0: signal_prev, noise: sigma }
    }
}
