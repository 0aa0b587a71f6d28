//! What streams are made from, and what each of their frames must be.

use std::path::{Path, PathBuf};

use ddpm::engine::{FrameFormat, Preview, Priority, StreamConfig};
use ddpm::error::ErrorKind;
use ddpm::image::{BYTES_PER_FLOAT_PIXEL, BYTES_PER_PIXEL, to_rgba_f32, to_rgba8};
use ddpm::model::ModelConfig;
use ddpm::onnx::{OnnxDenoiser, OnnxOptions, Provider};
use ddpm::run::{Branch, Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding};

use super::dice::Dice;

/// How much of its solo run a stream must show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Likeness {
    /// Every bit, whatever the shape of the batch. So with the test models: their operators work element by
    /// element and each rounds exactly (a product, a quotient, a copy).
    Bits,
    /// Sums of a convolution may be made in another order in another shape. What a whole run makes of
    /// their last bits is below 1e-4; in bytes, a value next to an edge falls to the next.
    Rounded,
    /// The engine chooses the timesteps: those of a director, or fewer to end on time. The oracle's last
    /// picture is the same with any, but for rounding in steps of which each divides by a small number.
    Last,
}

/// A model that engines are made of.
pub struct Kind {
    pub name: &'static str,
    pub max_batch: u32,
    pub likeness: Likeness,
    /// Recipes made for it.
    families: usize,
    /// Visits low timesteps only, where the model is quick.
    low: bool,
}

const fn kind(name: &'static str, max_batch: u32) -> Kind {
    Kind { name, max_batch, likeness: Likeness::Bits, families: 14, low: false }
}

pub const KINDS: [Kind; 12] = [
    kind("lin", 8),
    kind("lin", 1),
    kind("oracle", 5),
    Kind { likeness: Likeness::Last, ..kind("oracle", 8) },
    kind("class_labels", 8),
    // Its labels are not checked, so that one it does not have fails in the model.
    kind("class_labels_unnamed", 4),
    kind("fixed_batch_2", 8),
    kind("trec_f32_scalar", 8),
    kind("learned_range", 8),
    // Not finite below t = 500.
    kind("overflow", 4),
    Kind { families: 3, low: true, ..kind("slow", 4) },
    Kind { families: 6, likeness: Likeness::Rounded, ..kind("portraits", 4) },
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
    /// By the seed.
    runs: Vec<SoloRun>,
    /// A branch of each that makes another picture, if one was found.
    branches: Vec<Option<(Branch, SoloRun)>>,
    /// Bytes of a frame's row, without gaps.
    pub row: usize,
    /// Rows of a frame.
    pub rows: usize,
}

/// What a run of one's own gives.
pub struct SoloRun {
    pub seed: u64,
    /// The frame at the start, and after each step.
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

    /// What is left to say of a run that was saved.
    pub fn config_of_saved(&self) -> StreamConfig {
        let (sampler, start, director) = (None, RunStart::default(), false);
        StreamConfig { sampler, start, director, ..self.config.clone() }
    }

    /// The run of one of its seeds, or the branch of that.
    pub fn run(&self, seed: usize, is_branch: bool) -> &SoloRun {
        match &self.branches[seed] {
            Some((_, run)) if is_branch => run,
            _ => &self.runs[seed],
        }
    }

    pub fn branch(&self, seed: usize) -> Option<Branch> {
        self.branches[seed].as_ref().map(|(branch, _)| *branch)
    }

    pub fn likeness(&self) -> Likeness {
        KINDS[self.kind].likeness
    }

    /// Whether a row of a frame, or all of it, is what the solo run has there.
    pub fn is_same(&self, found: &[u8], expected: &[u8]) -> bool {
        let (levels, tolerance) = match self.likeness() {
            Likeness::Bits => return found == expected,
            Likeness::Rounded => (1, 1e-4),
            Likeness::Last => (1, 1e-3),
        };
        if self.config.format == FrameFormat::Rgba8 {
            return found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= levels);
        }
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect()
        };
        let (found, expected) = (floats(found), floats(expected));
        found.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= tolerance)
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
                let (mut runs, mut branches) = (Vec::new(), Vec::new());
                for _ in 0..SEEDS {
                    let start =
                        RunStart { seed: dice.below(1 << 20) as u64, ..config.start.clone() };
                    let run = solo(&model, &config, start.clone(), batch, &mut denoiser);
                    let branch = any_branch(&mut dice, &model, &config, &start).map(|branch| {
                        let start = RunStart { branches: vec![branch], ..start };
                        (branch, solo(&model, &config, start, batch, &mut denoiser))
                    });
                    runs.push(run);
                    branches.push(branch);
                }
                let (row, rows) = layout(&model, config.format);
                families.push(Family { kind: index, config, runs, branches, row, rows });
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
        let format =
            *dice.pick(&[FrameFormat::Rgba8, FrameFormat::RgbaF32, FrameFormat::PlanarF32]);
        // Not every sampler takes every one of these. A run without steps has nothing to be soaked.
        let Some(run) =
            Run::starting(model, &sampler, start.clone(), 1).ok().filter(|r| r.steps() > 0)
        else {
            continue;
        };
        let is_free = kind.likeness == Likeness::Last;
        return StreamConfig {
            sampler: Some(sampler),
            start,
            preview: if is_free { Preview::PredOriginalSample } else { preview },
            format,
            priority: *dice.pick(&[Priority::Low, Priority::Normal, Priority::High]),
            checkpoint_bytes: *dice.pick(&[None, Some(0), Some(4096)]),
            director: is_free
                && run.can_replan()
                && run.config().strength == 1.0
                && dice.once_in(2),
        };
    }
}

/// A branch after which the picture is another.
fn any_branch(
    dice: &mut Dice,
    model: &ModelConfig,
    config: &StreamConfig,
    start: &RunStart,
) -> Option<Branch> {
    let run = Run::starting(model, config.sampler.as_ref().unwrap(), start.clone(), 1).unwrap();
    let step = dice.below(run.steps());
    let variation = *dice.pick(&[0.0, 0.3, 1.0]);
    let differs = variation > 0.0 || run.draws_noise_from(step);
    differs.then(|| Branch { step: step as u32, seed: dice.below(1 << 20) as u64, variation })
}

/// Runs a recipe by itself. For a model that is fixed to a batch that is as many runs of the seeds from
/// the start's on, of which the first counts.
fn solo(
    model: &ModelConfig,
    config: &StreamConfig,
    start: RunStart,
    batch: usize,
    denoiser: &mut OnnxDenoiser,
) -> SoloRun {
    let sampler: &SamplerConfig = config.sampler.as_ref().unwrap();
    let seed = start.seed;
    let mut run = Run::starting(model, sampler, start, batch).unwrap();
    let mut solo = SoloRun { seed, frames: Vec::new(), error: None, steps: run.steps() };
    loop {
        let shown = match config.preview {
            Preview::PredOriginalSample => run.x0(),
            Preview::Sample => run.sample(),
        };
        solo.frames.push(drawn(model, config.format, &shown[..run.item_len()]));
        if run.step_index() == run.steps() {
            return solo;
        }
        if let Err(error) = run.step(denoiser) {
            solo.error = Some(error.kind());
            return solo;
        }
    }
}

/// Bytes of a row, and rows of a frame.
fn layout(model: &ModelConfig, format: FrameFormat) -> (usize, usize) {
    match format {
        FrameFormat::RgbaF32 => (model.width * BYTES_PER_FLOAT_PIXEL, model.height),
        FrameFormat::PlanarF32 => (model.width * 4, model.height * model.channels),
        _ => (model.width * BYTES_PER_PIXEL, model.height),
    }
}

fn drawn(model: &ModelConfig, format: FrameFormat, picture: &[f32]) -> Vec<u8> {
    let (row, rows) = layout(model, format);
    let ModelConfig { color, height, width, .. } = *model;
    let mut frame = vec![0; row * rows];
    match format {
        FrameFormat::RgbaF32 => {
            to_rgba_f32(picture, color, height, width, &mut frame, row).unwrap()
        }
        FrameFormat::PlanarF32 => frame = picture.iter().flat_map(|v| v.to_ne_bytes()).collect(),
        _ => to_rgba8(picture, color, height, width, &mut frame, row).unwrap(),
    }
    frame
}
