//! What a denoising model is to the rest of the crate: a description, and a function to call.
//!
//! This module must not know ONNX, files or threads.

use ndarray::{ArrayView4, ArrayViewMut4};

use crate::error::{Error, Result};
pub use crate::image::Color;
use crate::noise_schedule::{BetaSchedule, NoiseSchedule};
use crate::prediction::PredictionType;
use crate::sampler::{Sampler, SamplerConfig};
use crate::step::RowMatrix;

/// A model's shape and how it was trained. Every field may be set by hand.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// C of the sample [N, C, H, W].
    pub channels: usize,
    /// H, in pixels.
    pub height: usize,
    /// W, in pixels.
    pub width: usize,
    /// What the channels mean.
    pub color: Color,
    /// What the output stands for.
    pub prediction_type: PredictionType,
    /// The betas it was trained with.
    pub beta_schedule: BetaSchedule,
    /// T it was trained with.
    pub num_train_timesteps: usize,
    /// Whether those betas were rescaled to end in pure noise (Lin et al. 2024, algorithm 1).
    pub rescale_betas_zero_snr: bool,
    /// Whether its output has 2C channels, the second C being a variance (see
    /// [`VarianceType`](crate::sampler::VarianceType)).
    pub gives_variance: bool,
    /// The classes it is conditioned on, where it is.
    pub classes: Option<Classes>,
    /// Whether DDIM takes epsilon from x_0 after thresholding unless a run says otherwise (see
    /// [`SamplerConfig::clipped_epsilon`]). Guidance pushes x_0 far out of its range, and an epsilon
    /// that does not belong to the x_0 that is kept leads away from the class.
    pub clipped_epsilon: bool,
    /// How it is sampled unless a run says otherwise.
    pub sampler: SamplerConfig,
}

/// The labels of a class-conditional model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classes {
    /// How many there are: labels are 0 to count - 1. `None` where the model does not say.
    pub count: Option<usize>,
    /// The label that stands for no class, where it has one: what classifier-free guidance (Ho and
    /// Salimans 2022) compares with.
    pub null: Option<i64>,
}

impl ModelConfig {
    /// A model of this shape with the DDPM paper's settings: epsilon, linear betas 1e-4 to 0.02,
    /// T = 1000, fixed small variance, x_0 held to [-1, 1]. 1 channel is gray, 4 are rgba, else rgb.
    ///
    /// Does not check the shape; [`validate`](Self::validate) does.
    pub fn ddpm(channels: usize, height: usize, width: usize) -> Self {
        Self {
            channels,
            height,
            width,
            color: Color::from_channels(channels).unwrap_or(Color::Rgb),
            prediction_type: PredictionType::Epsilon,
            beta_schedule: BetaSchedule::DDPM,
            num_train_timesteps: 1000,
            rescale_betas_zero_snr: false,
            gives_variance: false,
            classes: None,
            clipped_epsilon: false,
            sampler: SamplerConfig::default(),
        }
    }

    /// The channels of its output: C, or 2C where it gives a variance.
    pub fn output_channels(&self) -> usize {
        if self.gives_variance { 2 * self.channels } else { self.channels }
    }

    /// The number of values in `batch` samples, batch x C x H x W.
    ///
    /// Errors: `InvalidArgument` where a dimension is 0 or the f32 values would not fit the address
    /// space.
    pub fn sample_len(&self, batch: usize) -> Result<usize> {
        let Self { channels, height, width, .. } = *self;
        let refuse = |expected: &str| {
            Error::invalid_argument(format!(
                "sample shape: found [{batch}, {channels}, {height}, {width}], expected {expected}"
            ))
        };
        if [batch, channels, height, width].contains(&0) {
            return Err(refuse("every dimension at least 1"));
        }
        [batch, channels, height, width, size_of::<f32>()]
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .map(|bytes| bytes / size_of::<f32>())
            .ok_or_else(|| refuse("a size that fits the address space"))
    }

    /// Checks that the parts fit each other. Errors: `InvalidArgument` naming the first that does not.
    pub fn validate(&self) -> Result<()> {
        self.sample_len(1)?;
        if self.color.channels() != self.channels {
            return Err(Error::invalid_argument(format!(
                "channels: found {} with color {}, expected {}",
                self.channels,
                self.color,
                self.color.channels()
            )));
        }
        self.check_sampler(&self.sampler)?;
        let schedule = self.noise_schedule()?;
        if schedule.has_zero_terminal_snr() {
            let last = schedule.num_train_timesteps() - 1;
            self.prediction_type.x0_coefficients(&schedule, last)?;
        }
        Ok(())
    }

    /// The tables of the forward process it was trained with. Allocates. Errors: `InvalidArgument`.
    pub fn noise_schedule(&self) -> Result<NoiseSchedule> {
        let schedule = NoiseSchedule::new(&self.beta_schedule, self.num_train_timesteps)?;
        if self.rescale_betas_zero_snr { schedule.rescaled_to_zero_snr() } else { Ok(schedule) }
    }

    /// Checks a sampler config against the model, apart from the noise schedule. Errors:
    /// `InvalidArgument` where it has a fault of its own, or takes a variance the model does not give.
    pub fn check_sampler(&self, config: &SamplerConfig) -> Result<()> {
        config.validate()?;
        if config.variance_type.is_learned() && config.kind == Sampler::Ddpm && !self.gives_variance
        {
            return Err(Error::invalid_argument(format!(
                "variance_type: found {} with a model of {} output channels, expected {}",
                config.variance_type.name(),
                self.channels,
                2 * self.channels
            )));
        }
        Ok(())
    }

    /// The model's own sampler config with this sampler and so many steps; settings that the sampler
    /// has no use for are left out.
    pub fn sampler_config(&self, kind: Sampler, steps: usize) -> SamplerConfig {
        let own = self.sampler.with_kind(kind);
        let clipped_epsilon =
            own.clipped_epsilon || (self.clipped_epsilon && kind == Sampler::Ddim);
        SamplerConfig { steps, clipped_epsilon, ..own }
    }
}

/// What one call of a model must have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batching {
    /// The batch the model is fixed to; `None` for any.
    pub fixed: Option<usize>,
    /// It takes one timestep for the whole batch.
    pub shared_timestep: bool,
    /// It takes one label for the whole batch.
    pub shared_label: bool,
}

/// Something that predicts, from a noisy sample and its timestep, what its config says it predicts.
///
/// One thread at a time; a run calls it once per row of its step table.
pub trait Denoiser: Send {
    /// The model's description. The same for the life of the denoiser.
    fn config(&self) -> &ModelConfig;

    /// Predicts for a batch of N samples in the variance-preserving scale.
    ///
    /// `sample` is [N, C, H, W] and `output` [N, output channels, H, W], both C-contiguous, with the
    /// sizes of the config; `timesteps` holds N values in [0, T); `labels` N class labels, or nothing
    /// for a model without classes. Blocks until `output` is written; on an error the contents of
    /// `output` are unspecified.
    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        labels: &[i64],
        output: ArrayViewMut4<'_, f32>,
    ) -> Result<()>;

    /// What the samples of one call must have in common. The same for the life of the denoiser.
    fn batching(&self) -> Batching {
        Batching::default()
    }

    /// Makes later calls with `batch` samples as fast as they get, by a first one. Blocks for that.
    ///
    /// Errors: what a call gives; a model that fails here does not take such a batch.
    fn warm_up(&mut self, batch: usize) -> Result<()> {
        let _ = batch;
        Ok(())
    }

    /// The same model as one whose runs make whole steps, where it is one.
    fn fused(&mut self) -> Option<&mut dyn FusedSteps> {
        None
    }
}

/// Reverse steps that a run of the model makes whole. The samples of a call stay where the model runs, in a
/// place, and the next call for that place goes on from there.
pub trait FusedSteps {
    /// Makes a step of N samples, all or none of them. False where a value of the model's output or of a new
    /// sample is not finite: the place then holds what it held before.
    ///
    /// Blocks for the run. Allocates for the first call of a place, and where N is another than before.
    /// Errors: `InvalidArgument` where lengths differ, or nothing is held that could be gone on from; what
    /// the run gives. After an error the place holds what it held before, unless a state was given.
    fn step(&mut self, place: usize, ask: FusedAsk<'_>) -> Result<bool>;

    /// Copies what a place holds, [N, [`STATE_PARTS`](crate::step::STATE_PARTS), C, H, W].
    ///
    /// Blocks for the copy. Errors: `InvalidArgument` where the length differs or nothing is held;
    /// `Inference` where the device does not give it.
    fn fetch(&mut self, place: usize, state: &mut [f32]) -> Result<()>;
}

/// What one call makes a step of.
#[derive(Debug)]
pub struct FusedAsk<'a> {
    /// The step of each sample; N of them.
    pub rows: &'a [RowMatrix],
    /// N, in [0, T).
    pub timesteps: &'a [f64],
    /// N class labels, or nothing for a model without classes.
    pub labels: &'a [i64],
    /// What the samples keep, [N, [`STATE_PARTS`](crate::step::STATE_PARTS), C, H, W]; `None` goes on from
    /// what the place holds.
    pub state: Option<&'a [f32]>,
    /// Standard normal noise, [N, C, H, W]; `None` where no row draws any.
    pub noise: Option<&'a [f32]>,
    /// Receives the pictures, [N, C, H, W], if anybody wants them.
    pub shown: Option<&'a mut [f32]>,
}

/// Makes a [`Denoiser`], and what makes one, return early with an error. Every call may come from any
/// thread and returns at once.
pub(crate) trait Stopper: Send + Sync {
    /// Ends the load or the call that is going on, and every later one.
    fn stop(&self);

    /// Ends the call that is going on, or else the next one; those after it go on as ever. Does not
    /// allocate. It may come too late and end a call that was not meant, which then is to be made again.
    fn break_off(&self);

    /// Whether the last call failed for `break_off` and nothing else. For the thread that calls the
    /// denoiser.
    fn was_broken_off(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampler::{Thresholding, VarianceType};

    #[test]
    fn ddpm_defaults_are_valid_for_every_color() {
        for (channels, color) in [(1, Color::Gray), (3, Color::Rgb), (4, Color::Rgba)] {
            let config = ModelConfig::ddpm(channels, 16, 24);
            config.validate().unwrap();
            assert_eq!(config.color, color);
            assert_eq!(config.sample_len(2).unwrap(), 2 * channels * 16 * 24);
            assert_eq!(config.noise_schedule().unwrap(), NoiseSchedule::ddpm());
            assert_eq!(color.name().parse::<Color>().unwrap(), color);
        }
    }

    #[test]
    fn misfits_are_refused_by_name() {
        let base = ModelConfig::ddpm(3, 8, 8);
        let cases = [
            (
                ModelConfig { channels: 2, ..base.clone() },
                "channels: found 2 with color rgb, expected 3",
            ),
            (ModelConfig { height: 0, ..base.clone() }, "sample shape: found [1, 3, 0, 8]"),
            (
                ModelConfig { height: 0x7fff_ffff, width: usize::MAX, ..base.clone() },
                "sample shape: found [1, 3, 2147483647,",
            ),
            (
                ModelConfig {
                    sampler: SamplerConfig {
                        thresholding: Thresholding::Clip(f64::NAN),
                        ..SamplerConfig::default()
                    },
                    ..base.clone()
                },
                "clip: found NaN",
            ),
            (
                ModelConfig {
                    sampler: SamplerConfig {
                        variance_type: VarianceType::LearnedRange,
                        ..SamplerConfig::default()
                    },
                    ..base.clone()
                },
                "variance_type: found learned_range with a model of 3 output channels, expected 6",
            ),
            (
                ModelConfig { num_train_timesteps: 0, ..base.clone() },
                "num_train_timesteps: found 0",
            ),
            (
                ModelConfig { rescale_betas_zero_snr: true, ..base.clone() },
                "prediction_type: found epsilon with alpha_bar 0 at timestep 999",
            ),
        ];
        for (config, expected) in cases {
            let error = config.validate().unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
        let v = PredictionType::VPrediction;
        ModelConfig { rescale_betas_zero_snr: true, prediction_type: v, ..base }
            .validate()
            .unwrap();
    }

    #[test]
    fn sampler_config_takes_over_what_the_model_says_and_the_sampler_can_use() {
        let mut model = ModelConfig::ddpm(1, 8, 8);
        model.sampler = SamplerConfig {
            kind: Sampler::Dpmpp,
            order: Some(3),
            thresholding: Thresholding::Off,
            variance_type: VarianceType::FixedLarge,
            ..SamplerConfig::default()
        };
        let config = model.sampler_config(Sampler::Ddim, 7);
        assert_eq!((config.kind, config.steps, config.order), (Sampler::Ddim, 7, None));
        assert_eq!(config.thresholding, Thresholding::Off);
        assert_eq!(config.variance_type, VarianceType::FixedLarge);
        config.validate().unwrap();
        assert_eq!(model.sampler_config(Sampler::Unipc, 7).order, Some(3));
        assert!(!config.clipped_epsilon);
        model.clipped_epsilon = true;
        assert!(model.sampler_config(Sampler::Ddim, 7).clipped_epsilon);
        model.sampler_config(Sampler::Ddpm, 7).validate().unwrap();
    }
}
