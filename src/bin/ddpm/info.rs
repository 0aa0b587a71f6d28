//! `ddpm info`: what a model turned out to be.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use ddpm::error::Result;
use ddpm::log::{LogLevel, LogSink, Logger};
use ddpm::onnx::{CacheUse, OnnxInfo};
use serde_json::json;

use crate::model_options::{Loaded, ModelOptions};
use crate::{describe, print};

#[derive(Args)]
pub struct Info {
    /// The model, an .onnx file
    model: PathBuf,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ModelOptions,
}

impl Info {
    pub fn execute(self) -> Result<()> {
        let said = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&said);
        let sink: LogSink = Arc::new(move |level, text: &str| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((level, text.to_owned()));
        });
        let Loaded { info, .. } =
            self.options.load(&self.model, Logger::new(Some(sink), LogLevel::Info))?;
        let name = describe::path(&self.model);
        let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut defaults, mut messages) = (Vec::new(), Vec::new());
        for (level, text) in said {
            // The name of the file is in front of every line already.
            let text = text.strip_prefix(&format!("{name}: ")).unwrap_or(&text).to_owned();
            match level {
                LogLevel::Info if text.contains("taking ") => defaults.push(text),
                LogLevel::Info | LogLevel::Debug => {}
                _ => messages.push(text),
            }
        }
        if !self.json {
            return print(&text(&name, &info, &defaults, &messages));
        }
        let document = json!({
            "path": name,
            "contract": {
                "sample": info.contract.sample,
                "timestep": info.contract.timestep,
                "labels": info.contract.labels,
                "output": info.contract.output,
            },
            "model": describe::model(&info.model),
            "class_names": info.classes,
            "fixed_batch": info.fixed_batch,
            "fingerprint": info.fingerprint,
            "sampler": describe::sampler(&info.model.sampler),
            "runtime": describe::runtime(&info),
            "defaults_taken": defaults,
            "messages": messages,
        });
        print(&document.to_string())
    }
}

fn text(name: &str, info: &OnnxInfo, defaults: &[String], messages: &[String]) -> String {
    let model = &info.model;
    let contract = &info.contract;
    let classes = match model.classes {
        None => "none".to_owned(),
        Some(classes) => {
            let count = classes.count.map_or("any number".to_owned(), |count| count.to_string());
            let null = classes.null.map_or(String::new(), |null| format!("; {null} is no class"));
            format!("{count}{null}")
        }
    };
    let device = info.device.as_ref().map_or(String::new(), |device| {
        let memory = match (device.free_memory >> 20, device.memory >> 20) {
            (_, 0) => String::new(),
            (free, memory) => format!(", {free} of {memory} MiB free"),
        };
        format!(" on {}{memory}", device.name)
    });
    let variance = if model.gives_variance { "given by the model" } else { "not given" };
    let lines = [
        (
            "sample",
            format!(
                "{}, {} of {}x{} pixels",
                contract.sample, model.color, model.width, model.height
            ),
        ),
        ("timestep", contract.timestep.clone()),
        ("labels", contract.labels.clone().unwrap_or_default()),
        ("output", contract.output.clone()),
        ("batch", info.fixed_batch.map_or("any".to_owned(), |batch| format!("{batch} only"))),
        ("predicts", model.prediction_type.to_string()),
        ("variance", variance.to_owned()),
        ("classes", classes),
        ("class names", info.classes.join(", ")),
        ("trained with", describe::schedule_text(model)),
        ("sampler", describe::sampler_text(&model.sampler)),
        ("picture", format!("{} in every step", describe::thresholding_text(&model.sampler))),
        (
            "runs on",
            format!("{}{device}, {} threads", describe::provider_name(info.provider), info.threads),
        ),
        (
            "runtime",
            format!(
                "ONNX Runtime {}, {}",
                info.runtime_version,
                describe::path(&info.runtime_library)
            ),
        ),
    ];
    let cache = match &info.cache {
        CacheUse::Off => String::new(),
        used => format!("{used} (optimised graph)"),
    };
    let lines =
        lines.into_iter().chain([("fingerprint", info.fingerprint.clone()), ("cache", cache)]);
    let mut text = name.to_owned();
    for (what, value) in lines.filter(|(_, value)| !value.is_empty()) {
        // Writing to a string does not fail.
        let _ = write!(text, "\n  {what:13} {value}");
    }
    for (what, entries) in [("defaults", defaults), ("messages", messages)] {
        for (index, entry) in entries.iter().enumerate() {
            let _ = write!(text, "\n  {:13} {entry}", if index == 0 { what } else { "" });
        }
    }
    text
}
