//! `scheduler_config.json` as the forward process. How the samples were to be drawn is the sampler's
//! business here, not the model's, but for whether they are clipped.

use anyhow::{Result, ensure};
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

fn set<T: Into<Value>>(process: &mut Value, key: &str, found: Option<T>) {
    if let Some(value) = found {
        process[key] = value.into();
    }
}

/// Reads what the model was trained on. Values are checked with the configuration they go into.
pub fn read(mut keys: Keys, notes: &mut Vec<String>) -> Result<Value> {
    let mut process = paper();
    let class: String = keys.or("_class_name", "DDPMScheduler".to_string())?;
    // Others have other defaults, or no betas at all.
    let has_defaults = ["DDPMScheduler", "DDIMScheduler"].contains(&class.as_str());
    for key in ["beta_schedule", "beta_start", "beta_end", "num_train_timesteps"] {
        ensure!(has_defaults || keys.has(key), "{}: no {key}", keys.file());
    }
    for key in ["beta_schedule", "prediction_type", "variance_type"] {
        set(&mut process, key, keys.optional::<String>(key)?);
    }
    for key in ["beta_start", "beta_end"] {
        set(&mut process, key, keys.optional::<f64>(key)?);
    }
    for key in ["rescale_betas_zero_snr", "clip_sample"] {
        set(&mut process, key, keys.optional::<bool>(key)?);
    }
    let key = "num_train_timesteps";
    set(&mut process, key, keys.optional::<usize>(key)?);
    keys.only("trained_betas", &[Value::Null])?;
    let clips = process["clip_sample"] != json!(false);
    for (key, kept) in [("thresholding", json!(false)), ("clip_sample_range", json!(1.0))] {
        if key == "clip_sample_range" && !clips {
            keys.ignore(key);
            continue;
        }
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
