//! The file itself, and what it and a scheduler config beside it say: all that is wrong with it, not only
//! what a load names first.

use std::fs;
use std::path::{Path, PathBuf};

use ddpm::error::{Error, ErrorKind, Result};
use ddpm::log::Logger;
use ddpm::onnx::{GraphSummary, OnnxOptions, SchedulerConfig};
use serde_json::json;

use super::inputs::one_line;
use super::report::Report;
use crate::describe;

/// Protobuf has no longer messages.
const MOST_BYTES: u64 = 1 << 31;

/// A model file that was looked into.
pub struct Inspected {
    pub bytes: Vec<u8>,
    /// `None` where it holds no graph.
    pub summary: Option<GraphSummary>,
    /// The `ddpm.*` keys whose value is refused.
    pub faulty_keys: Vec<String>,
    /// The scheduler config that a load would take, and whether it is refused.
    pub scheduler: Option<(PathBuf, bool)>,
}

/// The message of an error, in one line and without the name of the model in front.
pub fn short(error: &Error, model: &Path) -> String {
    let name = format!("{}: ", describe::path(model));
    one_line(error.message().strip_prefix(&name).unwrap_or(error.message()))
}

/// Reads the file and says what it is. Errors: `Io` where it, or a scheduler config that was asked for,
/// cannot be read.
pub fn check(model: &Path, options: &OnnxOptions, report: &mut Report) -> Result<Inspected> {
    let refuse =
        |reason: String| Error::new(ErrorKind::Io, format!("{}: {reason}", model.display()));
    let found = fs::metadata(model).map_err(|error| refuse(error.to_string()))?;
    if !found.is_file() {
        return Err(refuse("not a file".to_owned()));
    }
    let bytes = if found.len() < MOST_BYTES {
        fs::read(model).map_err(|error| refuse(error.to_string()))?
    } else {
        Vec::new()
    };
    let summary = GraphSummary::of(&bytes);
    match &summary {
        Some(summary) => {
            report.ok("file", describe_file(summary, found.len()));
            report.with(json!({
                "bytes": found.len(),
                "ir_version": summary.ir_version,
                "opsets": summary.opsets,
                "producer": summary.producer,
                "operators": summary.operators,
                "inputs": summary.inputs,
                "outputs": summary.outputs,
                "external_data": summary.external_data,
            }));
            check_external(summary, model, report);
        }
        None if found.len() >= MOST_BYTES => {
            let says = format!("{} bytes, more than an ONNX file can have", found.len());
            report.fault("file", says, "keep the weights in external data");
        }
        None => {
            let says =
                format!("{} bytes that hold no ONNX graph, or only its beginning", found.len());
            report.fault("file", says, "export it again, or copy it again");
        }
    }
    let faults = summary.as_ref().map(|found| found.metadata_faults(&describe::path(model)));
    let faults = faults.unwrap_or_default();
    for (_, error) in &faults {
        report.fault("metadata", short(error, model), "correct the key in the export");
    }
    let scheduler = check_scheduler(model, options, report)?;
    let faulty_keys = faults.into_iter().map(|(key, _)| key).collect();
    Ok(Inspected { bytes, summary, faulty_keys, scheduler })
}

fn describe_file(summary: &GraphSummary, bytes: u64) -> String {
    let opsets: Vec<String> = summary
        .opsets
        .iter()
        .map(|(domain, version)| match domain.as_str() {
            "" | "ai.onnx" => format!("opset {version}"),
            _ => format!("{domain} {version}"),
        })
        .collect();
    let by = match summary.producer.as_str() {
        "" => String::new(),
        producer => format!(" by {producer}"),
    };
    let nodes: usize = summary.operators.values().sum();
    let weights: u64 = summary.initializers.iter().filter_map(|weight| weight.len()).sum();
    let ir = summary.ir_version.map_or("?".to_owned(), |version| version.to_string());
    format!(
        "ONNX IR {ir}, {}{by}; {nodes} nodes of {} kinds, {weights} values in {} weights, {bytes} bytes",
        opsets.join(", "),
        summary.operators.len(),
        summary.initializers.len()
    )
}

fn check_external(summary: &GraphSummary, model: &Path, report: &mut Report) {
    if summary.external_data.is_empty() {
        return;
    }
    let folder = model.parent().unwrap_or(Path::new(""));
    let is_there = |name: &&String| folder.join(name.as_str()).is_file();
    let (found, missing): (Vec<&String>, Vec<&String>) =
        summary.external_data.iter().partition(is_there);
    let list = |names: Vec<&String>| {
        let quoted: Vec<String> = names.into_iter().map(|name| format!("\"{name}\"")).collect();
        quoted.join(", ")
    };
    if !missing.is_empty() {
        report.fault(
            "external",
            format!("weights lie in {}, which is not beside the model", list(missing)),
            "put the file there under that name, or save the model with its weights inside",
        );
    }
    if !found.is_empty() {
        report.ok("external", format!("weights lie in {}, beside the model", list(found)));
    }
}

/// The config that a load would take, with whether it is refused.
fn check_scheduler(
    model: &Path,
    options: &OnnxOptions,
    report: &mut Report,
) -> Result<Option<(PathBuf, bool)>> {
    let given = options.scheduler_config.clone();
    let is_given = given.is_some();
    let Some(path) = given.or_else(|| SchedulerConfig::beside(model)) else {
        return Ok(None);
    };
    match SchedulerConfig::read(&path, &Logger::default()) {
        Ok(config) => {
            report.ok("scheduler", format!("{}, a {}", path.display(), config.class_name));
            Ok(Some((path, false)))
        }
        Err(error) if error.kind() == ErrorKind::Io && is_given => Err(error),
        Err(error) => {
            report.fault(
                "scheduler",
                one_line(error.message()),
                "correct the file, or give another one with --scheduler",
            );
            Ok(Some((path, true)))
        }
    }
}
