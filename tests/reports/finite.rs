//! Values that are not finite are errors that name the step.

use ddpm::error::ErrorKind;
use ddpm::model::ModelConfig;
use ddpm::run::Run;
use ddpm::sampler::Sampler;

use super::models::{Model, samplers};
use super::samplers::Form;

#[test]
fn overflowing_model_is_named_with_step_and_timestep() {
    for value in [f32::INFINITY, f32::NAN] {
        for (form, config) in samplers(50) {
            let overflow =
                move |t: f64, x: f32, index: usize| if t < 500.0 && index == 3 { value } else { x };
            let mut model = Model::new(ModelConfig::ddpm(1, 2, 2), overflow);
            let mut run = Run::new(&model.config, &config, 0, 1).unwrap();
            let timesteps: Vec<f64> = run.timesteps().collect();
            let step = timesteps.iter().position(|&t| t < 500.0).unwrap();
            let error = loop {
                match run.step(&mut model) {
                    Ok(more) => assert!(more, "the overflow went unseen"),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), ErrorKind::NonFinite);
            let (number, t) = (step + 1, timesteps[step]);
            let expected = format!("non-finite model output at step {number}, t = {t}");
            assert_eq!(error.to_string(), expected, "{}", form.name());
            if form.kind == Sampler::Ddpm {
                // Trailing: 999, 979, ...; the 26th is the first below 500.
                assert_eq!((number, t), (26, 499.0));
            }
            assert_eq!(run.step_index(), step, "{}", form.name());
            assert!(run.sample().iter().all(|v| v.is_finite()), "{}", form.name());
        }
    }
}

#[test]
fn sample_that_overflows_is_an_error_even_if_the_output_is_finite() {
    let mut model = Model::new(ModelConfig::ddpm(1, 1, 1), |_, _, _| f32::MAX);
    let mut sampler = Form::new(Sampler::Ddim).config();
    sampler.steps = 1;
    let mut run = Run::new(&model.config, &sampler, 0, 1).unwrap();
    let error = run.step(&mut model).unwrap_err();
    assert_eq!(error.to_string(), "non-finite sample at step 1, t = 999");
}
