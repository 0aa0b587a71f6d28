//! Runs of every objective: what moves, what repeats, and what the engine makes of their models.

mod common;

use std::path::Path;

use burn::tensor::Device;
use common::{folder, write_png, write_run};
use ddpm::model::Denoiser;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::Sampler;
use ddpm_train::batches::Batches;
use ddpm_train::checkpoint::{self, Checkpoint};
use ddpm_train::config::{Config, LossConfig};
use ddpm_train::data::Dataset;
use ddpm_train::export::{Precision, export};
use ddpm_train::fit::{fit, read_data};
use ddpm_train::forward::BurnDenoiser;
use ddpm_train::network::Start;
use ddpm_train::objective::{LossType, Objective, Weighting};
use ddpm_train::optimizer::TrainState;
use ddpm_train::parameters::{Parameters, specs};
use ddpm_train::resume::Begin;
use ddpm_train::{likelihood, step};

const PREDICTIONS: [&str; 4] = ["epsilon", "sample", "v_prediction", "mean"];

/// A run on three classes of four plain pictures each, of a red of their own: class * 64 + picture.
fn run(folder: &Path, change: impl FnOnce(&mut Config)) -> (Config, Dataset) {
    for class in 0..3u8 {
        let place = folder.join(format!("pictures/{class}"));
        std::fs::create_dir_all(&place).unwrap();
        for picture in 0..4 {
            let data = [class * 64 + picture, 90, 200].repeat(64);
            let path = place.join(format!("{picture}.png"));
            write_png(&path, (8, 8), png::ColorType::Rgb, png::BitDepth::Eight, &data, |_| {});
        }
    }
    let path = write_run(folder, 1, |config| {
        config.data.sheet = None;
        config.data.folder = Some("pictures".into());
        config.data.classes = true;
        change(config);
    });
    read_data(&Config::read(&path).unwrap()).unwrap()
}

/// A setting of everything that has one.
fn everything(config: &mut Config) {
    config.diffusion.prediction_type = "v_prediction".into();
    config.diffusion.variance_type = "learned_range".into();
    config.diffusion.beta_schedule = "scaled_linear".into();
    config.diffusion.rescale_betas_zero_snr = true;
    config.loss = LossConfig {
        kind: LossType::Huber,
        weighting: Weighting::MinSnr,
        noise_offset: 0.1,
        ..LossConfig::default()
    };
    config.train.label_dropout = 0.3;
    config.train.accumulate = 2;
    (config.data.flip, config.data.shift) = (true, 1);
}

fn all_values(state: &TrainState) -> Vec<Vec<f32>> {
    [&state.parameters, &state.ema, &state.moment1, &state.moment2]
        .iter()
        .flat_map(|p| p.specs().iter().map(|s| p.values(&s.name).unwrap()))
        .collect()
}

#[test]
fn run_with_everything_on_goes_on_from_its_checkpoint_as_if_never_interrupted() {
    let folder = folder("objective_resume");
    let device = Device::flex();
    let (config, data) = run(&folder, everything);
    let objective = Objective::new(&config).unwrap();
    let mut batches = Batches::new(&config, &data, &device).unwrap();
    let take = |state: &mut TrainState, batches: &mut Batches, steps: usize| -> Vec<f64> {
        (0..steps).map(|_| step::take(&config, &objective, batches, state).unwrap()).collect()
    };
    let initial = || TrainState::initial(specs(&config.network()), config.seed, &device).unwrap();
    let mut whole = initial();
    let losses = take(&mut whole, &mut batches, 6);

    let mut first = initial();
    let mut halves = take(&mut first, &mut batches, 3);
    let path = folder.join("half.safetensors");
    checkpoint::save(&path, &config, &data.fingerprint(), &first).unwrap();
    let read = Checkpoint::read(&path).unwrap();
    assert_eq!(read.config, config);
    let mut second = read.state(&device).unwrap();
    let mut batches = Batches::new(&config, &data, &device).unwrap();
    halves.extend(take(&mut second, &mut batches, 3));
    assert_eq!(halves, losses);
    assert_eq!(all_values(&second), all_values(&whole));
}

#[test]
fn run_is_not_resumed_with_another_loss_and_one_from_before_there_was_a_choice_is() {
    let device = Device::flex();
    let folder = folder("objective_same_run");
    let (config, _) = run(&folder, |c| c.train.steps = 2);
    fit(&config, &Begin::Fresh, &device).unwrap();
    let mut other = config.clone();
    other.loss.noise_offset = 0.1;
    let message = format!("{:#}", fit(&other, &Begin::Resume, &device).unwrap_err());
    assert!(message.contains("another configuration"), "{message}");

    let mut old = serde_json::to_value(&config).unwrap();
    old.as_object_mut().unwrap().remove("loss").unwrap();
    assert_eq!(serde_json::from_value::<Config>(old).unwrap(), config);
}

#[test]
fn every_setting_of_the_loss_makes_another_run() {
    let device = Device::flex();
    let mut seen: Vec<(usize, f64)> = Vec::new();
    type Case = fn(&mut LossConfig);
    let cases: [Case; 9] = [
        |_| {},
        |l| l.kind = LossType::Huber,
        |l| (l.kind, l.huber_c) = (LossType::Huber, 0.2),
        |l| l.weighting = Weighting::MinSnr,
        |l| (l.weighting, l.snr_gamma) = (Weighting::MinSnr, 1.0),
        |l| l.weighting = Weighting::P2,
        |l| (l.weighting, l.p2_k) = (Weighting::P2, 2.0),
        |l| (l.weighting, l.p2_gamma) = (Weighting::P2, 0.5),
        |l| l.noise_offset = 0.1,
    ];
    for (number, case) in cases.into_iter().enumerate() {
        let folder = folder("objective_settings");
        let (config, data) = run(&folder, |c| case(&mut c.loss));
        let objective = Objective::new(&config).unwrap();
        let mut batches = Batches::new(&config, &data, &device).unwrap();
        let mut state =
            TrainState::initial(specs(&config.network()), config.seed, &device).unwrap();
        let loss = step::take(&config, &objective, &mut batches, &mut state).unwrap();
        for (other, before) in &seen {
            assert_ne!(loss, *before, "cases {other} and {number}");
        }
        seen.push((number, loss));
    }
}

#[test]
fn plain_square_error_is_known_beside_a_weighted_loss() {
    let device = Device::flex();
    let folder = folder("objective_log");
    let (config, data) = run(&folder, |c| c.loss.weighting = Weighting::P2);
    let objective = Objective::new(&config).unwrap();
    let mut batches = Batches::new(&config, &data, &device).unwrap();
    let weights = TrainState::initial(specs(&config.network()), config.seed, &device).unwrap();
    let found = step::gradient(&config, &objective, &mut batches, 0, &weights.parameters).unwrap();
    let (loss, mse) = (found.loss, found.mse);
    // A fresh network says 0: the square of the noise remains, 1 in the mean.
    assert!((mse - 1.0).abs() < 0.1 && loss < 0.9 * mse, "{loss} {mse}");
}

#[test]
fn training_lowers_the_bound_and_a_learned_variance_more_than_the_mean_alone() {
    let device = Device::flex();
    let bound = |variance: &str, steps: usize| {
        let (config, data) = run(&folder("objective_bound_falls"), |c| {
            c.diffusion.variance_type = variance.into();
            c.train.steps = 60;
        });
        let objective = Objective::new(&config).unwrap();
        let mut batches = Batches::new(&config, &data, &device).unwrap();
        let mut state =
            TrainState::initial(specs(&config.network()), config.seed, &device).unwrap();
        for _ in 0..steps {
            step::take(&config, &objective, &mut batches, &mut state).unwrap();
        }
        let mut denoiser = BurnDenoiser::new(&config, state.parameters, device.clone()).unwrap();
        let request = likelihood::Request { every: 200, seed: 0, batch: 64 };
        likelihood::likelihood(&mut denoiser, &data, &[0, 5], request).unwrap().bits
    };
    let (fresh, trained) = (bound("fixed_small", 0), bound("fixed_small", 60));
    assert!(trained < 0.8 * fresh, "{trained} bits after training, {fresh} before");
    let learned = bound("learned_range", 60);
    assert!(learned < 0.97 * trained, "{learned} bits with a learned variance, {trained} without");
}

#[test]
fn share_of_the_labels_that_is_dropped_is_the_one_asked_for() {
    let device = Device::flex();
    let (config, data) = run(&folder("objective_dropout"), |c| {
        c.train.label_dropout = 0.3;
        c.train.batch = 40;
    });
    let mut batches = Batches::new(&config, &data, &device).unwrap();
    let null = config.null_label().unwrap();
    assert_eq!(null, 3);
    let (mut dropped, mut all) = ([0.0; 3], [0.0; 3]);
    for step in 0..40 {
        let batch = batches.batch(step, 0).unwrap();
        let images = batch.x0.clone().try_into_vec_as::<f32>().unwrap();
        for (image, &label) in images.chunks_exact(192).zip(&batch.labels) {
            // The red of the picture says its class.
            let class = usize::from(ddpm::image::to_byte(image[0]) / 64);
            all[class] += 1.0;
            if label == null {
                dropped[class] += 1.0;
            } else {
                assert_eq!(label as usize, class);
            }
        }
        let again = Batches::new(&config, &data, &device).unwrap().batch(step, 0).unwrap();
        assert_eq!(again.labels, batch.labels, "step {step}");
    }
    for class in 0..3 {
        // About 533 images of each class: a standard error of 0.02.
        let share: f64 = dropped[class] / all[class];
        assert!((share - 0.3).abs() < 0.08, "class {class}: {share} of {}", all[class]);
    }
}

#[test]
fn labels_stay_and_the_network_has_no_row_for_none_without_dropout() {
    let device = Device::flex();
    let (config, data) = run(&folder("objective_no_dropout"), |c| c.train.label_dropout = 0.0);
    assert_eq!((config.null_label(), config.network().labels), (None, 3));
    let mut batches = Batches::new(&config, &data, &device).unwrap();
    for step in 0..20 {
        assert!(batches.batch(step, 0).unwrap().labels.iter().all(|label| *label < 3));
    }
}

/// Weights of a network that does something: nothing starts at zero.
fn weights(config: &Config) -> Parameters {
    let mut specs = specs(&config.network());
    for spec in &mut specs {
        if spec.start == Start::Zero {
            spec.start = Start::Uniform { inputs: 9 };
        }
    }
    Parameters::initial(specs, 5, &Device::flex()).unwrap()
}

/// The names of the weights with a gradient other than zero, at that step.
fn moved(config: &Config, data: &Dataset, weights: &Parameters, at: usize) -> Vec<String> {
    let mut batches = Batches::new(config, data, &Device::flex()).unwrap();
    let objective = Objective::new(config).unwrap();
    let gradients =
        step::gradient(config, &objective, &mut batches, at, weights).unwrap().by_weight;
    let names = weights.specs().iter().map(|spec| spec.name.clone());
    let moved = names.zip(gradients).filter(|(name, gradient)| {
        let Some(gradient) = gradient else { return false };
        let values = gradient.clone().try_into_vec_as::<f32>().unwrap();
        assert!(values.iter().all(|v| v.is_finite()), "{name}");
        values.iter().any(|v| *v != 0.0)
    });
    moved.map(|(name, _)| name).collect()
}

#[test]
fn label_rows_are_trained_by_the_images_that_have_them_and_the_null_row_by_the_dropped() {
    let device = Device::flex();
    let (config, data) = run(&folder("objective_rows"), |c| {
        c.train.label_dropout = 0.5;
        c.train.batch = 3;
    });
    let weights = weights(&config);
    let place = weights.specs().iter().position(|s| s.name == "label.weight").unwrap();
    let (mut with_null, mut without) = (0, 0);
    for at in 0..12 {
        let objective = Objective::new(&config).unwrap();
        let mut batches = Batches::new(&config, &data, &device).unwrap();
        let labels = batches.batch(at, 0).unwrap().labels;
        let found = step::gradient(&config, &objective, &mut batches, at, &weights).unwrap();
        let mut gradients = found.by_weight;
        let gradient = gradients[place].take().unwrap().try_into_vec_as::<f32>().unwrap();
        for (row, values) in gradient.chunks_exact(16).enumerate() {
            let trained = values.iter().any(|v| *v != 0.0);
            assert_eq!(trained, labels.contains(&(row as i64)), "step {at}, row {row}");
        }
        let has_null = labels.contains(&3);
        (with_null, without) =
            (with_null + usize::from(has_null), without + usize::from(!has_null));
    }
    assert!(with_null > 0 && without > 0, "{with_null} steps with a dropped label, {without} not");
}

#[test]
fn gradient_reaches_every_weight_with_every_prediction_and_variance() {
    for prediction in PREDICTIONS {
        for variance in ["fixed_small", "learned_range", "learned"] {
            let (config, data) = run(&folder("objective_moves"), |c| {
                c.diffusion.prediction_type = prediction.into();
                c.diffusion.variance_type = variance.into();
            });
            let weights = weights(&config);
            let all: Vec<_> = weights.specs().iter().map(|s| s.name.clone()).collect();
            assert_eq!(moved(&config, &data, &weights, 0), all, "{prediction} {variance}");
        }
    }
}

/// The last layer and the last of every residual branch start at zero. Seen from the loss, all lies
/// behind the first, and the inside of a branch behind its last layer: so the first step's gradient
/// reaches the last layer alone, the second's all but the insides of the branches, the third's all.
#[test]
fn gradient_of_a_fresh_network_reaches_every_weight_by_the_third_step() {
    let device = Device::flex();
    for (prediction, variance) in [("epsilon", "fixed_small"), ("v_prediction", "learned_range")] {
        let (config, data) = run(&folder("objective_fresh"), |c| {
            c.diffusion.prediction_type = prediction.into();
            c.diffusion.variance_type = variance.into();
            (c.train.warmup_steps, c.train.weight_decay) = (0, 0.0);
        });
        let objective = Objective::new(&config).unwrap();
        let mut batches = Batches::new(&config, &data, &device).unwrap();
        let mut state =
            TrainState::initial(specs(&config.network()), config.seed, &device).unwrap();
        let all: Vec<_> = state.parameters.specs().iter().map(|s| s.name.clone()).collect();
        let behind_a_branch = |name: &str| {
            let last = name.rsplit('.').nth(1).unwrap();
            ["norm1", "conv1", "time", "norm2", "norm", "qkv"].contains(&last)
                && !name.starts_with("out.")
        };
        let last = ["out.conv.weight", "out.conv.bias"];
        let reached: [Vec<_>; 3] = [
            last.map(String::from).to_vec(),
            all.iter().filter(|name| !behind_a_branch(name)).cloned().collect(),
            all.clone(),
        ];
        let initial = state.parameters.clone();
        for (at, mut expected) in reached.into_iter().enumerate() {
            let mut found = moved(&config, &data, &state.parameters, at);
            if at == 1 {
                // Time and label come in by the insides of the branches alone.
                let by_time =
                    |name: &String| !name.starts_with("time.") && !name.starts_with("label.");
                expected.retain(by_time);
            }
            expected.sort();
            found.sort();
            assert_eq!(found, expected, "{prediction}, step {at}");
            step::take(&config, &objective, &mut batches, &mut state).unwrap();
        }
        for name in &all {
            let (a, b) = (initial.values(name).unwrap(), state.parameters.values(name).unwrap());
            assert_ne!(a, b, "{name} did not move");
        }
    }
}

#[test]
fn engine_loads_and_samples_the_model_of_every_objective() {
    let device = Device::flex();
    let schedules =
        ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"].into_iter();
    // Each schedule with some prediction, each variance with some, with zero SNR and without.
    let variances =
        ["fixed_small", "learned_range", "fixed_large", "learned", "fixed_small_log"].into_iter();
    let predictions = ["epsilon", "v_prediction", "sample", "mean", "v_prediction"].into_iter();
    let zero_snr = [false, true, true, false, true].into_iter();
    for (((schedule, variance), prediction), zero_snr) in
        schedules.zip(variances).zip(predictions).zip(zero_snr)
    {
        let case = format!("{schedule} {variance} {prediction} {zero_snr}");
        let folder = folder("objective_export");
        let (config, data) = run(&folder, |c| {
            c.diffusion.beta_schedule = schedule.into();
            c.diffusion.variance_type = variance.into();
            c.diffusion.prediction_type = prediction.into();
            c.diffusion.rescale_betas_zero_snr = zero_snr;
            c.diffusion.num_train_timesteps = 300;
        });
        let objective = Objective::new(&config).unwrap();
        let mut batches = Batches::new(&config, &data, &device).unwrap();
        let specs = specs(&config.network());
        let mut state = TrainState::initial(specs, config.seed, &device).unwrap();
        state.parameters = weights(&config);
        state.ema = state.parameters.clone();
        for _ in 0..2 {
            step::take(&config, &objective, &mut batches, &mut state).unwrap();
        }
        let path = folder.join("model.onnx");
        export(&path, &config, &state.ema, Precision::F32, &device)
            .unwrap_or_else(|e| panic!("{case}: {e:#}"));
        let source = ModelSource::Path(path);
        let mut exported = OnnxDenoiser::load(&source, &OnnxOptions::default()).unwrap();
        let model = config.model_config().unwrap();
        assert_eq!(exported.config(), &model, "{case}");

        let mut trained = BurnDenoiser::new(&config, state.ema, device.clone()).unwrap();
        let sampler = model.sampler_config(Sampler::Ddpm, 12);
        let sample = |denoiser: &mut dyn Denoiser| {
            let start = RunStart { seed: 4, label: Some(1), ..RunStart::default() };
            let mut run = Run::starting(&model, &sampler, start, 2).unwrap();
            while run.step(denoiser).unwrap() {}
            run.sample().to_vec()
        };
        let (found, expected) = (sample(&mut exported), sample(&mut trained));
        assert_eq!(found.len(), 2 * 192);
        // x_0 is the mean over a number that falls to 1e-4: so much is rounding magnified.
        let tolerance = if prediction == "mean" { 2e-2 } else { 1e-3 };
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() < tolerance, "{case}: {a}, the trained network {b}");
        }
        assert!(found.iter().any(|v| *v != found[0]), "{case}: {}", found[0]);
    }
}
