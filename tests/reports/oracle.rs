//! ORACLE: what a sampler makes of a model that knows the image.

use ddpm::model::ModelConfig;
use ddpm::noise_schedule::BetaSchedule;
use ddpm::sampler::{Sampler, SamplerConfig};
use ddpm::timesteps::TimestepSpacing;

use super::models::{clipped, oracle, rounding_of, samplers};
use super::samplers::Form;

fn assert_is(found: &[f32], expected: &[f32], bound: f32, what: &str) {
    for (&found, &expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= bound, "{what}: {found}, expected {expected}");
    }
}

#[test]
fn oracle_is_returned_without_residual_noise_however_few_the_steps() {
    let c: Vec<f32> = (0..3 * 5 * 7).map(|i| (i as f32 * 0.37).sin()).collect();
    for steps in [1, 2, 3, 11, 14, 15, 25, 50] {
        for (form, config) in samplers(steps) {
            for config in [config.clone(), clipped(config, 1.0)] {
                let mut model = oracle(ModelConfig::ddpm(3, 5, 7), c.clone());
                let run = model.run(&config, 9, 1);
                let what = format!("{} {steps} {:?}", form.name(), config.thresholding);
                assert_is(run.sample(), &c, rounding_of(&model.config, &config), &what);
            }
        }
    }
}

#[test]
fn oracle_is_returned_over_every_spacing_of_the_steps() {
    let c = [0.5, -0.25, 1.0, -1.0];
    for spacing in [TimestepSpacing::Leading, TimestepSpacing::Linspace] {
        for (form, config) in samplers(20) {
            let config = SamplerConfig { spacing, ..config };
            let mut model = oracle(ModelConfig::ddpm(1, 2, 2), c.to_vec());
            let run = model.run(&config, 4, 1);
            // LCM and TCD have timesteps of their own.
            let what = format!("{} {spacing:?}", form.name());
            assert_is(run.sample(), &c, rounding_of(&model.config, &config), &what);
        }
    }
}

#[test]
fn oracle_beyond_the_range_is_reached_without_clip_and_held_with_it() {
    let c = [4.0, -4.0, 4.0, -4.0];
    let ends_in_x0 = |kind: Sampler| !matches!(kind, Sampler::Pndm | Sampler::PndmPrk);
    for (form, config) in samplers(50) {
        let mut model = oracle(ModelConfig::ddpm(1, 2, 2), c.to_vec());
        // Rounding is relative: the image is four times as large here.
        let bound = 4.0 * rounding_of(&model.config, &config);
        assert_is(model.run(&config, 3, 1).sample(), &c, bound, &form.name());
        for range in [1.0, 2.5] {
            let config = clipped(config.clone(), range);
            let run = model.run(&config, 3, 1);
            let held = c.map(|value: f32| value.signum() * range as f32);
            let what = format!("{} held to {range}", form.name());
            // What is shown while it runs is held in all of them.
            assert_is(run.x0(), &held, 1e-6, &what);
            if ends_in_x0(form.kind) {
                assert_is(run.sample(), &held, bound, &what);
            } else {
                // PNDM goes by epsilon, which has no range: its x_0 is only shown (diffusers' has no
                // clip_sample).
                assert_is(run.sample(), &c, bound, &what);
            }
        }
    }
}

#[test]
fn cosine_with_few_trailing_steps_stays_finite_and_returns_the_oracle() {
    for steps in [4, 10] {
        for (form, config) in samplers(steps) {
            for config in [config.clone(), clipped(config, 1.0)] {
                let mut model_config = ModelConfig::ddpm(1, 4, 4);
                model_config.beta_schedule = BetaSchedule::SquaredcosCapV2;
                let mut model = oracle(model_config, vec![0.25; 16]);
                let run = model.run(&config, 1, 1);
                let mut bound = rounding_of(&model.config, &config);
                if matches!(form.kind, Sampler::Pndm | Sampler::PndmPrk) {
                    // x is rounded where 1 / alpha is 20,000, and its epsilon again at every half of
                    // a step: all that can be said is that it stays finite.
                    bound = f32::MAX;
                }
                assert_is(run.sample(), &[0.25; 16], bound, &format!("{} {steps}", form.name()));
            }
        }
    }
}

#[test]
fn clipped_epsilon_of_ddim_keeps_the_oracle() {
    for steps in [1, 2, 20] {
        let config = SamplerConfig {
            steps,
            clipped_epsilon: true,
            ..clipped(Form::new(Sampler::Ddim).config(), 1.0)
        };
        let mut model = oracle(ModelConfig::ddpm(1, 2, 2), vec![0.5, -0.5, 0.9, -1.0]);
        let run = model.run(&config, 3, 1);
        let bound = rounding_of(&model.config, &config);
        assert_is(run.sample(), &[0.5, -0.5, 0.9, -1.0], bound, &format!("{steps} steps"));
    }
}
