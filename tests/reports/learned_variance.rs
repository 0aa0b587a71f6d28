//! Models that give a variance beside their output, in as many channels again.

use ddpm::error::Result;
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::run::Run;
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding, VarianceType, step_table};
use ndarray::{ArrayView4, ArrayViewMut4, Axis, Zip};

/// epsilon is 0.9 x; `v` gives the second half of an item's channels, from the item's index and the
/// timestep.
struct Learned<F> {
    config: ModelConfig,
    v: F,
}

impl<F: Fn(usize, f64) -> f32 + Send> Learned<F> {
    fn new(gives_variance: bool, v: F) -> Self {
        let config = ModelConfig { gives_variance, ..ModelConfig::ddpm(3, 4, 5) };
        Self { config, v }
    }

    fn run(&mut self, variance_type: VarianceType, seed: u64, batch: usize) -> Vec<f32> {
        let mut run = Run::new(&self.config, &config(variance_type), seed, batch).unwrap();
        while run.step(self).unwrap() {}
        run.sample().to_vec()
    }
}

impl<F: Fn(usize, f64) -> f32 + Send> Denoiser for Learned<F> {
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
        for (i, (x, mut out)) in sample.outer_iter().zip(output.outer_iter_mut()).enumerate() {
            let (mut epsilon, mut v) = out.view_mut().split_at(Axis(0), 3);
            Zip::from(&mut epsilon).and(&x).for_each(|out, &x| *out = 0.9 * x);
            v.fill((self.v)(i, timesteps[i]));
        }
        Ok(())
    }
}

fn config(variance_type: VarianceType) -> SamplerConfig {
    SamplerConfig {
        steps: 12,
        variance_type,
        thresholding: Thresholding::Off,
        ..SamplerConfig::default()
    }
}

fn fixed(variance_type: VarianceType, seed: u64) -> Vec<f32> {
    Learned::new(false, |_, _| 0.0).run(variance_type, seed, 1)
}

fn assert_equal(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (&found, &expected) in found.iter().zip(expected) {
        // v and its logarithm are rounded to f32, which is 6e-8 of up to 10 in each of 12 steps.
        let bound = 2e-5 * (1.0 + expected.abs());
        assert!((found - expected).abs() < bound, "{found}, expected {expected}");
    }
}

#[test]
fn learned_range_at_its_ends_is_the_fixed_variance_for_each_item_of_a_batch() {
    // The first item's variance is all small, the second's all large.
    let mut model = Learned::new(true, |item, _| if item == 0 { -1.0 } else { 1.0 });
    let found = model.run(VarianceType::LearnedRange, 40, 2);
    let (first, second) = found.split_at(60);
    assert_equal(first, &fixed(VarianceType::FixedSmall, 40));
    assert_equal(second, &fixed(VarianceType::FixedLarge, 41));
    assert_ne!(second, &found[..60]);
}

#[test]
fn learned_logarithm_of_the_fixed_variance_is_the_fixed_variance() {
    for variance_type in [VarianceType::FixedSmall, VarianceType::FixedLarge] {
        let table =
            step_table(&NoiseSchedule::ddpm(), PredictionType::Epsilon, &config(variance_type));
        let rows = table.unwrap().rows().to_vec();
        let mut model = Learned::new(true, move |_, t| {
            let row = rows.iter().find(|row| row.timestep == t).unwrap();
            // The last row draws nothing.
            if row.draws_noise() { (2.0 * row.next.noise.ln()) as f32 } else { 0.0 }
        });
        assert_equal(&model.run(VarianceType::Learned, 40, 1), &fixed(variance_type, 40));
    }
}

#[test]
fn variance_that_a_model_gives_is_left_aside_by_those_that_do_not_take_it() {
    for kind in Sampler::ALL.into_iter().filter(|kind| !kind.is_inverse()) {
        let run = |gives_variance| {
            let mut model = Learned::new(gives_variance, |_, _| 0.7);
            let sampler = model.config.sampler_config(kind, 6);
            let mut run = Run::new(&model.config, &sampler, 1, 2).unwrap();
            while run.step(&mut model).unwrap() {}
            run.sample().to_vec()
        };
        assert_eq!(run(true), run(false), "{kind}");
    }
}

#[test]
fn variance_that_a_model_does_not_give_is_refused() {
    let model = ModelConfig::ddpm(3, 4, 5);
    for variance_type in [VarianceType::Learned, VarianceType::LearnedRange] {
        let error = Run::new(&model, &config(variance_type), 0, 1).unwrap_err();
        let name = variance_type.name();
        let expected =
            format!("variance_type: found {name} with a model of 3 output channels, expected 6");
        assert_eq!(error.to_string(), expected);
    }
    // And the other way about: a run made for C channels takes no model of 2C.
    let mut run = Run::new(&model, &config(VarianceType::FixedSmall), 0, 1).unwrap();
    let error = run.step(&mut Learned::new(true, |_, _| 0.0)).unwrap_err();
    assert!(error.to_string().starts_with("model: found samples of"), "{error}");
}
