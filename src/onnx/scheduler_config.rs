//! `scheduler_config.json` of diffusers: how a model was trained and how it is sampled.
//!
//! A value that would give other pictures than diffusers gives is refused, never passed over. This
//! module must not know what one class has and another has not.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};
use crate::noise_schedule::{BetaSchedule, MAX_TRAIN_TIMESTEPS, NoiseSchedule};
use crate::prediction::PredictionType;
use crate::sampler::{Sampler, SamplerConfig};

use super::load::check_readable;
use super::scheduler_class::{Class, ORIGINAL_STEPS};
use super::scheduler_json::{Keys, SchedulerJson};

const FILE_NAME: &str = "scheduler_config.json";

/// A scheduler config of diffusers in this crate's terms.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// The scheduler class, such as `DDIMScheduler`.
    pub class_name: &'static str,
    /// The betas.
    pub beta_schedule: BetaSchedule,
    /// T.
    pub num_train_timesteps: usize,
    /// Whether the betas are rescaled to end in pure noise.
    pub rescale_betas_zero_snr: bool,
    /// What the model predicts.
    pub prediction_type: PredictionType,
    /// The sampler with all its settings, for 50 steps, or as many as there are if fewer.
    pub sampler: SamplerConfig,
    keys: Keys,
}

impl SchedulerConfig {
    /// Reads the text of a config; `name`, a path say, stands for it in messages.
    ///
    /// Keys that the class has no use for are named in one warning, the defaults taken in one message.
    /// Errors: `Model` where it is no JSON, a value has the wrong type or is out of range, or values
    /// contradict each other; `Unsupported`, by name and value, for what diffusers knows and this
    /// crate does not.
    pub fn from_json(text: &str, name: &str, log: &Logger) -> Result<Self> {
        let config = Self::parse(text, name, log)?;
        let check = || {
            let schedule = config.noise_schedule()?;
            if schedule.has_zero_terminal_snr() {
                let last = schedule.num_train_timesteps() - 1;
                config.prediction_type.x0_coefficients(&schedule, last)?;
            }
            Ok(())
        };
        check().map_err(|error| fault(name, &error))?;
        config.log_defaults(name, log, |_| true);
        Ok(config)
    }

    /// [`from_json`](Self::from_json) of a file. Errors: `Io` too.
    pub fn read(path: &Path, log: &Logger) -> Result<Self> {
        Self::from_json(&read_text(path)?, &path.display().to_string(), log)
    }

    /// The config that a load of `model` takes without being told: in its folder, else in `../scheduler`.
    pub fn beside(model: &Path) -> Option<PathBuf> {
        beside(model)
    }

    /// The tables of its betas. Allocates. Errors: `InvalidArgument`.
    pub fn noise_schedule(&self) -> Result<NoiseSchedule> {
        let schedule = NoiseSchedule::new(&self.beta_schedule, self.num_train_timesteps)?;
        if self.rescale_betas_zero_snr { schedule.rescaled_to_zero_snr() } else { Ok(schedule) }
    }

    /// As [`from_json`](Self::from_json), but without a look at whether the prediction type can do
    /// with the betas, as somebody else may know either better, and without a word on defaults.
    pub(super) fn parse(text: &str, name: &str, log: &Logger) -> Result<Self> {
        let mut json = SchedulerJson::new(text, name)?;
        let class = Class::of(&mut json)?;
        let num_train_timesteps = json.integer("num_train_timesteps", 1000)?;
        if !(1..=MAX_TRAIN_TIMESTEPS).contains(&num_train_timesteps) {
            let expected = format!("1 to {MAX_TRAIN_TIMESTEPS}");
            return Err(json.refuse("num_train_timesteps", &expected));
        }
        let beta_schedule = class.beta_schedule(&mut json, num_train_timesteps)?;
        NoiseSchedule::new(&beta_schedule, num_train_timesteps)
            .map_err(|error| fault(name, &error))?;
        let rescale_betas_zero_snr =
            class.rescales && json.flag("rescale_betas_zero_snr", false)?;
        let predictions = "epsilon, sample or v_prediction";
        let prediction_type = match json.text("prediction_type", "epsilon")?.as_str() {
            "epsilon" => PredictionType::Epsilon,
            "sample" => PredictionType::Sample,
            "v_prediction" => PredictionType::VPrediction,
            _ => return Err(json.unsupported("prediction_type", predictions)),
        };
        let mut sampler = SamplerConfig {
            kind: class.kind,
            spacing: json.named(
                "timestep_spacing",
                class.spacing,
                "leading, trailing or linspace",
            )?,
            steps_offset: json.integer("steps_offset", 0)?,
            thresholding: class.thresholding(&mut json)?,
            sigmas: class.sigmas(&mut json)?,
            final_alpha: class.final_alpha(&mut json)?,
            ..SamplerConfig::default()
        };
        class.orders(&mut json, &mut sampler)?;
        (class.own_keys)(&mut json, &mut sampler)?;
        if json.has(ORIGINAL_STEPS) && !(1..=num_train_timesteps).contains(&sampler.original_steps)
        {
            let expected = format!("1 to {num_train_timesteps}, num_train_timesteps");
            return Err(json.refuse(ORIGINAL_STEPS, &expected));
        }
        sampler.steps = default_steps(&sampler, num_train_timesteps);
        sampler.validate().map_err(|error| fault(name, &error))?;
        Ok(Self {
            class_name: class.name,
            beta_schedule,
            num_train_timesteps,
            rescale_betas_zero_snr,
            prediction_type,
            sampler,
            keys: json.finish(class.name, log),
        })
    }

    /// What is to be said where the model takes integers for timesteps, if its sampler visits others.
    pub fn rounding_warning(&self) -> Option<String> {
        // diffusers keeps the noise levels between the timesteps, and leaves those to the model.
        self.sampler.wants_fractional_timesteps().then(|| {
            format!(
                "{} visits fractional timesteps, which are rounded, as the model takes integers; diffusers' pictures differ, but for timestep_spacing leading or trailing with sigmas as they are",
                self.class_name
            )
        })
    }

    /// Whether the text itself has one of these keys, so that its class heeds it.
    pub(super) fn says(&self, keys: &[&str]) -> bool {
        self.keys.given.iter().any(|given| keys.contains(given))
    }

    /// Names the defaults taken for the keys that `counts`.
    pub(super) fn log_defaults(&self, name: &str, log: &Logger, counts: impl Fn(&str) -> bool) {
        let taken = self.keys.defaults.iter().filter(|(key, _)| counts(key));
        let taken: Vec<String> = taken.map(|(key, value)| format!("{key} {value}")).collect();
        if !taken.is_empty() {
            let class = self.class_name;
            let message = format!("{name}: taking {class}'s own defaults: {}", taken.join(", "));
            log.log(LogLevel::Info, message);
        }
    }
}

/// The steps of a run that nobody gave a number for: 50, or as many as there are.
pub(super) fn default_steps(sampler: &SamplerConfig, num_train_timesteps: usize) -> usize {
    let most = match sampler.kind {
        Sampler::Lcm | Sampler::Tcd => sampler.original_steps.min(num_train_timesteps),
        _ => num_train_timesteps,
    };
    SamplerConfig::default().steps.min(most)
}

/// The config that belongs to a model file: in its folder, else in the folder `scheduler` beside that,
/// as a pipeline of diffusers has it. `None` where there is none.
///
/// A link that leads nowhere, or a folder of that name, is one too: reading it tells what is wrong.
pub(super) fn beside(model: &Path) -> Option<PathBuf> {
    let folder = match model.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let places = [folder.join(FILE_NAME), folder.join("..").join("scheduler").join(FILE_NAME)];
    places.into_iter().find(|path| path.symlink_metadata().is_ok())
}

/// The text of a config. Errors: `Io`.
pub(super) fn read_text(path: &Path) -> Result<String> {
    check_readable(path)?;
    std::fs::read_to_string(path)
        .map_err(|error| Error::new(ErrorKind::Io, format!("{}: {error}", path.display())))
}

fn fault(name: &str, error: &Error) -> Error {
    Error::new(ErrorKind::Model, format!("{name}: {error}"))
}
