//! One denoising run on one thread: noise in, a batch of samples out, a model call per row.
//!
//! This module must not know threads, ONNX or pixels. All memory is taken when a run is made.

mod advance;
mod away;
mod branch;
mod checkpoints;
mod replan;
mod start;
mod state;
mod trail;

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::rng::{Purpose, fill_standard_normal};
use crate::sampler::{SamplerConfig, StepTable, step_table};
use crate::step::{Memory, zeros};

pub use checkpoints::Checkpoints;
pub use start::{Branch, RunStart};
pub use state::RunState;

use start::{check_branches, check_image, labels_of};

/// The state of a run of `batch` samples, item i drawn with the seed `seed + i` (wrapping).
///
/// What comes out is a function of the model, the sampler config and the start. Item i takes the noise of a run of its own with that seed, so its batch mates do not change it.
#[derive(Debug)]
pub struct Run {
    shape: [usize; 4],
    config: SamplerConfig,
    table: StepTable,
    takes_timesteps: bool,
    start: RunStart,
    labels: Vec<i64>,
    /// The label of no class, for every item; nothing without guidance.
    null_labels: Vec<i64>,
    step_index: usize,
    sample: Vec<f32>,
    model_output: Vec<f32>,
    /// What the model says without a class; nothing without guidance.
    unconditional: Vec<f32>,
    noise: Vec<f32>,
    x0: Vec<f32>,
    /// The sample that the model sees where a branch renews its noise; nothing where none does.
    renewed: Vec<f32>,
    timesteps: Vec<f64>,
    memory: Vec<Memory>,
    output_channels: usize,
    /// See [`trail`]: of the start without its seed, and of where the run is.
    origin: u64,
    trail: u64,
    /// A step failed after it had begun to write.
    is_spoiled: bool,
    /// Who has the samples, where they are not here; see [`Run::away`].
    away: Option<u64>,
}

impl Run {
    /// A run at its start: the sample is the seed's noise, the predicted x_0 is 0 everywhere.
    ///
    /// Allocates everything the run will use. Errors: `InvalidArgument` where the model config or the
    /// sampler config is not valid, they do not fit each other, or `batch` is 0; `OutOfMemory`.
    pub fn new(
        model: &ModelConfig,
        sampler: &SamplerConfig,
        seed: u64,
        batch: usize,
    ) -> Result<Self> {
        Self::starting(model, sampler, RunStart { seed, ..RunStart::default() }, batch)
    }

    /// A run that starts as `start` says. With an image the sample is the image with the noise that
    /// the first step expects, and the predicted x_0 is the image.
    ///
    /// Allocates everything the run will use. Errors: as [`new`](Self::new); `InvalidArgument` too
    /// where the image is not one sample, a strength below 1 or an inverse sampler has no image, the
    /// label is not one of the model's, guidance has no class to compare, or the branches do not rise,
    /// lie behind the last step, or have a variation that is not 0 to 1.
    pub fn starting(
        model: &ModelConfig,
        sampler: &SamplerConfig,
        start: RunStart,
        batch: usize,
    ) -> Result<Self> {
        model.validate()?;
        model.check_sampler(sampler)?;
        let len = model.sample_len(batch)?;
        check_image(sampler, start.image.as_deref(), len / batch)?;
        let (label, null) = labels_of(model, &start)?;
        let schedule = model.noise_schedule()?;
        let table = step_table(&schedule, model.prediction_type, sampler)?;
        check_branches(&start.branches, table.rows().len())?;
        let long = replan::long_table(&schedule, model, sampler)?;
        let takes_timesteps = replan::takes_timesteps(sampler, &table, &long);
        // What another list of timesteps would keep has to be kept from the first step on.
        let other_rows = if takes_timesteps { long.rows() } else { &[] };
        let rows = table.rows().iter().chain(other_rows);
        let output_len = len / model.channels * model.output_channels();
        let memory = (0..batch).map(|_| Memory::new(rows.clone(), len / batch));
        let renews = start.branches.iter().any(|branch| branch.variation > 0.0);
        let mut run = Self {
            shape: [batch, model.channels, model.height, model.width],
            config: sampler.clone(),
            takes_timesteps,
            origin: trail::of_start(&start),
            trail: 0,
            is_spoiled: false,
            away: None,
            start,
            labels: label.map_or_else(Vec::new, |label| vec![label; batch]),
            null_labels: null.map_or_else(Vec::new, |null| vec![null; batch]),
            step_index: 0,
            sample: zeros(len)?,
            model_output: zeros(output_len)?,
            unconditional: zeros(if null.is_some() { output_len } else { 0 })?,
            noise: zeros(len / batch)?,
            x0: zeros(len)?,
            renewed: zeros(if renews { len } else { 0 })?,
            timesteps: zeros(batch)?,
            memory: memory.collect::<Result<_>>()?,
            output_channels: model.output_channels(),
            table,
        };
        run.restart();
        Ok(run)
    }

    /// Goes back to the start with the noise of `seed`, and without branches. Does not allocate or
    /// block.
    pub fn reset(&mut self, seed: u64) {
        self.start.seed = seed;
        self.start.branches.clear();
        self.restart();
    }

    /// Goes back to the start, with its seed and its branches. Does not allocate or block.
    pub fn restart(&mut self) {
        let seed = self.start.seed;
        self.step_index = 0;
        self.trail = self.trail_of_start();
        self.is_spoiled = false;
        self.away = None;
        self.memory.iter_mut().for_each(Memory::clear);
        let alpha_bar = self.table.start_alpha_cumprod();
        let (signal, spread) = (alpha_bar.sqrt() as f32, (1.0 - alpha_bar).sqrt() as f32);
        let item = self.item_len();
        for (index, (sample, x0)) in
            self.sample.chunks_mut(item).zip(self.x0.chunks_mut(item)).enumerate()
        {
            fill_standard_normal(seed.wrapping_add(index as u64), Purpose::InitialNoise, 0, sample);
            match self.start.image.as_deref() {
                None => x0.fill(0.0),
                Some(image) => {
                    x0.copy_from_slice(image);
                    // q(x_t | x_0), Ho et al. 2020, eq. 4.
                    for (x, &image) in sample.iter_mut().zip(image) {
                        *x = signal * image + spread * *x;
                    }
                }
            }
        }
    }

    /// Puts `sample`, [N, C, H, W], in the place of the start's noise, until the run goes back to its
    /// start. For a run at its start.
    ///
    /// Errors: `InvalidArgument` where the length differs or a step was taken. Does not allocate.
    pub fn set_sample(&mut self, sample: &[f32]) -> Result<()> {
        if sample.len() != self.sample.len() || self.step_index > 0 {
            return Err(Error::invalid_argument(format!(
                "sample: found {} values at step {}, expected {} at step 0",
                sample.len(),
                self.step_index,
                self.sample.len()
            )));
        }
        self.sample.copy_from_slice(sample);
        self.trail = trail::astray(self.trail_of_start());
        Ok(())
    }

    /// The sample x_t, [N, C, H, W], C-contiguous; the image after the last step. At a branch it is
    /// that before its noise is renewed.
    pub fn sample(&self) -> &[f32] {
        &self.sample
    }

    /// The x_0 the last step predicted, after thresholding, [N, C, H, W]; before the first step the
    /// start's image, or 0.
    pub fn x0(&self) -> &[f32] {
        &self.x0
    }

    /// What the model said in the last step, with guidance, [N, output channels, H, W].
    pub fn model_output(&self) -> &[f32] {
        &self.model_output
    }

    /// [N, C, H, W].
    pub fn shape(&self) -> [usize; 4] {
        self.shape
    }

    /// Values in one item of the batch, C x H x W.
    pub fn item_len(&self) -> usize {
        self.sample.len() / self.shape[0]
    }

    /// The steps taken so far, 0 to [`steps`](Self::steps).
    pub fn step_index(&self) -> usize {
        self.step_index
    }

    /// The steps of the whole run, one for each row of its table; 0 where the strength leaves none.
    pub fn steps(&self) -> usize {
        self.table.rows().len()
    }

    /// The rows the run applies.
    pub fn table(&self) -> &StepTable {
        &self.table
    }

    /// The timestep the next step gives to the model; none after the last.
    pub fn timestep(&self) -> Option<f64> {
        self.table.rows().get(self.step_index).map(|row| row.timestep)
    }

    /// The timesteps of all steps, first to last.
    pub fn timesteps(&self) -> impl Iterator<Item = f64> + '_ {
        self.table.rows().iter().map(|row| row.timestep)
    }

    /// The seed of item 0, that of its branches aside.
    pub fn seed(&self) -> u64 {
        self.start.seed
    }

    /// What the run begins with.
    pub fn start(&self) -> &RunStart {
        &self.start
    }

    /// The sampler config in force: the one the run was made with, or after a
    /// [`replan`](Self::replan) the same with its timesteps.
    pub fn config(&self) -> &SamplerConfig {
        &self.config
    }

    /// Whether any row from `step` on draws noise, so that another seed from there on makes another
    /// picture.
    pub fn draws_noise_from(&self, step: usize) -> bool {
        self.table.rows().iter().skip(step).any(crate::step::Row::draws_noise)
    }
}

/// Without an early exit, so that the compiler can use vector instructions.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |finite, value| finite & value.is_finite())
}
