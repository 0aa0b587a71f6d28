//! What a run refuses: models and schedules that do not go together, shapes, sizes.

use ddpm::error::ErrorKind;
use ddpm::model::ModelConfig;
use ddpm::prediction::PredictionType;
use ddpm::run::Run;
use ddpm::sampler::Sampler;

use super::models::{Model, samplers};

#[test]
fn zero_snr_with_an_epsilon_model_is_refused_by_every_sampler() {
    for (form, config) in samplers(10) {
        let mut model = ModelConfig { rescale_betas_zero_snr: true, ..ModelConfig::ddpm(3, 8, 8) };
        let error = Run::new(&model, &config, 0, 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let expected = "prediction_type: found epsilon with alpha_bar 0";
        assert!(error.to_string().starts_with(expected), "{}: {error}", form.name());
        model.prediction_type = PredictionType::VPrediction;
        Run::new(&model, &config, 0, 1).unwrap();
    }
}

#[test]
fn prediction_types_are_honoured_and_junk_refused() {
    // A model of each type that knows the image returns it, read as what it is.
    for prediction_type in
        [PredictionType::Sample, PredictionType::VPrediction, PredictionType::Mean]
    {
        for (form, config) in samplers(20) {
            let model = ModelConfig { prediction_type, ..ModelConfig::ddpm(1, 1, 2) };
            let schedule = model.noise_schedule().unwrap();
            let c = 0.5;
            let mut model = Model::new(model, move |t, x, _| {
                let t = t as usize;
                let a = schedule.alphas_cumprod()[t];
                let epsilon = (f64::from(x) - a.sqrt() * c) / (1.0 - a).sqrt();
                let (of_c, of_noise) = prediction_type.target_coefficients(&schedule, t).unwrap();
                (of_c * c + of_noise * epsilon) as f32
            });
            let run = model.run(&config, 6, 1);
            // A mean's x_0 is a small difference, divided by c_x0 of 1e-2 and less; the clean end, from
            // t = 49 on, is all that is left of it, but for PNDM.
            let bound = match form.kind {
                Sampler::Pndm | Sampler::PndmPrk => 5e-2,
                _ => 2e-4,
            };
            for &found in run.sample() {
                let what = format!("{} {prediction_type}", form.name());
                assert!((f64::from(found) - c).abs() < bound, "{what}: {found}");
            }
        }
    }
    let error = "junk".parse::<PredictionType>().unwrap_err();
    assert!(error.to_string().starts_with("prediction_type: found \"junk\""), "{error}");
}

#[test]
fn model_of_another_shape_is_refused_and_impossible_sizes_too() {
    let model = ModelConfig::ddpm(3, 8, 8);
    let sampler = model.sampler_config(Sampler::Ddim, 5);
    let mut run = Run::new(&model, &sampler, 0, 1).unwrap();
    let mut other = Model::new(ModelConfig::ddpm(3, 8, 16), |_, x, _| x);
    let error = run.step(&mut other).unwrap_err();
    assert!(
        error.to_string().contains("found samples of [3, 8, 16], expected [3, 8, 8]"),
        "{error}"
    );
    assert!(other.fed.is_empty());

    let error = Run::new(&model, &sampler, 0, 0).unwrap_err();
    assert!(error.to_string().starts_with("sample shape: found [0, 3, 8, 8]"), "{error}");
    let huge = ModelConfig::ddpm(3, 0x7fff_ffff, 0x7fff_ffff);
    let error = Run::new(&huge, &sampler, 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    // Fits the address space as a number, not as memory.
    let large = ModelConfig::ddpm(1, 0x7fff_ffff, 0x3fff_ffff);
    let error = Run::new(&large, &sampler, 0, 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory, "{error}");
}
