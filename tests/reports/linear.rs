//! LIN against the rules written out: which timestep is the previous one, and what follows the last.

use ddpm::model::ModelConfig;
use ddpm::run::Run;
use ddpm::sampler::{Sampler, SamplerConfig};
use ddpm::timesteps::TimestepSpacing;

use super::models::Model;
use super::samplers::Form;

/// The lists, written out from the rules, not taken from the library.
fn cases() -> [(TimestepSpacing, Vec<usize>); 2] {
    let trailing =
        (0..13).map(|i| (1000.0 - f64::from(i) * 1000.0 / 13.0f64).round() as usize - 1).collect();
    let linspace = (0..10).map(|i| 999 - 111 * i).collect();
    [(TimestepSpacing::Trailing, trailing), (TimestepSpacing::Linspace, linspace)]
}

fn alpha_bar(t: usize) -> f64 {
    (0..=t).map(|t| 1.0 - (1e-4 + (0.02 - 1e-4) * t as f64 / 999.0)).product()
}

#[test]
fn linear_model_scales_the_noise_by_the_product_over_the_list() {
    // These three are one rule in exact arithmetic, each with its own formula.
    let forms = [
        Form::new(Sampler::Ddim),
        Form::new(Sampler::Euler),
        Form::new(Sampler::Dpmpp).with_order(1),
        Form::new(Sampler::Deis).with_order(1),
    ];
    for (spacing, list) in cases() {
        let mut factor = 1.0;
        for (index, &t) in list.iter().enumerate() {
            let a = alpha_bar(t);
            let a_prev = list.get(index + 1).map_or(1.0, |&t| alpha_bar(t));
            let x0 = (1.0 - (1.0 - a).sqrt() * 0.5) / a.sqrt();
            factor *= a_prev.sqrt() * x0 + (1.0 - a_prev).sqrt() * 0.5;
        }
        for form in forms {
            let mut lin = Model::new(ModelConfig::ddpm(3, 8, 8), |_, x, _| 0.5 * x);
            let sampler =
                SamplerConfig { timesteps: Some(list.iter().copied().collect()), ..form.config() };
            if form.kind == Sampler::Ddim {
                let spaced = SamplerConfig { spacing, steps: list.len(), ..form.config() };
                assert_eq!(
                    lin.run(&spaced, 5, 1).table(),
                    lin.run(&sampler, 5, 1).table(),
                    "{spacing:?}"
                );
            }
            let start = Run::new(&lin.config, &sampler, 5, 1).unwrap().sample().to_vec();
            let run = lin.run(&sampler, 5, 1);
            for (&found, &noise) in run.sample().iter().zip(&start) {
                let expected = factor * f64::from(noise);
                // Every step rounds the sample once: half a unit of 2^-23 relative, each.
                let bound = list.len() as f64 * f64::from(f32::EPSILON) * expected.abs();
                assert!(
                    (f64::from(found) - expected).abs() <= bound,
                    "{} {spacing:?}: {found} {expected}",
                    form.name()
                );
            }
        }
    }
}

#[test]
fn pndm_follows_the_list_on_a_linear_model() {
    // Liu et al. 2022, eq. 11 and 12 over 0.5 x, with the start of latent diffusion's PLMS.
    for (spacing, list) in cases() {
        let transfer = |k: usize, x: f64, e: f64| {
            let a = alpha_bar(list[k]);
            let a_next = list.get(k + 1).map_or(1.0, |&t| alpha_bar(t));
            let ratio = (a_next / a).sqrt();
            x * ratio + e * ((1.0 - a_next).sqrt() - ratio * (1.0 - a).sqrt())
        };
        let (mut x, mut older) = (1.0, Vec::new());
        for k in 0..list.len() {
            let e = 0.5 * x;
            older.insert(0, e);
            let slope = match *older.as_slice() {
                [e] => 0.5 * (e + 0.5 * transfer(k, x, e)),
                [e, e1] => (3.0 * e - e1) / 2.0,
                [e, e1, e2] => (23.0 * e - 16.0 * e1 + 5.0 * e2) / 12.0,
                [e, e1, e2, e3, ..] => (55.0 * e - 59.0 * e1 + 37.0 * e2 - 9.0 * e3) / 24.0,
                [] => unreachable!(),
            };
            x = transfer(k, x, slope);
        }
        let mut lin = Model::new(ModelConfig::ddpm(1, 8, 8), |_, x, _| 0.5 * x);
        let sampler =
            SamplerConfig { spacing, steps: list.len(), ..Form::new(Sampler::Pndm).config() };
        let start = Run::new(&lin.config, &sampler, 5, 1).unwrap().sample().to_vec();
        for (&found, &noise) in lin.run(&sampler, 5, 1).sample().iter().zip(&start) {
            let expected = x * f64::from(noise);
            // The weights sum to 1 but are up to 59 / 24, so that each rounding counts up to five times.
            let bound = 5.0 * list.len() as f64 * f64::from(f32::EPSILON) * expected.abs();
            assert!(
                (f64::from(found) - expected).abs() <= bound,
                "{spacing:?}: {found} {expected}"
            );
        }
    }
}
