//! `scheduler_config.json` as the forward process. How the samples were to be drawn is the sampler's
//! business here, not the model's, but for whether they are clipped.

use anyhow::Result;
use serde_json::{Value, json};

use super::keys::Keys;

/// The process of the DDPM paper, section 4; diffusers' default.
pub fn paper() -> Value {
    json!({
        "prediction_type": "epsilon",
        "beta_schedule": "linear",
        "beta_start": 1e-4,
        "beta_end": 0.02,
        "num_train_timesteps": 1000,
    })
}

/// Reads what the model was trained on. Values are checked with the configuration they go into.
pub fn read(mut keys: Keys, notes: &mut Vec<String>) -> Result<Value> {
    let mut process = paper();
    let class: String = keys.or("_class_name", "DDPMScheduler".to_string())?;
    // Others have other defaults, or no betas at all.
    let has_defaults = ["DDPMScheduler", "DDIMScheduler"].contains(&class.as_str());
    for key in ["beta_schedule", "beta_start", "beta_end", "num_train_timesteps"] {
        let found: Option<Value> =
            if has_defaults { keys.optional(key)? } else { Some(keys.required(key)?) };
        if let Some(value) = found {
            process[key] = value;
        }
    }
    for key in ["prediction_type", "variance_type", "rescale_betas_zero_snr", "clip_sample"] {
        if let Some(value) = keys.optional(key)? {
            process[key] = value;
        }
    }
    keys.only("trained_betas", &[Value::Null])?;
    for (key, kept) in [("thresholding", json!(false)), ("clip_sample_range", json!(1.0))] {
        let found: Value = keys.or(key, kept.clone())?;
        if found.as_f64() != kept.as_f64() || found.as_bool() != kept.as_bool() {
            notes.push(format!(
                "{}: {key} is {found}, which a checkpoint does not keep. To draw with it, give the file to \
                 the engine, with ddpm run --scheduler say",
                keys.file()
            ));
        }
    }
    Ok(process)
}
