//! The model under examination: runs it on samples of the doctor's own.

use ddpm::error::{Error, ErrorKind, Result};
use ddpm::model::{Batching, Denoiser, ModelConfig};
use ddpm::onnx::{OnnxDenoiser, OnnxInfo};
use ddpm::rng::{Purpose, fill_standard_normal};
use ndarray::{ArrayView4, ArrayViewMut4};

/// Items of one call at most; the residuals are taken over more.
const MOST_AT_ONCE: usize = 8;

pub struct Probe {
    denoiser: OnnxDenoiser,
    /// What the messages of the denoiser begin with.
    name: String,
    info: OnnxInfo,
    seed: u64,
    /// Items of one call: what the model is known to take.
    batch: usize,
}

impl Probe {
    /// `name` is what messages call the model.
    pub fn new(denoiser: OnnxDenoiser, name: &str, seed: u64) -> Self {
        let info = denoiser.info().clone();
        let batch = info.fixed_batch.unwrap_or(1);
        Self { denoiser, name: format!("{name}: "), info, seed, batch }
    }

    pub fn info(&self) -> &OnnxInfo {
        &self.info
    }

    pub fn model(&self) -> &ModelConfig {
        &self.info.model
    }

    pub fn denoiser(&mut self) -> &mut OnnxDenoiser {
        &mut self.denoiser
    }

    pub fn seed(&self) -> u64 {
        self.seed
    }

    pub fn batching(&self) -> Batching {
        self.denoiser.batching()
    }

    /// Says that the model takes so many items at once.
    pub fn takes(&mut self, batch: usize) {
        self.batch = batch.min(MOST_AT_ONCE);
    }

    /// T - 1.
    pub fn last_timestep(&self) -> usize {
        self.info.model.num_train_timesteps.saturating_sub(1)
    }

    /// The values of one item, C x H x W.
    pub fn item_len(&self) -> usize {
        let ModelConfig { channels, height, width, .. } = self.info.model;
        channels * height * width
    }

    /// Whether the values of the sample or the output pass through float16 at the model's ends.
    pub fn is_half(&self) -> bool {
        let contract = &self.info.contract;
        [&contract.sample, &contract.output].iter().any(|port| port.contains("\" float16 ["))
    }

    /// Standard normal noise of `items` items, another for each `draw`.
    pub fn noise(&self, draw: u64, items: usize) -> Vec<f32> {
        let mut noise = vec![0.0; items * self.item_len()];
        let seed = self.seed.wrapping_add(draw);
        fill_standard_normal(seed, Purpose::InitialNoise, 0, &mut noise);
        noise
    }

    /// The label of runs that are not about labels: no class, else the first.
    pub fn label(&self) -> i64 {
        self.info.model.classes.and_then(|classes| classes.null).unwrap_or(0)
    }

    /// The first C channels of the output for one call with as many items as there are timesteps.
    pub fn call(&mut self, sample: &[f32], timesteps: &[f64], label: i64) -> Result<Vec<f32>> {
        let batch = timesteps.len();
        let ModelConfig { channels, height, width, .. } = self.info.model;
        let out_channels = self.info.model.output_channels();
        let labels = if self.info.model.classes.is_some() { vec![label; batch] } else { vec![] };
        let plane = height * width;
        let mut output = vec![0.0; batch * out_channels * plane];
        let shape = |_| Error::new(ErrorKind::Internal, "doctor: a sample has another shape");
        let x = ArrayView4::from_shape([batch, channels, height, width], sample).map_err(shape)?;
        let m = [batch, out_channels, height, width];
        let m = ArrayViewMut4::from_shape(m, &mut output).map_err(shape)?;
        self.denoiser.predict(x, timesteps, &labels, m).map_err(|error| {
            // The report is about no other model.
            let text = error.message();
            Error::new(error.kind(), text.strip_prefix(&self.name).unwrap_or(text))
        })?;
        let items = output.chunks_exact(out_channels * plane);
        Ok(items.flat_map(|item| &item[..channels * plane]).copied().collect())
    }

    /// As [`call`](Self::call), for any number of items at one timestep and without a class.
    pub fn predict(&mut self, sample: &[f32], timestep: f64) -> Result<Vec<f32>> {
        let (item, label) = (self.item_len(), self.label());
        let batch = self.info.fixed_batch.unwrap_or(self.batch);
        let mut all = Vec::with_capacity(sample.len());
        for part in sample.chunks(batch * item) {
            let found = if self.info.fixed_batch.is_some() && part.len() < batch * item {
                let mut filled = part.to_vec();
                filled.resize(batch * item, 0.0);
                self.call(&filled, &vec![timestep; batch], label)?
            } else {
                self.call(part, &vec![timestep; part.len() / item], label)?
            };
            all.extend_from_slice(&found[..part.len()]);
        }
        Ok(all)
    }
}

pub fn all_finite(values: &[f32]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// The largest difference, over the root mean square of `a`, or over 1 where that is less.
pub fn difference(a: &[f32], b: &[f32]) -> f64 {
    let largest = a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs());
    // A NaN must not pass for equal.
    let largest = largest.fold(0.0, |largest: f64, d| if d <= largest { largest } else { d });
    largest / mean_square(a).sqrt().max(1.0)
}

pub fn mean_square(values: &[f32]) -> f64 {
    let squares = values.iter().map(|&value| f64::from(value).powi(2));
    squares.sum::<f64>() / values.len().max(1) as f64
}

/// The standard deviation.
pub fn deviation(values: &[f32]) -> f64 {
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / values.len().max(1) as f64;
    (mean_square(values) - mean * mean).max(0.0).sqrt()
}

/// Pearson's correlation; 0 where one of them does not vary.
pub fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let len = a.len().max(1) as f64;
    let mean = |values: &[f32]| values.iter().map(|&v| f64::from(v)).sum::<f64>() / len;
    let (mean_a, mean_b) = (mean(a), mean(b));
    let products =
        a.iter().zip(b).map(|(a, b)| (f64::from(*a) - mean_a) * (f64::from(*b) - mean_b));
    let spread = deviation(a) * deviation(b);
    if spread > 0.0 { products.sum::<f64>() / len / spread } else { 0.0 }
}
