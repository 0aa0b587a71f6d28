//! The terms of the variational bound, in nats, and what they depend on at each timestep.
//!
//! Source: Ho et al. 2020, eq. 5, 7 and 13; in code, improved-diffusion's `losses.py`.

use std::f64::consts::PI;

use anyhow::{Result, ensure};
use ddpm::model::ModelConfig;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::posterior_mean_coefficients;
use ddpm::sampler::VarianceType;

/// Half of the width of a byte's bin in [-1, 1].
pub const HALF_BIN: f64 = 1.0 / 255.0;
/// Beyond this the bin of a value reaches to infinity: it is that of byte 0 or 255.
pub const EDGE: f64 = 0.999;
/// What a probability is held to before its logarithm.
pub const LEAST_PROBABILITY: f64 = 1e-12;

/// The true posterior q(x_{t-1} | x_t, x_0) at a timestep, and the network's part in its mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Posterior {
    /// c_x0 of mu = c_x0 x_0 + c_x x_t (eq. 7).
    pub coef_x0: f64,
    /// c_x.
    pub coef_x: f64,
    /// ln of beta tilde (eq. 7); at t = 0, where that is 0, of t = 1's.
    pub log_variance: f64,
    /// ln beta, the greatest of a learned range.
    pub log_beta: f64,
    /// By how much the mean changes with the network's output m: c_x0 times dx_0/dm.
    pub mean_of_output: f64,
}

impl Posterior {
    /// ln of the variance of the model's step from timestep `t`, where `output` is what the network gives
    /// for it, if it does.
    pub fn model_log_variance(&self, variance_type: VarianceType, t: usize, output: f64) -> f64 {
        match variance_type {
            VarianceType::FixedSmall | VarianceType::FixedSmallLog => self.log_variance,
            // As improved-diffusion: beta would be far too much for the decoder.
            VarianceType::FixedLarge | VarianceType::FixedLargeLog if t == 0 => self.log_variance,
            VarianceType::FixedLarge | VarianceType::FixedLargeLog => self.log_beta,
            VarianceType::Learned => output,
            // Nichol and Dhariwal 2021, eq. 15, with v from -1 to 1 as their code has it.
            VarianceType::LearnedRange => {
                let (middle, slope) = self.range();
                middle + slope * output
            }
        }
    }

    /// The middle and half the length of what a learned range spans, in ln of the variance.
    pub fn range(&self) -> (f64, f64) {
        let (low, high) = (self.log_variance, self.log_beta);
        ((high + low) / 2.0, (high - low) / 2.0)
    }
}

/// The posteriors of all timesteps.
///
/// Errors: where there are less than two timesteps, or a value is not a number.
pub fn posteriors(model: &ModelConfig, schedule: &NoiseSchedule) -> Result<Vec<Posterior>> {
    let alphas_cumprod = schedule.alphas_cumprod();
    let count = alphas_cumprod.len();
    ensure!(
        count >= 2,
        "diffusion.num_train_timesteps is {count}, expected at least 2 for a variational bound"
    );
    let variance =
        |t: usize| schedule.betas()[t] * (1.0 - alphas_cumprod[t - 1]) / (1.0 - alphas_cumprod[t]);
    (0..count)
        .map(|t| {
            let before = if t > 0 { alphas_cumprod[t - 1] } else { 1.0 };
            let (coef_x0, coef_x) = posterior_mean_coefficients(alphas_cumprod[t], before);
            let (_, p_m) = model.prediction_type.x0_coefficients(schedule, t)?;
            let posterior = Posterior {
                coef_x0,
                coef_x,
                log_variance: variance(t.max(1)).ln(),
                log_beta: schedule.betas()[t].ln(),
                mean_of_output: coef_x0 * p_m,
            };
            let Posterior { log_variance, log_beta, mean_of_output, .. } = posterior;
            ensure!(
                [log_variance, log_beta, mean_of_output, coef_x].iter().all(|v| v.is_finite()),
                "diffusion: no posterior at timestep {t}, where beta is {} and alphas_cumprod {}",
                schedule.betas()[t],
                alphas_cumprod[t]
            );
            Ok(posterior)
        })
        .collect()
}

/// KL(N(mean1, e^log_variance1) || N(mean2, e^log_variance2)), in nats; `difference` is mean1 - mean2.
pub fn normal_kl(difference: f64, log_variance1: f64, log_variance2: f64) -> f64 {
    let ratio = (log_variance1 - log_variance2).exp();
    0.5 * (log_variance2 - log_variance1 - 1.0
        + ratio
        + difference.powi(2) * (-log_variance2).exp())
}

/// The probability's logarithm, in nats, that a normal variable of that mean and variance falls into the
/// bin of the byte `x` (in [-1, 1]); `difference` is x - mean (Ho et al. 2020, eq. 13).
pub fn discretized_gaussian_log_likelihood(x: f64, difference: f64, log_variance: f64) -> f64 {
    let scale = (-0.5 * log_variance).exp();
    let below = standard_normal_cdf(scale * (difference + HALF_BIN));
    let above = 1.0 - standard_normal_cdf(scale * (difference - HALF_BIN));
    let probability = match x {
        x if x < -EDGE => below,
        x if x > EDGE => above,
        _ => below + above - 1.0,
    };
    probability.max(LEAST_PROBABILITY).ln()
}

/// The normal law's cumulative function as improved-diffusion has it, within 2e-4, so that figures are
/// those of its papers (Page 1977; Hendrycks and Gimpel 2016, section 2).
fn standard_normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}
