//! What an engine and a stream are made from. Every field but the model has a default.

use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::log::{LogLevel, LogSink};
use crate::model::ModelConfig;
use crate::onnx::{ModelOverrides, ModelSource, Provider};
use crate::sampler::{Sampler, SamplerConfig, VarianceType};
use crate::timesteps::TimestepSpacing;
use crate::worker::Preview;

/// Steps of a stream that does not say.
pub const DEFAULT_STEPS: u32 = 50;

/// What an engine is made from.
#[derive(Clone)]
pub struct EngineConfig {
    /// The model.
    pub model: ModelSource,
    /// The ONNX Runtime library. `None` takes `DDPM_ONNXRUNTIME`, else looks beside this library
    /// and the executable, then in the cache that the fetch script fills.
    pub runtime_library: Option<PathBuf>,
    /// What runs the model.
    pub provider: Provider,
    /// Threads inside one operator; 0 is the machine's cores less one, at least one.
    pub threads: u32,
    /// What the caller knows better than the model file, the size for one.
    pub overrides: ModelOverrides,
    /// Gets the log messages, mostly on the engine's thread. It must not call the engine.
    pub log: Option<LogSink>,
    /// The least serious messages that `log` gets.
    pub log_level: LogLevel,
}

impl EngineConfig {
    /// Defaults for this model: any provider, cores less one threads, no log.
    pub fn new(model: impl Into<ModelSource>) -> Self {
        Self {
            model: model.into(),
            runtime_library: None,
            provider: Provider::default(),
            threads: 0,
            overrides: ModelOverrides::default(),
            log: None,
            log_level: LogLevel::default(),
        }
    }
}

/// Which sampler a stream uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SamplerKind {
    /// Ho et al. 2020, algorithm 2.
    #[default]
    Ddpm,
    /// Song et al. 2021, with the stream's eta.
    Ddim,
}

/// What to hold the predicted clean sample to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Clip {
    /// What the model says.
    #[default]
    FromModel,
    /// Nothing.
    Off,
    /// [-r, r]; r is finite and above 0.
    Range(f64),
}

/// What a stream is made from. `Default` is a DDPM run of 50 trailing steps with seed 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StreamConfig {
    /// The sampler.
    pub sampler: SamplerKind,
    /// Steps, 1 to the model's training timesteps; 0 is [`DEFAULT_STEPS`], or all the training
    /// timesteps where there are fewer.
    pub steps: u32,
    /// The seed of every noise in the run.
    pub seed: u64,
    /// DDIM only, 0 to 1: 0 draws no noise, 1 as much as DDPM. Must be 0 for DDPM.
    pub eta: f64,
    /// How the steps are spread over training time.
    pub spacing: TimestepSpacing,
    /// What the frames show.
    pub preview: Preview,
    /// What to hold the predicted clean sample to.
    pub clip: Clip,
    /// DDPM's variance; `None` is what the model says.
    pub variance_type: Option<VarianceType>,
}

impl StreamConfig {
    /// The sampler config this is, on `model`. Errors: `InvalidArgument` for an eta that
    /// DDPM has no use for or that is not 0 to 1, and for a clip range that is no range.
    pub(super) fn sampler_config(&self, model: &ModelConfig) -> Result<SamplerConfig> {
        let kind = match self.sampler {
            SamplerKind::Ddpm if self.eta != 0.0 => {
                return Err(Error::invalid_argument(format!(
                    "eta: found {} with the DDPM sampler, expected 0; DDIM has an eta",
                    self.eta
                )));
            }
            SamplerKind::Ddpm => Sampler::Ddpm,
            SamplerKind::Ddim => Sampler::Ddim { eta: self.eta },
        };
        let steps = match self.steps {
            0 => model.num_train_timesteps.min(DEFAULT_STEPS as usize),
            steps => steps as usize,
        };
        let mut config = model.sampler_config(kind, steps);
        config.spacing = self.spacing;
        match self.clip {
            Clip::FromModel => {}
            Clip::Off => config.clip = None,
            Clip::Range(range) => config.clip = Some(range),
        }
        if let Some(variance_type) = self.variance_type {
            config.variance_type = variance_type;
        }
        config.validate()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_the_model() {
        let mut model = ModelConfig::ddpm(3, 8, 8);
        model.clip_sample_range = Some(2.0);
        model.variance_type = VarianceType::FixedLarge;
        let config = StreamConfig::default().sampler_config(&model).unwrap();
        assert_eq!(config, SamplerConfig { steps: 50, ..model.sampler_config(Sampler::Ddpm, 50) });
        model.num_train_timesteps = 20;
        assert_eq!(StreamConfig::default().sampler_config(&model).unwrap().steps, 20);
    }

    #[test]
    fn every_option_reaches_the_sampler() {
        let model = ModelConfig::ddpm(3, 8, 8);
        let config = StreamConfig {
            sampler: SamplerKind::Ddim,
            steps: 7,
            eta: 0.5,
            spacing: TimestepSpacing::Leading,
            clip: Clip::Range(3.0),
            variance_type: Some(VarianceType::FixedLarge),
            ..StreamConfig::default()
        };
        let made = config.sampler_config(&model).unwrap();
        assert_eq!(made.kind, Sampler::Ddim { eta: 0.5 });
        assert_eq!((made.steps, made.spacing), (7, TimestepSpacing::Leading));
        assert_eq!((made.clip, made.variance_type), (Some(3.0), VarianceType::FixedLarge));
        let off = StreamConfig { clip: Clip::Off, ..config }.sampler_config(&model).unwrap();
        assert_eq!(off.clip, None);
    }

    #[test]
    fn values_that_mean_nothing_are_refused() {
        let model = ModelConfig::ddpm(3, 8, 8);
        let ddim = StreamConfig { sampler: SamplerKind::Ddim, ..StreamConfig::default() };
        let cases = [
            (StreamConfig { eta: 0.5, ..StreamConfig::default() }, "eta: found 0.5 with the DDPM"),
            (StreamConfig { eta: -1.0, ..ddim }, "eta: found -1"),
            (StreamConfig { eta: f64::NAN, ..ddim }, "eta: found NaN"),
            (StreamConfig { clip: Clip::Range(0.0), ..ddim }, "clip: found 0"),
            (StreamConfig { clip: Clip::Range(f64::INFINITY), ..ddim }, "clip: found inf"),
        ];
        for (config, expected) in cases {
            let error = config.sampler_config(&model).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
