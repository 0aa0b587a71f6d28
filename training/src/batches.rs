//! The batches of a run: which images, how they are shown, their noise and timesteps.
//!
//! A batch is a function of configuration, data and step number alone: everything random in it is
//! counted out by Philox. The images of a step are numbered through; where they are too many for the
//! memory, they come in parts (`train.accumulate`), and each is what it would be in one batch.

use std::ops::Range;

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::rng::{self, Purpose};

use crate::config::Config;
use crate::data::augment::View;
use crate::data::{Dataset, Order};

/// What a step of training is computed from.
pub struct Batch {
    /// x_0, `[n, h, w, c]` in [-1, 1].
    pub x0: Tensor<4>,
    /// x_t, `[n, h, w, c]`.
    pub noisy: Tensor<4>,
    /// What the network should give, `[n, h, w, c]`.
    pub target: Tensor<4>,
    /// t of each item.
    pub timesteps: Vec<f64>,
    /// The label of each item, that of no class for those that lost theirs; empty without classes.
    pub labels: Vec<i64>,
}

impl Batch {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.timesteps.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.timesteps.is_empty()
    }

    /// Some of the items, as a batch.
    pub fn slice(&self, items: Range<usize>) -> Self {
        let part = |tensor: &Tensor<4>| tensor.clone().slice_dim(0, items.clone());
        Self {
            x0: part(&self.x0),
            noisy: part(&self.noisy),
            target: part(&self.target),
            timesteps: self.timesteps[items.clone()].to_vec(),
            labels: self.labels.get(items).unwrap_or_default().to_vec(),
        }
    }
}

/// Makes the batches of a run.
pub struct Batches<'a> {
    config: &'a Config,
    data: &'a Dataset,
    order: Order,
    schedule: NoiseSchedule,
    prediction: PredictionType,
    device: Device,
}

impl<'a> Batches<'a> {
    /// Those of `config` over `data`; tensors are made on `device`.
    pub fn new(config: &'a Config, data: &'a Dataset, device: &Device) -> Result<Self> {
        let model = config.model_config()?;
        Ok(Self {
            config,
            data,
            order: Order::new(config.seed, data.len()),
            schedule: model.noise_schedule()?,
            prediction: model.prediction_type,
            device: device.clone(),
        })
    }

    /// Where the tensors are.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Part `part`, of `train.accumulate`, of the images of step `step`, `train.batch` of them:
    /// x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise (DDPM eq. 4).
    pub fn batch(&mut self, step: usize, part: usize) -> Result<Batch> {
        let (n, seed) = (self.config.train.batch, self.config.seed);
        let first = part * n;
        let images = n * self.config.train.accumulate;
        let (h, w) = (self.config.data.height, self.config.data.width);
        let channels = self.config.data.channels();
        let item = h * w * channels;
        let mut noise = vec![0.0; n * item];
        let offset = (first * item) as u64;
        let purpose = Purpose::TrainNoise;
        rng::fill_standard_normal_from(seed, purpose, step as u32, offset, &mut noise);
        self.share_noise(step, first, &mut noise);
        let mut x0 = vec![0.0; n * item];
        let (mut noisy, mut target) = (vec![0.0; n * item], vec![0.0; n * item]);
        let (mut timesteps, mut labels) = (Vec::with_capacity(n), Vec::new());
        for i in 0..n {
            let number = first + i;
            let view = View::random(&self.config.data, seed, step, number);
            let index = self.order.image(step * images + number);
            let image = &mut x0[i * item..][..item];
            self.data.copy_image(index, view, image);
            labels.extend(self.label(index, step, number));
            let t = self.timestep(step, number);
            let noise = &noise[i * item..][..item];
            self.schedule.add_noise(image, noise, t, &mut noisy[i * item..][..item])?;
            let (c_x0, c_noise) = self.prediction.target_coefficients(&self.schedule, t)?;
            let (c_x0, c_noise) = (c_x0 as f32, c_noise as f32);
            for ((target, x0), noise) in target[i * item..].iter_mut().zip(image.iter()).zip(noise)
            {
                *target = c_x0 * x0 + c_noise * noise;
            }
            timesteps.push(t as f64);
        }
        let tensor =
            |values| Tensor::from_data(TensorData::new(values, [n, h, w, channels]), &self.device);
        let (x0, noisy, target) = (tensor(x0), tensor(noisy), tensor(target));
        Ok(Batch { x0, noisy, target, timesteps, labels })
    }

    /// Adds to the noise of the items from `first` on, `[n, h, w, c]`, a normal value for each channel of
    /// each item, times `loss.noise_offset` (Guttenberg 2023, "Diffusion with offset noise").
    fn share_noise(&self, step: usize, first: usize, noise: &mut [f32]) {
        let strength = self.config.loss.noise_offset as f32;
        if strength == 0.0 {
            return;
        }
        let (n, channels) = (self.config.train.batch, self.config.data.channels());
        let mut shared = vec![0.0; n * channels];
        let offset = (first * channels) as u64;
        let purpose = Purpose::NoiseOffset;
        rng::fill_standard_normal_from(self.config.seed, purpose, step as u32, offset, &mut shared);
        let items = noise.chunks_exact_mut(noise.len() / n).zip(shared.chunks_exact(channels));
        for (item, shared) in items {
            for pixel in item.chunks_exact_mut(channels) {
                pixel
                    .iter_mut()
                    .zip(shared)
                    .for_each(|(noise, shared)| *noise += strength * shared);
            }
        }
    }

    /// The label of image `index` as item `item` of a step, or that of no class; none without classes.
    fn label(&self, index: usize, step: usize, item: usize) -> Option<i64> {
        let label = i64::from(*self.data.labels().get(index)?);
        let seed = self.config.seed;
        let word = rng::uniform_u64(seed, Purpose::LabelDropout, step as u32, item as u64);
        let dropped = (word as f64 * 2f64.powi(-64)) < self.config.train.label_dropout;
        self.config.null_label().filter(|_| dropped).or(Some(label))
    }

    /// Uniform over 0..T, spread evenly over the step from one random start: the loss of a step
    /// varies less (Kingma et al. 2021, "Variational diffusion models", appendix I.1).
    fn timestep(&self, step: usize, item: usize) -> usize {
        let (seed, train) = (self.config.seed, &self.config.train);
        let n = train.batch * train.accumulate;
        let word = rng::uniform_u64(seed, Purpose::TrainTimesteps, step as u32, 0);
        let start = word as f64 * 2f64.powi(-64);
        let place = (start + item as f64 / n as f64).fract();
        let count = self.schedule.num_train_timesteps();
        ((place * count as f64) as usize).min(count - 1)
    }
}
