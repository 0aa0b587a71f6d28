//! Loading a model that may be at fault: where what it says of itself is wrong, without that, so that the
//! rest can be examined.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use ddpm::error::{Error, ErrorKind, Result};
use ddpm::log::{LogLevel, LogSink, Logger};
use ddpm::onnx::{ModelOverrides, ModelSource, OnnxDenoiser, OnnxOptions, without_metadata};

use super::file::{Inspected, short};
use super::report::Report;
use super::size;
use crate::describe;

/// What the library said while it loaded.
pub type Said = Vec<(LogLevel, String)>;

/// A model that runs, and how it is loaded again.
pub struct Loaded {
    pub denoiser: OnnxDenoiser,
    pub source: ModelSource,
    /// Without a log.
    pub options: OnnxOptions,
    pub said: Said,
}

impl Loaded {
    fn of(source: ModelSource, options: OnnxOptions) -> Result<Self> {
        let kept = Arc::new(Mutex::new(Said::new()));
        let writer = Arc::clone(&kept);
        let sink: LogSink = Arc::new(move |level, text: &str| {
            let text = (level, text.to_owned());
            writer.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        });
        let logged =
            OnnxOptions { log: Logger::new(Some(sink), LogLevel::Info), ..options.clone() };
        let denoiser = OnnxDenoiser::load(&source, &logged)?;
        let said = std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(Self { denoiser, source, options, said })
    }
}

/// Loads the model; `None`, with a fault, where it is at fault itself. Errors: whatever else.
pub fn load(
    model: &Path,
    options: &OnnxOptions,
    file: &Inspected,
    report: &mut Report,
) -> Result<Option<Loaded>> {
    let scheduler_is_bad = file.scheduler.as_ref().is_some_and(|(_, is_bad)| *is_bad);
    if file.faulty_keys.is_empty() && !scheduler_is_bad {
        let source = ModelSource::Path(model.to_owned());
        let error = match Loaded::of(source.clone(), options.clone()) {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(error) => error,
        };
        // A model that loads without what is said of it is no worse than that.
        if is_of_the_model(&error, model, options)
            && error.kind() != ErrorKind::Inference
            && let Some(loaded) = without(model, file, options, false)
        {
            report.fault(
                "metadata",
                short(&error, model),
                "make the keys of the export fit the graph",
            );
            say_without(report, "what the file says of itself");
            return Ok(Some(loaded));
        }
        return refused(model, &source, options, file, &error, report);
    }
    for keeps_some in [true, false] {
        if let Some(loaded) = without(model, file, options, keeps_some) {
            let what =
                if keeps_some { "what is refused above" } else { "what the file says of itself" };
            say_without(report, what);
            return Ok(Some(loaded));
        }
    }
    match Loaded::of(ModelSource::Path(model.to_owned()), options.clone()) {
        // A key was refused by itself, and is not by the load.
        Ok(loaded) => Ok(Some(loaded)),
        Err(error) if is_of_the_model(&error, model, options) => {
            report.note("load", "no other check could be run", "correct the faults above first");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Whether the model is at fault, and not what was asked for or the machine.
fn is_of_the_model(error: &Error, model: &Path, options: &OnnxOptions) -> bool {
    match error.kind() {
        ErrorKind::Model | ErrorKind::Unsupported | ErrorKind::Inference => true,
        // A size, say, that no flag gave.
        ErrorKind::InvalidArgument => {
            options.overrides == ModelOverrides::default()
                && error.message().starts_with(&describe::path(model))
        }
        _ => false,
    }
}

fn say_without(report: &mut Report, what: &str) {
    report.note("load", format!("the checks below are of the model without {what}"), "");
}

/// The model without its faulty keys, or without all but its size, if it loads so.
fn without(
    model: &Path,
    file: &Inspected,
    options: &OnnxOptions,
    keeps_some: bool,
) -> Option<Loaded> {
    file.summary.as_ref()?;
    let keeps = |key: &str| {
        let is_good = !file.faulty_keys.iter().any(|faulty| faulty == key);
        is_good && (keeps_some || matches!(key, "ddpm.width" | "ddpm.height"))
    };
    let folder = match model.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let scheduler = file.scheduler.as_ref().filter(|(_, is_bad)| keeps_some && !is_bad);
    let options = OnnxOptions {
        scheduler_config: scheduler.map(|(path, _)| path.clone()),
        external_data_dir: options.external_data_dir.clone().or(Some(folder.to_owned())),
        ..options.clone()
    };
    let bytes: Arc<[u8]> = without_metadata(&file.bytes, keeps).into();
    Loaded::of(ModelSource::Bytes(bytes), options).ok()
}

fn refused(
    model: &Path,
    source: &ModelSource,
    options: &OnnxOptions,
    file: &Inspected,
    error: &Error,
    report: &mut Report,
) -> Result<Option<Loaded>> {
    if !is_of_the_model(error, model, options) {
        return Err(error.clone());
    }
    if error.kind() != ErrorKind::Inference {
        let advice = match &file.summary {
            None => "it is no ONNX file, or a damaged one",
            Some(_) => advice_on(error.message()),
        };
        report.fault("load", short(error, model), advice);
        return Ok(None);
    }
    let side = |given: Option<usize>, key: &str| {
        let pairs = file.summary.iter().flat_map(|summary| &summary.metadata);
        let said =
            pairs.filter(|(found, _)| found == key).find_map(|(_, value)| value.parse().ok());
        given.or(said)
    };
    let overrides = &options.overrides;
    let sides = (side(overrides.height, "ddpm.height"), side(overrides.width, "ddpm.width"));
    if let (Some(height), Some(width)) = sides
        && let Some((tall, wide, multiple)) = size::other_size(source, options, (height, width))
    {
        let advice = match multiple {
            Some(multiple) => format!("take sides that are multiples of {multiple}"),
            None => format!(
                "{wide}x{tall} is baked into the graph: take it, or export without reading shapes as numbers"
            ),
        };
        let reason = short(error, model);
        let says = format!(
            "the model does not run at {width}x{height}, but does at {wide}x{tall}: {reason}"
        );
        report.fault("size", says, advice);
        return Ok(None);
    }
    report.fault(
        "load",
        format!("the first run fails: {}", short(error, model)),
        "a batch or a size is baked into the graph though it is declared open, as a rule; export without reading shapes as numbers",
    );
    Ok(None)
}

/// The message says what is wrong; this is by which means it is put right.
fn advice_on(message: &str) -> &'static str {
    const CASES: [(&str, &str); 3] = [
        ("is open", "give --width and --height, or add ddpm.width and ddpm.height in the export"),
        (
            "when loading",
            "name it with --sample-input, --timestep-input, --label-input or --model-output",
        ),
        (
            "not a model that ONNX Runtime",
            "export it for an opset and IR version that this ONNX Runtime has, with its own operators",
        ),
    ];
    let case = CASES.iter().find(|(part, _)| message.contains(part));
    case.map_or(
        "change the export: a sample and an output [N, C, H, W] of float32 or float16, a timestep of one number a sample, perhaps class labels, and no other input",
        |(_, advice)| advice,
    )
}
