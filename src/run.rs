//! One denoising run on one thread: noise in, a batch of samples out, a model call per step.
//!
//! This module must not know threads, ONNX or pixels. All memory is taken by [`Run::new`].

use ndarray::{ArrayView4, ArrayViewMut4};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Denoiser, ModelConfig};
use crate::rng::{Purpose, fill_standard_normal};
use crate::sampler::{SamplerConfig, StepTable, step_table};
use crate::step::{self, Slots};

/// The state of a run of `batch` samples, item i drawn with the seed `seed + i` (wrapping).
///
/// Item i takes the noise of a run of its own with that seed, so its batch mates do not change it.
#[derive(Debug)]
pub struct Run {
    shape: [usize; 4],
    table: StepTable,
    seed: u64,
    step_index: usize,
    sample: Vec<f32>,
    model_output: Vec<f32>,
    noise: Vec<f32>,
    x0: Vec<f32>,
    timesteps: Vec<f64>,
}

impl Run {
    /// A run at its start: the sample is the seed's noise, the predicted x_0 is 0 everywhere.
    ///
    /// Allocates everything the run will use. Errors: `InvalidArgument` where the model config or the
    /// sampler config is not valid, `batch` is 0, or the two disagree on the prediction type;
    /// `OutOfMemory`.
    pub fn new(
        model: &ModelConfig,
        sampler: &SamplerConfig,
        seed: u64,
        batch: usize,
    ) -> Result<Self> {
        model.validate()?;
        if sampler.prediction_type != model.prediction_type {
            return Err(Error::invalid_argument(format!(
                "prediction_type of the sampler: found {}, expected {} as the model predicts",
                sampler.prediction_type, model.prediction_type
            )));
        }
        let len = model.sample_len(batch)?;
        let mut run = Self {
            shape: [batch, model.channels, model.height, model.width],
            table: step_table(&model.noise_schedule()?, sampler)?,
            seed,
            step_index: 0,
            sample: zeros(len)?,
            model_output: zeros(len)?,
            noise: zeros(len)?,
            x0: zeros(len)?,
            timesteps: zeros(batch)?,
        };
        run.reset(seed);
        Ok(run)
    }

    /// Goes back to the start with the noise of `seed`. Does not allocate or block.
    pub fn reset(&mut self, seed: u64) {
        self.seed = seed;
        self.step_index = 0;
        self.x0.fill(0.0);
        let item = self.item_len();
        fill_items(seed, Purpose::InitialNoise, 0, item, &mut self.sample);
    }

    /// Takes one step: one model call and one pass of the kernel. True while more steps are left.
    ///
    /// After the last step does nothing and returns false. Blocks for the model call; does not
    /// allocate unless the model does. Errors: `InvalidArgument` where the model's shape is not the
    /// run's; `NonFinite` where its output, or the sample made of it, has a NaN or an infinity; what
    /// the model returns. After an error in the model or its output the run is as it was before.
    pub fn step(&mut self, denoiser: &mut dyn Denoiser) -> Result<bool> {
        let Some(row) = self.table.rows().get(self.step_index) else {
            return Ok(false);
        };
        let ModelConfig { channels, height, width, .. } = *denoiser.config();
        if [channels, height, width] != self.shape[1..] {
            return Err(Error::invalid_argument(format!(
                "model: found samples of [{channels}, {height}, {width}], expected {:?} as the run was made for",
                &self.shape[1..]
            )));
        }
        self.timesteps.fill(row.timestep);
        let sample = ArrayView4::from_shape(self.shape, &self.sample).map_err(shape_fault)?;
        let output =
            ArrayViewMut4::from_shape(self.shape, &mut self.model_output).map_err(shape_fault)?;
        denoiser.predict(sample, &self.timesteps, output)?;
        let non_finite = |what: &str| {
            let message =
                format!("non-finite {what} at step {}, t = {}", self.step_index + 1, row.timestep);
            Error::new(ErrorKind::NonFinite, message)
        };
        if !all_finite(&self.model_output) {
            return Err(non_finite("model output"));
        }
        if row.next.noise != 0.0 {
            let item = self.sample.len() / self.shape[0];
            fill_items(
                self.seed,
                Purpose::StepNoise,
                self.step_index as u32,
                item,
                &mut self.noise,
            );
        }
        step::apply(
            row,
            Slots {
                sample: &mut self.sample,
                model_output: &self.model_output,
                noise: &self.noise,
                pred_original_sample: &mut self.x0,
            },
        )?;
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

    /// The x_0 the last step predicted, after the clip, [N, C, H, W]; 0 before the first step.
    pub fn x0(&self) -> &[f32] {
        &self.x0
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

    /// The steps of the whole run; at least 1.
    pub fn steps(&self) -> usize {
        self.table.rows().len()
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
        self.seed
    }
}

fn zeros<T: Copy + Default>(len: usize) -> Result<Vec<T>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).map_err(|_| {
        let bytes = len.saturating_mul(size_of::<T>());
        Error::new(
            ErrorKind::OutOfMemory,
            format!("run: {bytes} bytes for its samples could not be had"),
        )
    })?;
    values.resize(len, T::default());
    Ok(values)
}

fn fill_items(seed: u64, purpose: Purpose, row: u32, item_len: usize, out: &mut [f32]) {
    for (index, item) in out.chunks_mut(item_len).enumerate() {
        fill_standard_normal(seed.wrapping_add(index as u64), purpose, row, item);
    }
}

/// Without an early exit, so that the compiler can use vector instructions.
fn all_finite(values: &[f32]) -> bool {
    values.iter().fold(true, |finite, value| finite & value.is_finite())
}

fn shape_fault(error: ndarray::ShapeError) -> Error {
    Error::new(ErrorKind::Internal, format!("run: its buffers do not fit its shape: {error}"))
}
