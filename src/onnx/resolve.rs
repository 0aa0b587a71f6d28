//! A model's description, put together from all who know something of it: the caller, then a
//! scheduler config beside the file, then the file's metadata, then the defaults of the scheduler's
//! class, or without one those of the DDPM paper. Every default taken is logged.

use std::fmt::Display;

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};
use crate::model::{Classes, ModelConfig};
use crate::noise_schedule::BetaSchedule;
use crate::sampler::{SamplerConfig, Thresholding, VarianceType};

use super::ModelOverrides;
use super::metadata::{Metadata, PREFIX};
use super::roles::Shape;
use super::scheduler_config::{SchedulerConfig, default_steps};

/// Keys of a scheduler config that say one thing together.
const BETA_KEYS: &[&str] = &["beta_schedule", "beta_start", "beta_end", "trained_betas"];
const THRESHOLDING_KEYS: &[&str] = &[
    "clip_sample",
    "clip_sample_range",
    "thresholding",
    "dynamic_thresholding_ratio",
    "sample_max_value",
];
/// Those that say one thing each, and that others may say too.
const SHARED_KEYS: &[&str] =
    &["prediction_type", "num_train_timesteps", "rescale_betas_zero_snr", "variance_type"];

/// What the graph says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Facts<'a> {
    pub(super) shape: Shape,
    pub(super) classes: Option<Classes>,
    /// Whether its timesteps are integers.
    pub(super) whole_timesteps: bool,
    /// The name of the output.
    pub(super) output: &'a str,
}

/// Those who know something of one model.
pub(super) struct Sources<'a> {
    pub(super) overrides: &'a ModelOverrides,
    /// With its name for messages.
    pub(super) scheduler: Option<(&'a SchedulerConfig, &'a str)>,
    pub(super) metadata: &'a Metadata,
    /// Names the model in messages.
    pub(super) model: &'a str,
    pub(super) log: &'a Logger,
}

/// One thing that several may say.
struct Choice<'a, T> {
    /// The key of the metadata, without its prefix.
    key: &'static str,
    /// The keys of a scheduler config that say it.
    keys: &'a [&'static str],
    caller: Option<T>,
    scheduler: fn(&SchedulerConfig) -> T,
    metadata: Option<T>,
    show: fn(&T) -> String,
}

impl<'a, T: ToString> Choice<'a, T> {
    /// What scheduler configs and the metadata have the same key for.
    fn of_key(
        key: &'a [&'static str; 1],
        caller: Option<T>,
        scheduler: fn(&SchedulerConfig) -> T,
        metadata: Option<T>,
    ) -> Self {
        Self { key: key[0], keys: key, caller, scheduler, metadata, show: T::to_string }
    }
}

/// A value, and who said it.
struct Said<T> {
    value: T,
    source: String,
}

impl Sources<'_> {
    /// The model's description. Errors: `Model`, where the parts do not fit each other.
    pub(super) fn resolve(&self, facts: &Facts<'_>) -> Result<ModelConfig> {
        let Self { overrides, metadata, model, log, .. } = self;
        let Shape { channels, height, width, .. } = facts.shape;
        let defaults = ModelConfig::ddpm(channels, height, width);
        if let Some((scheduler, name)) = self.scheduler {
            let message = format!("{model}: sampled as {name} says, a {}", scheduler.class_name);
            log.log(LogLevel::Info, message);
            let is_shared = |key: &str| {
                [BETA_KEYS, THRESHOLDING_KEYS, SHARED_KEYS].iter().any(|keys| keys.contains(&key))
            };
            scheduler.log_defaults(name, log, |key| !is_shared(key));
        }
        let prediction_type = self.choose(
            Choice::of_key(
                &["prediction_type"],
                overrides.prediction_type,
                |config| config.prediction_type,
                metadata.prediction_type,
            ),
            || defaults.prediction_type,
        );
        let num_train_timesteps = self.choose(
            Choice::of_key(
                &["num_train_timesteps"],
                overrides.num_train_timesteps,
                |config| config.num_train_timesteps,
                metadata.num_train_timesteps,
            ),
            || defaults.num_train_timesteps,
        );
        let rescale_betas_zero_snr = self.choose(
            Choice::of_key(
                &["rescale_betas_zero_snr"],
                overrides.rescale_betas_zero_snr,
                |config| config.rescale_betas_zero_snr,
                metadata.rescale_betas_zero_snr,
            ),
            || defaults.rescale_betas_zero_snr,
        );
        let thresholding = self.choose(
            Choice {
                key: "clip_sample_range",
                keys: THRESHOLDING_KEYS,
                caller: overrides.thresholding,
                scheduler: |config| config.sampler.thresholding,
                metadata: metadata.thresholding,
                show: show_thresholding,
            },
            || defaults.sampler.thresholding,
        );
        let (variance_type, gives_variance) = self.variance(facts)?;
        let sampler = SamplerConfig {
            fractional_timesteps: !facts.whole_timesteps,
            variance_type,
            thresholding,
            ..self.scheduler.map_or(defaults.sampler, |(config, _)| config.sampler.clone())
        };
        if let Some((scheduler, name)) = self.scheduler
            && facts.whole_timesteps
            && let Some(warning) = scheduler.rounding_warning()
        {
            log.log(LogLevel::Warning, format!("{model}: {name}: {warning}"));
        }
        let config = ModelConfig {
            color: self.pick("color", overrides.color, metadata.color, defaults.color),
            prediction_type,
            beta_schedule: self.beta_schedule()?,
            num_train_timesteps,
            rescale_betas_zero_snr,
            gives_variance,
            classes: facts.classes,
            // A scheduler config has no key for it: diffusers' DDIM keeps epsilon as it is.
            clipped_epsilon: self.scheduler.is_none() && metadata.clipped_epsilon == Some(true),
            sampler: SamplerConfig {
                steps: default_steps(&sampler, num_train_timesteps),
                ..sampler
            },
            ..defaults
        };
        config
            .validate()
            .map_err(|error| Error::new(ErrorKind::Model, format!("{model}: {error}")))?;
        Ok(config)
    }

    fn beta_schedule(&self) -> Result<BetaSchedule> {
        let caller = self.overrides.beta_schedule.clone();
        let of_scheduler = self.scheduler.filter(|(config, _)| config.says(BETA_KEYS));
        let parts =
            (&self.metadata.beta_schedule, self.metadata.beta_start, self.metadata.beta_end);
        let metadata = if self.scheduler.is_none() || parts != (&None, None, None) {
            // What nobody will use is no default taken.
            let counts = caller.is_none() && of_scheduler.is_none();
            Some(self.betas_of_metadata(counts)?)
        } else {
            None
        };
        let choice = Choice {
            key: "beta_schedule",
            keys: BETA_KEYS,
            caller,
            scheduler: |config| config.beta_schedule.clone(),
            metadata,
            show: show_betas,
        };
        Ok(self.choose(choice, || BetaSchedule::DDPM))
    }

    /// The betas of the metadata, its gaps filled with the DDPM paper's.
    fn betas_of_metadata(&self, logs: bool) -> Result<BetaSchedule> {
        let Self { metadata, .. } = self;
        let silent = Logger::default();
        let sources = Sources { log: if logs { self.log } else { &silent }, ..*self };
        let name = metadata.beta_schedule.as_deref();
        let name = sources.pick("beta_schedule", None, name, BetaSchedule::DDPM.name());
        let (start, end) = BetaSchedule::DDPM.ends().unwrap_or((1e-4, 0.02));
        let schedule = BetaSchedule::from_name(name, start, end)?;
        if schedule.ends().is_none() {
            return Ok(schedule);
        }
        let start = sources.pick("beta_start", None, metadata.beta_start, start);
        let end = sources.pick("beta_end", None, metadata.beta_end, end);
        BetaSchedule::from_name(name, start, end)
    }

    /// The variance type, and whether the output has 2C channels, which only the type can say where
    /// the graph leaves them open.
    fn variance(&self, facts: &Facts<'_>) -> Result<(VarianceType, bool)> {
        let Self { overrides, metadata, model, .. } = self;
        let said = self.said(&Choice {
            key: "variance_type",
            keys: &["variance_type"],
            caller: overrides.variance_type,
            scheduler: |config| config.sampler.variance_type,
            metadata: metadata.variance_type,
            show: |variance_type| variance_type.name().to_owned(),
        });
        let is_learned = said.as_ref().is_some_and(|said| said.value.is_learned());
        let gives_variance = facts.shape.gives_variance.unwrap_or(is_learned);
        match said {
            Some(Said { value, source }) if is_learned && !gives_variance => Err(Error::new(
                ErrorKind::Model,
                format!(
                    "{model}: variance_type: found {} ({source}) with output \"{}\" of {} channels, expected {}, half of them the variance",
                    value.name(),
                    facts.output,
                    facts.shape.channels,
                    2 * facts.shape.channels
                ),
            )),
            Some(Said { value, .. }) => Ok((value, gives_variance)),
            None => {
                let default = match gives_variance {
                    true => VarianceType::LearnedRange,
                    false => VarianceType::FixedSmall,
                };
                self.log_default("variance_type", default.name());
                Ok((default, gives_variance))
            }
        }
    }

    /// Who comes first of those who say it; warns where the scheduler config and the metadata differ.
    fn said<T: PartialEq + Clone>(&self, choice: &Choice<'_, T>) -> Option<Said<T>> {
        let Choice { key, keys, caller, scheduler, metadata, show } = choice;
        if let Some(value) = caller {
            return Some(Said { value: value.clone(), source: "given when loading".to_owned() });
        }
        if let Some((config, name)) = self.scheduler.filter(|(config, _)| config.says(keys)) {
            let value = scheduler(config);
            if let Some(other) = metadata.as_ref().filter(|other| **other != value) {
                self.log.log(
                    LogLevel::Warning,
                    format!(
                        "{}: {key}: {name} says {}, metadata {PREFIX}{key} says {}; taking the first",
                        self.model,
                        show(&value),
                        show(other)
                    ),
                );
            }
            config.log_defaults(name, self.log, |key| keys.contains(&key));
            return Some(Said { value, source: name.to_owned() });
        }
        let value = metadata.clone()?;
        Some(Said { value, source: format!("metadata {PREFIX}{key}") })
    }

    /// What is said, else the default of the scheduler's class, else `default`.
    fn choose<T: PartialEq + Clone>(&self, choice: Choice<'_, T>, default: impl Fn() -> T) -> T {
        if let Some(said) = self.said(&choice) {
            return said.value;
        }
        if let Some((config, name)) = self.scheduler {
            config.log_defaults(name, self.log, |key| choice.keys.contains(&key));
            return (choice.scheduler)(config);
        }
        let default = default();
        self.log_default(choice.key, &(choice.show)(&default));
        default
    }

    /// For what no scheduler config says.
    fn pick<T: Display>(
        &self,
        key: &'static str,
        caller: Option<T>,
        metadata: Option<T>,
        default: T,
    ) -> T {
        caller.or(metadata).unwrap_or_else(|| {
            self.log_default(key, &default.to_string());
            default
        })
    }

    fn log_default(&self, key: &str, value: &str) {
        let message = format!("{}: no {PREFIX}{key}, taking {value}", self.model);
        self.log.log(LogLevel::Info, message);
    }
}

fn show_betas(schedule: &BetaSchedule) -> String {
    match schedule.ends() {
        Some((start, end)) => format!("{} from {start} to {end}", schedule.name()),
        None => schedule.name().to_owned(),
    }
}

fn show_thresholding(thresholding: &Thresholding) -> String {
    match thresholding {
        Thresholding::Off => "none".to_owned(),
        Thresholding::Clip(range) => range.to_string(),
        Thresholding::Dynamic { ratio, max } => format!("dynamic ({ratio}, at most {max})"),
    }
}
