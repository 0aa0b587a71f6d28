//! What each timestep counts in the loss.

use anyhow::{Result, ensure};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;

use super::config::{LossConfig, Weighting};

/// The weight of the squared error of the prediction m, for each timestep.
///
/// Both weightings are laws for x_0. As x_0 = p_x x + p_m m, an error of m is one of x_0 times p_m, so
/// a weight w of x_0's square is w p_m^2 of m's: of the noise w / SNR, of v w / (SNR + 1).
///
/// Where nothing is left of the image (SNR 0, after `rescale_betas_zero_snr`) both laws give 0 and the
/// first step of a sampler would never be trained: the weight is 1 there, as in the training scripts
/// that descend from diffusers.
///
/// Errors: where a weight is not a number, as with betas too small for f64.
pub fn weights(
    loss: &LossConfig,
    prediction: PredictionType,
    schedule: &NoiseSchedule,
) -> Result<Vec<f64>> {
    let mut weights = Vec::with_capacity(schedule.num_train_timesteps());
    for (t, &alpha_bar) in schedule.alphas_cumprod().iter().enumerate() {
        let snr = alpha_bar / (1.0 - alpha_bar);
        let of_x0 = match loss.weighting {
            _ if snr == 0.0 => None,
            Weighting::None => None,
            // Hang et al. 2023, section 3.4.
            Weighting::MinSnr => Some(snr.min(loss.snr_gamma)),
            // Choi et al. 2022, eq. 8, where the constant weight is that of the noise.
            Weighting::P2 => Some(snr / (loss.p2_k + snr).powf(loss.p2_gamma)),
        };
        let weight = match of_x0 {
            None => 1.0,
            Some(weight) => weight * prediction.x0_coefficients(schedule, t)?.1.powi(2),
        };
        ensure!(
            weight.is_finite(),
            "loss.weighting: the weight at timestep {t} is {weight}; alphas_cumprod is {alpha_bar} there"
        );
        weights.push(weight);
    }
    Ok(weights)
}
