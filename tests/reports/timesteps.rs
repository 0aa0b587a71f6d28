//! Which timesteps a model is called with, and how often.

use std::sync::Arc;

use ddpm::error::ErrorKind;
use ddpm::model::ModelConfig;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::run::Run;
use ddpm::sampler::{Sampler, SamplerConfig, step_table};
use ddpm::timesteps::TimestepSpacing;

use super::models::{Model, samplers};

const SPACINGS: [TimestepSpacing; 3] =
    [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace];

fn trec() -> Model<impl FnMut(f64, f32, usize) -> f32 + Send> {
    Model::new(ModelConfig::ddpm(1, 1, 1), |t, _, _| t as f32 / 1000.0)
}

#[test]
fn leading_timesteps_with_offset_1_stay_in_range() {
    for steps in [3, 9, 27, 36, 37, 251, 1000].into_iter().chain(101..=111) {
        for (form, config) in samplers(steps) {
            let spacing = TimestepSpacing::Leading;
            let config = SamplerConfig { spacing, steps_offset: 1, ..config };
            let table =
                step_table(&NoiseSchedule::ddpm(), PredictionType::Epsilon, &config).unwrap();
            assert!(
                table.rows().iter().all(|row| (0.0..=999.0).contains(&row.timestep)),
                "{} {steps}",
                form.name()
            );
        }
    }
}

#[test]
fn model_is_called_once_a_row_with_the_tables_timesteps() {
    for spacing in SPACINGS {
        for steps in [1, 7, 53] {
            for (form, config) in samplers(steps) {
                let config = SamplerConfig { spacing, ..config };
                let mut trec = trec();
                let run = trec.run(&config, 0, 1);
                let calls = match form.kind {
                    Sampler::Heun => 2 * steps - 1,
                    Sampler::Pndm if steps > 1 => steps + 1,
                    Sampler::PndmPrk => steps + 3 * (steps - 1).min(3),
                    _ => steps,
                };
                let what = format!("{} {spacing:?} {steps}", form.name());
                assert_eq!(trec.fed.len(), calls, "{what}");
                assert_eq!((run.step_index(), run.timestep()), (calls, None), "{what}");
                let timesteps: Vec<f64> = run.timesteps().collect();
                assert_eq!(trec.fed, timesteps, "{what}");
            }
        }
    }
}

#[test]
fn long_runs_call_the_model_once_a_step() {
    for spacing in SPACINGS {
        for steps in [999, 1000] {
            for kind in [Sampler::Ddpm, Sampler::Ddim, Sampler::Dpmpp] {
                let mut trec = trec();
                let config = SamplerConfig { spacing, ..trec.config.sampler_config(kind, steps) };
                let run = trec.run(&config, 0, 1);
                assert_eq!(
                    (trec.fed.len(), run.step_index()),
                    (steps, steps),
                    "{kind} {spacing:?}"
                );
                assert!(trec.fed.windows(2).all(|pair| pair[1] < pair[0]), "{kind} {spacing:?}");
            }
        }
    }
}

#[test]
fn step_after_the_last_calls_nothing_and_changes_nothing() {
    for (form, config) in samplers(7) {
        let mut trec = Model::new(ModelConfig::ddpm(1, 2, 2), |t, _, _| t as f32 / 1000.0);
        let mut run = trec.run(&config, 0, 1);
        let (done, calls) = (run.sample().to_vec(), trec.fed.len());
        assert!(!run.step(&mut trec).unwrap());
        assert_eq!((trec.fed.len(), run.sample()), (calls, &done[..]), "{}", form.name());
    }
}

#[test]
fn step_counts_out_of_range_are_refused() {
    let model = ModelConfig::ddpm(1, 1, 1);
    for steps in [0, 1001, usize::MAX] {
        for (form, config) in samplers(steps) {
            let error = Run::new(&model, &config, 0, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let expected = format!("steps: found {steps}, expected 1 to 1000");
            assert!(error.to_string().contains(&expected), "{}: {error}", form.name());
        }
    }
}

#[test]
fn given_timesteps_are_visited_by_every_sampler_and_bad_lists_refused() {
    let with = |config: SamplerConfig, list: &[usize]| SamplerConfig {
        timesteps: Some(Arc::from(list)),
        ..config
    };
    for (form, config) in samplers(50) {
        let mut trec = trec();
        trec.run(&with(config.clone(), &[900, 401, 30, 2]), 0, 1);
        let mut visited = trec.fed.clone();
        visited.dedup();
        if form.kind == Sampler::PndmPrk {
            // And half-way between.
            assert_eq!(visited, [900.0, 650.0, 401.0, 215.0, 30.0, 16.0, 2.0]);
        } else {
            assert_eq!(visited, [900.0, 401.0, 30.0, 2.0], "{}", form.name());
        }
        for (list, named) in [
            (&[][..], "timesteps: found none"),
            (&[900, 500, 500], "timesteps[2]: found 500 after 500"),
            (&[500, 900], "timesteps[1]: found 900 after 500"),
            (&[1000, 5], "timesteps[0]: found 1000, expected 0 to 999"),
        ] {
            let error = Run::new(&trec.config, &with(config.clone(), list), 0, 1).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().starts_with(named), "{}: {error}", form.name());
        }
    }
}
