//! `ddpm trace` gives the recorded runs from the shell: from flags, and from diffusers' own configs.

use std::path::{Path, PathBuf};

use ddpm::onnx::{NamedTensors, TensorFile};
use ddpm::prediction::PredictionType;
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, Thresholding};

use serde_json::Value;

use crate::common::Folder;
use crate::trajectory::{Trajectory, golden_path};
use crate::{command, text};

/// Recorded with networks made for their own schedules, which were not kept.
const UNMODELLED: [&str; 3] = ["ddpm_sigmoid", "ddpm_trailing_zero_snr_v", "euler_v_trailing"];

/// That of the closed loop in `tests/golden`: two float32 implementations of a network and of a
/// schedule differ by 1e-5 a step or so.
const TOLERANCE: f64 = 1e-3;

/// Fractional timesteps were found in float32 sigmas.
const T_TOLERANCE: f64 = 1e-2;

const SHAPE: [usize; 4] = [1, 3, 8, 8];

fn names() -> Vec<String> {
    let files = std::fs::read_dir(golden_path("trajectories")).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !UNMODELLED.contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

/// The network that gave the recorded outputs.
fn network(golden: &Trajectory) -> PathBuf {
    let is_euler = matches!(golden.config.kind, Sampler::Euler | Sampler::EulerAncestral);
    let name = match (golden.scheduler.prediction_type, golden.scheduler.beta_schedule.name()) {
        _ if golden.name == "ddpm_class" => "eps_linear_class",
        _ if golden.config.variance_type.is_learned() => "eps_cosine_learned_range",
        // It takes the timesteps between the whole ones.
        _ if is_euler => "eps_linear_float",
        (PredictionType::Sample, _) => "sample_linear",
        (PredictionType::VPrediction, _) => "v_cosine",
        (_, "scaled_linear") => "eps_scaled",
        _ => "eps_linear",
    };
    golden_path(&format!("models/{name}.onnx"))
}

/// The recorded config, as diffusers saves it beside a model.
fn diffusers_config(name: &str) -> String {
    let path = golden_path(&format!("trajectories/{name}.safetensors"));
    let file = TensorFile::read(&path).unwrap();
    let recorded: Value = serde_json::from_str(file.metadata("config").unwrap()).unwrap();
    let mut config = recorded["config"].clone();
    config["_class_name"] = recorded["scheduler"].clone();
    config.to_string()
}

/// How the network was trained, in flags.
fn training_flags(golden: &Trajectory) -> String {
    let scheduler = &golden.scheduler;
    let mut flags = format!(
        " --prediction-type {} --beta-schedule {}",
        scheduler.prediction_type,
        scheduler.beta_schedule.name()
    );
    if let Some((start, end)) = scheduler.beta_schedule.ends() {
        flags += &format!(" --beta-start {start} --beta-end {end}");
    }
    if scheduler.rescale_betas_zero_snr {
        flags += " --zero-snr";
    }
    flags
}

/// A sampler in flags, all but its steps.
fn sampler_flags(config: &SamplerConfig) -> String {
    let defaults = SamplerConfig::default();
    let mut flags = format!(" --sampler {}", config.kind);
    let has_own_timesteps = matches!(config.kind, Sampler::Lcm | Sampler::Tcd);
    if config.spacing != defaults.spacing && !has_own_timesteps {
        flags += &format!(" --spacing {}", config.spacing.name());
    }
    if config.steps_offset != 0 {
        flags += &format!(" --steps-offset {}", config.steps_offset);
    }
    if config.sigmas != defaults.sigmas {
        flags += &format!(" --sigmas {}", config.sigmas.name());
    }
    flags += &match config.thresholding {
        Thresholding::Off => " --clip off".to_owned(),
        Thresholding::Clip(range) => format!(" --clip {range}"),
        Thresholding::Dynamic { ratio, max } => {
            format!(" --dynamic-threshold {ratio} --sample-max-value {max}")
        }
    };
    if config.variance_type != defaults.variance_type {
        flags += &format!(" --variance {}", config.variance_type.name());
    }
    if config.final_alpha == FinalAlpha::First {
        flags += " --final-alpha first";
    }
    if let Some(order) = config.order {
        flags += &format!(" --order {order}");
    }
    if let Some(solver_type) = config.solver_type {
        flags += &format!(" --solver-type {}", solver_type.name());
    }
    if has_own_timesteps {
        flags += &format!(" --original-steps {}", config.original_steps);
    }
    flags + &step_flags(config)
}

/// What diffusers takes as arguments of a step, so that no config has it.
fn step_flags(config: &SamplerConfig) -> String {
    let mut flags = String::new();
    if let Some(eta) = config.eta {
        flags += &format!(" --eta {eta}");
    }
    if config.clipped_epsilon {
        flags += " --clipped-epsilon";
    }
    flags
}

/// The recorded rows, in runs without a gap.
fn stretches(golden: &Trajectory) -> Vec<Vec<usize>> {
    let mut stretches: Vec<Vec<usize>> = Vec::new();
    for k in golden.recorded_rows() {
        match stretches.last_mut() {
            Some(stretch) if stretch.last() == Some(&(k - 1)) => stretch.push(k),
            _ => stretches.push(vec![k]),
        }
    }
    stretches
}

/// Traces the recorded run with `flags` and compares every row; the largest difference.
fn compare(golden: &Trajectory, flags: &str, folder: &Path) -> f64 {
    let (name, timesteps) = (&golden.name, golden.f64("timesteps"));
    let mut worst = 0f64;
    let stretches = stretches(golden);
    assert!(!stretches.is_empty(), "{name}");
    for rows in stretches {
        let (first, end) = (rows[0], rows[0] + rows.len());
        let mut given = NamedTensors::new();
        given.push_f32("x_T", &SHAPE, &golden.x(first)).unwrap();
        for &k in rows.iter().filter(|k| golden.has(&format!("noise.{k}"))) {
            given.push_f32(&format!("noise.{}", k - first), &SHAPE, &golden.noise(k)).unwrap();
        }
        let noise = folder.join(format!("{name}.in.safetensors"));
        let output = folder.join(format!("{name}.safetensors"));
        std::fs::write(&noise, given.to_bytes(&[]).unwrap()).unwrap();
        // Part of a run is one of its timesteps, and of that which it goes on to.
        let steps = if rows.len() == timesteps.len() {
            format!("--steps {}", golden.config.steps)
        } else {
            let list = timesteps[first..timesteps.len().min(end + 1)].iter();
            let list: Vec<String> = list.map(|t| t.to_string()).collect();
            format!("--timesteps {}", list.join(","))
        };
        let class = if name == "ddpm_class" { "--class 3" } else { "" };
        let options = format!("--noise {} {flags} {steps} {class}", text(&noise));
        let done = command("trace", &network(golden), &options, Some(&output)).ok();
        assert!(!done.stderr.contains("is not in the file"), "{name}: {}", done.stderr);

        let trace = TensorFile::read(&output).unwrap();
        for k in rows {
            let found = |what: &str| trace.f64(&format!("{what}.{}", k - first)).unwrap();
            let mut expected = vec![
                ("x", golden.x(k)),
                ("prev", golden.prev(k)),
                ("model_output", golden.model_output(k)),
            ];
            expected.extend(golden.x0(k).map(|x0| ("x0", x0)));
            for (what, expected) in expected {
                let found = found(what);
                assert_eq!(found.len(), expected.len(), "{name} {what}.{k}");
                for (found, expected) in found.iter().zip(expected) {
                    let off = (found - f64::from(expected)).abs();
                    assert!(off < TOLERANCE, "{name}: {what}.{k} is off by {off} with{flags}");
                    worst = worst.max(off);
                }
            }
            let off = (found("t")[0] - timesteps[k]).abs();
            assert!(off < T_TOLERANCE, "{name}: t.{k} is off by {off}");
        }
    }
    worst
}

#[test]
fn trace_reproduces_the_golden_runs_from_flags() {
    let folder = Folder::new("cli-golden-flags");
    let names = names();
    assert!(names.len() >= 40, "{names:?}");
    // Betas that have no name are in no flag.
    for name in names.into_iter().filter(|name| name != "ddpm_laplace_diffusers") {
        let golden = Trajectory::load(&name);
        let flags = training_flags(&golden) + &sampler_flags(&golden.config);
        let worst = compare(&golden, &flags, &folder.0);
        println!("{name:26} {worst:.1e}");
    }
}

#[test]
fn trace_reproduces_the_golden_runs_from_diffusers_configs() {
    let folder = Folder::new("cli-golden-configs");
    for name in names() {
        let golden = Trajectory::load(&name);
        let file = folder.0.join("scheduler_config.json");
        std::fs::write(&file, diffusers_config(&name)).unwrap();
        let mut flags = format!(" --scheduler {}{}", text(&file), step_flags(&golden.config));
        if golden.scheduler.beta_schedule.name() == "laplace" {
            // diffusers means other betas by the name.
            flags += " --beta-schedule laplace";
        }
        let worst = compare(&golden, &flags, &folder.0);
        println!("{name:26} {worst:.1e}");
    }
}
