//! How well the model's output explains noised pictures, under an assumption on what it predicts and is
//! fed.
//!
//! Two assumptions are compared where the samples hold the same information, that is at the same ratio
//! of signal to noise; then no wrong one can leave less of the noise unexplained than the right one of a
//! well trained model. So the noise levels are set first, and each assumption says which timestep
//! belongs to them.

use ddpm::error::Result;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;

use super::probe::{Probe, all_finite};

pub const TYPES: [PredictionType; 4] = [
    PredictionType::Epsilon,
    PredictionType::Sample,
    PredictionType::VPrediction,
    PredictionType::Mean,
];

/// The noise over the signal, sigma of Karras et al. 2022, at the levels that are tried. Above the last a
/// sample is all but noise whatever the schedule, and every model explains it.
const SIGMAS: [f64; 6] = [0.15, 0.4, 0.8, 1.6, 4.0, 12.0];

/// How the model is fed the pictures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feeding {
    /// Whether the values are 0 to 1 and not -1 to 1.
    pub from_zero: bool,
    /// Whether blue comes first.
    pub swapped: bool,
    /// Whether the timestep is divided by T.
    pub unit_time: bool,
}

impl Feeding {
    /// As the library feeds it.
    pub const OURS: Self = Self { from_zero: false, swapped: false, unit_time: false };
}

/// What was measured under one assumption.
pub struct Explained {
    /// The timesteps, one a noise level.
    pub timesteps: Vec<usize>,
    /// For each of `TYPES`, at each timestep: 1 - MSE(output, what the type predicts) over the latter's
    /// variance. 1 is a perfect prediction, 0 as good as a constant.
    pub shares: [Vec<f64>; 4],
    /// For each of `TYPES`: the noise that is left over the noise there was, if the output is that; the
    /// geometric mean over the levels.
    pub left: [f64; 4],
}

impl Explained {
    /// The mean share of a type; one that is far off at a level is as bad as any other there.
    pub fn share(&self, kind: usize) -> f64 {
        let shares = &self.shares[kind];
        shares.iter().map(|share| share.max(-1.0)).sum::<f64>() / shares.len().max(1) as f64
    }

    /// The type, as an index of `TYPES`, that explains most.
    pub fn best(&self) -> usize {
        (0..TYPES.len()).max_by(|&a, &b| self.share(a).total_cmp(&self.share(b))).unwrap_or(0)
    }
}

/// Pictures with noise of their own.
pub struct Trial {
    /// [n, C, H, W] in [-1, 1].
    pictures: Vec<f32>,
    noise: Vec<f32>,
    plane: usize,
    channels: usize,
}

impl Trial {
    pub fn new(probe: &Probe, pictures: Vec<f32>) -> Self {
        let noise = probe.noise(NOISE, pictures.len() / probe.item_len());
        let model = probe.model();
        Self { pictures, noise, plane: model.height * model.width, channels: model.channels }
    }

    /// Measures under one assumption. `None` where the model gives values that are not finite.
    pub fn explained(
        &self,
        probe: &mut Probe,
        schedule: &NoiseSchedule,
        feeding: Feeding,
    ) -> Result<Option<Explained>> {
        let pictures = self.fed(feeding);
        let mut explained =
            Explained { timesteps: Vec::new(), shares: [const { Vec::new() }; 4], left: [0.0; 4] };
        for sigma in SIGMAS {
            // At half the signal the same ratio has half the sigma.
            let sigma = if feeding.from_zero { sigma / 2.0 } else { sigma };
            let t = nearest(schedule, sigma);
            let (signal, spread) = (1.0 / sigma.hypot(1.0), sigma / sigma.hypot(1.0));
            let noised = pictures.iter().zip(&self.noise);
            let x: Vec<f32> = noised
                .map(|(x0, noise)| (signal * f64::from(*x0) + spread * f64::from(*noise)) as f32)
                .collect();
            let fed_t =
                t as f64 / if feeding.unit_time { schedule.betas().len() as f64 } else { 1.0 };
            let m = probe.predict(&x, fed_t)?;
            if !all_finite(&m) {
                return Ok(None);
            }
            explained.timesteps.push(t);
            for (kind, prediction) in TYPES.into_iter().enumerate() {
                let (to_x0, to_noise) = match prediction {
                    PredictionType::Epsilon => (0.0, 1.0),
                    PredictionType::Sample => (1.0, 0.0),
                    PredictionType::VPrediction => (-spread, signal),
                    PredictionType::Mean => prediction.target_coefficients(schedule, t)?,
                };
                let target: Vec<f64> = pictures
                    .iter()
                    .zip(&self.noise)
                    .map(|(x0, noise)| to_x0 * f64::from(*x0) + to_noise * f64::from(*noise))
                    .collect();
                let error = mean_error(&m, &target);
                explained.shares[kind].push(1.0 - error / variance(&target));
                // epsilon = e_x x + e_m m, so an error of m is one of epsilon times e_m.
                let (_, e_m) = match prediction {
                    PredictionType::Epsilon => (0.0, 1.0),
                    PredictionType::Sample => (1.0 / spread, -signal / spread),
                    PredictionType::VPrediction => (spread, signal),
                    PredictionType::Mean => prediction.epsilon_coefficients(schedule, t)?,
                };
                explained.left[kind] += (e_m * e_m * error).max(LEAST).ln() / SIGMAS.len() as f64;
            }
        }
        explained.left = explained.left.map(f64::exp);
        Ok(Some(explained))
    }

    fn fed(&self, feeding: Feeding) -> Vec<f32> {
        let mut pictures = self.pictures.clone();
        if feeding.swapped && self.channels >= 3 {
            for item in pictures.chunks_exact_mut(self.channels * self.plane) {
                let (red, rest) = item.split_at_mut(self.plane);
                red.swap_with_slice(&mut rest[self.plane..2 * self.plane]);
            }
        }
        if feeding.from_zero {
            pictures.iter_mut().for_each(|value| *value = (*value + 1.0) / 2.0);
        }
        pictures
    }
}

/// The draw of the noise on the pictures.
const NOISE: u64 = 1000;

/// Below this a residual is rounding, which two exact answers must not be told apart by.
const LEAST: f64 = 1e-9;

/// The timestep whose sigma is nearest to `sigma`, by its logarithm.
fn nearest(schedule: &NoiseSchedule, sigma: f64) -> usize {
    let off = |alpha_bar: f64| (((1.0 - alpha_bar) / alpha_bar).sqrt() / sigma).ln().abs();
    let alphas = schedule.alphas_cumprod().iter().map(|&alpha_bar| off(alpha_bar)).enumerate();
    alphas.min_by(|(_, a), (_, b)| a.total_cmp(b)).map_or(0, |(t, _)| t)
}

fn mean_error(m: &[f32], target: &[f64]) -> f64 {
    let squares = m.iter().zip(target).map(|(m, target)| (f64::from(*m) - target).powi(2));
    squares.sum::<f64>() / target.len().max(1) as f64
}

fn variance(values: &[f64]) -> f64 {
    let len = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / len;
    // A picture of one colour varies not at all.
    (values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / len).max(LEAST)
}
