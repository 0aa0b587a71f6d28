//! A scheduler_config.json beside the model, and who comes before whom.

use super::*;

/// `lin` or another model in a folder of its own, with these files beside it.
fn load_beside(
    test: &str,
    name: &str,
    place: &str,
    files: &[(&str, &str)],
    overrides: ModelOverrides,
) -> (Result<OnnxDenoiser>, Vec<String>) {
    let folder = Folder::new(test);
    let path = folder.0.join(place);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::copy(model(name), &path).unwrap();
    for (file, text) in files {
        let file = folder.0.join(file);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    let (log, seen) = recording();
    let options = OnnxOptions { overrides, log, ..cpu() };
    let loaded = OnnxDenoiser::load(&ModelSource::from(&path), &options);
    let seen = seen.lock().unwrap().clone();
    (loaded, seen)
}

const SCHEDULER: &str = r#"{
    "_class_name": "DPMSolverMultistepScheduler", "_diffusers_version": "0.42.1",
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "num_train_timesteps": 800, "prediction_type": "sample", "rescale_betas_zero_snr": true,
    "use_karras_sigmas": true, "solver_order": 3, "solver_type": "heun",
    "final_sigmas_type": "sigma_min", "timestep_spacing": "leading", "steps_offset": 1,
    "lower_order_final": false, "euler_at_final": true, "thresholding": true
}"#;

fn scheduled() -> ModelConfig {
    ModelConfig {
        prediction_type: PredictionType::Sample,
        beta_schedule: BetaSchedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 },
        num_train_timesteps: 800,
        rescale_betas_zero_snr: true,
        sampler: SamplerConfig {
            kind: Sampler::Dpmpp,
            spacing: TimestepSpacing::Leading,
            steps_offset: 1,
            sigmas: SigmaSpacing::Karras,
            fractional_timesteps: false,
            thresholding: Thresholding::Dynamic { ratio: 0.995, max: 1.0 },
            final_alpha: FinalAlpha::First,
            order: Some(3),
            solver_type: Some(SolverType::Heun),
            lower_order_final: false,
            euler_at_final: true,
            ..SamplerConfig::default()
        },
        ..ModelConfig::ddpm(3, 8, 8)
    }
}

#[test]
fn a_scheduler_config_that_cannot_be_read_is_an_error_and_not_passed_over() {
    // A folder of that name.
    let files = [("scheduler_config.json/other", "")];
    let (loaded, _) =
        load_beside("unreadable", "lin", "model.onnx", &files, ModelOverrides::default());
    let error = loaded.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().ends_with("scheduler_config.json: not a file"), "{error}");
}

#[test]
#[cfg(unix)]
fn a_link_to_a_scheduler_config_is_followed_and_one_to_nowhere_is_an_error() {
    let folder = Folder::new("scheduler-link");
    let path = folder.0.join("model.onnx");
    std::fs::copy(model("lin"), &path).unwrap();
    let (blob, link) = (folder.0.join("blob"), folder.0.join("scheduler_config.json"));
    std::os::unix::fs::symlink(&blob, &link).unwrap();
    let load = || OnnxDenoiser::load(&ModelSource::from(&path), &cpu());
    assert_eq!(load().unwrap_err().kind(), ErrorKind::Io);
    std::fs::write(&blob, SCHEDULER).unwrap();
    assert_eq!(load().unwrap().info().model.sampler.kind, Sampler::Dpmpp);
}

#[test]
fn a_scheduler_config_beside_the_model_is_honoured() {
    let files = [("scheduler_config.json", SCHEDULER)];
    let (loaded, seen) =
        load_beside("beside", "lin", "model.onnx", &files, ModelOverrides::default());
    assert_eq!(loaded.unwrap().config(), &scheduled());
    let named = |what: &str| seen.iter().filter(|line| line.contains(what)).count();
    assert_eq!(named("a DPMSolverMultistepScheduler"), 1, "{seen:?}");
    assert_eq!(named("sample_max_value 1"), 1, "{seen:?}");
    assert_eq!(named("no ddpm.prediction_type"), 0, "{seen:?}");
    assert_eq!(named("use_exponential_sigmas false"), 1, "{seen:?}");
}

#[test]
fn a_pipeline_folder_keeps_it_in_scheduler_and_the_models_own_folder_comes_first() {
    let in_pipeline = ("scheduler/scheduler_config.json", SCHEDULER);
    let none = ModelOverrides::default;
    let (loaded, _) = load_beside("pipeline", "lin", "unet/model.onnx", &[in_pipeline], none());
    assert_eq!(loaded.unwrap().config(), &scheduled());
    let own = ("unet/scheduler_config.json", r#"{"_class_name": "DDIMScheduler"}"#);
    let (loaded, _) =
        load_beside("pipeline-own", "lin", "unet/model.onnx", &[in_pipeline, own], none());
    assert_eq!(loaded.unwrap().config().sampler.kind, Sampler::Ddim);
    // Bytes have no folder.
    let bytes: Arc<[u8]> = std::fs::read(model("lin")).unwrap().into();
    let loaded = OnnxDenoiser::load(&ModelSource::Bytes(bytes), &cpu()).unwrap();
    assert_eq!(loaded.config().sampler.kind, Sampler::Ddpm);
}

#[test]
fn fractional_timesteps_that_the_model_does_not_take_are_warned_of() {
    let linspace = r#"{"_class_name": "EulerDiscreteScheduler"}"#;
    let karras = r#"{"_class_name": "HeunDiscreteScheduler", "use_karras_sigmas": true,
                     "timestep_spacing": "trailing"}"#;
    let trailing = r#"{"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "trailing"}"#;
    let whole = r#"{"_class_name": "DPMSolverMultistepScheduler"}"#;
    for (name, config, warns) in [
        ("trec_i64_n", linspace, true),
        ("trec_i64_n", karras, true),
        ("trec_i64_n", trailing, false),
        ("trec_i64_n", whole, false),
        ("trec_f32_n", linspace, false),
    ] {
        let files = [("scheduler_config.json", config)];
        let (loaded, said) =
            load_beside("fractional", name, "model.onnx", &files, ModelOverrides::default());
        loaded.unwrap();
        let is_named = said.iter().any(|text| text.contains("visits fractional timesteps"));
        assert_eq!(is_named, warns, "{name} {config}: {said:?}");
    }
}

#[test]
fn the_caller_comes_before_the_scheduler_config() {
    let overrides = ModelOverrides {
        prediction_type: Some(PredictionType::VPrediction),
        beta_schedule: Some(BetaSchedule::Given([0.1, 0.2].into())),
        num_train_timesteps: Some(2),
        rescale_betas_zero_snr: Some(false),
        variance_type: Some(VarianceType::FixedLarge),
        thresholding: Some(Thresholding::Off),
        ..ModelOverrides::default()
    };
    let files = [("scheduler_config.json", SCHEDULER)];
    let (loaded, _) = load_beside("caller", "lin", "model.onnx", &files, overrides);
    let mut expected = ModelConfig {
        prediction_type: PredictionType::VPrediction,
        beta_schedule: BetaSchedule::Given([0.1, 0.2].into()),
        num_train_timesteps: 2,
        rescale_betas_zero_snr: false,
        ..scheduled()
    };
    expected.sampler.variance_type = VarianceType::FixedLarge;
    expected.sampler.thresholding = Thresholding::Off;
    expected.sampler.steps = 2;
    assert_eq!(loaded.unwrap().config(), &expected);
}

#[test]
fn the_scheduler_config_comes_before_the_metadata_with_a_warning_where_they_differ() {
    let files = [("scheduler_config.json", SCHEDULER)];
    let (loaded, seen) =
        load_beside("differ", "v_prediction", "model.onnx", &files, ModelOverrides::default());
    assert_eq!(loaded.unwrap().config(), &scheduled());
    let names = ["prediction_type", "beta_schedule", "num_train_timesteps", "clip_sample_range"];
    for name in names {
        let expected = format!("metadata ddpm.{name} says");
        assert_eq!(seen.iter().filter(|line| line.contains(&expected)).count(), 1, "{seen:?}");
    }
    let expected = "scheduler_config.json says sample, metadata ddpm.prediction_type says v_prediction; taking the first";
    assert!(seen.iter().any(|line| line.contains(expected)), "{seen:?}");
    let expected = "says dynamic (0.995, at most 1), metadata ddpm.clip_sample_range says none";
    assert!(seen.iter().any(|line| line.contains(expected)), "{seen:?}");
}

#[test]
fn ddim_of_the_shipped_model_takes_clipped_epsilon_but_not_as_diffusers() {
    let loads = [(&[][..], true), (&[("scheduler_config.json", SCHEDULER)][..], false)];
    for (files, expected) in loads {
        let portraits = "../../assets/portraits";
        let (loaded, _) =
            load_beside("clipped", portraits, "model.onnx", files, ModelOverrides::default());
        let loaded = loaded.unwrap();
        let ddim = loaded.config().sampler_config(Sampler::Ddim, 10);
        assert_eq!(ddim.clipped_epsilon, expected, "{files:?}");
    }
}

#[test]
fn the_metadata_comes_before_the_defaults_of_the_scheduler_class() {
    let files = [("scheduler_config.json", r#"{"_class_name": "DDIMScheduler"}"#)];
    let (loaded, seen) =
        load_beside("quiet", "v_prediction", "model.onnx", &files, ModelOverrides::default());
    let loaded = loaded.unwrap();
    let expected = ModelConfig {
        prediction_type: PredictionType::VPrediction,
        beta_schedule: BetaSchedule::SquaredcosCapV2,
        num_train_timesteps: 500,
        sampler: SamplerConfig {
            kind: Sampler::Ddim,
            spacing: TimestepSpacing::Leading,
            thresholding: Thresholding::Off,
            fractional_timesteps: false,
            ..SamplerConfig::default()
        },
        ..ModelConfig::ddpm(3, 8, 8)
    };
    assert_eq!(loaded.config(), &expected);
    let named = |what: &str| seen.iter().filter(|line| line.contains(what)).count();
    assert_eq!((named("clip_sample true"), named("beta_start")), (0, 0), "{seen:?}");
    assert_eq!(named("rescale_betas_zero_snr false"), 1, "{seen:?}");

    // Without metadata they are the class's, not the DDPM paper's.
    let files = [("scheduler_config.json", r#"{"_class_name": "HeunDiscreteScheduler"}"#)];
    let (loaded, seen) =
        load_beside("heun", "lin", "model.onnx", &files, ModelOverrides::default());
    let loaded = loaded.unwrap();
    let betas = BetaSchedule::Linear { beta_start: 0.00085, beta_end: 0.012 };
    assert_eq!(loaded.config().beta_schedule, betas);
    assert_eq!(loaded.config().sampler.thresholding, Thresholding::Off);
    let named = |what: &str| seen.iter().filter(|line| line.contains(what)).count();
    assert_eq!((named("beta_start 0.00085"), named("clip_sample false")), (1, 1), "{seen:?}");
}

#[test]
fn a_variance_of_the_scheduler_config_must_be_one_that_the_model_gives() {
    let text = r#"{"_class_name": "DDPMScheduler", "variance_type": "learned"}"#;
    let files = [("scheduler_config.json", text)];
    let none = ModelOverrides::default;
    let (loaded, _) = load_beside("variance", "lin", "model.onnx", &files, none());
    let error = loaded.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Model);
    let expected = "scheduler_config.json) with output \"out_sample\" of 3 channels, expected 6";
    assert!(error.to_string().contains(expected), "{error}");
    let (loaded, _) = load_beside("variance-6", "learned_range", "model.onnx", &files, none());
    assert_eq!(loaded.unwrap().config().sampler.variance_type, VarianceType::Learned);
    // A class's default says nothing of the model.
    let files = [("scheduler_config.json", r#"{"_class_name": "DDPMScheduler"}"#)];
    let (loaded, _) = load_beside("variance-none", "learned_range", "model.onnx", &files, none());
    assert_eq!(loaded.unwrap().config().sampler.variance_type, VarianceType::LearnedRange);
}

#[test]
fn a_scheduler_config_that_is_not_understood_fails_the_load_by_name() {
    let none = ModelOverrides::default;
    for (text, kind, expected) in [
        ("{", ErrorKind::Model, "not JSON"),
        (
            r#"{"_class_name": "DPMSolverMultistepScheduler", "use_lu_lambdas": true}"#,
            ErrorKind::Unsupported,
            "use_lu_lambdas is true",
        ),
        (
            r#"{"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true}"#,
            ErrorKind::Model,
            "prediction_type: found epsilon with alpha_bar 0",
        ),
    ] {
        let files = [("scheduler_config.json", text)];
        let (loaded, _) = load_beside("not-understood", "lin", "model.onnx", &files, none());
        let error = loaded.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    let folder = Folder::new("scheduler-bytes");
    std::fs::copy(model("lin"), folder.0.join("lin.onnx")).unwrap();
    std::fs::write(folder.0.join("scheduler_config.json"), [0xff, 0xfe]).unwrap();
    let source = ModelSource::from(&folder.0.join("lin.onnx"));
    let error = OnnxDenoiser::load(&source, &cpu()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("scheduler_config.json: "), "{error}");
}
