//! The configuration of a training run: a TOML file, kept again in every checkpoint.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ddpm::model::{Classes, ModelConfig};
use ddpm::noise_schedule::BetaSchedule;
use ddpm::sampler::{SamplerConfig, Thresholding, VarianceType};
use serde::{Deserialize, Serialize};

pub use crate::data::config::DataConfig;
use crate::network::{Network, UNetConfig};
pub use crate::objective::LossConfig;
use crate::objective::Objective;
use crate::picture;

/// Everything that decides what a run computes. See `training/configs/portraits.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Of the weights, the order of the data, the timesteps and the noise.
    pub seed: u64,
    /// Folder for checkpoint, loss log and pictures.
    pub out: PathBuf,
    pub data: DataConfig,
    pub model: UNetConfig,
    pub diffusion: DiffusionConfig,
    #[serde(default)]
    pub loss: LossConfig,
    pub train: TrainConfig,
    pub report: ReportConfig,
}

/// The forward process and what the network predicts; names as in diffusers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiffusionConfig {
    pub prediction_type: String,
    pub beta_schedule: String,
    /// Of linear, scaled_linear and sigmoid; the others have no use for it. Left out: 1e-4, the DDPM
    /// paper's.
    #[serde(default = "beta_start")]
    pub beta_start: f64,
    /// As `beta_start`. Left out: 0.02.
    #[serde(default = "beta_end")]
    pub beta_end: f64,
    pub num_train_timesteps: usize,
    /// fixed_small (the default), fixed_large, or learned_range or learned: then the network has twice
    /// the channels, and learns the variance too (Nichol and Dhariwal 2021, section 3.1).
    #[serde(default = "fixed_small")]
    pub variance_type: String,
    /// Whether the betas are rescaled to end in pure noise (Lin et al. 2024, algorithm 1).
    #[serde(default)]
    pub rescale_betas_zero_snr: bool,
    /// Whether pictures are held to [-1, 1] in every step that draws them. Without effect on training.
    #[serde(default = "crate::unet_config::yes", skip_serializing_if = "is_true")]
    pub clip_sample: bool,
}

fn is_true(value: &bool) -> bool {
    *value
}

fn beta_start() -> f64 {
    1e-4
}

fn beta_end() -> f64 {
    0.02
}

fn fixed_small() -> String {
    VarianceType::FixedSmall.name().to_string()
}

/// The optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// Optimiser steps of the whole run.
    pub steps: usize,
    /// Images computed at once.
    pub batch: usize,
    /// Batches a step: their gradients are averaged, as of one batch of so many times the images. For
    /// steps over more images than the memory holds.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Peak rate, reached after `warmup_steps` and led to 0 by a cosine.
    pub learning_rate: f64,
    pub warmup_steps: usize,
    /// AdamW's decoupled decay of the matrices and kernels, not of biases and norms.
    pub weight_decay: f64,
    /// The gradient is shortened to this length where it is longer.
    pub max_grad_norm: f64,
    /// Decay of the running average of the weights, which is what is sampled and exported.
    pub ema_decay: f64,
    /// What the network is computed in: f32.
    #[serde(default = "f32_precision")]
    pub precision: String,
    /// Share of the images shown without their class, so that a run can be guided (Ho and Salimans
    /// 2022, algorithm 1); for data with classes.
    #[serde(default = "label_dropout")]
    pub label_dropout: f64,
}

fn one() -> usize {
    1
}

fn f32_precision() -> String {
    "f32".to_string()
}

fn label_dropout() -> f64 {
    0.1
}

/// What is written on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportConfig {
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Checkpoints kept beside the newest, each under its step's name; 0 for none.
    #[serde(default)]
    pub keep_checkpoints: usize,
    /// Steps between sample grids; 0 for none.
    pub sample_every: usize,
    /// Pictures in a grid.
    pub samples: usize,
    /// DDIM steps of each picture.
    pub sample_steps: usize,
    /// Whether an event file for TensorBoard is written too.
    #[serde(default)]
    pub tensorboard: bool,
}

impl Config {
    /// Reads and checks a file; paths of data in it become relative to the current folder.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        let mut config: Self = toml::from_str(&text).with_context(|| format!("{shown}"))?;
        if let Some(folder) = path.parent() {
            config.data.resolve(folder);
        }
        config.validate().with_context(|| format!("{shown}"))?;
        Ok(config)
    }

    /// Says the first thing that cannot work.
    pub fn validate(&self) -> Result<()> {
        let Self { data, train, report, .. } = self;
        data.validate()?;
        self.model.validate(data.width, data.height)?;
        self.loss.validate()?;
        Objective::new(self)?;
        ensure!(
            (1..=u32::MAX as usize).contains(&train.steps),
            "train.steps is {}, expected 1 to {}",
            train.steps,
            u32::MAX
        );
        ensure!(
            (1..=65536).contains(&train.batch),
            "train.batch is {}, expected 1 to 65536",
            train.batch
        );
        ensure!(
            (1..=65536).contains(&train.accumulate),
            "train.accumulate is {}, expected 1 to 65536",
            train.accumulate
        );
        match train.precision.as_str() {
            "f32" => {}
            // burn-flex keeps bf16 but computes it through f32, number by number; ours are f32 only.
            "bf16" | "f16" => bail!(
                "train.precision is {:?}, expected \"f32\": on a CPU there are no kernels for less, \
                 and the conversions would make it slower",
                train.precision
            ),
            other => bail!("train.precision is {other:?}, expected \"f32\""),
        }
        let positive = |name: &str, value: f64| {
            ensure!(
                value > 0.0 && value.is_finite(),
                "train.{name} is {value}, expected more than 0"
            );
            Ok(())
        };
        positive("learning_rate", train.learning_rate)?;
        positive("max_grad_norm", train.max_grad_norm)?;
        ensure!(
            (0.0..1.0).contains(&train.ema_decay),
            "train.ema_decay is {}, expected at least 0 and less than 1",
            train.ema_decay
        );
        ensure!(
            (0.0..=1.0).contains(&train.weight_decay),
            "train.weight_decay is {}, expected 0 to 1",
            train.weight_decay
        );
        ensure!(
            (0.0..1.0).contains(&train.label_dropout),
            "train.label_dropout is {}, expected at least 0 and less than 1",
            train.label_dropout
        );
        ensure!(report.checkpoint_every > 0, "report.checkpoint_every is 0, expected at least 1");
        picture::check_count("report.samples", report.samples, data.width, data.height)?;
        ensure!(
            (1..=self.diffusion.num_train_timesteps).contains(&report.sample_steps),
            "report.sample_steps is {}, expected 1 to {}",
            report.sample_steps,
            self.diffusion.num_train_timesteps
        );
        Ok(())
    }

    /// The network that is trained. With classes, their names must be known: [`DataConfig::class_names`].
    pub fn network(&self) -> Network {
        let channels = self.data.channels();
        let classes = self.data.class_names.len();
        Network {
            unet: self.model.clone(),
            channels_in: channels,
            channels_out: if self.learns_variance() { 2 * channels } else { channels },
            labels: if classes > 0 { classes + usize::from(self.drops_labels()) } else { 0 },
        }
    }

    fn learns_variance(&self) -> bool {
        self.diffusion.variance_type.parse().is_ok_and(VarianceType::is_learned)
    }

    fn drops_labels(&self) -> bool {
        self.train.label_dropout > 0.0
    }

    /// The label that stands for no class, where the network has one.
    pub fn null_label(&self) -> Option<i64> {
        let classes = self.data.class_names.len();
        (classes > 0 && self.drops_labels()).then_some(classes as i64)
    }

    /// The label of the class called `name`.
    pub fn class(&self, name: &str) -> Result<usize> {
        let names = &self.data.class_names;
        let found = names.iter().position(|known| known == name);
        found.with_context(|| match names.len() {
            0 => format!("no class {name:?}: the model has no classes"),
            _ => format!("no class {name:?}, expected one of {}", names.join(", ")),
        })
    }

    /// The model as the engine describes it.
    pub fn model_config(&self) -> Result<ModelConfig> {
        let d = &self.diffusion;
        let channels = self.data.channels();
        let defaults = ModelConfig::ddpm(channels, self.data.height, self.data.width);
        let variance_type: VarianceType = d.variance_type.parse()?;
        let classes = self.data.class_names.len();
        let config = ModelConfig {
            gives_variance: variance_type.is_learned(),
            rescale_betas_zero_snr: d.rescale_betas_zero_snr,
            classes: (classes > 0)
                .then(|| Classes { count: Some(classes), null: self.null_label() }),
            // Better, and under guidance what makes pictures right: docs/results.md.
            clipped_epsilon: true,
            sampler: SamplerConfig {
                variance_type,
                steps: defaults.sampler.steps.min(d.num_train_timesteps),
                // It is trained on whole timesteps, and exported with an integer input.
                fractional_timesteps: false,
                thresholding: if d.clip_sample {
                    defaults.sampler.thresholding
                } else {
                    Thresholding::Off
                },
                ..defaults.sampler
            },
            prediction_type: d.prediction_type.parse()?,
            beta_schedule: BetaSchedule::from_name(&d.beta_schedule, d.beta_start, d.beta_end)?,
            num_train_timesteps: d.num_train_timesteps,
            ..defaults
        };
        config.validate()?;
        Ok(config)
    }
}
