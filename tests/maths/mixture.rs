//! A mixture sampled by real runs: what comes out is distributed as the data is.

use ddpm::error::Result;
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::run::Run;
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding};
use ndarray::{ArrayView4, ArrayViewMut4, Zip};

use super::laws::{Law, Mixture};
use super::samplers::Form;

/// An image of one channel is so many independent samples.
const SIDE: usize = 96;
const SAMPLES: usize = SIDE * SIDE;

struct MixtureModel {
    config: ModelConfig,
    schedule: NoiseSchedule,
}

impl Denoiser for MixtureModel {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        _labels: &[i64],
        output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        let a = 1.0 / (1.0 + self.schedule.sigma_at(timesteps[0]).powi(2));
        Zip::from(output).and(sample).for_each(|out, &x| {
            *out = Mixture::TWO.epsilon(f64::from(x), a) as f32;
        });
        Ok(())
    }
}

/// The largest distance between the distribution functions of the samples and of the data
/// (Kolmogorov's statistic).
fn distance(samples: &[f32]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f32::total_cmp);
    let n = sorted.len() as f64;
    let gap = |(i, &x): (usize, &f32)| {
        let p = Mixture::TWO.cdf(f64::from(x), 1.0);
        (p - i as f64 / n).abs().max((p - (i + 1) as f64 / n).abs())
    };
    // Every fourth sample: the distribution function in between moves by 4 / n at most.
    sorted.iter().enumerate().step_by(4).map(gap).fold(0.0, f64::max) + 4.0 / n
}

fn distance_of(form: Form, steps: usize) -> f64 {
    let sampler = SamplerConfig { steps, ..form.config() };
    let schedule = NoiseSchedule::ddpm();
    let mut config = ModelConfig::ddpm(1, SIDE, SIDE);
    config.sampler.thresholding = Thresholding::Off;
    let mut model = MixtureModel { config, schedule };
    let mut run = Run::new(&model.config, &sampler, 11, 1).unwrap();
    while run.step(&mut model).unwrap() {}
    assert_eq!(run.sample().len(), SAMPLES);
    distance(run.sample())
}

#[test]
fn samples_of_a_mixture_are_distributed_as_it_is() {
    // Kolmogorov's statistic of n true samples is above 1.95 / sqrt(n) once in a thousand times: 0.020.
    // What is added is the error of finitely many steps and of N(0, 1) in the place of x_T's law, of which
    // DDPM, of order 1, has most.
    let sampling = 1.95 / (SAMPLES as f64).sqrt();
    let dpmpp_sde = Form::new(Sampler::DpmppSde).with_order(2);
    for (form, steps, bias) in [
        (Form::new(Sampler::Ddpm), 200, 0.01),
        (Form::new(Sampler::Ddim).with_eta(0.0), 100, 0.01),
        (Form::new(Sampler::Ddim).with_eta(1.0), 200, 0.01),
        (Form::new(Sampler::EulerAncestral), 200, 0.01),
        (dpmpp_sde, 50, 0.005),
        (Form::new(Sampler::Dpmpp).with_order(2), 25, 0.005),
        (Form::new(Sampler::Unipc).with_order(2), 25, 0.005),
        (Form::new(Sampler::Deis).with_order(3), 25, 0.005),
        (Form::new(Sampler::Heun), 25, 0.005),
        (Form::new(Sampler::Pndm), 50, 0.005),
    ] {
        let found = distance_of(form, steps);
        assert!(found < sampling + bias, "{} of {steps} steps: {found}", form.name());
    }
}

#[test]
fn few_steps_of_a_first_order_sampler_are_seen_to_miss_a_mixture() {
    for form in
        [Form::new(Sampler::Ddpm), Form::new(Sampler::Ddim), Form::new(Sampler::EulerAncestral)]
    {
        let [few, more] = [4, 16].map(|steps| distance_of(form, steps));
        assert!(few > 0.06 && more < 0.8 * few, "{}: {few} {more}", form.name());
    }
}
