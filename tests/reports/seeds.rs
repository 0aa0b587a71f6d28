//! What a seed means: the same noise again, whatever ran before.

use ddpm::model::ModelConfig;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::rng::{Purpose, fill_standard_normal};
use ddpm::run::Run;
use ddpm::sampler::{Sampler, step_table};
use ddpm::step::{self, Memory, Slots};

use super::models::{Model, samplers};

#[test]
fn noise_is_a_function_of_seed_purpose_and_row_alone() {
    for (form, config) in samplers(4) {
        let mut model = Model::new(ModelConfig::ddpm(1, 3, 3), |_, x, _| 0.9 * x);
        let run = model.run(&config, 31, 1);

        let noise = |purpose, row| {
            let mut noise = [0f32; 9];
            fill_standard_normal(31, purpose, row, &mut noise);
            noise
        };
        let mut sample = noise(Purpose::InitialNoise, 0);
        let table = step_table(&NoiseSchedule::ddpm(), PredictionType::Epsilon, &config).unwrap();
        let mut memory = Memory::new(table.rows(), 9).unwrap();
        for (k, row) in table.rows().iter().enumerate() {
            let model_output = sample.map(|x| 0.9 * x);
            let slots = Slots {
                sample: &mut sample,
                model_output: &model_output,
                noise: &noise(Purpose::StepNoise, k as u32),
                pred_original_sample: &mut [0f32; 9],
                memory: &mut memory,
            };
            step::apply(row, slots).unwrap();
        }
        assert_eq!(run.sample(), sample, "{}", form.name());
    }
}

#[test]
fn seeds_are_distinct_and_a_reset_repeats_bit_for_bit() {
    let seeds = [0, 1, (1 << 32) + 1, u64::MAX];
    for (form, config) in samplers(10) {
        let mut model = Model::new(ModelConfig::ddpm(3, 4, 4), |_, x, _| 0.9 * x);
        let images: Vec<Vec<f32>> =
            seeds.iter().map(|&seed| model.run(&config, seed, 1).sample().to_vec()).collect();
        for (i, image) in images.iter().enumerate() {
            let is_new = images[..i].iter().all(|other| other != image);
            assert!(is_new, "{} seed {}", form.name(), seeds[i]);
        }
        // A run cut off in the middle leaves a history and a carried sample behind.
        let mut run = Run::new(&model.config, &config, 99, 1).unwrap();
        for _ in 0..3 {
            run.step(&mut model).unwrap();
        }
        for (seed, image) in seeds.into_iter().zip(&images) {
            run.reset(seed);
            assert_eq!((run.seed(), run.step_index()), (seed, 0));
            assert!(run.x0().iter().all(|&v| v == 0.0));
            while run.step(&mut model).unwrap() {}
            assert_eq!(run.sample(), image, "{} seed {seed}", form.name());
        }
    }
}

#[test]
fn only_samplers_that_say_so_draw_noise() {
    for (form, config) in samplers(10) {
        let table = step_table(&NoiseSchedule::ddpm(), PredictionType::Epsilon, &config).unwrap();
        let draws = table.rows().iter().any(step::Row::draws_noise);
        assert_eq!(draws, form.is_random(), "{}", form.name());
        if form.kind == Sampler::Ddim && !draws {
            assert_eq!(form.eta, Some(0.0));
        }
    }
}
