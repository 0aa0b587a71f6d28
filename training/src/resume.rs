//! Where a run begins: at fresh weights, at its checkpoint, or at the weights of another run; and what may
//! have changed meanwhile.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use serde_json::{Map, Value};

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::optimizer::TrainState;
use crate::parameters::specs;
use crate::run_files::RunFiles;
use crate::say;

/// What a run begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Random weights.
    Fresh,
    /// The checkpoint in the run's folder, of this same run.
    Resume,
    /// The averaged weights of this checkpoint, of another run.
    From(PathBuf),
}

/// The state to go on from. `images` is the fingerprint of the data.
///
/// Errors: to resume, where there is no checkpoint, or one of another run; else, where there is one, or
/// the other run's has another network.
pub fn start(
    config: &Config,
    files: &RunFiles,
    images: &str,
    begin: &Begin,
    device: &Device,
) -> Result<TrainState> {
    let path = files.checkpoint();
    if *begin == Begin::Resume {
        let checkpoint = Checkpoint::read(&path)?;
        if let Some(difference) = difference(&checkpoint.config, config)? {
            bail!(
                "{}: was written with another configuration: {difference}. Resume with what it was, or \
                 begin a new run in another folder, with --out, and these weights, with --from",
                path.display()
            );
        }
        if let Some(before) = checkpoint.images.as_deref().filter(|before| *before != images) {
            say!(
                "{}: the images were others ({before}; now {images}). The run goes on with those of \
                 now, and is not what it would have been with the others",
                path.display()
            );
        }
        return checkpoint.state(device);
    }
    if let Some(earlier) = files.earlier()? {
        let shown = earlier.display();
        let how = if earlier == path {
            String::new()
        } else {
            format!("copy it to {} and ", path.display())
        };
        bail!("{shown} exists; {how}go on with --resume, or choose another folder with --out");
    }
    let Begin::From(other) = begin else {
        return TrainState::initial(specs(&config.network()), config.seed, device);
    };
    let shown = other.display();
    let checkpoint = Checkpoint::read(other)?;
    if checkpoint.config.diffusion != config.diffusion {
        say!("{shown}: was trained with another [diffusion] than the configuration's");
    }
    let parameters = checkpoint.ema_for(config, device).with_context(|| format!("{shown}"))?;
    TrainState::starting_with(parameters, device)
}

/// The first key by which two configurations compute other runs, in words; where a run lies and what it
/// reports may differ.
fn difference(before: &Config, now: &Config) -> Result<Option<String>> {
    let computed = |config: &Config| -> Result<Value> {
        let mut value = serde_json::to_value(config)?;
        if let Some(table) = value.as_object_mut() {
            table.retain(|key, _| key != "out" && key != "report");
            table.insert("data".into(), serde_json::to_value(config.data.of_images())?);
        }
        Ok(value)
    };
    let (before, now) = (computed(before)?, computed(now)?);
    Ok(first_difference("", &before, &now).map(|(key, before, now)| {
        let shown = |value: &Value| match value {
            Value::Null => "not given".to_string(),
            value => value.to_string(),
        };
        format!("{key} was {}, and is {}", shown(before), shown(now))
    }))
}

/// Its key, with those of the tables it is in, and the two values; null for what is missing.
fn first_difference<'a>(
    key: &str,
    before: &'a Value,
    now: &'a Value,
) -> Option<(String, &'a Value, &'a Value)> {
    let (Value::Object(a), Value::Object(b)) = (before, now) else {
        return (before != now).then(|| (key.to_string(), before, now));
    };
    let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
    keys.map(|name| {
        let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
        let of = |table: &'a Map<String, Value>| table.get(name).unwrap_or(&Value::Null);
        first_difference(&key, of(a), of(b))
    })
    .find_map(|found| found)
}
