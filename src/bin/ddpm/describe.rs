//! Configurations in words and as JSON, under the names that diffusers' configs have for them.

use std::path::Path;

use ddpm::model::{Classes, ModelConfig};
use ddpm::onnx::{OnnxInfo, Provider};
use ddpm::sampler::{FinalAlpha, SamplerConfig, StepTable, Thresholding};
use ddpm::timesteps::TimestepSpacing;
use serde_json::{Value, json};

use crate::sampler_options::applies;

pub fn sampler(config: &SamplerConfig) -> Value {
    json!({
        "name": config.kind.name(),
        "steps": config.steps,
        "timestep_spacing": config.spacing.name(),
        "steps_offset": config.steps_offset,
        "timesteps": config.timesteps.as_deref(),
        "sigmas": config.sigmas.name(),
        "fractional_timesteps": config.fractional_timesteps,
        "strength": config.strength,
        "thresholding": thresholding(config.thresholding),
        "variance_type": config.variance_type.name(),
        "final_alpha": match config.final_alpha {
            FinalAlpha::One => "one",
            FinalAlpha::First => "first",
        },
        "eta": config.eta,
        "clipped_epsilon": config.clipped_epsilon,
        "order": config.order,
        "solver_type": config.solver_type.map(|solver_type| solver_type.name()),
        "lower_order_final": config.lower_order_final,
        "euler_at_final": config.euler_at_final,
        "original_steps": config.original_steps,
    })
}

fn thresholding(thresholding: Thresholding) -> Value {
    match thresholding {
        Thresholding::Off => json!("off"),
        Thresholding::Clip(range) => json!({ "clip_sample_range": range }),
        Thresholding::Dynamic { ratio, max } => {
            json!({ "dynamic_thresholding_ratio": ratio, "sample_max_value": max })
        }
    }
}

/// The sampler with what sets it apart, in one line.
pub fn sampler_text(config: &SamplerConfig) -> String {
    let mut text = config.kind.name().to_owned();
    if let Some(order) = config.order {
        text += &format!(" order {order}");
    }
    if let Some(solver_type) = config.solver_type {
        text += &format!(" {}", solver_type.name());
    }
    if let Some(eta) = config.eta {
        text += &format!(" eta {eta}");
    }
    text += &match &config.timesteps {
        Some(list) => format!(", {} given timesteps", list.len()),
        None if applies("spacing", config.kind) => {
            format!(", {} {} steps", config.steps, config.spacing.name())
        }
        None => format!(", {} steps", config.steps),
    };
    if config.steps_offset != 0 && config.spacing == TimestepSpacing::Leading {
        text += &format!(" with offset {}", config.steps_offset);
    }
    if config.sigmas != Default::default() {
        text += &format!(", {} sigmas", config.sigmas.name());
    }
    if config.strength < 1.0 {
        text += &format!(", strength {}", config.strength);
    }
    if config.final_alpha == FinalAlpha::First {
        text += ", ending at timestep 0";
    }
    text
}

pub fn thresholding_text(config: &SamplerConfig) -> String {
    match config.thresholding {
        Thresholding::Off => "not held to any range".to_owned(),
        Thresholding::Clip(range) => format!("held to [-{range}, {range}]"),
        Thresholding::Dynamic { ratio, max } => {
            format!("held to its {ratio} quantile, up to {max}")
        }
    }
}

/// How a model was trained, and what it is.
pub fn model(config: &ModelConfig) -> Value {
    let ends = config.beta_schedule.ends();
    json!({
        "channels": config.channels,
        "height": config.height,
        "width": config.width,
        "color": config.color.name(),
        "prediction_type": config.prediction_type.name(),
        "output_channels": config.output_channels(),
        "gives_variance": config.gives_variance,
        "classes": config.classes.map(|Classes { count, null: no_class }| {
            json!({ "count": count, "null": no_class })
        }),
        "clipped_epsilon": config.clipped_epsilon,
        "noise_schedule": {
            "beta_schedule": config.beta_schedule.name(),
            "beta_start": ends.map(|(start, _)| start),
            "beta_end": ends.map(|(_, end)| end),
            "num_train_timesteps": config.num_train_timesteps,
            "rescale_betas_zero_snr": config.rescale_betas_zero_snr,
        },
    })
}

/// The noise schedule in one line.
pub fn schedule_text(config: &ModelConfig) -> String {
    let ends = config.beta_schedule.ends();
    let ends = ends.map_or(String::new(), |(start, end)| format!(" {start} to {end}"));
    let zero = if config.rescale_betas_zero_snr { ", rescaled to zero SNR" } else { "" };
    format!(
        "{} betas{ends}, {} timesteps{zero}",
        config.beta_schedule.name(),
        config.num_train_timesteps
    )
}

/// What runs the model.
pub fn runtime(info: &OnnxInfo) -> Value {
    json!({
        "provider": provider_name(info.provider),
        "fallback_reason": info.fallback_reason,
        "device": info.device.as_ref().map(|device| json!({
            "name": device.name,
            "memory": device.memory,
            "free_memory": device.free_memory,
        })),
        "threads": info.threads,
        "cache": info.cache.to_string(),
        "runtime_version": info.runtime_version,
        "runtime_library": path(&info.runtime_library),
    })
}

pub fn provider_name(provider: Provider) -> &'static str {
    match provider {
        Provider::Auto => "auto",
        Provider::Cpu => "cpu",
        Provider::Cuda => "cuda",
        Provider::WebGpu => "webgpu",
        Provider::TensorRtRtx => "tensorrt-rtx",
        Provider::DirectMl => "directml",
        Provider::CoreMl => "coreml",
    }
}

/// The timesteps of all rows.
pub fn timesteps(table: &StepTable) -> Vec<f64> {
    table.rows().iter().map(|row| row.timestep).collect()
}

/// A path as text; bytes that are no UTF-8 are replaced.
pub fn path(path: &Path) -> String {
    path.display().to_string()
}
