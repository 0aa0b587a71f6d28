//! Samplers as data: a pure function from a noise schedule and a config to a table of rows.
//!
//! A table is computed once in f64; [`crate::step::apply`] is the only code that runs per element.
//! This module must not know models, noise or images.

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::prediction::PredictionType;
use crate::timesteps::TimestepSpacing;

/// The rule that takes x_t to the next, less noisy x.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Sampler {
    /// Ancestral sampling (Ho et al. 2020, algorithm 2).
    #[default]
    Ddpm,
    /// Song, Meng, Ermon, "Denoising diffusion implicit models", 2021: eta 0 draws no noise,
    /// eta 1 as much as DDPM.
    Ddim { eta: f64 },
}

/// The variance of DDPM's reverse step (Ho et al. 2020, section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VarianceType {
    /// The posterior's variance, beta tilde of eq. 7.
    #[default]
    FixedSmall,
    /// beta itself.
    FixedLarge,
}

impl VarianceType {
    /// The name in diffusers' configs and in `ddpm.variance_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FixedSmall => "fixed_small",
            Self::FixedLarge => "fixed_large",
        }
    }
}

impl FromStr for VarianceType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "fixed_small" => Ok(Self::FixedSmall),
            "fixed_large" => Ok(Self::FixedLarge),
            _ => Err(Error::invalid_argument(format!(
                "variance_type: found \"{name}\", expected fixed_small or fixed_large"
            ))),
        }
    }
}

/// What follows the last timestep of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FinalAlpha {
    /// alpha_bar 1: the clean sample.
    #[default]
    One,
    /// alpha_bar of timestep 0, as diffusers' DDIM with `set_alpha_to_one = false` (Stable Diffusion).
    First,
}

/// Everything a step table depends on besides the noise schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplerConfig {
    /// The update rule.
    pub kind: Sampler,
    /// Model evaluations, 1 to T.
    pub steps: usize,
    /// How the steps are spread over training time.
    pub spacing: TimestepSpacing,
    /// Added to a leading list, see [`crate::timesteps::timesteps`].
    pub steps_offset: usize,
    /// What the model output stands for.
    pub prediction_type: PredictionType,
    /// The predicted x_0 is held to [-clip, clip] before it is used; none leaves it as it is.
    pub clip: Option<f64>,
    /// DDPM's variance; DDIM has its own in eta.
    pub variance_type: VarianceType,
    /// What follows the last timestep.
    pub final_alpha: FinalAlpha,
    /// DDIM only: epsilon is taken from the clipped x_0 (diffusers' `use_clipped_model_output`).
    pub clipped_epsilon: bool,
}

impl Default for SamplerConfig {
    /// DDPM, 50 trailing steps, an epsilon model, x_0 held to [-1, 1].
    fn default() -> Self {
        Self {
            kind: Sampler::Ddpm,
            steps: 50,
            spacing: TimestepSpacing::Trailing,
            steps_offset: 0,
            prediction_type: PredictionType::Epsilon,
            clip: Some(1.0),
            variance_type: VarianceType::FixedSmall,
            final_alpha: FinalAlpha::One,
            clipped_epsilon: false,
        }
    }
}
