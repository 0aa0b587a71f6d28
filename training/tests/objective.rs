//! The loss of a step against its definition in f64, and the batches it is computed from.

mod common;

use burn::tensor::{Device, Tensor, TensorData};
use common::{folder, write_run};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm_train::batches::{Batch, Batches};
use ddpm_train::config::Config;
use ddpm_train::fit::read_data;
use ddpm_train::objective::{
    LossConfig, LossType, Objective, Weighting, discretized_gaussian_log_likelihood, normal_kl,
    weights,
};

const PREDICTIONS: [PredictionType; 4] = [
    PredictionType::Epsilon,
    PredictionType::Sample,
    PredictionType::VPrediction,
    PredictionType::Mean,
];

fn config(name: &str, change: impl FnOnce(&mut Config)) -> Config {
    let path = write_run(&folder(name), 12, change);
    Config::read(&path).unwrap()
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.try_into_vec_as::<f32>().unwrap()
}

fn scalar(tensor: &Tensor<1>) -> f64 {
    f64::from(tensor.clone().into_scalar::<f32>())
}

fn tensor(values: &[f32], shape: [usize; 4]) -> Tensor<4> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), &Device::flex())
}

/// Numbers between -1 and 1 that look like none in particular.
fn scattered(count: usize, phase: f64) -> Vec<f32> {
    (0..count).map(|i| (i as f64 * 12.9898 + phase).sin() as f32).collect()
}

/// A batch of these timesteps, with values of no meaning.
fn batch(timesteps: &[f64], channels: usize) -> Batch {
    let shape = [timesteps.len(), 8, 8, channels];
    let count = shape.iter().product();
    // Bytes, so that the first and the last bin occur.
    let x0 =
        scattered(count, 1.0).into_iter().map(|v| (v * 160.0).round().clamp(-127.5, 127.5) / 127.5);
    Batch {
        x0: tensor(&x0.collect::<Vec<_>>(), shape),
        noisy: tensor(&scattered(count, 2.0), shape),
        target: tensor(&scattered(count, 3.0), shape),
        timesteps: timesteps.to_vec(),
        labels: Vec::new(),
    }
}

#[test]
fn weights_are_those_of_the_papers_for_every_prediction() {
    let schedule = NoiseSchedule::ddpm();
    for t in [0, 10, 250, 999] {
        let alpha_bar = schedule.alphas_cumprod()[t];
        let snr = alpha_bar / (1.0 - alpha_bar);
        let before = if t > 0 { schedule.alphas_cumprod()[t - 1] } else { 1.0 };
        // The share of x_0 in the posterior's mean: Ho et al. 2020, eq. 7.
        let coef = before.sqrt() * schedule.betas()[t] / (1.0 - alpha_bar);
        let min = snr.min(5.0);
        let p2 = 1.0 / (1.0 + snr);
        let cases = [
            // Hang et al. 2023, section 3.4: by what the network predicts.
            (Weighting::MinSnr, [min / snr, min, min / (snr + 1.0), min / coef.powi(2)]),
            // Choi et al. 2022, eq. 8, of the noise's error; the others follow from it.
            (Weighting::P2, [p2, p2 * snr, p2 * snr / (snr + 1.0), p2 * snr / coef.powi(2)]),
            (Weighting::None, [1.0; 4]),
        ];
        for (weighting, expected) in cases {
            let loss = LossConfig { weighting, ..LossConfig::default() };
            for (prediction, expected) in PREDICTIONS.into_iter().zip(expected) {
                let found = weights(&loss, prediction, &schedule).unwrap()[t];
                let error = (found / expected - 1.0).abs();
                assert!(error < 1e-9, "{weighting:?} {prediction} at {t}: {found}, {expected}");
            }
        }
    }
    let flat = LossConfig { weighting: Weighting::P2, p2_gamma: 0.0, ..LossConfig::default() };
    let found = weights(&flat, PredictionType::Epsilon, &schedule).unwrap();
    assert!(found.iter().all(|w| (w - 1.0).abs() < 1e-9));
}

#[test]
fn last_timestep_of_a_zero_snr_schedule_is_trained() {
    let schedule = NoiseSchedule::ddpm().rescaled_to_zero_snr().unwrap();
    for weighting in [Weighting::MinSnr, Weighting::P2] {
        let loss = LossConfig { weighting, ..LossConfig::default() };
        for prediction in [PredictionType::Sample, PredictionType::VPrediction] {
            assert_eq!(weights(&loss, prediction, &schedule).unwrap()[999], 1.0);
        }
    }
}

#[test]
fn losses_of_every_type_and_weighting_are_their_definition_in_f64() {
    let timesteps = [0.0, 3.0, 400.0, 999.0];
    for kind in [LossType::Mse, LossType::Huber] {
        for weighting in [Weighting::None, Weighting::MinSnr, Weighting::P2] {
            let config = config("objective_losses", |c| {
                c.diffusion.prediction_type = "v_prediction".into();
                c.loss = LossConfig { kind, weighting, huber_c: 0.3, ..LossConfig::default() };
            });
            let batch = batch(&timesteps, 3);
            let out = tensor(&scattered(4 * 192, 4.0), [4, 8, 8, 3]);
            let found = Objective::new(&config).unwrap().loss_of(out.clone().autodiff(), &batch);
            let weights =
                weights(&config.loss, PredictionType::VPrediction, &NoiseSchedule::ddpm()).unwrap();
            let (mut total, mut mse) = (0.0, 0.0);
            let (out, target) = (values(out), values(batch.target.clone()));
            for (i, (out, target)) in out.iter().zip(&target).enumerate() {
                let d = f64::from(out - target);
                let cost = match kind {
                    LossType::Mse => d * d,
                    LossType::Huber => 0.6 * ((d * d + 0.09).sqrt() - 0.3),
                };
                total += cost * weights[timesteps[i / 192] as usize] / 768.0;
                mse += d * d / 768.0;
            }
            let error = scalar(&found.total) / total - 1.0;
            assert!(error.abs() < 1e-5, "{kind:?} {weighting:?}: {error}");
            assert!((scalar(&found.mse) / mse - 1.0).abs() < 1e-5);
            assert!(found.bound.is_none());
        }
    }
}

#[test]
fn offset_noise_is_shared_by_the_pixels_of_a_channel_and_is_part_of_the_target() {
    let read = |strength: f64, step: usize| {
        let config = config("objective_offset", |c| c.loss.noise_offset = strength);
        let (config, data) = read_data(&config).unwrap();
        let batch = Batches::new(&config, &data, &Device::flex()).unwrap().batch(step, 0).unwrap();
        let schedule = config.model_config().unwrap().noise_schedule().unwrap();
        let (x0, noisy) = (values(batch.x0), values(batch.noisy));
        let target = values(batch.target);
        // x_t holds the very noise that is asked for (Ho et al. 2020, eq. 4).
        for (i, ((x0, noisy), noise)) in x0.iter().zip(&noisy).zip(&target).enumerate() {
            let a = schedule.alphas_cumprod()[batch.timesteps[i / 192] as usize];
            let expected = a.sqrt() * f64::from(*x0) + (1.0 - a).sqrt() * f64::from(*noise);
            assert!((expected - f64::from(*noisy)).abs() < 1e-5, "value {i}");
        }
        target
    };
    let mut shared = Vec::new();
    for step in [5, 6] {
        let (plain, offset) = (read(0.0, step), read(0.25, step));
        let difference: Vec<f32> = offset.iter().zip(&plain).map(|(a, b)| a - b).collect();
        for item in difference.chunks_exact(192) {
            for channel in 0..3 {
                let first = item[channel];
                assert!(item.iter().skip(channel).step_by(3).all(|v| (v - first).abs() < 1e-6));
                shared.push(f64::from(first) / 0.25);
            }
        }
    }
    shared.sort_by(f64::total_cmp);
    assert!(shared.windows(2).all(|pair| pair[0] != pair[1]), "a value twice");
    let deviation = (shared.iter().map(|v| v * v).sum::<f64>() / shared.len() as f64).sqrt();
    // 48 normal values: a standard error of 0.1.
    assert!((0.6..1.4).contains(&deviation), "deviation {deviation}");
}

#[test]
fn losses_that_cannot_work_are_refused_by_name() {
    let folder = folder("objective_refused");
    type Case = (fn(&mut Config), &'static str);
    let cases: [Case; 12] = [
        (|c| c.loss.huber_c = 0.0, "loss.huber_c is 0"),
        (|c| c.loss.snr_gamma = -1.0, "loss.snr_gamma is -1"),
        (|c| c.loss.p2_k = 0.0, "loss.p2_k is 0"),
        (|c| c.loss.p2_gamma = f64::NAN, "loss.p2_gamma is NaN"),
        (|c| c.loss.noise_offset = 1.5, "loss.noise_offset is 1.5"),
        (|c| c.loss.vlb_weight = f64::INFINITY, "loss.vlb_weight is inf"),
        (|c| c.diffusion.rescale_betas_zero_snr = true, "zero terminal SNR"),
        (|c| c.diffusion.variance_type = "learnt".into(), "variance_type: found \"learnt\""),
        (|c| c.diffusion.beta_schedule = "cosine".into(), "beta_schedule: found \"cosine\""),
        (
            |c| {
                c.diffusion.num_train_timesteps = 1;
                c.diffusion.variance_type = "learned_range".into();
                c.report.sample_steps = 1;
            },
            "diffusion.num_train_timesteps is 1",
        ),
        (
            |c| {
                (c.diffusion.beta_start, c.diffusion.beta_end) = (1e-18, 1e-17);
                c.diffusion.prediction_type = "sample".into();
                c.loss.weighting = Weighting::P2;
            },
            "loss.weighting: the weight at timestep 0 is NaN",
        ),
        (
            |c| {
                (c.diffusion.beta_start, c.diffusion.beta_end) = (1e-18, 1e-17);
                c.diffusion.variance_type = "learned".into();
            },
            "no posterior at timestep 0",
        ),
    ];
    for (change, part) in cases {
        let message = format!("{:#}", Config::read(&write_run(&folder, 2, change)).unwrap_err());
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
    let path = write_run(&folder, 2, |_| {});
    let text = std::fs::read_to_string(&path).unwrap();
    for (from, to, part) in [
        ("weighting = \"none\"", "weighting = \"minsnr\"", "minsnr"),
        ("type = \"mse\"", "type = \"l1\"", "l1"),
        ("huber_c", "huber_delta", "huber_delta"),
    ] {
        assert!(text.contains(from), "{text}");
        std::fs::write(&path, text.replace(from, to)).unwrap();
        let message = format!("{:#}", Config::read(&path).unwrap_err());
        assert!(message.contains(part), "expected {part:?} in: {message}");
    }
}

#[test]
fn loss_of_a_learned_variance_is_the_papers_in_f64() {
    for variance_type in ["learned_range", "learned"] {
        for prediction in PREDICTIONS {
            let config = config("objective_bound", |c| {
                c.diffusion.prediction_type = prediction.name().into();
                c.diffusion.variance_type = variance_type.into();
                c.diffusion.num_train_timesteps = 200;
                c.loss.vlb_weight = 0.002;
            });
            let timesteps = [0.0, 1.0, 77.0, 199.0];
            let batch = batch(&timesteps, 3);
            let out = scattered(4 * 384, 5.0);
            let found = Objective::new(&config)
                .unwrap()
                .loss_of(tensor(&out, [4, 8, 8, 6]).autodiff(), &batch);

            let schedule = config.model_config().unwrap().noise_schedule().unwrap();
            let (betas, a) = (schedule.betas(), schedule.alphas_cumprod());
            let (x0, target) = (values(batch.x0.clone()), values(batch.target.clone()));
            let (mut bound, mut mse) = (0.0, 0.0);
            for (place, (&x0, &target)) in x0.iter().zip(&target).enumerate() {
                let (pixel, channel, t) = (place / 3, place % 3, timesteps[place / 192] as usize);
                let m = f64::from(out[pixel * 6 + channel]);
                let v = f64::from(out[pixel * 6 + 3 + channel]);
                let (x0, target) = (f64::from(x0), f64::from(target));
                let tilde = |t: usize| betas[t] * (1.0 - a[t - 1]) / (1.0 - a[t]);
                let log_true = tilde(t.max(1)).ln();
                let log_variance = match variance_type {
                    "learned" => v,
                    _ => (v + 1.0) / 2.0 * betas[t].ln() + (1.0 - v) / 2.0 * log_true,
                };
                // x_0 of the target and of the output, at a x_t that drops out of their difference.
                let (_, p_m) = prediction.x0_coefficients(&schedule, t).unwrap();
                let before = if t > 0 { a[t - 1] } else { 1.0 };
                let coef = before.sqrt() * betas[t] / (1.0 - a[t]);
                let away = coef * p_m * (target - m);
                let nats = match t {
                    0 => -discretized_gaussian_log_likelihood(x0, away, log_variance),
                    _ => normal_kl(away, log_true, log_variance),
                };
                bound += nats / std::f64::consts::LN_2 / 768.0;
                mse += (m - target).powi(2) / 768.0;
            }
            let error = scalar(found.bound.as_ref().unwrap()) / bound - 1.0;
            assert!(error.abs() < 1e-4, "{variance_type} {prediction}: {error} of {bound}");
            let total = mse + 0.002 * 200.0 * bound;
            assert!((scalar(&found.total) / total - 1.0).abs() < 1e-4, "{total}");
            assert!((scalar(&found.mse) / mse - 1.0).abs() < 1e-5);
        }
    }
}

#[test]
fn terms_of_the_bound_have_their_known_values() {
    assert_eq!(normal_kl(0.0, -3.0, -3.0), 0.0);
    // KL(N(1, 1) || N(0, 4)) = ln 2 + (1 + 1) / 8 - 1 / 2.
    let expected = 2f64.ln() + 0.25 - 0.5;
    assert!((normal_kl(1.0, 0.0, 4f64.ln()) - expected).abs() < 1e-12);
    // The bins of the 256 bytes share out the whole law, wherever its mean is.
    for (mean, log_variance) in [(0.2, -2.0), (-1.0, -8.0), (0.999, 1.0)] {
        let sum: f64 = (0..256)
            .map(|byte| {
                let x = f64::from(byte) / 127.5 - 1.0;
                discretized_gaussian_log_likelihood(x, x - mean, log_variance).exp()
            })
            .sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
    // A narrow law in the middle of a bin: ln 1. A bin far away: ln of the least probability.
    assert!(discretized_gaussian_log_likelihood(0.0, 0.0, -20.0).abs() < 1e-6);
    let far = discretized_gaussian_log_likelihood(0.0, 1.0, -20.0);
    assert!((far - 1e-12f64.ln()).abs() < 1e-9);
}

#[test]
fn bound_moves_the_variance_and_not_the_mean() {
    let config = config("objective_stop", |c| c.diffusion.variance_type = "learned_range".into());
    let batch = batch(&[0.0, 5.0, 500.0], 3);
    let out = tensor(&scattered(3 * 384, 6.0), [3, 8, 8, 6]).autodiff().require_grad();
    let objective = Objective::new(&config).unwrap();
    let gradient = |loss: Tensor<1>| values(out.grad(&loss.backward()).unwrap());
    let halves = |gradient: &[f32]| {
        let half = |first: usize| -> Vec<f32> {
            gradient.chunks_exact(6).flat_map(|pixel| pixel[first..first + 3].to_vec()).collect()
        };
        (half(0), half(3))
    };
    let loss = objective.loss_of(out.clone(), &batch);
    let (mean, variance) = halves(&gradient(loss.bound.unwrap()));
    assert!(mean.iter().all(|g| *g == 0.0), "the bound moves the mean");
    assert!(variance.iter().filter(|g| **g != 0.0).count() > variance.len() * 9 / 10);
    // The whole loss moves the mean as the square error does.
    let loss = objective.loss_of(out.clone(), &batch);
    let (of_total, _) = halves(&gradient(loss.total));
    let loss = objective.loss_of(out.clone(), &batch);
    let (of_mse, variance) = halves(&gradient(loss.mse));
    assert_eq!(of_total, of_mse);
    assert!(variance.iter().all(|g| *g == 0.0));
}
