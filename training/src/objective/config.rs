//! The `[loss]` section of a configuration: what a step of training makes small.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// The loss of the network's prediction; every field may be left out. See docs/training-objectives.md.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossConfig {
    /// What an error costs.
    #[serde(rename = "type")]
    pub kind: LossType,
    /// Where `huber` turns from a square to a straight line, in units of the prediction; more than 0.
    pub huber_c: f64,
    /// What the timesteps count.
    pub weighting: Weighting,
    /// The SNR at which `min_snr` is held; more than 0.
    pub snr_gamma: f64,
    /// k of `p2`; more than 0.
    pub p2_k: f64,
    /// gamma of `p2`; at least 0, and 0 is no weighting.
    pub p2_gamma: f64,
    /// Strength of the noise that all pixels of a channel share, 0 to 1 (Guttenberg 2023).
    pub noise_offset: f64,
    /// lambda of the variational bound, by which a variance is learned (Nichol and Dhariwal 2021,
    /// eq. 16); at least 0. Without a learned variance it is of no account.
    pub vlb_weight: f64,
}

/// What an error costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossType {
    /// Its square (Ho et al. 2020, eq. 14).
    #[default]
    Mse,
    /// Its square where small, its size where large: 2 c (sqrt(d^2 + c^2) - c), the pseudo-Huber loss
    /// (Charbonnier et al. 1997) as diffusers' training scripts scale it.
    Huber,
}

/// What the timesteps count, given as weights of the noise's, the image's or the velocity's error so
/// that the same is made small whatever the network predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Weighting {
    /// All the same, in units of the prediction.
    #[default]
    None,
    /// min(SNR, gamma) times the error of x_0 (Hang et al. 2023, "Efficient diffusion training via
    /// Min-SNR weighting strategy", section 3.4).
    MinSnr,
    /// The error of the noise over (k + SNR)^gamma (Choi et al. 2022, "Perception prioritized training
    /// of diffusion models", eq. 8).
    P2,
}

impl Default for LossConfig {
    /// The DDPM paper's L_simple.
    fn default() -> Self {
        Self {
            kind: LossType::Mse,
            huber_c: 0.1,
            weighting: Weighting::None,
            snr_gamma: 5.0,
            p2_k: 1.0,
            p2_gamma: 1.0,
            noise_offset: 0.0,
            vlb_weight: 0.001,
        }
    }
}

impl LossConfig {
    /// Says the first value that cannot work.
    pub fn validate(&self) -> Result<()> {
        for (name, value) in
            [("huber_c", self.huber_c), ("snr_gamma", self.snr_gamma), ("p2_k", self.p2_k)]
        {
            ensure!(
                value > 0.0 && value.is_finite(),
                "loss.{name} is {value}, expected more than 0"
            );
        }
        for (name, value) in [("p2_gamma", self.p2_gamma), ("vlb_weight", self.vlb_weight)] {
            ensure!(
                value >= 0.0 && value.is_finite(),
                "loss.{name} is {value}, expected at least 0"
            );
        }
        ensure!(
            (0.0..=1.0).contains(&self.noise_offset),
            "loss.noise_offset is {}, expected 0 to 1",
            self.noise_offset
        );
        Ok(())
    }
}
