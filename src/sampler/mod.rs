//! Samplers as data: a pure function from a noise schedule and a config to a table of rows.
//!
//! A table is computed once in f64; [`crate::step::apply`] is the only code that runs per element.
//! This module must not know models, noise or images.

mod ddim;
mod ddpm;

use std::str::FromStr;

use crate::error::{Error, Result};
use crate::noise_schedule::NoiseSchedule;
use crate::prediction::PredictionType;
use crate::step::Row;
use crate::timesteps::{TimestepSpacing, timesteps};

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

impl SamplerConfig {
    /// Checks the values that need no schedule. Errors: `InvalidArgument` naming the first fault.
    pub(crate) fn validate(&self) -> Result<()> {
        if let Sampler::Ddim { eta } = self.kind
            && !(0.0..=1.0).contains(&eta)
        {
            return Err(Error::invalid_argument(format!("eta: found {eta}, expected 0 to 1")));
        }
        if let Some(clip) = self.clip
            && !(clip > 0.0 && clip.is_finite())
        {
            return Err(Error::invalid_argument(format!(
                "clip: found {clip}, expected a finite number above 0"
            )));
        }
        Ok(())
    }
}

/// A sampler's rows, first step first; one row per model evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTable {
    rows: Vec<Row>,
}

impl StepTable {
    /// The rows in the order they are applied; at least one.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }
}

/// A step from one entry of the timestep list to the next, and all a sampler may know of it.
struct Interval {
    alpha_bar: f64,
    /// alpha_bar of the next entry of the list, or what follows the last one.
    alpha_bar_prev: f64,
    is_last: bool,
    /// (e_x, e_m): epsilon = e_x x + e_m m.
    epsilon: (f64, f64),
}

/// The table of `config` over `schedule`, in f64. A pure function; allocates the table.
///
/// The previous timestep of a row is the next entry of the timestep list, never t - T/n.
/// Errors: `InvalidArgument` where the steps are not 1 to T, eta is not in [0, 1], the clip is not a
/// positive number, or an epsilon model meets a schedule whose last alpha_bar is 0.
pub fn step_table(schedule: &NoiseSchedule, config: &SamplerConfig) -> Result<StepTable> {
    config.validate()?;
    let alphas_cumprod = schedule.alphas_cumprod();
    let total = schedule.num_train_timesteps();
    if schedule.has_zero_terminal_snr() {
        // Refused whatever timesteps are visited: such a model cannot have learned its last one.
        config.prediction_type.x0_coefficients(schedule, total - 1)?;
    }
    let list = timesteps(total, config.steps, config.spacing, config.steps_offset)?;
    let final_alpha = match config.final_alpha {
        FinalAlpha::One => 1.0,
        FinalAlpha::First => alphas_cumprod[0],
    };
    let row = |(index, &t): (usize, &usize)| {
        let following = list.get(index + 1);
        let (p_x, p_m) = config.prediction_type.x0_coefficients(schedule, t)?;
        let interval = Interval {
            alpha_bar: alphas_cumprod[t],
            alpha_bar_prev: following.map_or(final_alpha, |&t| alphas_cumprod[t]),
            is_last: following.is_none(),
            epsilon: config.prediction_type.epsilon_coefficients(schedule, t)?,
        };
        let next = match config.kind {
            Sampler::Ddpm => ddpm::combination(&interval, config),
            Sampler::Ddim { eta } => ddim::combination(&interval, config, eta),
        };
        Ok(Row { timestep: t as f64, p_x, p_m, clip: config.clip.unwrap_or(f64::INFINITY), next })
    };
    let rows = list.iter().enumerate().map(row).collect::<Result<_>>()?;
    Ok(StepTable { rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise_schedule::BetaSchedule;

    const DDIM: Sampler = Sampler::Ddim { eta: 0.0 };
    const DDIM_ETA_1: Sampler = Sampler::Ddim { eta: 1.0 };

    #[test]
    fn rows_stay_finite_where_little_signal_is_left() {
        let cosine = NoiseSchedule::new(&BetaSchedule::SquaredcosCapV2, 1000).unwrap();
        let zero_snr = NoiseSchedule::ddpm().rescaled_to_zero_snr().unwrap();
        let cases = [(cosine, PredictionType::Epsilon), (zero_snr, PredictionType::VPrediction)];
        for (schedule, prediction_type) in cases {
            for kind in [Sampler::Ddpm, DDIM, DDIM_ETA_1] {
                for steps in (1..=50).chain([1000]) {
                    let config =
                        SamplerConfig { kind, steps, prediction_type, ..SamplerConfig::default() };
                    for row in step_table(&schedule, &config).unwrap().rows() {
                        let Row { p_x, p_m, next, .. } = *row;
                        let all = [p_x, p_m, next.x, next.m, next.x0, next.noise];
                        assert!(all.iter().all(|c| c.is_finite()), "{kind:?} {steps}: {row:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn ddim_at_eta_1_is_ddpm_where_nothing_is_clipped() {
        // Song et al. 2021, section 4.1. Written over x and m, both rules are the same numbers.
        let schedule = NoiseSchedule::ddpm();
        let table = |kind| {
            let config = SamplerConfig { kind, steps: 20, ..SamplerConfig::default() };
            step_table(&schedule, &config).unwrap()
        };
        for (a, b) in table(Sampler::Ddpm).rows().iter().zip(table(DDIM_ETA_1).rows()) {
            let over_x_and_m = |row: &Row| {
                [row.next.x + row.next.x0 * row.p_x, row.next.m + row.next.x0 * row.p_m]
            };
            for (p, q) in over_x_and_m(a).into_iter().zip(over_x_and_m(b)) {
                // 1 - alpha_bar of 1e-4 leaves 12 digits.
                assert!((p - q).abs() < 1e-10, "t = {}: {p} {q}", a.timestep);
            }
            assert!((a.next.noise - b.next.noise).abs() < 1e-12, "t = {}", a.timestep);
        }
    }

    #[test]
    fn last_row_returns_x0_and_draws_no_noise() {
        let schedule = NoiseSchedule::ddpm();
        for variance_type in [VarianceType::FixedSmall, VarianceType::FixedLarge] {
            for kind in [Sampler::Ddpm, DDIM, DDIM_ETA_1] {
                let config = SamplerConfig { kind, variance_type, ..SamplerConfig::default() };
                let table = step_table(&schedule, &config).unwrap();
                let last = table.rows()[49].next;
                assert_eq!((last.x, last.m, last.noise), (0.0, 0.0, 0.0), "{kind:?}");
                assert!((last.x0 - 1.0).abs() < 1e-12, "{kind:?}");
            }
        }
    }

    #[test]
    fn fixed_large_variance_is_beta() {
        let schedule = NoiseSchedule::ddpm();
        let variance_type = VarianceType::FixedLarge;
        let config = SamplerConfig { steps: 1000, variance_type, ..SamplerConfig::default() };
        let table = step_table(&schedule, &config).unwrap();
        for row in &table.rows()[..999] {
            let beta = schedule.betas()[row.timestep as usize];
            assert!((row.next.noise.powi(2) - beta).abs() < 1e-12, "t = {}", row.timestep);
        }
    }

    #[test]
    fn final_alpha_first_stops_at_the_schedules_first_noise_level() {
        let schedule = NoiseSchedule::ddpm();
        let final_alpha = FinalAlpha::First;
        let config = SamplerConfig { kind: DDIM, final_alpha, ..SamplerConfig::default() };
        let last = *step_table(&schedule, &config).unwrap().rows().last().unwrap();
        let first = schedule.alphas_cumprod()[0];
        assert_eq!((last.next.x0, last.next.m), (first.sqrt(), (1.0 - first).sqrt()));
    }

    #[test]
    fn bad_configs_are_refused_by_name() {
        let schedule = NoiseSchedule::ddpm();
        let base = SamplerConfig::default();
        for (config, named) in [
            (SamplerConfig { steps: 0, ..base }, "steps: found 0, expected 1 to 1000"),
            (SamplerConfig { steps: 1001, ..base }, "steps: found 1001, expected 1 to 1000"),
            (SamplerConfig { kind: Sampler::Ddim { eta: -0.1 }, ..base }, "eta: found -0.1"),
            (SamplerConfig { kind: Sampler::Ddim { eta: f64::NAN }, ..base }, "eta: found NaN"),
            (SamplerConfig { clip: Some(0.0), ..base }, "clip: found 0"),
            (SamplerConfig { clip: Some(f64::INFINITY), ..base }, "clip: found inf"),
        ] {
            let error = step_table(&schedule, &config).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
        }
    }

    #[test]
    fn zero_snr_with_epsilon_is_refused_whatever_the_spacing() {
        let schedule = NoiseSchedule::ddpm().rescaled_to_zero_snr().unwrap();
        for spacing in [TimestepSpacing::Leading, TimestepSpacing::Trailing] {
            let config = SamplerConfig { spacing, ..SamplerConfig::default() };
            let error = step_table(&schedule, &config).unwrap_err();
            assert!(error.to_string().starts_with("prediction_type: found epsilon"), "{error}");
            let v = SamplerConfig { prediction_type: PredictionType::VPrediction, ..config };
            step_table(&schedule, &v).unwrap();
        }
    }

    #[test]
    fn variance_names_go_both_ways() {
        for variance in [VarianceType::FixedSmall, VarianceType::FixedLarge] {
            assert_eq!(variance.name().parse::<VarianceType>().unwrap(), variance);
        }
        let error = "learned".parse::<VarianceType>().unwrap_err();
        assert!(error.to_string().contains("found \"learned\""), "{error}");
    }
}
