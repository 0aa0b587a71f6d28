//! One denoising run on one thread: noise in, a batch of samples out, a model call per row.
//!
//! This module must not know threads, ONNX or pixels. All memory is taken when a run is made.

use std::sync::Arc;

use ndarray::{ArrayView4, ArrayViewMut4};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Denoiser, ModelConfig};
use crate::rng::{Purpose, fill_standard_normal};
use crate::sampler::{SamplerConfig, StepTable, step_table};
use crate::step::{self, Memory, Slots, zeros};

/// What a run begins with, besides its model and its sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The seed of item 0; item i has `seed + i` (wrapping).
    pub seed: u64,
    /// The class of every item; `None` for a model without classes, and for no class.
    pub label: Option<i64>,
    /// The scale s of classifier-free guidance: the output is u + s (c - u), with c that of the class
    /// and u that of no class (Ho and Salimans 2022, eq. 6 with w = s - 1). 1 is no guidance.
    pub guidance: f64,
    /// A picture to start from, one sample [C, H, W] in [-1, 1] for every item, which the sampler's
    /// strength adds noise to.
    pub image: Option<Arc<[f32]>>,
}

impl Default for RunStart {
    /// Seed 0, noise, no class.
    fn default() -> Self {
        Self { seed: 0, label: None, guidance: 1.0, image: None }
    }
}

/// The state of a run of `batch` samples, item i drawn with the seed `seed + i` (wrapping).
///
/// Item i takes the noise of a run of its own with that seed, so its batch mates do not change it.
#[derive(Debug)]
pub struct Run {
    shape: [usize; 4],
    table: StepTable,
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
    timesteps: Vec<f64>,
    memory: Vec<Memory>,
    output_channels: usize,
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
    /// label is not one of the model's, or guidance has no class to compare.
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
        let table = step_table(&model.noise_schedule()?, model.prediction_type, sampler)?;
        let output_len = len / model.channels * model.output_channels();
        let memory = (0..batch).map(|_| Memory::new(table.rows(), len / batch));
        let mut run = Self {
            shape: [batch, model.channels, model.height, model.width],
            start,
            labels: label.map_or_else(Vec::new, |label| vec![label; batch]),
            null_labels: null.map_or_else(Vec::new, |null| vec![null; batch]),
            step_index: 0,
            sample: zeros(len)?,
            model_output: zeros(output_len)?,
            unconditional: zeros(if null.is_some() { output_len } else { 0 })?,
            noise: zeros(len / batch)?,
            x0: zeros(len)?,
            timesteps: zeros(batch)?,
            memory: memory.collect::<Result<_>>()?,
            output_channels: model.output_channels(),
            table,
        };
        run.reset(run.start.seed);
        Ok(run)
    }

    /// Goes back to the start with the noise of `seed`. Does not allocate or block.
    pub fn reset(&mut self, seed: u64) {
        self.start.seed = seed;
        self.step_index = 0;
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

    /// Puts `sample`, [N, C, H, W], in the place of the start's noise. For a run at its start.
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
        Ok(())
    }

    /// Takes one step: one row of the table, so one model call (two with guidance) and one pass of
    /// the kernel. True while more steps are left.
    ///
    /// After the last step does nothing and returns false. Blocks for the model call; does not
    /// allocate unless the model does. Errors: `InvalidArgument` where the model's shape is not the
    /// run's; `NonFinite` where its output, or the sample made of it, has a NaN or an infinity; what
    /// the model returns. After an error in the model or its output the run is as it was before.
    pub fn step(&mut self, denoiser: &mut dyn Denoiser) -> Result<bool> {
        self.step_with_noise(denoiser, &mut step_noise)
    }

    /// [`step`](Self::step) with noise of the caller's: where the row draws noise, `noise` is called
    /// for each item with its seed, the index of the row, and what is to be filled.
    pub fn step_with_noise(
        &mut self,
        denoiser: &mut dyn Denoiser,
        noise: &mut dyn FnMut(u64, u32, &mut [f32]),
    ) -> Result<bool> {
        let Some(row) = self.table.rows().get(self.step_index) else {
            return Ok(false);
        };
        let ModelConfig { channels, height, width, .. } = *denoiser.config();
        if [channels, height, width] != self.shape[1..]
            || denoiser.config().output_channels() != self.output_channels
        {
            return Err(Error::invalid_argument(format!(
                "model: found samples of [{channels}, {height}, {width}], expected {:?} as the run was made for",
                &self.shape[1..]
            )));
        }
        self.timesteps.fill(row.timestep);
        let output_shape = [self.shape[0], self.output_channels, self.shape[2], self.shape[3]];
        let mut predict = |labels: &[i64], output: &mut [f32]| {
            let sample = ArrayView4::from_shape(self.shape, &self.sample).map_err(shape_fault)?;
            let output = ArrayViewMut4::from_shape(output_shape, output).map_err(shape_fault)?;
            denoiser.predict(sample, &self.timesteps, labels, output)
        };
        predict(&self.labels, &mut self.model_output)?;
        if !self.null_labels.is_empty() {
            predict(&self.null_labels, &mut self.unconditional)?;
        }
        self.apply(noise)
    }

    /// How many samples the next step asks the model about: N, or 2 N with guidance.
    pub fn queries(&self) -> usize {
        self.shape[0] + self.null_labels.len()
    }

    /// Writes what the next step asks the model, for whoever calls the model in this run's place
    /// (see [`answer`](Self::answer)): [`queries`](Self::queries) samples [C, H, W], timesteps and, for
    /// a model with classes, labels; those of no class last. Does nothing after the last step.
    ///
    /// Errors: `InvalidArgument` where a length differs. Does not allocate or block.
    pub fn ask(&self, sample: &mut [f32], timesteps: &mut [f64], labels: &mut [i64]) -> Result<()> {
        let Some(row) = self.table.rows().get(self.step_index) else {
            return Ok(());
        };
        let queries = self.queries();
        let expected =
            [queries * self.item_len(), queries, self.labels.len() + self.null_labels.len()];
        let found = [sample.len(), timesteps.len(), labels.len()];
        if found != expected {
            return Err(Error::invalid_argument(format!(
                "ask: found room for {found:?} values of samples, timesteps and labels, expected {expected:?}"
            )));
        }
        for part in sample.chunks_mut(self.sample.len()) {
            part.copy_from_slice(&self.sample);
        }
        timesteps.fill(row.timestep);
        for (to, &label) in labels.iter_mut().zip(self.labels.iter().chain(&self.null_labels)) {
            *to = label;
        }
        Ok(())
    }

    /// Takes the step that [`ask`](Self::ask) asked for, with the model's output for each query
    /// [output channels, H, W]. True while more steps are left.
    ///
    /// Errors: `InvalidArgument` where the length differs; `NonFinite`, as [`step`](Self::step). Does
    /// not allocate or block.
    pub fn answer(&mut self, output: &[f32]) -> Result<bool> {
        if self.step_index >= self.steps() {
            return Ok(false);
        }
        let expected = self.model_output.len() + self.unconditional.len();
        if output.len() != expected {
            return Err(Error::invalid_argument(format!(
                "answer: found {} values, expected {expected} for {} queries",
                output.len(),
                self.queries()
            )));
        }
        let (of_class, of_none) = output.split_at(self.model_output.len());
        self.model_output.copy_from_slice(of_class);
        self.unconditional.copy_from_slice(of_none);
        self.apply(&mut step_noise)
    }

    /// Guidance, and the kernel, over what the model said.
    fn apply(&mut self, noise: &mut dyn FnMut(u64, u32, &mut [f32])) -> Result<bool> {
        let Some(row) = self.table.rows().get(self.step_index) else {
            return Ok(false);
        };
        let item = self.sample.len() / self.shape[0];
        let output_item = self.model_output.len() / self.shape[0];
        if !self.null_labels.is_empty() {
            let outputs = self.model_output.chunks_mut(output_item);
            for (output, without) in outputs.zip(self.unconditional.chunks(output_item)) {
                // A variance is not guided: it stays that of the class.
                for (c, &u) in output.iter_mut().zip(&without[..item]) {
                    *c = u + self.start.guidance as f32 * (*c - u);
                }
            }
        }
        let non_finite = |what: &str| {
            let message =
                format!("non-finite {what} at step {}, t = {}", self.step_index + 1, row.timestep);
            Error::new(ErrorKind::NonFinite, message)
        };
        if !all_finite(&self.model_output) {
            return Err(non_finite("model output"));
        }
        let items = self
            .sample
            .chunks_mut(item)
            .zip(self.x0.chunks_mut(item))
            .zip(self.model_output.chunks(output_item))
            .zip(&mut self.memory);
        for (index, (((sample, pred_original_sample), model_output), memory)) in items.enumerate() {
            if row.draws_noise() {
                let seed = self.start.seed.wrapping_add(index as u64);
                noise(seed, self.step_index as u32, &mut self.noise);
            }
            let noise = &self.noise;
            step::apply(row, Slots { sample, model_output, noise, pred_original_sample, memory })?;
        }
        if !all_finite(&self.sample) {
            return Err(non_finite("sample"));
        }
        self.step_index += 1;
        Ok(self.step_index < self.steps())
    }

    /// The sample x_t, [N, C, H, W], C-contiguous; the image after the last step.
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

    /// The seed of item 0.
    pub fn seed(&self) -> u64 {
        self.start.seed
    }
}

fn step_noise(seed: u64, row: u32, noise: &mut [f32]) {
    fill_standard_normal(seed, Purpose::StepNoise, row, noise);
}

fn check_image(sampler: &SamplerConfig, image: Option<&[f32]>, item_len: usize) -> Result<()> {
    let refuse = |message: String| Err(Error::invalid_argument(message));
    match image {
        None if sampler.kind.is_inverse() => {
            refuse(format!("image: found none, but {} starts from one", sampler.kind))
        }
        None if sampler.strength != 1.0 => refuse(format!(
            "strength: found {} without an image, expected 1: a run from noise takes all its steps",
            sampler.strength
        )),
        None => Ok(()),
        Some(image) if image.len() != item_len => refuse(format!(
            "image: found {} values, expected {item_len} as one sample has",
            image.len()
        )),
        Some(image) if !all_finite(image) => {
            refuse("image: found a value that is not finite".to_owned())
        }
        Some(_) => Ok(()),
    }
}

/// The label of the run, and that of no class where guidance needs it.
fn labels_of(model: &ModelConfig, start: &RunStart) -> Result<(Option<i64>, Option<i64>)> {
    let refuse = |message: String| Err(Error::invalid_argument(message));
    if !start.guidance.is_finite() {
        return refuse(format!("guidance: found {}, expected a finite number", start.guidance));
    }
    let is_guided = start.guidance != 1.0;
    let Some(classes) = model.classes else {
        return match start.label {
            Some(label) => refuse(format!("class: found {label}, but the model has no classes")),
            None if is_guided => refuse(format!(
                "guidance: found {}, but the model has no classes to be guided to",
                start.guidance
            )),
            None => Ok((None, None)),
        };
    };
    if let (Some(label), Some(count)) = (start.label, classes.count)
        && !usize::try_from(label).is_ok_and(|label| label < count)
        && Some(label) != classes.null
    {
        return refuse(format!("class: found {label}, expected 0 to {}", count.saturating_sub(1)));
    }
    match (start.label, classes.null) {
        (None, None) => refuse("class: found none, but the model needs one".to_owned()),
        (None, Some(_)) if is_guided => {
            refuse(format!("guidance: found {} without a class to be guided to", start.guidance))
        }
        (None, Some(null)) => Ok((Some(null), None)),
        (Some(_), None) if is_guided => refuse(format!(
            "guidance: found {}, but the model has no label for no class to compare with",
            start.guidance
        )),
        (Some(label), null) => Ok((Some(label), null.filter(|_| is_guided))),
    }
}

/// Without an early exit, so that the compiler can use vector instructions.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |finite, value| finite & value.is_finite())
}

fn shape_fault(error: ndarray::ShapeError) -> Error {
    Error::new(ErrorKind::Internal, format!("run: its buffers do not fit its shape: {error}"))
}
