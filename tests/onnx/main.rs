//! What model files do when they are loaded and run: roles, types, shapes, metadata, faults.
//!
//! The models are built by `models/make_models.py`. ONNX Runtime is found by the library's own
//! lookup: `DDPM_ONNXRUNTIME`, or the cache.

mod cache;
mod classes;
#[path = "../common/mod.rs"]
mod common;
mod fused;
mod providers;
mod scheduler;
mod sources;
mod variants;
mod weights;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Folder, model};
use ddpm::error::{Error, ErrorKind, Result};
use ddpm::log::{LogLevel, Logger};
use ddpm::model::{Classes, Denoiser, ModelConfig};
use ddpm::noise_schedule::BetaSchedule;
use ddpm::onnx::{
    CacheUse, Interrupt, ModelOverrides, ModelSource, OnnxDenoiser, OnnxOptions, Provider,
};
use ddpm::prediction::PredictionType;
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{
    FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, SolverType, Thresholding, VarianceType,
};
use ddpm::timesteps::TimestepSpacing;
use ndarray::Array4;

fn cpu() -> OnnxOptions {
    OnnxOptions { provider: Provider::Cpu, ..OnnxOptions::default() }
}

fn load(name: &str) -> Result<OnnxDenoiser> {
    OnnxDenoiser::load(&ModelSource::from(&model(name)), &cpu())
}

fn refused(name: &str, kind: ErrorKind, expected: &[&str]) -> Error {
    let error = load(name).expect_err(name);
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("{name}.onnx")), "{text} does not name the file");
    for part in expected {
        assert!(text.contains(part), "{text} does not contain {part:?}");
    }
    error
}

fn with(name: &str, overrides: ModelOverrides) -> Result<OnnxDenoiser> {
    OnnxDenoiser::load(&ModelSource::from(&model(name)), &OnnxOptions { overrides, ..cpu() })
}

/// The output for a sample that counts up in thousandths.
fn predict(denoiser: &mut OnnxDenoiser, timesteps: &[f64]) -> Result<(Array4<f32>, Array4<f32>)> {
    predict_class(denoiser, timesteps, &[])
}

fn predict_class(
    denoiser: &mut OnnxDenoiser,
    timesteps: &[f64],
    labels: &[i64],
) -> Result<(Array4<f32>, Array4<f32>)> {
    let ModelConfig { channels, height, width, .. } = *denoiser.config();
    let shape = (timesteps.len(), channels, height, width);
    let count = shape.0 * channels * height * width;
    let values = (0..count).map(|i| i as f32 / 1000.0).collect();
    let sample = Array4::from_shape_vec(shape, values).unwrap();
    let output_shape = (shape.0, denoiser.config().output_channels(), height, width);
    let mut output = Array4::from_elem(output_shape, f32::NAN);
    denoiser.predict(sample.view(), timesteps, labels, output.view_mut())?;
    Ok((sample, output))
}

/// A logger, and the messages that it got.
fn recording() -> (Logger, Arc<Mutex<Vec<String>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let sink = move |_, text: &str| kept.lock().unwrap().push(text.to_owned());
    (Logger::new(Some(Arc::new(sink)), LogLevel::Info), seen)
}

/// For a model whose timestep is an integer.
fn whole(config: ModelConfig) -> ModelConfig {
    let sampler = SamplerConfig { fractional_timesteps: false, ..config.sampler };
    ModelConfig { sampler, ..config }
}

#[test]
fn a_model_of_any_batch_gives_its_exact_answer() {
    let mut denoiser = load("lin").unwrap();
    for batch in [1, 3, 1, 2] {
        let (sample, output) = predict(&mut denoiser, &vec![500.0; batch]).unwrap();
        assert_eq!(output, sample * 0.5);
    }
}

#[test]
fn a_plain_model_takes_the_papers_settings_and_says_so() {
    let (log, seen) = recording();
    let options = OnnxOptions { log, ..cpu() };
    let denoiser = OnnxDenoiser::load(&ModelSource::from(&model("lin")), &options).unwrap();
    assert_eq!(denoiser.config(), &whole(ModelConfig::ddpm(3, 8, 8)));
    let seen = seen.lock().unwrap();
    for key in [
        "prediction_type, taking epsilon",
        "beta_schedule, taking linear",
        "beta_start, taking 0.0001",
        "beta_end, taking 0.02",
        "num_train_timesteps, taking 1000",
        "rescale_betas_zero_snr, taking false",
        "variance_type, taking fixed_small",
        "clip_sample_range, taking 1",
        "color, taking rgb",
    ] {
        let lines = seen.iter().filter(|line| line.contains(&format!("no ddpm.{key}")));
        assert_eq!(lines.count(), 1, "{key}: {seen:?}");
    }
}

#[test]
fn the_timestep_is_fed_in_whatever_type_and_rank_is_declared() {
    for number in ["i64", "i32", "f32", "f16", "f64"] {
        for shape in ["scalar", "one", "n"] {
            let name = format!("trec_{number}_{shape}");
            let mut denoiser = load(&name).unwrap();
            for t in [0.0, 1.0, 500.0, 999.0] {
                let (_, output) = predict(&mut denoiser, &[t]).unwrap();
                // One division in f32; every t here is exact in f16 too.
                let expected = t as f32 / 1000.0;
                assert!(
                    output.iter().all(|&v| v == expected),
                    "{name} at {t}: {}",
                    output[[0, 0, 0, 0]]
                );
            }
        }
    }
}

#[test]
fn each_sample_of_a_batch_has_its_own_timestep() {
    let mut denoiser = load("trec_i64_n").unwrap();
    let (_, output) = predict(&mut denoiser, &[100.0, 900.0]).unwrap();
    assert_eq!((output[[0, 2, 7, 7]], output[[1, 0, 0, 0]]), (0.1, 0.9));
}

#[test]
fn one_timestep_input_takes_a_batch_that_agrees_and_refuses_one_that_does_not() {
    for name in ["trec_i64_scalar", "trec_f32_one"] {
        let mut denoiser = load(name).unwrap();
        let (_, output) = predict(&mut denoiser, &[500.0, 500.0]).unwrap();
        assert!(output.iter().all(|&v| v == 0.5));
        let error = predict(&mut denoiser, &[100.0, 900.0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains("\"timestep\" takes 1 timestep"), "{error}");
    }
}

#[test]
fn the_models_sampler_keeps_to_whole_timesteps_where_the_input_is_an_integer() {
    for (number, is_fractional) in
        [("i64", false), ("i32", false), ("f32", true), ("f16", true), ("f64", true)]
    {
        let mut denoiser = load(&format!("trec_{number}_n")).unwrap();
        let model = denoiser.config().clone();
        assert_eq!(model.sampler.fractional_timesteps, is_fractional, "{number}");
        let euler = SamplerConfig {
            spacing: TimestepSpacing::Linspace,
            ..model.sampler_config(Sampler::Euler, 20)
        };
        let mut run = Run::new(&model, &euler, 0, 1).unwrap();
        while run.step(&mut denoiser).unwrap() {}
        assert_eq!(run.timesteps().any(|t| t.fract() != 0.0), is_fractional, "{number}");
    }
}

#[test]
fn a_fractional_timestep_is_fed_to_floats_and_refused_for_integers() {
    let (_, output) = predict(&mut load("trec_f32_n").unwrap(), &[500.5]).unwrap();
    assert_eq!(output[[0, 0, 0, 0]], 0.5005);
    for (name, number) in [("trec_i64_n", "int64"), ("trec_i32_n", "int32")] {
        let error = predict(&mut load(name).unwrap(), &[500.5]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let text = error.to_string();
        assert!(text.contains("500.5 is fractional") && text.contains(number), "{text}");
    }
}

#[test]
fn a_float16_model_is_fed_and_read_as_float32() {
    let (sample, output) = predict(&mut load("lin_f16").unwrap(), &[0.0]).unwrap();
    for (&x, &y) in sample.iter().zip(&output) {
        // Half an ulp of f16 at this size, twice: in the input, and in the product.
        assert!((y - x / 2.0).abs() <= 1e-3 * x.max(0.1), "{x} gives {y}");
    }
}

#[test]
fn initializers_that_are_also_inputs_are_not_asked_for() {
    for name in ["initializers_as_inputs_ir3", "initializers_as_inputs_ir8"] {
        let (sample, output) = predict(&mut load(name).unwrap(), &[0.0]).unwrap();
        assert_eq!(output, sample * 0.5, "{name}");
    }
}

#[test]
fn an_output_of_another_rank_is_passed_over() {
    let (sample, output) = predict(&mut load("aux_output").unwrap(), &[0.0]).unwrap();
    assert_eq!(output, sample * 0.5);
}

#[test]
fn two_outputs_that_fit_are_ambiguous_until_one_is_named() {
    refused("two_outputs", ErrorKind::Model, &["more than one output", "\"first\"", "\"second\""]);
    for (name, factor) in [("first", 0.5), ("second", 1.0)] {
        let overrides =
            ModelOverrides { output: Some(name.to_owned()), ..ModelOverrides::default() };
        let options = OnnxOptions { overrides, ..cpu() };
        let source = ModelSource::from(&model("two_outputs"));
        let mut denoiser = OnnxDenoiser::load(&source, &options).unwrap();
        let (sample, output) = predict(&mut denoiser, &[0.0]).unwrap();
        assert_eq!(output, sample * factor);
    }
}

#[test]
fn inputs_and_outputs_without_a_role_are_refused_at_load() {
    refused("extra_input", ErrorKind::Model, &["\"context\" float32 [?, 77, 32] is required"]);
    refused(
        "two_integers",
        ErrorKind::Model,
        &["more than one input may be the timestep", "\"a\" int64 [?], \"b\" int64 [?]"],
    );
    refused("version_2", ErrorKind::Unsupported, &["ddpm.version is \"2\""]);
    refused(
        "wrong_channels",
        ErrorKind::Model,
        &["\"out_sample\" is [?, 1, 8, 8]", "[N, 3, 8, 8]"],
    );
    refused("two_channels", ErrorKind::Model, &["has 2 channels"]);
}

#[test]
fn versions_from_the_future_are_refused_with_both_numbers() {
    let error = refused("ir_version_99", ErrorKind::Model, &["IR version", "99"]);
    let numbers = error
        .to_string()
        .split(|c: char| !c.is_ascii_digit())
        .map(str::to_owned)
        .filter(|part| part.len() == 2)
        .collect::<Vec<_>>();
    assert!(numbers.len() >= 2, "{error} does not say what is supported");
    refused("opset_99", ErrorKind::Model, &["99", "till opset"]);
}

#[test]
fn a_fixed_batch_must_be_met() {
    let mut one = load("fixed_batch_1").unwrap();
    assert_eq!(one.info().fixed_batch, Some(1));
    predict(&mut one, &[0.0]).unwrap();
    let error = predict(&mut one, &[0.0, 0.0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("batch: found 2, expected 1"), "{error}");
    let mut two = load("fixed_batch_2").unwrap();
    predict(&mut two, &[0.0, 0.0]).unwrap();
}

#[test]
fn an_open_size_must_be_given_by_the_caller_or_the_metadata() {
    refused("open_size", ErrorKind::Model, &["the height is open", "ddpm.height"]);
    let sized = |name: &str, height, width| {
        let overrides = ModelOverrides { height, width, ..ModelOverrides::default() };
        OnnxDenoiser::load(&ModelSource::from(&model(name)), &OnnxOptions { overrides, ..cpu() })
    };
    let mut given = sized("open_size", Some(33), Some(28)).unwrap();
    let (sample, output) = predict(&mut given, &[0.0]).unwrap();
    assert_eq!(sample.dim(), (1, 3, 33, 28));
    assert_eq!(output, sample * 0.5);
    let named = sized("open_size_named", None, None).unwrap();
    assert_eq!((named.config().height, named.config().width), (16, 24));
    let both = sized("open_size_named", Some(1), None).unwrap();
    assert_eq!((both.config().height, both.config().width), (1, 24));
    let huge = sized("open_size", Some(0x7fff_ffff), Some(0x7fff_ffff)).unwrap_err();
    assert_eq!(huge.kind(), ErrorKind::InvalidArgument);
    let other = sized("lin", Some(16), None).unwrap_err();
    assert!(other.to_string().contains("height: found 16, expected 8"), "{other}");
}

#[test]
fn a_model_that_cannot_run_at_its_size_fails_at_load() {
    let overrides = ModelOverrides { height: Some(8), width: Some(9), ..ModelOverrides::default() };
    let options = OnnxOptions { overrides, ..cpu() };
    let source = ModelSource::from(&model("needs_width_8"));
    let error = OnnxDenoiser::load(&source, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Inference);
    assert!(error.to_string().contains("needs_width_8.onnx: "), "{error}");
    assert!(error.to_string().contains("MatMul"), "{error}");
}

#[test]
fn metadata_is_honoured_and_junk_in_it_refused() {
    let denoiser = load("v_prediction").unwrap();
    let mut expected = ModelConfig {
        prediction_type: PredictionType::VPrediction,
        beta_schedule: BetaSchedule::SquaredcosCapV2,
        num_train_timesteps: 500,
        ..whole(ModelConfig::ddpm(3, 8, 8))
    };
    expected.sampler.thresholding = Thresholding::Off;
    assert_eq!(denoiser.config(), &expected);
    refused(
        "junk_prediction_type",
        ErrorKind::Model,
        &["ddpm.prediction_type is \"junk\"", "epsilon, sample, v_prediction or mean"],
    );
}

#[test]
fn a_golden_checksum_is_verified_at_load() {
    load("golden").unwrap();
    refused("golden_wrong", ErrorKind::Model, &["does not reproduce its golden checksum", "0.26"]);
}

#[test]
fn cuda_on_a_runtime_without_it_is_an_error_and_auto_says_why_it_took_the_cpu() {
    let source = ModelSource::from(&model("lin"));
    let started = Instant::now();
    let on =
        |provider| OnnxDenoiser::load(&source, &OnnxOptions { provider, ..OnnxOptions::default() });
    let cuda = on(Provider::Cuda);
    let auto = on(Provider::Auto).unwrap();
    match cuda {
        // A machine with CUDA: both use it.
        Ok(loaded) => {
            assert_eq!(
                (loaded.info().provider, auto.info().provider),
                (Provider::Cuda, Provider::Cuda)
            );
            assert_eq!(auto.info().fallback_reason, None);
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
            assert!(error.to_string().starts_with("CUDA: "), "{error}");
            assert_eq!(auto.info().provider, Provider::Cpu);
            assert_eq!(auto.info().fallback_reason.as_deref(), Some(error.message()));
        }
    }
    assert!(started.elapsed() < Duration::from_secs(60), "took {:?}", started.elapsed());
    assert_eq!(on(Provider::Cpu).unwrap().info().fallback_reason, None);
}

#[test]
fn thread_counts_are_checked() {
    let source = ModelSource::from(&model("lin"));
    let with = |threads| OnnxDenoiser::load(&source, &OnnxOptions { threads, ..cpu() });
    assert_eq!(with(2).unwrap().info().threads, 2);
    assert!(with(0).unwrap().info().threads >= 1);
    let error = with(1_000_000).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().starts_with("threads: found 1000000"), "{error}");
}

#[test]
fn shapes_that_do_not_fit_are_refused_before_the_run() {
    let mut denoiser = load("lin").unwrap();
    let sample = Array4::<f32>::zeros((1, 3, 8, 8));
    let mut small = Array4::<f32>::zeros((1, 3, 8, 4));
    let error = denoiser.predict(sample.view(), &[0.0], &[], small.view_mut()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("output: found shape [1, 3, 8, 4]"), "{error}");
    let mut output = Array4::<f32>::zeros((1, 3, 8, 8));
    let turned = sample.view().permuted_axes([0, 1, 3, 2]);
    let error = denoiser.predict(turned, &[0.0], &[], output.view_mut()).unwrap_err();
    assert!(error.to_string().contains("C-contiguous"), "{error}");
}

#[test]
fn a_load_and_a_run_can_be_broken_off() {
    let interrupt = Interrupt::new();
    let stop = interrupt.clone();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        stop.stop();
    });
    // Its first run would take hours.
    let source = ModelSource::from(&model("endless_load"));
    OnnxDenoiser::load_interruptible(&source, &cpu(), &interrupt).unwrap_err();
    stopper.join().unwrap();

    let interrupt = Interrupt::new();
    let source = ModelSource::from(&model("endless"));
    let mut denoiser = OnnxDenoiser::load_interruptible(&source, &cpu(), &interrupt).unwrap();
    let stopper = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        interrupt.stop();
    });
    let error = predict(&mut denoiser, &[999.0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EngineClosed);
    stopper.join().unwrap();
}

/// Breaks off whatever runs, `after` a while.
fn breaking_off(interrupt: &Interrupt, after: Duration) -> std::thread::JoinHandle<()> {
    let interrupt = interrupt.clone();
    std::thread::spawn(move || {
        std::thread::sleep(after);
        interrupt.break_off();
    })
}

#[test]
fn one_run_is_broken_off_and_later_ones_are_made() {
    let interrupt = Interrupt::new();
    let source = ModelSource::from(&model("endless"));
    let mut denoiser = OnnxDenoiser::load_interruptible(&source, &cpu(), &interrupt).unwrap();
    let (_, expected) = predict(&mut denoiser, &[0.0]).unwrap();
    // Before the run, early in it, and deep in it: the first of them never ends by itself.
    for after in [0, 1, 100] {
        let breaker = breaking_off(&interrupt, Duration::from_millis(after));
        let error = predict(&mut denoiser, &[999.0]).unwrap_err();
        breaker.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::Inference);
        assert!(error.to_string().ends_with("the run was broken off"), "{error}");
        assert!(interrupt.was_broken_off());
        let (_, output) = predict(&mut denoiser, &[0.0]).unwrap();
        assert!(!interrupt.was_broken_off());
        assert_eq!(output, expected);
    }
    // After a run: one more fails, whatever was asked how often, and the one behind it does not.
    interrupt.break_off();
    interrupt.break_off();
    predict(&mut denoiser, &[0.0]).unwrap_err();
    assert!(interrupt.was_broken_off());
    // A failure of another kind is none of it.
    predict_class(&mut denoiser, &[0.0], &[1]).unwrap_err();
    assert!(!interrupt.was_broken_off());
    predict(&mut denoiser, &[0.0]).unwrap();

    interrupt.stop();
    interrupt.break_off();
    for _ in 0..3 {
        let error = predict(&mut denoiser, &[999.0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EngineClosed);
        assert!(!interrupt.was_broken_off());
    }
}

/// Whatever a run meets, a failure that is not a break-off would be reported as the model's.
#[test]
fn a_run_that_is_broken_off_again_and_again_never_fails_for_another_reason() {
    let interrupt = Interrupt::new();
    let source = ModelSource::from(&model("slow"));
    let mut denoiser = OnnxDenoiser::load_interruptible(&source, &cpu(), &interrupt).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let breakers: Vec<_> = (0..3)
        .map(|_| {
            let (interrupt, done) = (interrupt.clone(), Arc::clone(&done));
            std::thread::spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    interrupt.break_off();
                    std::thread::sleep(Duration::from_micros(300));
                }
            })
        })
        .collect();
    let (mut made, mut broken) = (0, 0);
    for _ in 0..1000 {
        match predict(&mut denoiser, &[100.0]) {
            Ok(_) => made += 1,
            Err(error) => {
                assert!(interrupt.was_broken_off(), "{error}");
                broken += 1;
            }
        }
    }
    done.store(true, Ordering::SeqCst);
    breakers.into_iter().for_each(|breaker| breaker.join().unwrap());
    assert!(broken > 0, "{made} made, {broken} broken off");
    // What was asked last may cost one run and no more.
    let _ = predict(&mut denoiser, &[0.0]);
    predict(&mut denoiser, &[0.0]).unwrap();
}

#[test]
fn an_overflowing_model_gives_infinities_for_the_run_to_find() {
    let mut denoiser = load("overflow").unwrap();
    let (_, fine) = predict(&mut denoiser, &[500.0]).unwrap();
    assert!(fine.iter().all(|v| v.is_finite()));
    let (_, bad) = predict(&mut denoiser, &[499.0]).unwrap();
    assert!(bad.iter().any(|v| !v.is_finite()));
}
