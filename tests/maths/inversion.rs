//! DDIM inversion: the noise it finds gives the image back, and is the noise of the probability flow.

use ddpm::model::ModelConfig;
use ddpm::prediction::PredictionType;
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, Thresholding, step_table};
use ddpm::step::Row;

use super::laws::{Law, Mixture, even_noise_schedule};
use super::ode_orders::{GAUSSIAN, STEPS, even_config, orders};
use super::rows::end_of;
use super::samplers::Form;

/// The errors of the noise found, and of the image that DDIM makes of it: root mean squares over images
/// from -1.5 to 1.5.
fn errors(law: &dyn Law) -> (Vec<f64>, Vec<f64>) {
    let schedule = even_noise_schedule();
    let levels = schedule.alphas_cumprod();
    let (first, last) = (levels[0], levels[levels.len() - 1]);
    let images: Vec<f64> = (0..7).map(|i| -1.5 + 0.5 * f64::from(i)).collect();
    let exact: Vec<f64> = images.iter().map(|&x| law.transported(x, first, last)).collect();
    let one = |&steps: &usize| {
        let table = |kind: Sampler| {
            let config = even_config(&Form::new(kind).config(), levels.len(), steps);
            step_table(&schedule, PredictionType::Epsilon, &config).unwrap()
        };
        let [inverse, ddim] = [Sampler::DdimInverse, Sampler::Ddim].map(table);
        // The model goes by the timestep it is told.
        let model = |row: &Row, x: f64| law.epsilon(x, levels[row.timestep as usize]);
        let mut squares = (0.0, 0.0);
        for (&image, exact) in images.iter().zip(&exact) {
            let noise = end_of(inverse.rows(), image, 0.0, model);
            let back = end_of(ddim.rows(), noise, 0.0, model);
            squares.0 += (noise - exact).powi(2);
            squares.1 += (back - image).powi(2);
        }
        let mean = |squares: f64| (squares / images.len() as f64).sqrt();
        (mean(squares.0), mean(squares.1))
    };
    STEPS.iter().map(one).unzip()
}

#[test]
fn inversion_finds_the_noise_and_ddim_returns_the_image_with_order_1() {
    for law in [&GAUSSIAN as &dyn Law, &Mixture::TWO] {
        let (noise, image) = errors(law);
        for errors in [noise, image] {
            let last = *orders(&errors).last().unwrap();
            // As of the samplers: h = 0.04 at 256 steps.
            assert!((last - 1.0).abs() < 0.2, "order {last}: {errors:?}");
            assert!(errors[5] < 0.02, "{errors:?}");
        }
    }
}

#[test]
fn inversion_starts_from_the_image_itself_wherever_it_ends() {
    let model = ModelConfig::ddpm(1, 1, 2);
    for final_alpha in [FinalAlpha::One, FinalAlpha::First] {
        for strength in [1.0, 0.5] {
            let config = SamplerConfig {
                kind: Sampler::DdimInverse,
                thresholding: Thresholding::Off,
                final_alpha,
                strength,
                ..SamplerConfig::default()
            };
            let image = Some([0.25, -0.5].into());
            let start = RunStart { seed: 3, image, ..RunStart::default() };
            let run = Run::starting(&model, &config, start, 1).unwrap();
            assert_eq!(run.sample(), [0.25, -0.5], "{final_alpha:?} {strength}");
        }
    }
}
