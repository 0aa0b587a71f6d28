//! The variational bound of a model over images, in bits a value: how well it describes them.
//!
//! Source: Ho et al. 2020, eq. 5; Nichol and Dhariwal 2021, section 3; improved-diffusion's
//! `calc_bpd_loop`. Knows networks as a [`Denoiser`] only, so an exported model is measured the same way.

use std::f64::consts::LN_2;
use std::fmt;
use std::path::Path;

use anyhow::{Result, ensure};
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::rng::{self, Purpose};
use ddpm::sampler::Thresholding;
use ndarray::Array4;

use crate::config::Config;
use crate::data::Dataset;
use crate::data::augment::View;
use crate::forward::transpose_pixels;
use crate::objective::{Posterior, discretized_gaussian_log_likelihood, normal_kl, posteriors};

/// How the bound is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// One timestep in so many is computed, drawn for each image, and counts for all of them: 1 for all
    /// timesteps. The first ones, where most of the bound is, are always computed.
    pub every: usize,
    /// Of the noise, and of the choice of timesteps.
    pub seed: u64,
    /// Evaluations of the network at once. Without effect on the result but for rounding.
    pub batch: usize,
}

/// A part of the bound, over some of the timesteps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The first timestep, and the one after the last.
    pub timesteps: (usize, usize),
    /// The sum of the terms of these timesteps, in bits a value.
    pub bits: f64,
    /// The mean square error of x_0, as far as it was computed.
    pub mse_x0: f64,
}

/// The bound over a set of images.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    /// Images measured.
    pub images: usize,
    /// The bound in bits a value (a channel of a pixel): the mean over the images.
    pub bits: f64,
    /// The standard error of that mean; not a number for a single image.
    pub standard_error: f64,
    /// How far x_T is from pure noise: L_T, in bits a value. No training changes it.
    pub prior: f64,
    /// The other terms, from timestep 0 up; they and the prior add up to `bits`.
    pub parts: Vec<Part>,
}

/// The images of a run, or those at `path` (a folder, a picture of tiles or, where the run's were in
/// MNIST's format, a file of that), read as the run's were.
///
/// Errors: where they cannot be read, or have other classes than the run's.
pub fn read_data(config: &Config, path: Option<&Path>) -> Result<Dataset> {
    let mut source = config.data.clone();
    if let Some(path) = path {
        let idx = source.idx.is_some();
        (source.folder, source.sheet, source.idx, source.idx_labels) = (None, None, None, None);
        let place = match path.is_dir() {
            true => &mut source.folder,
            false if idx => &mut source.idx,
            false => &mut source.sheet,
        };
        *place = Some(path.to_path_buf());
    }
    let data = Dataset::read(&source)?;
    let (found, expected) = (data.class_names(), &config.data.class_names);
    ensure!(
        found == expected,
        "the classes of the images are {found:?}, expected the model's {expected:?}"
    );
    Ok(data)
}

/// The indices of `count` of `len` images, evenly spread; all where there are no more.
pub fn evenly_spread(len: usize, count: usize) -> Vec<usize> {
    let count = count.min(len);
    (0..count).map(|i| i * len / count).collect()
}

impl fmt::Display for Likelihood {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { images, bits, standard_error, prior, parts } = self;
        write!(f, "{bits:.4} bits a value, the variational bound over {images} images")?;
        match *images {
            1 => writeln!(f)?,
            _ => writeln!(f, " (standard error {standard_error:.4})")?,
        }
        writeln!(f, "{:>13}  {:>9}  {:>11}", "timesteps", "bits", "mse of x_0")?;
        for Part { timesteps: (start, end), bits, mse_x0 } in parts {
            let range = match end - start {
                1 => start.to_string(),
                _ => format!("{start} to {}", end - 1),
            };
            writeln!(f, "{range:>13}  {bits:>9.4}  {mse_x0:>11.6}")?;
        }
        write!(f, "{:>13}  {prior:>9.4}", "prior")
    }
}

/// Measures the bound of `denoiser` on the images of `data` with these indices, as they are (neither
/// flipped nor shifted) and with their labels.
///
/// The predicted x_0 is held to the range that the model is sampled with, as it is there. The result
/// depends on model, images and request only.
///
/// Errors: where the images are not the model's, a value of the request is 0, or the model is not one
/// that has a bound (see [`posteriors`]), gives what is no number, or fails.
pub fn likelihood(
    denoiser: &mut dyn Denoiser,
    data: &Dataset,
    images: &[usize],
    request: Request,
) -> Result<Likelihood> {
    let Request { every, batch, .. } = request;
    for (name, value) in [("every", every), ("batch", batch), ("count", images.len())] {
        ensure!(value > 0, "{name} is 0, expected at least 1");
    }
    let mut run = Measure::new(denoiser, data, request)?;
    let mut per_image = Vec::with_capacity(images.len());
    let mut parts = run.parts();
    let mut counts = vec![0.0; parts.len()];
    let mut prior = 0.0;
    for &image in images {
        let of_prior = run.load(image)?;
        prior += of_prior / images.len() as f64;
        let mut bits = of_prior;
        let evaluations = run.evaluations(image);
        for evaluations in evaluations.chunks(batch) {
            for (&(t, weight), term) in evaluations.iter().zip(run.terms(image, evaluations)?) {
                ensure!(
                    term.bits.is_finite(),
                    "image {image} at timestep {t}: the bound is {}",
                    term.bits
                );
                bits += weight * term.bits;
                let part = parts.iter().position(|p| (p.timesteps.0..p.timesteps.1).contains(&t));
                if let Some(part) = part {
                    parts[part].bits += weight * term.bits / images.len() as f64;
                    parts[part].mse_x0 += term.mse_x0;
                    counts[part] += 1.0;
                }
            }
        }
        per_image.push(bits);
    }
    for (part, count) in parts.iter_mut().zip(counts) {
        part.mse_x0 /= count;
    }
    let n = images.len() as f64;
    let bits = per_image.iter().sum::<f64>() / n;
    let squares: f64 = per_image.iter().map(|b| (b - bits).powi(2)).sum();
    let standard_error = (squares / (n - 1.0) / n).sqrt();
    Ok(Likelihood { images: images.len(), bits, standard_error, prior, parts })
}

/// The term of one timestep.
struct Term {
    bits: f64,
    mse_x0: f64,
}

/// What goes on over the images.
struct Measure<'a> {
    denoiser: &'a mut dyn Denoiser,
    model: ModelConfig,
    schedule: NoiseSchedule,
    posteriors: Vec<Posterior>,
    data: &'a Dataset,
    request: Request,
    /// The image at hand, pixel after pixel and plane after plane.
    pixels: Vec<f32>,
    x0: Vec<f32>,
}

impl<'a> Measure<'a> {
    fn new(denoiser: &'a mut dyn Denoiser, data: &'a Dataset, request: Request) -> Result<Self> {
        let model = denoiser.config().clone();
        let schedule = model.noise_schedule()?;
        let item = model.sample_len(1)?;
        ensure!(
            data.item() == item,
            "the images have {} values, expected the model's {item}",
            data.item()
        );
        let posteriors = posteriors(&model, &schedule)?;
        let (pixels, x0) = (vec![0.0; item], vec![0.0; item]);
        Ok(Self { denoiser, model, schedule, posteriors, data, request, pixels, x0 })
    }

    /// The ranges of timesteps that are told apart: 0, and the rest in ever wider ones.
    fn parts(&self) -> Vec<Part> {
        let count = self.schedule.num_train_timesteps();
        let mut ends = vec![1];
        ends.extend([100, 20, 10, 4, 2, 1].map(|share| (count / share).max(1)));
        ends.dedup();
        let starts = std::iter::once(0).chain(ends.iter().copied());
        starts
            .zip(&ends)
            .map(|(start, &end)| Part { timesteps: (start, end), bits: 0.0, mse_x0: 0.0 })
            .collect()
    }

    /// Makes `image` the one at hand. Returns L_T, in bits a value.
    fn load(&mut self, image: usize) -> Result<f64> {
        ensure!(image < self.data.len(), "no image {image}, there are {}", self.data.len());
        self.data.copy_image(image, View::default(), &mut self.pixels);
        let (channels, plane) = (self.model.channels, self.model.height * self.model.width);
        transpose_pixels(&self.pixels, &mut self.x0, channels, plane, true);
        let last = self.schedule.alpha_cumprod(self.schedule.num_train_timesteps() - 1)?;
        let nats = |&x0: &f32| normal_kl(last.sqrt() * f64::from(x0), (1.0 - last).ln(), 0.0);
        Ok(self.x0.iter().map(nats).sum::<f64>() / (LN_2 * self.x0.len() as f64))
    }

    /// The timesteps that are computed for `image`, and for how many each counts. Of each range, no
    /// longer than `every` and than a quarter of its start, one is drawn: the sum is right in the mean.
    fn evaluations(&self, image: usize) -> Vec<(usize, f64)> {
        let (count, every) = (self.schedule.num_train_timesteps(), self.request.every);
        let (mut start, mut drawn) = (0, Vec::new());
        while start < count {
            // The terms fall steeply at first.
            let length = (start / 4).clamp(1, every).min(count - start);
            let (seed, purpose) = (self.request.seed, Purpose::LikelihoodTimesteps);
            let place =
                rng::uniform_below(seed, purpose, image as u32, start as u64, length as u64);
            drawn.push((start + place as usize, length as f64));
            start += length;
        }
        drawn
    }

    /// The terms of these timesteps for the image at hand.
    fn terms(&mut self, image: usize, evaluations: &[(usize, f64)]) -> Result<Vec<Term>> {
        let item = self.x0.len();
        let (c, h, w) = (self.model.channels, self.model.height, self.model.width);
        let n = evaluations.len();
        let mut noisy = vec![0.0; n * item];
        let mut noise = vec![0.0; item];
        for (&(t, _), noisy) in evaluations.iter().zip(noisy.chunks_exact_mut(item)) {
            let (seed, first) = (self.request.seed, (image * item) as u64);
            let purpose = Purpose::LikelihoodNoise;
            rng::fill_standard_normal_from(seed, purpose, t as u32, first, &mut noise);
            self.schedule.add_noise(&self.x0, &noise, t, noisy)?;
        }
        let timesteps: Vec<f64> = evaluations.iter().map(|&(t, _)| t as f64).collect();
        let labels = match self.model.classes {
            Some(_) => {
                let label = self.data.labels().get(image).copied();
                let Some(label) = label else {
                    anyhow::bail!("the images have no classes, the model has");
                };
                vec![i64::from(label); n]
            }
            None => Vec::new(),
        };
        let sample = Array4::from_shape_vec((n, c, h, w), noisy)?;
        let outputs = self.model.output_channels();
        let mut out = Array4::zeros((n, outputs, h, w));
        self.denoiser.predict(sample.view(), &timesteps, &labels, out.view_mut())?;
        let (noisy, _) = sample.into_raw_vec_and_offset();
        let (out, _) = out.into_raw_vec_and_offset();
        let rows = noisy.chunks_exact(item).zip(out.chunks_exact(outputs * h * w));
        evaluations.iter().zip(rows).map(|(&(t, _), (x, out))| self.term(t, x, out)).collect()
    }

    /// L_t of one x_t and the network's output for it.
    fn term(&self, t: usize, x: &[f32], out: &[f32]) -> Result<Term> {
        let (p_x, p_m) = self.model.prediction_type.x0_coefficients(&self.schedule, t)?;
        let range = match self.model.sampler.thresholding {
            Thresholding::Clip(range) => range,
            _ => f64::INFINITY,
        };
        let posterior = &self.posteriors[t];
        let (output, variance) = out.split_at(x.len());
        let (mut nats, mut squares) = (0.0, 0.0);
        for (i, (&x0, &x)) in self.x0.iter().zip(x).enumerate() {
            let (x0, x) = (f64::from(x0), f64::from(x));
            let found = (p_x * x + p_m * f64::from(output[i])).clamp(-range, range);
            let v = variance.get(i).copied().unwrap_or(0.0);
            let log_variance =
                posterior.model_log_variance(self.model.sampler.variance_type, t, f64::from(v));
            nats += if t == 0 {
                // The mean is x_0 alone at t = 0.
                -discretized_gaussian_log_likelihood(x0, x0 - found, log_variance)
            } else {
                normal_kl(posterior.coef_x0 * (x0 - found), posterior.log_variance, log_variance)
            };
            squares += (x0 - found).powi(2);
        }
        let len = x.len() as f64;
        Ok(Term { bits: nats / (LN_2 * len), mse_x0: squares / len })
    }
}
