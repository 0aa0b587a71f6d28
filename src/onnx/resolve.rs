//! A model's description, put together from all who know something of it: the caller, then the
//! file's metadata, then the defaults of the DDPM paper. Every default taken is logged.

use std::fmt::Display;

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};
use crate::model::{Classes, ModelConfig};
use crate::noise_schedule::BetaSchedule;
use crate::sampler::{SamplerConfig, Thresholding, VarianceType};

use super::ModelOverrides;
use super::metadata::{Metadata, PREFIX};
use super::roles::Shape;

/// What the graph says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Facts {
    pub(super) shape: Shape,
    pub(super) classes: Option<Classes>,
    /// Whether its timesteps are integers.
    pub(super) whole_timesteps: bool,
}

/// Those who know something of one model.
pub(super) struct Sources<'a> {
    pub(super) overrides: &'a ModelOverrides,
    pub(super) metadata: &'a Metadata,
    /// Names it in messages.
    pub(super) model: &'a str,
    pub(super) log: &'a Logger,
}

impl Sources<'_> {
    /// The model's description. Errors: `Model`, where the parts do not fit each other.
    pub(super) fn resolve(&self, facts: &Facts) -> Result<ModelConfig> {
        let Shape { channels, height, width, gives_variance } = facts.shape;
        let Self { overrides, metadata, .. } = self;
        let defaults = ModelConfig::ddpm(channels, height, width);
        let num_train_timesteps = self.pick(
            "num_train_timesteps",
            overrides.num_train_timesteps,
            metadata.num_train_timesteps,
            defaults.num_train_timesteps,
        );
        let (variance_type, gives_variance) = self.variance(&facts.shape, gives_variance)?;
        let config = ModelConfig {
            color: self.pick("color", overrides.color, metadata.color, defaults.color),
            prediction_type: self.pick(
                "prediction_type",
                overrides.prediction_type,
                metadata.prediction_type,
                defaults.prediction_type,
            ),
            beta_schedule: match &overrides.beta_schedule {
                Some(schedule) => schedule.clone(),
                None => self.beta_schedule()?,
            },
            num_train_timesteps,
            rescale_betas_zero_snr: self.pick(
                "rescale_betas_zero_snr",
                overrides.rescale_betas_zero_snr,
                metadata.rescale_betas_zero_snr,
                defaults.rescale_betas_zero_snr,
            ),
            gives_variance,
            classes: facts.classes,
            sampler: SamplerConfig {
                steps: defaults.sampler.steps.min(num_train_timesteps),
                fractional_timesteps: !facts.whole_timesteps,
                variance_type,
                thresholding: self.pick_named(
                    "clip_sample_range",
                    overrides.thresholding,
                    metadata.thresholding,
                    defaults.sampler.thresholding,
                    |thresholding| match thresholding {
                        Thresholding::Clip(range) => range.to_string(),
                        _ => "none".to_owned(),
                    },
                ),
                ..defaults.sampler
            },
            ..defaults
        };
        config
            .validate()
            .map_err(|error| Error::new(ErrorKind::Model, format!("{}: {error}", self.model)))?;
        Ok(config)
    }

    /// The variance type, and whether the output has 2C channels, which only the type can say where
    /// the graph leaves them open.
    fn variance(
        &self,
        shape: &Shape,
        gives_variance: Option<bool>,
    ) -> Result<(VarianceType, bool)> {
        let Self { overrides, metadata, model, .. } = self;
        let said = overrides.variance_type.or(metadata.variance_type);
        let is_learned = said.is_some_and(VarianceType::is_learned);
        let gives_variance = gives_variance.unwrap_or(is_learned);
        if let Some(said) = said.filter(|_| is_learned && !gives_variance) {
            return Err(Error::new(
                ErrorKind::Model,
                format!(
                    "{model}: variance_type: found {} with an output of {} channels, expected {}: the sample's and as many for the variance",
                    said.name(),
                    shape.channels,
                    2 * shape.channels
                ),
            ));
        }
        let default =
            if gives_variance { VarianceType::LearnedRange } else { VarianceType::FixedSmall };
        let variance_type = self.pick_named(
            "variance_type",
            overrides.variance_type,
            metadata.variance_type,
            default,
            |variance_type| variance_type.name().to_owned(),
        );
        Ok((variance_type, gives_variance))
    }

    fn beta_schedule(&self) -> Result<BetaSchedule> {
        let Self { metadata, .. } = self;
        let name = self.pick(
            "beta_schedule",
            None,
            metadata.beta_schedule.as_deref(),
            BetaSchedule::DDPM.name(),
        );
        let (start, end) = BetaSchedule::DDPM.ends().unwrap_or((1e-4, 0.02));
        let schedule = BetaSchedule::from_name(name, start, end)?;
        if schedule.ends().is_none() {
            return Ok(schedule);
        }
        let start = self.pick("beta_start", None, metadata.beta_start, start);
        let end = self.pick("beta_end", None, metadata.beta_end, end);
        BetaSchedule::from_name(name, start, end)
    }

    fn pick<T: Display>(&self, key: &str, caller: Option<T>, file: Option<T>, default: T) -> T {
        self.pick_named(key, caller, file, default, T::to_string)
    }

    fn pick_named<T>(
        &self,
        key: &str,
        caller: Option<T>,
        file: Option<T>,
        default: T,
        name: impl Fn(&T) -> String,
    ) -> T {
        caller.or(file).unwrap_or_else(|| {
            let Self { model, log, .. } = self;
            let value = name(&default);
            log.log(LogLevel::Info, format!("{model}: no {PREFIX}{key}, taking {value}"));
            default
        })
    }
}
