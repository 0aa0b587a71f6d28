//! `ddpm doctor`: what a model's export has wrong, in words.
//!
//! Every check says what it found even where others failed; what cannot be checked is said too.

mod inputs;
mod pictures;
mod prediction;
mod probe;
mod report;
mod residual;
mod size;
mod values;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Args;
use ddpm::error::{Error, ErrorKind, Result};
use ddpm::log::{LogLevel, LogSink, Logger};
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use serde_json::{Value, json};

use self::inputs::one_line;
use self::probe::Probe;
use self::report::{Report, Severity};
use crate::model_options::ModelOptions;
use crate::{describe, print};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Doctor {
    /// The model, an .onnx file
    model: PathBuf,
    /// Pictures of the kind the model was trained on: a folder of PNGs, or a sheet of tiles of the model's
    /// size. With them the prediction type, the range and order of the values and the noise schedule are
    /// checked. At most 16 are used; of larger ones the middle
    #[arg(long, value_name = "FOLDER|SHEET")]
    images: Option<PathBuf>,
    /// The seed of the noise it is tried on
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    options: ModelOptions,
}

const AFTER_HELP: &str = "\
Examples:
  ddpm doctor model.onnx
  ddpm doctor model.onnx --images pictures/ --provider cpu
  ddpm doctor model.onnx --timestep-input t --prediction-type v_prediction --images sheet.png --json

Each line is a check, what it found, and below it what to do:
  ok       as it should be
  note     good to know, or not checked
  warning  likely wrong, or a limit that hurts
  fault    wrong: the pictures will be, or nothing runs

Everything but the time of a run is the same again for the same seed on the same machine.

Exit codes:
  0  no faults
  1  faults, which the report names; a model that does not load is one
  2, 3, 4  as for the other commands: wrong usage, a file that cannot be read, no runtime";

/// What the library said while it loaded.
type Said = Arc<Mutex<Vec<(LogLevel, String)>>>;

impl Doctor {
    pub fn execute(self) -> Result<ExitCode> {
        let said = Said::default();
        let kept = Arc::clone(&said);
        let sink: LogSink = Arc::new(move |level, text: &str| {
            kept.lock().unwrap_or_else(PoisonError::into_inner).push((level, text.to_owned()));
        });
        let options = self.options.to_load(Logger::new(Some(sink), LogLevel::Info))?;
        let mut report = Report::default();
        let mut time = Value::Null;
        if let Some(denoiser) = self.load(&options, &mut report)? {
            let said = std::mem::take(&mut *said.lock().unwrap_or_else(PoisonError::into_inner));
            let mut probe = Probe::new(denoiser, self.seed);
            say_load(&probe, &said, &self.model, &mut report);
            time = self.examine(&mut probe, &options, &said, &mut report)?;
        }
        let faults = report.count(Severity::Fault);
        if self.json {
            let document = json!({
                "path": describe::path(&self.model),
                "seed": self.seed,
                "faults": faults,
                "warnings": report.count(Severity::Warning),
                "checks": report.json(),
                "speed": time,
            });
            print(&document.to_string())?;
        } else {
            let mut text = format!("{}{}", self.model.display(), report.text());
            if let (Some(time), Some(batch)) =
                (time["milliseconds"].as_f64(), time["batch"].as_u64())
            {
                text += &format!("; {time:.2} ms a run at batch {batch}");
            }
            print(&text)?;
        }
        Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Loads the model; `None`, with a fault, where it is at fault itself. Errors: whatever else.
    fn load(&self, options: &OnnxOptions, report: &mut Report) -> Result<Option<OnnxDenoiser>> {
        let source = ModelSource::Path(self.model.clone());
        let error = match OnnxDenoiser::load(&source, options) {
            Ok(denoiser) => return Ok(Some(denoiser)),
            Err(error) => error,
        };
        let advice = match error.kind() {
            ErrorKind::Model => {
                "name the inputs and the output (--sample-input, --timestep-input, --label-input, --model-output), give what is open (--width, --height), or change the export"
            }
            ErrorKind::Unsupported => "leave the key out, or give the setting by a flag",
            ErrorKind::Inference => {
                "the first run fails: a batch or a size is baked into the graph, or the size does not fit the network"
            }
            _ => return Err(error),
        };
        report.fault("load", self.short(&error), advice);
        Ok(None)
    }

    /// The message of an error, in one line and without the name of the model in front.
    fn short(&self, error: &Error) -> String {
        let name = format!("{}: ", describe::path(&self.model));
        one_line(error.message().strip_prefix(&name).unwrap_or(error.message()))
    }

    fn examine(
        &self,
        probe: &mut Probe,
        options: &OnnxOptions,
        said: &[(LogLevel, String)],
        report: &mut Report,
    ) -> Result<Value> {
        // Read before anything runs: a wrong path is no finding.
        let pictures =
            self.images.as_ref().map(|path| pictures::read(path, probe.model())).transpose()?;
        let is_default = |text: &str| text.contains("taking ") && text.contains("beta_schedule");
        let schedule_is_stated =
            !said.iter().any(|(level, text)| *level == LogLevel::Info && is_default(text));
        let silent = OnnxOptions { log: Logger::default(), ..options.clone() };
        let source = ModelSource::Path(self.model.clone());
        let mut guard = |check: &'static str, done: Result<()>, report: &mut Report| {
            if let Err(error) = done {
                let advice =
                    "see the other faults first; the same call failed inside another check";
                report.fault(check, self.short(&error), advice);
            }
        };
        guard("batch", inputs::check_batch(probe, report), report);
        guard("timestep", inputs::check_timestep(probe, report), report);
        guard("size", size::check(probe, &source, &silent, report), report);
        guard("finite", values::check_finite(probe, report), report);
        guard("scale", values::check_scale(probe, report), report);
        guard("classes", inputs::check_classes(probe, report), report);
        let done = match pictures {
            Some(pictures) => prediction::on_pictures(probe, pictures, schedule_is_stated, report),
            None => prediction::on_noise(probe, report),
        };
        guard("prediction", done, report);
        guard("run", values::check_run(probe, report), report);
        Ok(values::speed(probe).unwrap_or(Value::Null))
    }
}

/// What was loaded, on what, and what the library had to say.
fn say_load(probe: &Probe, said: &[(LogLevel, String)], model: &Path, report: &mut Report) {
    let info = probe.info();
    let provider = describe::provider_name(info.provider);
    let runtime =
        format!("ONNX Runtime {} on {provider}, {} threads", info.runtime_version, info.threads);
    match &info.fallback_reason {
        None => report.ok("runtime", runtime),
        Some(reason) => report.note(
            "runtime",
            format!("{runtime}, as {}", one_line(reason)),
            "--provider cpu says that the CPU is meant",
        ),
    };
    let contract = &info.contract;
    let labels = contract.labels.as_ref().map_or(String::new(), |port| format!(", labels {port}"));
    report.ok(
        "roles",
        format!(
            "sample {}, timestep {}{labels}, output {}",
            contract.sample, contract.timestep, contract.output
        ),
    );
    let name = format!("{}: ", describe::path(model));
    for (level, text) in said {
        // What the CPU is used for was said above.
        if matches!(level, LogLevel::Warning | LogLevel::Error)
            && !text.starts_with("using the CPU: ")
        {
            let text = one_line(text.strip_prefix(&name).unwrap_or(text));
            report.warning("metadata", text, "make the export say what is meant");
        }
    }
}
