//! What streams are made from, and what each of their frames must be.

use std::path::{Path, PathBuf};

use ddpm::engine::{Preview, StreamConfig};
use ddpm::error::ErrorKind;
use ddpm::image::{BYTES_PER_PIXEL, to_rgba8};
use ddpm::model::ModelConfig;
use ddpm::onnx::{OnnxDenoiser, OnnxOptions, Provider};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding};

use super::dice::Dice;

/// A model that engines are made of.
pub struct Kind {
    pub name: &'static str,
    pub max_batch: u32,
    /// How far a byte of a frame may be off in another batch shape than the solo run's.
    ///
    /// 0 for the test models: their operators work element by element and each rounds exactly (a
    /// product, a quotient, a copy), so the shape cannot change a bit. Sums of a convolution may be made in
    /// another order; after a run that is below 1e-4, so that a value next to an edge falls to the next byte.
    pub tolerance: u8,
    /// Recipes made for it.
    families: usize,
    /// Visits low timesteps only, where the model is quick.
    low: bool,
}

const fn kind(name: &'static str, max_batch: u32) -> Kind {
    Kind { name, max_batch, tolerance: 0, families: 14, low: false }
}

pub const KINDS: [Kind; 11] = [
    kind("lin", 8),
    kind("lin", 1),
    kind("oracle", 5),
    kind("class_labels", 8),
    // Its labels are not checked, so that one it does not have fails in the model.
    kind("class_labels_unnamed", 4),
    kind("fixed_batch_2", 8),
    kind("trec_f32_scalar", 8),
    kind("learned_range", 8),
    // Not finite below t = 500.
    kind("overflow", 4),
    Kind { families: 3, low: true, ..kind("slow", 4) },
    Kind { families: 3, tolerance: 1, ..kind("portraits", 4) },
];

impl Kind {
    pub fn path(&self) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = if self.name == "portraits" { "assets" } else { "tests/models" };
        root.join(folder).join(format!("{}.onnx", self.name))
    }
}

/// How often a recipe is there, each time with another seed.
pub const SEEDS: usize = 3;

/// A stream's config but for the seed, and its solo runs.
pub struct Family {
    pub kind: usize,
    config: StreamConfig,
    runs: Vec<SoloRun>,
    pub height: usize,
    pub width: usize,
}

/// What a run of one's own gives.
pub struct SoloRun {
    pub seed: u64,
    /// The frame after each step.
    pub frames: Vec<Vec<u8>>,
    /// The error that ends it, if one does: in the step after the last frame.
    pub error: Option<ErrorKind>,
    /// Steps of the whole run.
    pub steps: usize,
}

impl Family {
    pub fn config(&self, seed: usize) -> StreamConfig {
        let mut config = self.config.clone();
        config.start.seed = self.runs[seed].seed;
        config
    }

    pub fn run(&self, seed: usize) -> &SoloRun {
        &self.runs[seed]
    }

    pub fn name(&self) -> String {
        format!("{} with {:?}", KINDS[self.kind].name, self.config)
    }
}

pub struct Book {
    families: Vec<Family>,
}

impl Book {
    /// Writes the recipes and runs each by itself.
    pub fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed, u32::MAX);
        let mut families = Vec::new();
        for (index, kind) in KINDS.iter().enumerate() {
            let options =
                OnnxOptions { provider: Provider::Cpu, threads: 1, ..OnnxOptions::default() };
            let mut denoiser = OnnxDenoiser::load(&kind.path().into(), &options).unwrap();
            let model = denoiser.info().model.clone();
            let batch = denoiser.info().fixed_batch.unwrap_or(1);
            for _ in 0..kind.families {
                let config = any_config(&mut dice, &model, kind);
                let runs = (0..SEEDS)
                    .map(|_| {
                        solo(&model, &config, dice.below(1 << 20) as u64, batch, &mut denoiser)
                    })
                    .collect();
                let (height, width) = (model.height, model.width);
                families.push(Family { kind: index, config, runs, height, width });
            }
        }
        Self { families }
    }

    pub fn len(&self) -> usize {
        self.families.len() * SEEDS
    }

    pub fn frames(&self) -> usize {
        self.families.iter().flat_map(|family| &family.runs).map(|run| run.frames.len()).sum()
    }

    pub fn family(&self, index: usize) -> &Family {
        &self.families[index]
    }

    pub fn any(&self, dice: &mut Dice) -> usize {
        dice.below(self.families.len())
    }
}

fn any_config(dice: &mut Dice, model: &ModelConfig, kind: &Kind) -> StreamConfig {
    loop {
        let mut sampler = model.sampler_config(*dice.pick(&Sampler::ALL), 1 + dice.below(12));
        if kind.low {
            sampler.timesteps = Some([40, 20, 5].into());
        }
        if dice.once_in(3) {
            let dynamic = Thresholding::Dynamic { ratio: 0.9, max: 2.0 };
            sampler.thresholding =
                *dice.pick(&[Thresholding::Off, Thresholding::Clip(0.5), dynamic]);
        }
        if dice.once_in(3) {
            sampler.eta = Some(1.0);
        }
        let mut start = RunStart::default();
        if sampler.kind.is_inverse() || dice.once_in(4) {
            let ramp = |i: usize| (i % 64) as f32 / 32.0 - 1.0;
            start.image = Some((0..model.sample_len(1).unwrap()).map(ramp).collect());
            sampler.strength = if sampler.kind.is_inverse() { 1.0 } else { 0.6 };
        }
        if let Some(classes) = model.classes {
            start.label = Some(dice.below(3) as i64);
            if classes.null.is_some() && dice.once_in(3) {
                start.guidance = 2.5;
            }
            if classes.count.is_none() && dice.once_in(4) {
                start.label = Some(9);
            }
        }
        let preview = *dice.pick(&[Preview::PredOriginalSample, Preview::Sample]);
        // Not every sampler takes every one of these. A run without steps has nothing to be soaked.
        if Run::starting(model, &sampler, start.clone(), 1).is_ok_and(|run| run.steps() > 0) {
            return StreamConfig {
                sampler: Some(sampler),
                start,
                preview,
                ..StreamConfig::default()
            };
        }
    }
}

/// Runs a recipe by itself. For a model that is fixed to a batch that is as many runs of the seeds from
/// `seed` on, of which the first counts.
fn solo(
    model: &ModelConfig,
    config: &StreamConfig,
    seed: u64,
    batch: usize,
    denoiser: &mut OnnxDenoiser,
) -> SoloRun {
    let sampler: &SamplerConfig = config.sampler.as_ref().unwrap();
    let start = RunStart { seed, ..config.start.clone() };
    let mut run = Run::starting(model, sampler, start, batch).unwrap();
    let stride = model.width * BYTES_PER_PIXEL;
    let mut solo = SoloRun { seed, frames: Vec::new(), error: None, steps: run.steps() };
    while run.step_index() < run.steps() {
        if let Err(error) = run.step(denoiser) {
            solo.error = Some(error.kind());
            break;
        }
        let shown = match config.preview {
            Preview::PredOriginalSample => run.x0(),
            Preview::Sample => run.sample(),
        };
        let mut frame = vec![0; stride * model.height];
        let item = &shown[..run.item_len()];
        to_rgba8(item, model.color, model.height, model.width, &mut frame, stride).unwrap();
        solo.frames.push(frame);
    }
    solo
}
