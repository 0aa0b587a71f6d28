//! Runs that start from an image: which share of the steps a strength leaves, and from what.

use ddpm::error::ErrorKind;
use ddpm::model::ModelConfig;
use ddpm::rng::{Purpose, fill_standard_normal};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig};

use super::models::{oracle, rounding_of, samplers};

const IMAGE: [f32; 4] = [0.5, -0.25, 1.0, -1.0];

fn from_image(seed: u64) -> RunStart {
    RunStart { seed, image: Some(IMAGE.into()), ..RunStart::default() }
}

/// The points of a run, from the calls that a sampler makes.
fn steps_of(kind: Sampler, calls: usize) -> usize {
    match kind {
        Sampler::Heun => calls.div_ceil(2),
        Sampler::Pndm if calls > 1 => calls - 1,
        Sampler::PndmPrk => (1..=calls).find(|n| n + 3 * (n - 1).min(3) == calls).unwrap_or(0),
        _ => calls,
    }
}

#[test]
fn strength_takes_that_share_of_the_steps_rounded_down() {
    for (form, config) in samplers(20) {
        for (steps, strength, left) in [
            (20, 0.0, 0),
            (20, 0.04, 0),
            (20, 0.05, 1),
            (100, 0.29, 29),
            (20, 0.5, 10),
            (20, 1.0, 20),
        ] {
            let config = SamplerConfig { steps, strength, ..config.clone() };
            let mut model = oracle(ModelConfig::ddpm(1, 2, 2), vec![0.75; 4]);
            let run = model.run_from(&config, from_image(8), 1);
            let what = format!("{} {strength} of {steps}", form.name());
            assert_eq!(steps_of(form.kind, model.fed.len()), left, "{what}");
            if left == 0 {
                assert_eq!((run.sample(), run.x0()), (&IMAGE[..], &IMAGE[..]), "{what}");
                continue;
            }
            let bound = rounding_of(&model.config, &config);
            for &found in run.sample() {
                assert!((found - 0.75).abs() <= bound, "{what}: {found}");
            }
        }
    }
}

#[test]
fn start_is_the_image_with_the_noise_of_the_first_timestep() {
    let mut noise = [0f32; 4];
    fill_standard_normal(8, Purpose::InitialNoise, 0, &mut noise);
    for (form, config) in samplers(20) {
        for strength in [0.3, 1.0] {
            let config = SamplerConfig { strength, ..config.clone() };
            let model = ModelConfig::ddpm(1, 2, 2);
            let run = Run::starting(&model, &config, from_image(8), 1).unwrap();
            let schedule = model.noise_schedule().unwrap();
            let mut expected = [0f32; 4];
            let t = run.timestep().unwrap() as usize;
            schedule.add_noise(&IMAGE, &noise, t, &mut expected).unwrap();
            assert_eq!(run.sample(), expected, "{} {strength}", form.name());
        }
    }
}

#[test]
fn strengths_out_of_range_and_images_of_another_size_are_refused() {
    let model = ModelConfig::ddpm(1, 2, 2);
    for (form, config) in samplers(20) {
        for strength in [1.01, -0.1, f64::NAN, f64::INFINITY] {
            let config = SamplerConfig { strength, ..config.clone() };
            let error = Run::starting(&model, &config, from_image(0), 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let expected = format!("strength: found {strength}");
            assert!(error.to_string().starts_with(&expected), "{}: {error}", form.name());
        }
        let half = SamplerConfig { strength: 0.5, ..config.clone() };
        let error = Run::new(&model, &half, 0, 1).unwrap_err();
        assert!(error.to_string().starts_with("strength: found 0.5 without an image"), "{error}");
        for (image, named) in [
            (&[0.0; 3][..], "image: found 3 values, expected 4"),
            (&[0.0, f32::NAN, 0.0, 0.0], "image: found a value that is not finite"),
        ] {
            let start = RunStart { image: Some(image.into()), ..RunStart::default() };
            let error = Run::starting(&model, &config, start, 1).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
        }
    }
    let inverse = model.sampler_config(Sampler::DdimInverse, 10);
    let error = Run::new(&model, &inverse, 0, 1).unwrap_err();
    assert!(error.to_string().starts_with("image: found none, but ddim-inverse"), "{error}");
}
