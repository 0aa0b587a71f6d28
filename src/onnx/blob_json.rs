//! A sampler config and what a run began with, as JSON: every field, exactly.
//!
//! Numbers come back as they were: serde_json writes an f64 so that it reads the same one, with its
//! feature `float_roundtrip`. This module must not know tensors.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::run::{Branch, Run, RunStart};
use crate::sampler::{FinalAlpha, SamplerConfig, Thresholding};

/// What was found and what was expected.
type Reason = String;

/// What a run is besides its model, its sampler and its samples.
pub(super) struct RunText {
    /// Without the image, which is a tensor.
    pub(super) start: RunStart,
    pub(super) step: usize,
    pub(super) is_straight: bool,
}

pub(super) fn write_run(run: &Run) -> String {
    // Taken apart, so that a new field is not forgotten here.
    let RunStart { seed, label, guidance, image: _, branches } = run.start();
    let branch = |&Branch { step, seed, variation }: &Branch| json!({ "step": step, "seed": seed, "variation": variation });
    json!({
        "seed": seed,
        "label": label,
        "guidance": guidance,
        "branches": branches.iter().map(branch).collect::<Vec<_>>(),
        "step": run.step_index(),
        "straight": run.is_straight(),
    })
    .to_string()
}

pub(super) fn read_run(text: &str) -> Result<RunText, Reason> {
    let mut fields = Fields::parse(text)?;
    let branch = |value| {
        let mut fields = Fields::new(value)?;
        let branch = Branch {
            step: fields.integer("step")?,
            seed: fields.integer("seed")?,
            variation: fields.number("variation")?,
        };
        fields.end()?;
        Ok(branch)
    };
    let branches =
        fields.list("branches")?.into_iter().map(branch).collect::<Result<_, Reason>>()?;
    let run = RunText {
        start: RunStart {
            seed: fields.integer("seed")?,
            label: fields.option("label", "an integer", Value::as_i64)?,
            guidance: fields.number("guidance")?,
            image: None,
            branches,
        },
        step: fields.integer("step")?,
        is_straight: fields.flag("straight")?,
    };
    fields.end()?;
    Ok(run)
}

pub(super) fn write_sampler(config: &SamplerConfig) -> String {
    let SamplerConfig {
        kind,
        steps,
        spacing,
        steps_offset,
        timesteps,
        sigmas,
        fractional_timesteps,
        strength,
        thresholding,
        variance_type,
        final_alpha,
        eta,
        clipped_epsilon,
        order,
        solver_type,
        lower_order_final,
        euler_at_final,
        original_steps,
    } = config;
    json!({
        "kind": kind.name(),
        "steps": steps,
        "spacing": spacing.name(),
        "steps_offset": steps_offset,
        "timesteps": timesteps.as_deref(),
        "sigmas": sigmas.name(),
        "fractional_timesteps": fractional_timesteps,
        "strength": strength,
        "thresholding": match thresholding {
            Thresholding::Off => json!({}),
            Thresholding::Clip(range) => json!({ "clip": range }),
            Thresholding::Dynamic { ratio, max } => json!({ "ratio": ratio, "max": max }),
        },
        "variance_type": variance_type.name(),
        "final_alpha": final_alpha_name(*final_alpha),
        "eta": eta,
        "clipped_epsilon": clipped_epsilon,
        "order": order,
        "solver_type": solver_type.map(|solver_type| solver_type.name()),
        "lower_order_final": lower_order_final,
        "euler_at_final": euler_at_final,
        "original_steps": original_steps,
    })
    .to_string()
}

pub(super) fn read_sampler(text: &str) -> Result<SamplerConfig, Reason> {
    let mut fields = Fields::parse(text)?;
    let whole = |value: &Value| value.as_u64().and_then(|value| usize::try_from(value).ok());
    let timesteps = |value: &Value| value.as_array()?.iter().map(whole).collect::<Option<_>>();
    let config = SamplerConfig {
        kind: fields.named("kind")?,
        steps: fields.integer("steps")?,
        spacing: fields.named("spacing")?,
        steps_offset: fields.integer("steps_offset")?,
        timesteps: fields.option("timesteps", "a list of timesteps", timesteps)?,
        sigmas: fields.named("sigmas")?,
        fractional_timesteps: fields.flag("fractional_timesteps")?,
        strength: fields.number("strength")?,
        thresholding: read_thresholding(fields.take("thresholding")?)?,
        variance_type: fields.named("variance_type")?,
        final_alpha: read_final_alpha(&fields.text("final_alpha")?)?,
        eta: fields.option("eta", "a number", Value::as_f64)?,
        clipped_epsilon: fields.flag("clipped_epsilon")?,
        order: fields.option("order", "an integer", |value| value.as_u64()?.try_into().ok())?,
        solver_type: fields
            .option("solver_type", "one that there is", |value| value.as_str()?.parse().ok())?,
        lower_order_final: fields.flag("lower_order_final")?,
        euler_at_final: fields.flag("euler_at_final")?,
        original_steps: fields.integer("original_steps")?,
    };
    fields.end()?;
    Ok(config)
}

fn read_thresholding(value: Value) -> Result<Thresholding, Reason> {
    let mut fields = Fields::new(value)?;
    let thresholding = if fields.0.is_empty() {
        Thresholding::Off
    } else if fields.0.contains_key("clip") {
        Thresholding::Clip(fields.number("clip")?)
    } else {
        Thresholding::Dynamic { ratio: fields.number("ratio")?, max: fields.number("max")? }
    };
    fields.end()?;
    Ok(thresholding)
}

fn final_alpha_name(final_alpha: FinalAlpha) -> &'static str {
    match final_alpha {
        FinalAlpha::One => "one",
        FinalAlpha::First => "first",
    }
}

fn read_final_alpha(name: &str) -> Result<FinalAlpha, Reason> {
    let all = [FinalAlpha::One, FinalAlpha::First];
    all.into_iter().find(|&final_alpha| final_alpha_name(final_alpha) == name).ok_or_else(|| {
        format!("\"final_alpha\": found {}, expected one or first", shown(&name.into()))
    })
}

/// The fields of a JSON object, each taken out once.
struct Fields(Map<String, Value>);

impl Fields {
    fn parse(text: &str) -> Result<Self, Reason> {
        Self::new(serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?)
    }

    fn new(value: Value) -> Result<Self, Reason> {
        match value {
            Value::Object(fields) => Ok(Self(fields)),
            other => Err(format!("found {}, expected an object", shown(&other))),
        }
    }

    fn take(&mut self, key: &str) -> Result<Value, Reason> {
        self.0.remove(key).ok_or_else(|| format!("found no \"{key}\", expected one"))
    }

    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<T, Reason> {
        let value = self.take(key)?;
        read(&value)
            .ok_or_else(|| format!("\"{key}\": found {}, expected {expected}", shown(&value)))
    }

    /// null is `None`.
    fn option<T>(
        &mut self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Reason> {
        self.read(key, expected, |value| match value {
            Value::Null => Some(None),
            value => read(value).map(Some),
        })
    }

    fn number(&mut self, key: &str) -> Result<f64, Reason> {
        self.read(key, "a number", Value::as_f64)
    }

    fn integer<T: TryFrom<u64>>(&mut self, key: &str) -> Result<T, Reason> {
        self.read(key, "an integer in range", |value| value.as_u64()?.try_into().ok())
    }

    fn flag(&mut self, key: &str) -> Result<bool, Reason> {
        self.read(key, "true or false", Value::as_bool)
    }

    fn text(&mut self, key: &str) -> Result<String, Reason> {
        self.read(key, "a text", |value| value.as_str().map(str::to_owned))
    }

    fn named<T: FromStr>(&mut self, key: &str) -> Result<T, Reason> {
        self.read(key, "one that there is", |value| value.as_str()?.parse().ok())
    }

    fn list(&mut self, key: &str) -> Result<Vec<Value>, Reason> {
        self.read(key, "a list", |value| value.as_array().cloned())
    }

    /// Nothing may be left: it would be lost.
    fn end(self) -> Result<(), Reason> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(key) => {
                Err(format!("found {}, expected no such field", shown(&key.as_str().into())))
            }
        }
    }
}

/// A value in a message.
fn shown(value: &Value) -> String {
    cut(&value.to_string())
}

/// As much of a text as a message can have.
pub(super) fn cut(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}
