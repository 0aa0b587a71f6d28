//! The variational bound against its definition, for networks whose answers are known.

mod common;

use std::f64::consts::LN_2;

use common::program::{program, succeed};
use common::{folder, write_run, write_sheet};
use ddpm::error::Result;
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::rng::{self, Purpose};
use ddpm_train::config::Config;
use ddpm_train::data::Dataset;
use ddpm_train::data::augment::View;
use ddpm_train::fit::read_data;
use ddpm_train::likelihood::{Likelihood, Request, evenly_spread, likelihood};
use ddpm_train::objective::{discretized_gaussian_log_likelihood, normal_kl};
use ndarray::{ArrayView4, ArrayViewMut4};

/// A network given by a function of x_t and t at a place; the second half of its output is 0.3.
struct Known<F> {
    config: ModelConfig,
    answer: F,
}

impl<F: Fn(f64, usize, usize) -> f64 + Send> Denoiser for Known<F> {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<f32>,
        timesteps: &[f64],
        _: &[i64],
        mut output: ArrayViewMut4<f32>,
    ) -> Result<()> {
        output.fill(0.3);
        let (_, c, h, w) = sample.dim();
        for ((n, i, y, x), value) in sample.indexed_iter() {
            let place = (i * h + y) * w + x;
            let answer = (self.answer)(f64::from(*value), timesteps[n] as usize, place);
            assert!(place < c * h * w);
            output[[n, i, y, x]] = answer as f32;
        }
        Ok(())
    }
}

fn data(name: &str, tiles: u32, change: impl FnOnce(&mut Config)) -> (Config, Dataset) {
    let path = write_run(&folder(name), tiles, |c| {
        (c.data.flip, c.data.shift) = (true, 2);
        change(c);
    });
    read_data(&Config::read(&path).unwrap()).unwrap()
}

/// Image `index`, plane after plane.
fn planes(data: &Dataset, index: usize) -> Vec<f64> {
    let mut pixels = vec![0.0; data.item()];
    data.copy_image(index, View::default(), &mut pixels);
    (0..data.item()).map(|i| f64::from(pixels[i % 64 * 3 + i / 64])).collect()
}

fn measure(
    config: &Config,
    data: &Dataset,
    request: Request,
    answer: impl Fn(f64, usize, usize) -> f64 + Send,
) -> Likelihood {
    let mut denoiser = Known { config: config.model_config().unwrap(), answer };
    let all: Vec<usize> = (0..data.len()).collect();
    likelihood(&mut denoiser, data, &all, request).unwrap()
}

const ALL: Request = Request { every: 1, seed: 9, batch: 7 };

#[test]
fn bound_of_a_trivial_network_is_the_sum_of_its_terms_by_hand() {
    for variance_type in ["fixed_small", "fixed_large", "learned_range", "learned"] {
        let (config, data) = data("likelihood_hand", 3, |c| {
            c.diffusion.num_train_timesteps = 20;
            c.diffusion.beta_end = 0.3;
            c.diffusion.variance_type = variance_type.into();
        });
        // As noise it says half of what it sees.
        let found = measure(&config, &data, ALL, |x, _, _| 0.5 * x);
        let schedule = config.model_config().unwrap().noise_schedule().unwrap();
        let (betas, a) = (schedule.betas(), schedule.alphas_cumprod());
        let tilde = |t: usize| betas[t] * (1.0 - a[t - 1]) / (1.0 - a[t]);
        let (mut prior, mut decoder, mut rest) = (0.0, 0.0, 0.0);
        for image in 0..3 {
            let x0 = planes(&data, image);
            prior += x0
                .iter()
                .map(|x0| normal_kl(a[19].sqrt() * x0, (1.0 - a[19]).ln(), 0.0))
                .sum::<f64>();
            for t in 0..20 {
                let mut noise = vec![0.0; 192];
                let first = image as u64 * 192;
                let purpose = Purpose::LikelihoodNoise;
                rng::fill_standard_normal_from(9, purpose, t as u32, first, &mut noise);
                let log_true = tilde(t.max(1)).ln();
                let log_variance = match variance_type {
                    "fixed_large" if t > 0 => betas[t].ln(),
                    "learned_range" => 0.65 * betas[t].ln() + 0.35 * log_true,
                    "learned" => 0.3,
                    _ => log_true,
                };
                for (&x0, &noise) in x0.iter().zip(&noise) {
                    let x = a[t].sqrt() * x0 + (1.0 - a[t]).sqrt() * f64::from(noise);
                    let x0_found = (x - (1.0 - a[t]).sqrt() * 0.5 * x) / a[t].sqrt();
                    let x0_found = x0_found.clamp(-1.0, 1.0);
                    if t == 0 {
                        let away = x0 - x0_found;
                        decoder -= discretized_gaussian_log_likelihood(x0, away, log_variance);
                        continue;
                    }
                    // The means of Ho et al. 2020, eq. 7.
                    let mean = |x0: f64| {
                        a[t - 1].sqrt() * betas[t] / (1.0 - a[t]) * x0
                            + (1.0 - betas[t]).sqrt() * (1.0 - a[t - 1]) / (1.0 - a[t]) * x
                    };
                    rest += normal_kl(mean(x0) - mean(x0_found), log_true, log_variance);
                }
            }
        }
        let close = |found: f64, nats: f64, what: &str| {
            let expected = nats / LN_2 / 192.0 / 3.0;
            assert!(
                (found / expected - 1.0).abs() < 1e-4,
                "{variance_type} {what}: {found}, by hand {expected}"
            );
        };
        close(found.prior, prior, "prior");
        close(found.parts[0].bits, decoder, "decoder");
        close(found.parts[1..].iter().map(|p| p.bits).sum(), rest, "rest");
        close(found.bits, prior + decoder + rest, "bound");
        assert_eq!(found.parts[0].timesteps, (0, 1));
        assert_eq!(found.parts.last().unwrap().timesteps.1, 20);
    }
}

#[test]
fn network_that_knows_the_image_leaves_the_prior_and_the_decoder_alone() {
    let (config, data) = data("likelihood_perfect", 1, |_| {});
    let x0 = planes(&data, 0);
    let schedule = config.model_config().unwrap().noise_schedule().unwrap();
    let found = measure(&config, &data, ALL, |x, t, place| {
        let a = schedule.alphas_cumprod()[t];
        (x - a.sqrt() * x0[place]) / (1.0 - a).sqrt()
    });
    // The noise comes back in float32, and sqrt((1 - alpha_bar) / alpha_bar) is up to 157.
    assert!(found.parts[1..].iter().all(|p| p.bits < 1e-4 && p.mse_x0 < 1e-6), "{found:?}");
    // A deviation of sqrt(beta tilde) = 0.0074 about the right value, over bins of half that to each side.
    assert!((0.5..1.0).contains(&found.parts[0].bits), "{found:?}");
    assert!(found.prior > 0.0 && found.prior < 1e-4, "{found:?}");
    assert!(found.standard_error.is_nan());
}

#[test]
fn estimate_from_some_timesteps_has_the_bound_as_its_mean() {
    let (config, data) = data("likelihood_every", 24, |c| {
        c.diffusion.num_train_timesteps = 60;
        c.diffusion.beta_end = 0.2;
    });
    let read = |every, seed| {
        measure(&config, &data, Request { every, seed, batch: 64 }, |x, _, _| 0.7 * x)
    };
    // Ranges of 1 to 7 timesteps, and a shorter one at the end, which counts for less. The noise of a
    // timestep is the same in both.
    let differences: Vec<f64> =
        (1..=24).map(|seed| read(7, seed).bits - read(1, seed).bits).collect();
    let mean = differences.iter().sum::<f64>() / 24.0;
    let squares: f64 = differences.iter().map(|d| (d - mean).powi(2)).sum();
    let standard_error = (squares / 23.0 / 24.0).sqrt();
    assert!(standard_error > 0.0 && standard_error < 0.02, "{standard_error}");
    assert!(mean.abs() < 3.0 * standard_error, "{mean}, standard error {standard_error}");
}

#[test]
fn measure_repeats_and_does_not_depend_on_the_batch() {
    let (config, data) = data("likelihood_repeats", 4, |c| c.diffusion.num_train_timesteps = 50);
    let read =
        |seed, batch| measure(&config, &data, Request { every: 5, seed, batch }, |x, _, _| 0.7 * x);
    assert_eq!(read(3, 1), read(3, 64));
    assert_ne!(read(3, 1).bits, read(4, 1).bits);
}

#[test]
fn images_are_spread_evenly_over_all() {
    assert_eq!(evenly_spread(10, 4), [0, 2, 5, 7]);
    assert_eq!(evenly_spread(3, 256), [0, 1, 2]);
    assert!(evenly_spread(3, 0).is_empty());
}

fn command(folder: &std::path::Path, arguments: &[&str]) -> (bool, String) {
    let output = program()
        .arg("likelihood")
        .arg(folder.join("out/checkpoint.safetensors"))
        .args(arguments)
        .output()
        .unwrap();
    let text = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(text).unwrap())
}

#[test]
fn command_measures_the_images_of_the_run_or_others() {
    let folder = folder("likelihood_command");
    let config = write_run(&folder, 9, |c| {
        c.train.steps = 3;
        c.diffusion.variance_type = "learned_range".into();
    });
    succeed(&config, &[]);
    let few = ["--count", "4", "--every", "300"];
    let (fine, own) = command(&folder, &few);
    assert!(fine && own.contains("over 4 images") && own.contains("100 to 249"), "{own}");
    assert_eq!(command(&folder, &few).1, own);
    let other = folder.join("other.png");
    write_sheet(&other, 2);
    let arguments = [&few[..], &["--data", other.to_str().unwrap()]].concat();
    let (fine, text) = command(&folder, &arguments);
    assert!(fine && text.contains("over 2 images"), "{text}");
    for (arguments, part) in [
        (["--every", "0"], "every is 0, expected at least 1"),
        (["--batch", "0"], "batch is 0"),
        (["--count", "0"], "count is 0"),
        (["--data", "nowhere"], "nowhere"),
    ] {
        let (fine, text) = command(&folder, &arguments);
        assert!(!fine && text.contains(part), "{text}");
    }
}
