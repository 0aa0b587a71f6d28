//! One step of a run: what it asks the model, and what it makes of the answer.

use ndarray::{ArrayView4, ArrayViewMut4};

use crate::error::{Error, ErrorKind, Result};
use crate::model::{Denoiser, ModelConfig};
use crate::rng::{Purpose, fill_standard_normal};
use crate::step::{self, Slots};

use super::{Run, all_finite};

impl Run {
    /// Takes one step: one row of the table, so one model call (two with guidance) and one pass of
    /// the kernel. True while more steps are left.
    ///
    /// After the last step does nothing and returns false. Blocks for the model call; does not
    /// allocate unless the model does. Errors: `InvalidArgument` where the model's shape is not the
    /// run's; `NonFinite` where its output, or the sample made of it, has a NaN or an infinity; what
    /// the model returns. After an error in the model or its output the run is as it was before; after
    /// one in the sample it has to be taken back, by a restart, a reset, a seek or a saved state.
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
        let sample = match self.renewal() {
            None => &self.sample,
            Some(renewal) => {
                renewal.write(self.item_len(), &self.sample, &self.x0, &mut self.renewed);
                &self.renewed
            }
        };
        let output_shape = [self.shape[0], self.output_channels, self.shape[2], self.shape[3]];
        let mut predict = |labels: &[i64], output: &mut [f32]| {
            let sample = ArrayView4::from_shape(self.shape, sample).map_err(shape_fault)?;
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
    /// a model with classes, labels; those of no class last. At a branch these are samples with their
    /// noise renewed, while the run's own stays as it is until the answer. Does nothing after the last
    /// step.
    ///
    /// Errors: `InvalidArgument` where a length differs, or the samples are [away](Self::away). Does not
    /// allocate or block.
    pub fn ask(&self, sample: &mut [f32], timesteps: &mut [f64], labels: &mut [i64]) -> Result<()> {
        let Some(row) = self.table.rows().get(self.step_index) else {
            return Ok(());
        };
        if self.away.is_some() {
            return Err(Error::invalid_argument(
                "ask: found the run's samples away, expected them here",
            ));
        }
        let queries = self.queries();
        let expected =
            [queries * self.item_len(), queries, self.labels.len() + self.null_labels.len()];
        let found = [sample.len(), timesteps.len(), labels.len()];
        if found != expected {
            return Err(Error::invalid_argument(format!(
                "ask: found room for {found:?} values of samples, timesteps and labels, expected {expected:?}"
            )));
        }
        let (of_class, of_none) = sample.split_at_mut(self.sample.len());
        match self.renewal() {
            None => of_class.copy_from_slice(&self.sample),
            Some(renewal) => renewal.write(self.item_len(), &self.sample, &self.x0, of_class),
        }
        if !of_none.is_empty() {
            of_none.copy_from_slice(of_class);
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
        let renewal = self.renewal();
        let seed = self.seed_at(self.step_index);
        let trail = self.trail_after(self.trail, self.step_index);
        self.is_spoiled = true;
        let items = self
            .sample
            .chunks_mut(item)
            .zip(self.x0.chunks_mut(item))
            .zip(self.model_output.chunks(output_item))
            .zip(&mut self.memory);
        for (index, (((sample, pred_original_sample), model_output), memory)) in items.enumerate() {
            if let Some(renewal) = &renewal {
                let before = &self.table.rows()[..self.step_index];
                let values = (&mut *sample, &*pred_original_sample, &mut *self.noise);
                renewal.apply(index, before, values, memory);
            }
            if row.draws_noise() {
                let seed = seed.wrapping_add(index as u64);
                noise(seed, self.step_index as u32, &mut self.noise);
            }
            let noise = &self.noise;
            step::apply(row, Slots { sample, model_output, noise, pred_original_sample, memory })?;
        }
        if !all_finite(&self.sample) {
            return Err(non_finite("sample"));
        }
        self.is_spoiled = false;
        self.trail = trail;
        self.step_index += 1;
        Ok(self.step_index < self.steps())
    }
}

pub(super) fn step_noise(seed: u64, row: u32, noise: &mut [f32]) {
    fill_standard_normal(seed, Purpose::StepNoise, row, noise);
}

fn shape_fault(error: ndarray::ShapeError) -> Error {
    Error::new(ErrorKind::Internal, format!("run: its buffers do not fit its shape: {error}"))
}
