//! What a `scheduler_config.json` of diffusers comes to: each class with its defaults, each key, each
//! refusal.
//!
//! `scheduler_configs/` has the default config of each class as diffusers saves it.

use std::path::Path;
use std::sync::{Arc, Mutex};

use ddpm::error::{Error, ErrorKind, Result};
use ddpm::log::{LogLevel, Logger};
use ddpm::noise_schedule::BetaSchedule;
use ddpm::onnx::SchedulerConfig;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{
    FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, SolverType, Thresholding, VarianceType,
    step_table,
};
use ddpm::timesteps::TimestepSpacing;
use serde_json::{Value, json};

type Log = Arc<Mutex<Vec<(LogLevel, String)>>>;

fn recording() -> (Logger, Log) {
    let seen = Log::default();
    let kept = Arc::clone(&seen);
    let sink = move |level, text: &str| kept.lock().unwrap().push((level, text.to_owned()));
    (Logger::new(Some(Arc::new(sink)), LogLevel::Debug), seen)
}

fn at(seen: &Log, level: LogLevel) -> Vec<String> {
    let seen = seen.lock().unwrap();
    seen.iter().filter(|(found, _)| *found == level).map(|(_, text)| text.clone()).collect()
}

/// The class's config with these values beside its name.
fn read(class: &str, values: Value) -> Result<SchedulerConfig> {
    let mut config = values;
    config["_class_name"] = json!(class);
    SchedulerConfig::from_json(&config.to_string(), "s.json", &Logger::default())
}

fn sampler(class: &str, values: Value) -> SamplerConfig {
    read(class, values).unwrap().sampler
}

fn refused(class: &str, values: Value, kind: ErrorKind, expected: &str) -> Error {
    let error = read(class, values).expect_err(expected);
    assert_eq!(error.kind(), kind, "{error}");
    let text = error.to_string();
    assert!(text.starts_with("s.json: ") && text.contains(expected), "{text}: {expected}");
    error
}

const DDPM_BETAS: BetaSchedule = BetaSchedule::DDPM;
const HEUN_BETAS: BetaSchedule = BetaSchedule::Linear { beta_start: 0.00085, beta_end: 0.012 };
const LATENT_BETAS: BetaSchedule =
    BetaSchedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 };

/// Each class's defaults.
fn classes() -> Vec<(&'static str, BetaSchedule, SamplerConfig)> {
    let base = SamplerConfig { thresholding: Thresholding::Off, ..SamplerConfig::default() };
    let leading = SamplerConfig { spacing: TimestepSpacing::Leading, ..base.clone() };
    let linspace = SamplerConfig { spacing: TimestepSpacing::Linspace, ..base };
    let clipped = SamplerConfig { thresholding: Thresholding::Clip(1.0), ..leading.clone() };
    let second = SamplerConfig { order: Some(2), ..linspace.clone() };
    let of = |kind, config: &SamplerConfig| SamplerConfig { kind, ..config.clone() };
    let solver = |kind, solver_type, config: &SamplerConfig| SamplerConfig {
        kind,
        solver_type,
        ..config.clone()
    };
    let to_first =
        |config: SamplerConfig| SamplerConfig { final_alpha: FinalAlpha::First, ..config };
    vec![
        ("DDPMScheduler", DDPM_BETAS, of(Sampler::Ddpm, &clipped)),
        ("DDIMScheduler", DDPM_BETAS, of(Sampler::Ddim, &clipped)),
        ("DDIMInverseScheduler", DDPM_BETAS, of(Sampler::DdimInverse, &clipped)),
        (
            "DPMSolverMultistepScheduler",
            DDPM_BETAS,
            solver(Sampler::Dpmpp, Some(SolverType::Midpoint), &second),
        ),
        (
            "UniPCMultistepScheduler",
            DDPM_BETAS,
            solver(Sampler::Unipc, Some(SolverType::Bh2), &second),
        ),
        ("DEISMultistepScheduler", DDPM_BETAS, to_first(solver(Sampler::Deis, None, &second))),
        ("EulerDiscreteScheduler", DDPM_BETAS, of(Sampler::Euler, &linspace)),
        ("EulerAncestralDiscreteScheduler", DDPM_BETAS, of(Sampler::EulerAncestral, &linspace)),
        ("HeunDiscreteScheduler", HEUN_BETAS, of(Sampler::Heun, &linspace)),
        ("PNDMScheduler", DDPM_BETAS, to_first(of(Sampler::PndmPrk, &leading))),
        ("LCMScheduler", LATENT_BETAS, of(Sampler::Lcm, &leading)),
        ("TCDScheduler", LATENT_BETAS, to_first(of(Sampler::Tcd, &leading))),
    ]
}

#[test]
fn each_class_has_the_defaults_of_diffusers_and_a_table() {
    for (class, betas, expected) in classes() {
        let config = read(class, json!({})).unwrap();
        assert_eq!(config.class_name, class);
        assert_eq!(config.beta_schedule, betas, "{class}");
        assert_eq!(config.num_train_timesteps, 1000, "{class}");
        assert!(!config.rescale_betas_zero_snr, "{class}");
        assert_eq!(config.prediction_type, PredictionType::Epsilon, "{class}");
        assert_eq!(config.sampler, expected, "{class}");
        let schedule = config.noise_schedule().unwrap();
        let table = step_table(&schedule, config.prediction_type, &config.sampler).unwrap();
        assert!(table.rows().len() >= 50, "{class}");
    }
}

#[test]
fn a_config_as_diffusers_saves_it_is_read_without_a_warning_and_is_the_default() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scheduler_configs");
    for (class, betas, expected) in classes() {
        let text = std::fs::read_to_string(folder.join(format!("{class}.json"))).unwrap();
        let (log, seen) = recording();
        let config = SchedulerConfig::from_json(&text, "s.json", &log).unwrap();
        assert_eq!((config.beta_schedule, config.sampler), (betas, expected), "{class}");
        // Every key is there, so no default is taken.
        assert_eq!(*seen.lock().unwrap(), [], "{class}");
    }
}

#[test]
fn betas_timesteps_and_prediction_are_read_by_every_class() {
    for (class, ..) in classes() {
        let config = read(
            class,
            json!({
                "num_train_timesteps": 100,
                "beta_schedule": "scaled_linear",
                "beta_start": 0.001,
                "beta_end": 0.5,
                "prediction_type": "v_prediction",
            }),
        )
        .unwrap();
        assert_eq!(config.num_train_timesteps, 100, "{class}");
        let expected = BetaSchedule::ScaledLinear { beta_start: 0.001, beta_end: 0.5 };
        assert_eq!(config.beta_schedule, expected, "{class}");
        assert_eq!(config.prediction_type, PredictionType::VPrediction, "{class}");
        assert_eq!(config.sampler.steps, 50, "{class}");
        let few = read(class, json!({"num_train_timesteps": 20})).unwrap();
        assert_eq!(few.sampler.steps, 20, "{class}");
        let sample = read(class, json!({"prediction_type": "sample"})).unwrap();
        assert_eq!(sample.prediction_type, PredictionType::Sample, "{class}");
    }
}

#[test]
fn every_name_of_betas_is_known() {
    let betas = |name: &str| read("DDPMScheduler", json!({"beta_schedule": name})).unwrap();
    for (name, expected) in [
        ("linear", BetaSchedule::DDPM),
        ("scaled_linear", BetaSchedule::ScaledLinear { beta_start: 1e-4, beta_end: 0.02 }),
        ("squaredcos_cap_v2", BetaSchedule::SquaredcosCapV2),
        ("sigmoid", BetaSchedule::Sigmoid { beta_start: 1e-4, beta_end: 0.02 }),
    ] {
        assert_eq!(betas(name).beta_schedule, expected);
    }
    // diffusers 0.42.1, in float32: its laplace, which is not that of the paper, and Heun's exp.
    let laplace = betas("laplace").noise_schedule().unwrap();
    for (t, expected) in [
        (0, 0.021_153_757),
        (1, 0.008_747_813),
        (499, 0.000_250_156_2),
        (500, 0.000_250_031_4),
        (998, 0.151_629_66),
        (999, 0.847_252_6),
    ] {
        let found = laplace.betas()[t];
        assert!((found / expected - 1.0).abs() < 1e-6, "{t}: {found}, expected {expected}");
    }
    // A product of 500 factors in float32.
    assert!((laplace.alphas_cumprod()[500] / 0.707_283_44 - 1.0).abs() < 1e-4);
    let exp = betas("exp").noise_schedule().unwrap();
    assert!(exp.betas().iter().all(|beta| (beta / 0.011_928_287 - 1.0).abs() < 1e-6));
}

#[test]
fn trained_betas_come_before_a_named_schedule() {
    let values = json!({"num_train_timesteps": 3, "trained_betas": [0.1, 0.2, 0.3]});
    let config = read("DDIMScheduler", values).unwrap();
    assert_eq!(config.beta_schedule, BetaSchedule::Given([0.1, 0.2, 0.3].into()));
    let values = json!({"num_train_timesteps": 4, "trained_betas": [0.1, 0.2, 0.3]});
    let expected = "trained_betas: found 3 of them, expected 4";
    refused("DDIMScheduler", values, ErrorKind::Model, expected);
    let values = json!({"num_train_timesteps": 2, "trained_betas": [0.1, 1.0]});
    refused("DDIMScheduler", values, ErrorKind::Model, "betas[1]: found 1");
    let values = json!({"num_train_timesteps": 2, "trained_betas": [0.1, "a"]});
    refused("DDIMScheduler", values, ErrorKind::Model, "expected a list of numbers");
}

#[test]
fn zero_snr_is_read_where_the_class_has_it_and_refused_with_epsilon() {
    for (class, ..) in classes() {
        let is_known =
            !["DEISMultistepScheduler", "HeunDiscreteScheduler", "PNDMScheduler"].contains(&class);
        let values = json!({"rescale_betas_zero_snr": true, "prediction_type": "v_prediction"});
        let config = read(class, values).unwrap();
        assert_eq!(config.rescale_betas_zero_snr, is_known, "{class}");
        let schedule = config.noise_schedule().unwrap();
        assert_eq!(schedule.has_zero_terminal_snr(), is_known, "{class}");
        if is_known {
            let values = json!({"rescale_betas_zero_snr": true});
            let expected = "prediction_type: found epsilon with alpha_bar 0";
            refused(class, values, ErrorKind::Model, expected);
        }
    }
}

#[test]
fn spacing_and_offset_are_read_by_every_class() {
    for (class, ..) in classes() {
        for spacing in
            [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace]
        {
            let values = json!({"timestep_spacing": spacing.name(), "steps_offset": 1});
            let found = sampler(class, values);
            assert_eq!((found.spacing, found.steps_offset), (spacing, 1), "{class}");
        }
    }
}

#[test]
fn thresholding_comes_before_clipping_and_both_are_the_classes_own() {
    let clips = ["DDPMScheduler", "DDIMScheduler", "DDIMInverseScheduler", "LCMScheduler"];
    let clips = [&clips[..], &["HeunDiscreteScheduler"]].concat();
    let thresholds = [
        "DDPMScheduler",
        "DDIMScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
        "LCMScheduler",
    ];
    for (class, _, defaults) in classes() {
        let found = |values: Value| sampler(class, values).thresholding;
        let clip = json!({"clip_sample": true, "clip_sample_range": 2.5});
        let clipped =
            if clips.contains(&class) { Thresholding::Clip(2.5) } else { defaults.thresholding };
        assert_eq!(found(clip.clone()), clipped, "{class}");
        assert_eq!(found(json!({"clip_sample": false})), Thresholding::Off, "{class}");
        let mut both = clip;
        both["thresholding"] = json!(true);
        both["dynamic_thresholding_ratio"] = json!(0.9);
        both["sample_max_value"] = json!(3);
        let expected = if thresholds.contains(&class) {
            Thresholding::Dynamic { ratio: 0.9, max: 3.0 }
        } else {
            clipped
        };
        assert_eq!(found(both), expected, "{class}");
    }
    let usual = sampler("DPMSolverMultistepScheduler", json!({"thresholding": true}));
    assert_eq!(usual.thresholding, Thresholding::Dynamic { ratio: 0.995, max: 1.0 });
}

#[test]
fn what_follows_the_last_timestep_is_each_classes_own_key() {
    let one_or_first = |class: &str, key: &str, one: Value, first: Value| {
        for (value, expected) in [(one, FinalAlpha::One), (first, FinalAlpha::First)] {
            let mut values = json!({});
            values[key] = value;
            assert_eq!(sampler(class, values).final_alpha, expected, "{class}");
        }
    };
    for class in ["DDIMScheduler", "DDIMInverseScheduler", "PNDMScheduler", "LCMScheduler"] {
        one_or_first(class, "set_alpha_to_one", json!(true), json!(false));
    }
    // TCD's step goes to timestep 0 whatever the key says.
    for value in [true, false] {
        let found = sampler("TCDScheduler", json!({"set_alpha_to_one": value}));
        assert_eq!(found.final_alpha, FinalAlpha::First);
    }
    one_or_first("DDIMInverseScheduler", "set_alpha_to_zero", json!(true), json!(false));
    for class in
        ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler"]
    {
        one_or_first(class, "final_sigmas_type", json!("zero"), json!("sigma_min"));
    }
}

#[test]
fn sigma_spacings_are_read_one_at_a_time() {
    for class in [
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
        "DEISMultistepScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
    ] {
        let karras = sampler(class, json!({"use_karras_sigmas": true}));
        assert_eq!(karras.sigmas, SigmaSpacing::Karras, "{class}");
        let exponential = sampler(class, json!({"use_exponential_sigmas": true}));
        assert_eq!(exponential.sigmas, SigmaSpacing::Exponential, "{class}");
        let both = json!({"use_karras_sigmas": true, "use_exponential_sigmas": true});
        let expected = "use_karras_sigmas and use_exponential_sigmas are true";
        refused(class, both, ErrorKind::Model, expected);
        let beta = json!({"use_beta_sigmas": true});
        refused(class, beta, ErrorKind::Unsupported, "use_beta_sigmas is true");
    }
}

#[test]
fn solvers_have_orders_and_types() {
    for class in
        ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"]
    {
        for order in 1..=3 {
            let values = json!({"solver_order": order, "lower_order_final": false});
            let found = sampler(class, values);
            assert_eq!((found.order, found.lower_order_final), (Some(order), false), "{class}");
        }
        let values = json!({"solver_order": 4});
        refused(class, values, ErrorKind::Unsupported, "solver_order is 4");
    }
    for (class, own, first) in [
        ("DPMSolverMultistepScheduler", ["midpoint", "heun"], SolverType::Midpoint),
        ("UniPCMultistepScheduler", ["bh1", "bh2"], SolverType::Bh2),
    ] {
        for name in ["midpoint", "heun", "bh1", "bh2", "logrho"] {
            let found = sampler(class, json!({"solver_type": name})).solver_type.unwrap();
            let expected = if own.contains(&name) { name.parse().unwrap() } else { first };
            assert_eq!(found, expected, "{class} {name}");
        }
        let values = json!({"solver_type": "rk4"});
        refused(class, values, ErrorKind::Unsupported, "solver_type is \"rk4\"");
    }
    let midpoint = sampler("DEISMultistepScheduler", json!({"solver_type": "midpoint"}));
    assert_eq!(midpoint.solver_type, None);
    let values = json!({"solver_type": "rk4"});
    refused("DEISMultistepScheduler", values, ErrorKind::Unsupported, "solver_type is \"rk4\"");
}

#[test]
fn dpm_solver_is_chosen_by_its_algorithm() {
    let class = "DPMSolverMultistepScheduler";
    let kind = |name: &str| sampler(class, json!({"algorithm_type": name})).kind;
    assert_eq!(kind("dpmsolver++"), Sampler::Dpmpp);
    assert_eq!(kind("sde-dpmsolver++"), Sampler::DpmppSde);
    assert_eq!(kind("deis"), Sampler::Dpmpp);
    for name in ["dpmsolver", "sde-dpmsolver", "other"] {
        let expected = format!("algorithm_type is \"{name}\", which this version does not have");
        let values = json!({"algorithm_type": name});
        refused(class, values, ErrorKind::Unsupported, &expected);
    }
    assert!(sampler(class, json!({"euler_at_final": true})).euler_at_final);
    let learned = sampler(class, json!({"variance_type": "learned_range"}));
    assert_eq!(learned.variance_type, VarianceType::LearnedRange);
    let deis = "DEISMultistepScheduler";
    assert_eq!(sampler(deis, json!({"algorithm_type": "dpmsolver++"})).kind, Sampler::Deis);
    let values = json!({"algorithm_type": "sde-dpmsolver++"});
    refused(deis, values, ErrorKind::Unsupported, "algorithm_type is \"sde-dpmsolver++\"");
}

#[test]
fn keys_of_one_class_are_read() {
    for variance_type in VarianceType::ALL {
        let values = json!({"variance_type": variance_type.name()});
        assert_eq!(sampler("DDPMScheduler", values).variance_type, variance_type);
    }
    assert_eq!(sampler("PNDMScheduler", json!({"skip_prk_steps": true})).kind, Sampler::Pndm);
    assert_eq!(sampler("PNDMScheduler", json!({"skip_prk_steps": false})).kind, Sampler::PndmPrk);
    for class in ["LCMScheduler", "TCDScheduler"] {
        let found = sampler(class, json!({"original_inference_steps": 20}));
        // More steps would leave the distillation's timesteps.
        assert_eq!((found.original_steps, found.steps), (20, 20), "{class}");
        for steps in [0, 1001] {
            let values = json!({"original_inference_steps": steps});
            let expected = format!("original_inference_steps is {steps}, expected 1 to 1000");
            refused(class, values, ErrorKind::Model, &expected);
        }
    }
}

#[test]
fn what_would_give_other_pictures_is_unsupported_by_name_and_value() {
    let dpm = "DPMSolverMultistepScheduler";
    let (unipc, deis, euler) =
        ("UniPCMultistepScheduler", "DEISMultistepScheduler", "EulerDiscreteScheduler");
    let cases = [
        (dpm, "use_lu_lambdas", json!(true)),
        (dpm, "use_flow_sigmas", json!(true)),
        (dpm, "use_dynamic_shifting", json!(true)),
        (dpm, "lambda_min_clipped", json!(-5.1)),
        (unipc, "predict_x0", json!(false)),
        (unipc, "disable_corrector", json!([0])),
        (unipc, "solver_p", json!({})),
        (unipc, "sigma_min", json!(0.1)),
        (unipc, "sigma_max", json!(80)),
        (unipc, "shift_terminal", json!(0.1)),
        (unipc, "use_flow_sigmas", json!(true)),
        (unipc, "use_dynamic_shifting", json!(true)),
        (deis, "use_flow_sigmas", json!(true)),
        (deis, "use_dynamic_shifting", json!(true)),
        (euler, "interpolation_type", json!("log_linear")),
        (euler, "timestep_type", json!("continuous")),
        (euler, "sigma_min", json!(0.1)),
        (euler, "sigma_max", json!(80)),
        ("LCMScheduler", "timestep_scaling", json!(1)),
        ("DDPMScheduler", "prediction_type", json!("flow_prediction")),
        ("DDIMScheduler", "beta_schedule", json!("quadratic")),
    ];
    for (class, key, value) in cases {
        let expected = format!("{key} is {value}, which this version does not have");
        let mut values = json!({});
        values[key] = value;
        refused(class, values, ErrorKind::Unsupported, &expected);
    }
}

#[test]
fn values_of_the_wrong_type_or_out_of_range_are_refused_by_key() {
    let cases = [
        ("DDPMScheduler", "num_train_timesteps", json!(0), "expected 1 to 1000000"),
        ("DDPMScheduler", "num_train_timesteps", json!("1000"), "expected an integer"),
        ("DDPMScheduler", "num_train_timesteps", json!(10.5), "expected an integer"),
        ("DDPMScheduler", "beta_start", json!("a"), "expected a number"),
        ("DDPMScheduler", "clip_sample", json!(1), "expected true or false"),
        ("DDPMScheduler", "clip_sample", json!(null), "expected true or false"),
        ("DDPMScheduler", "clip_sample_range", json!(0), "expected a number above 0"),
        ("DDPMScheduler", "beta_schedule", json!(1), "expected a text"),
        ("DDPMScheduler", "prediction_type", json!(1), "expected a text"),
        ("DDPMScheduler", "timestep_spacing", json!("karras"), "leading, trailing or linspace"),
        ("DDPMScheduler", "steps_offset", json!(-1), "expected an integer, not negative"),
        ("DDPMScheduler", "variance_type", json!("junk"), "expected one of fixed_small"),
        ("DDIMScheduler", "set_alpha_to_one", json!("true"), "expected true or false"),
        ("EulerDiscreteScheduler", "final_sigmas_type", json!("none"), "zero or sigma_min"),
        ("PNDMScheduler", "skip_prk_steps", json!(1), "expected true or false"),
        ("LCMScheduler", "original_inference_steps", json!("50"), "expected an integer"),
    ];
    for (class, key, value, expected) in cases {
        let shown = format!("s.json: {key} is {value}");
        let mut values = json!({});
        values[key] = value;
        let error = refused(class, values, ErrorKind::Model, expected);
        assert!(error.to_string().starts_with(&shown), "{error}");
    }
    let cases = [
        (json!({"beta_start": 0}), "beta_start: found 0"),
        (json!({"beta_end": 1}), "beta_end: found 1"),
        (
            json!({"thresholding": true, "dynamic_thresholding_ratio": 1.5}),
            "dynamic_thresholding_ratio: found 1.5",
        ),
        (json!({"thresholding": true, "sample_max_value": 0.5}), "sample_max_value: found 0.5"),
    ];
    for (values, expected) in cases {
        refused("DDPMScheduler", values, ErrorKind::Model, expected);
    }
}

#[test]
fn what_is_no_config_of_a_known_class_is_refused() {
    let read =
        |text: &str| SchedulerConfig::from_json(text, "s.json", &Logger::default()).unwrap_err();
    for (text, kind, expected) in [
        ("", ErrorKind::Model, "s.json: not JSON"),
        ("[1]", ErrorKind::Model, "s.json: found [1], expected a JSON object"),
        ("{}", ErrorKind::Model, "s.json: _class_name is absent, expected one of DDPMScheduler"),
        (
            r#"{"_class_name": "KarrasVeScheduler"}"#,
            ErrorKind::Unsupported,
            "s.json: _class_name is \"KarrasVeScheduler\"",
        ),
        (r#"{"_class_name": 1}"#, ErrorKind::Model, "s.json: _class_name is 1, expected a text"),
    ] {
        let error = read(text);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

#[test]
fn pythons_infinities_are_read_and_texts_with_them_left_alone() {
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity,
                   "_note": "a \"NaN\" or -Infinity"}"#;
    SchedulerConfig::from_json(text, "s.json", &Logger::default()).unwrap();
    let text = r#"{"_class_name": "DDPMScheduler", "clip_sample_range": Infinity}"#;
    let error = SchedulerConfig::from_json(text, "s.json", &Logger::default()).unwrap_err();
    let expected = "s.json: clip_sample_range is \"Infinity\", expected a number";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn keys_without_use_are_named_in_one_warning() {
    let (log, seen) = recording();
    let text = json!({
        "_class_name": "UniPCMultistepScheduler", "_diffusers_version": "0.42.1",
        "skip_prk_steps": true, "a_new_key": 1, "solver_type": "midpoint", "flow_shift": 3.0,
    });
    SchedulerConfig::from_json(&text.to_string(), "s.json", &log).unwrap();
    let warnings = at(&seen, LogLevel::Warning);
    let [warning] = &warnings[..] else { panic!("{warnings:?}") };
    assert!(warning.starts_with("s.json: ignored, as UniPCMultistepScheduler"), "{warning}");
    for named in ["a_new_key", "skip_prk_steps", "solver_type \"midpoint\"", "flow_shift 3.0"] {
        assert!(warning.contains(named), "{warning}");
    }
    assert!(!warning.contains("_diffusers_version"), "{warning}");

    // TCD has the keys, and its step looks at none of them.
    let (log, seen) = recording();
    let text = json!({
        "_class_name": "TCDScheduler", "clip_sample": true, "thresholding": true,
        "sample_max_value": 2.0, "clip_sample_range": 1, "dynamic_thresholding_ratio": 0.9,
        "timestep_scaling": 1.0, "set_alpha_to_one": false,
    });
    SchedulerConfig::from_json(&text.to_string(), "s.json", &log).unwrap();
    let warnings = at(&seen, LogLevel::Warning);
    let named = ["clip_sample true", "thresholding true", "sample_max_value 2.0"];
    let others =
        ["dynamic_thresholding_ratio 0.9", "timestep_scaling 1.0", "set_alpha_to_one false"];
    let named = [named, others].concat();
    assert!(
        warnings.len() == 1 && named.iter().all(|key| warnings[0].contains(key)),
        "{warnings:?}"
    );
    assert!(!warnings[0].contains("clip_sample_range"), "{warnings:?}");
}

#[test]
fn messages_stay_short_and_printable_whatever_the_file_says() {
    let (log, seen) = recording();
    let mut text = json!({"_class_name": "DDIMScheduler", "a\u{1b}[31m\n": 1, "b".repeat(9000): 1});
    for i in 0..1000 {
        text[format!("key{i:04}")] = json!(i);
    }
    SchedulerConfig::from_json(&text.to_string(), "s.json", &log).unwrap();
    let warnings = at(&seen, LogLevel::Warning);
    let [warning] = &warnings[..] else { panic!("{} warnings", warnings.len()) };
    assert!(
        warning.contains(r"a\u{1b}[31m\n, b") && warning.ends_with("and 970 more"),
        "{warning}"
    );
    assert!(warning.len() < 1000 && !warning.contains(char::is_control), "{warning}");
    let long = "D".repeat(100_000);
    for text in [json!({"_class_name": long.as_str()}), json!(long), json!(vec![1; 100_000])] {
        let error = SchedulerConfig::from_json(&text.to_string(), "s.json", &Logger::default());
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("s.json: ") && error.len() < 1000, "{error}");
    }
}

#[test]
fn defaults_taken_are_logged_once() {
    let (log, seen) = recording();
    let text = r#"{"_class_name": "DDIMScheduler", "beta_start": 0.001}"#;
    SchedulerConfig::from_json(text, "s.json", &log).unwrap();
    assert_eq!(at(&seen, LogLevel::Warning), [""; 0]);
    let lines = at(&seen, LogLevel::Info);
    let [line] = &lines[..] else { panic!("{lines:?}") };
    assert!(line.starts_with("s.json: taking DDIMScheduler's own defaults: "), "{line}");
    for named in ["beta_end 0.02", "clip_sample true", "timestep_spacing leading"] {
        assert_eq!(line.matches(named).count(), 1, "{line}");
    }
    assert!(!line.contains("beta_start"), "{line}");
}
