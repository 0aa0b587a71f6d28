//! Gaussian data, for which the exact epsilon is known: the samples must have the data's moments.
//!
//! For data N(mu, s^2) per pixel, x_t is N(sqrt(a) mu, a s^2 + 1 - a) with a = alpha_bar_t, and the
//! expectation of epsilon given x_t is (x - sqrt(a) mu) sqrt(1 - a) / (a s^2 + 1 - a).

use ddpm::error::Result;
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::run::Run;
use ddpm::sampler::{Sampler, SamplerConfig, step_table};
use ndarray::{ArrayView4, ArrayViewMut4, Axis, Zip};

/// A 64 x 64 image is 4,096 independent samples of each channel's law.
const SIDE: usize = 64;
const SAMPLES: usize = SIDE * SIDE;

/// A channel's law, and how far the limit of infinitely many samples is from s, as a share of s:
/// what finitely many steps cost. Computed apart from this crate, from eq. 7 of Ho et al. 2020 and
/// eq. 12 of Song et al. 2021. The narrower the data, the more a step of fixed size misses.
struct Law {
    mu: f64,
    s: f64,
    ddpm_1000: f64,
    ddim_50: f64,
}

const DATA: [Law; 4] = [
    Law { mu: -0.4, s: 1.5, ddpm_1000: -0.0035, ddim_50: -0.0314 },
    Law { mu: 0.1, s: 1.0, ddpm_1000: -0.0045, ddim_50: -0.0364 },
    Law { mu: 0.6, s: 0.7, ddpm_1000: -0.0058, ddim_50: -0.0447 },
    Law { mu: 0.3, s: 0.2, ddpm_1000: -0.0185, ddim_50: -0.1310 },
];

struct ExactGaussian {
    config: ModelConfig,
    alphas_cumprod: Vec<f64>,
}

impl ExactGaussian {
    fn new() -> Self {
        // Gaussian data has no range to hold x_0 to.
        let config =
            ModelConfig { clip_sample_range: None, ..ModelConfig::ddpm(DATA.len(), SIDE, SIDE) };
        Self { config, alphas_cumprod: NoiseSchedule::ddpm().alphas_cumprod().to_vec() }
    }
}

impl Denoiser for ExactGaussian {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        _labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        let a = self.alphas_cumprod[timesteps[0] as usize];
        for (channel, Law { mu, s, .. }) in DATA.into_iter().enumerate() {
            let shift = a.sqrt() * mu;
            let factor = (1.0 - a).sqrt() / (a * s * s + 1.0 - a);
            Zip::from(output.index_axis_mut(Axis(1), channel))
                .and(sample.index_axis(Axis(1), channel))
                .for_each(|out, &x| *out = ((f64::from(x) - shift) * factor) as f32);
        }
        Ok(())
    }
}

/// The mean and standard deviation that the table gives in the limit of many samples.
///
/// With this model a row is an affine map plus noise, so both follow exactly from N(0, 1).
fn limit_of(sampler: &SamplerConfig, mu: f64, s: f64) -> (f64, f64) {
    let schedule = NoiseSchedule::ddpm();
    let (mut mean, mut variance) = (0.0, 1.0);
    for row in step_table(&schedule, sampler).unwrap().rows() {
        let a = schedule.alphas_cumprod()[row.timestep as usize];
        let factor = (1.0 - a).sqrt() / (a * s * s + 1.0 - a);
        let shift = -factor * a.sqrt() * mu;
        // next = next.x x + next.m m + next.x0 (p_x x + p_m m), with m = factor x + shift.
        let on_m = row.next.m + row.next.x0 * row.p_m;
        let gain = row.next.x + row.next.x0 * row.p_x + on_m * factor;
        mean = gain * mean + on_m * shift;
        variance = gain * gain * variance + row.next.noise.powi(2);
    }
    (mean, variance.sqrt())
}

fn moments(values: &[f32]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

/// Samples, and compares their moments with the limit, and the limit with the data.
///
/// Against the data the samples are thus off by four standard errors (6 % of s in the mean, 4.4 % in
/// the deviation) and the bias of `Law`, at most.
fn samples_have_the_moments_of_the_data(kind: Sampler, steps: usize, bias: fn(&Law) -> f64) {
    let mut model = ExactGaussian::new();
    let sampler = model.config.sampler_config(kind, steps);
    let mut run = Run::new(&model.config, &sampler, 20, 1).unwrap();
    while run.step(&mut model).unwrap() {}
    for (values, law) in run.sample().chunks(SAMPLES).zip(&DATA) {
        let Law { mu, s, .. } = *law;
        let (limit_mean, limit_std) = limit_of(&sampler, mu, s);
        // The run starts from mean 0 where the forward process has mu / 157: DDIM keeps that gap.
        assert!(
            (limit_mean - mu).abs() < 0.01 * mu.abs(),
            "limit of the mean {limit_mean}, data {mu}"
        );
        let found_bias = limit_std / s - 1.0;
        assert!((found_bias - bias(law)).abs() < 1e-4, "s = {s}: bias {found_bias}");

        let (mean, std) = moments(values);
        let n = SAMPLES as f64;
        let (mean_error, std_error) = (limit_std / n.sqrt(), limit_std / (2.0 * n).sqrt());
        assert!((mean - limit_mean).abs() < 4.0 * mean_error, "mean {mean}, expected {limit_mean}");
        assert!((std - limit_std).abs() < 4.0 * std_error, "deviation {std}, expected {limit_std}");
    }
}

#[test]
fn ddpm_of_1000_steps_has_the_moments_of_gaussian_data() {
    samples_have_the_moments_of_the_data(Sampler::Ddpm, 1000, |law| law.ddpm_1000);
}

#[test]
fn ddim_of_50_steps_has_the_moments_of_gaussian_data() {
    samples_have_the_moments_of_the_data(Sampler::Ddim { eta: 0.0 }, 50, |law| law.ddim_50);
}

/// DDIM turns the vector (sqrt(a) s, sqrt(1 - a)) of the marginal towards (s, 0) in steps, and each
/// step keeps the cosine of its angle: an independent closed form of its limit.
#[test]
fn ddim_loses_the_product_of_cosines_of_its_angles() {
    let schedule = NoiseSchedule::ddpm();
    for steps in [1, 2, 10, 50] {
        let sampler = ModelConfig { clip_sample_range: None, ..ModelConfig::ddpm(3, 1, 1) }
            .sampler_config(Sampler::Ddim { eta: 0.0 }, steps);
        let table = step_table(&schedule, &sampler).unwrap();
        for Law { mu, s, .. } in DATA {
            let angle = |a: f64| ((1.0 - a).sqrt() / (a.sqrt() * s)).atan();
            let mut angles: Vec<f64> = table
                .rows()
                .iter()
                .map(|row| angle(schedule.alphas_cumprod()[row.timestep as usize]))
                .collect();
            angles.push(0.0);
            let first = schedule.alphas_cumprod()[table.rows()[0].timestep as usize];
            let cosines: f64 = angles.windows(2).map(|w| (w[0] - w[1]).cos()).product();
            // The start is N(0, 1) where the marginal's deviation is sqrt(a s^2 + 1 - a).
            let expected = s * cosines / (first * s * s + 1.0 - first).sqrt();
            let (_, found) = limit_of(&sampler, mu, s);
            assert!((found - expected).abs() < 1e-12, "{steps} steps, s = {s}: {found} {expected}");
        }
    }
}
