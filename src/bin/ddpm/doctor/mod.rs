//! `ddpm doctor`: what a model's export has wrong, in words.
//!
//! Every check says what it found even where others failed; what cannot be checked is said too.

mod file;
mod inputs;
mod load;
mod metadata;
mod pictures;
mod prediction;
mod probe;
mod report;
mod residual;
mod size;
mod values;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use ddpm::error::Result;
use ddpm::log::{LogLevel, Logger};
use ddpm::onnx::{ModelSource, OnnxOptions};
use serde_json::{Value, json};

use self::file::short;
use self::inputs::one_line;
use self::load::{Loaded, load};
use self::probe::Probe;
use self::report::{Report, Severity};
use crate::model_options::ModelOptions;
use crate::progress::Progress;
use crate::{describe, print};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Doctor {
    /// The model, an .onnx file
    model: PathBuf,
    /// Pictures of the kind the model was trained on: a folder of PNGs, or a sheet of tiles of the model's
    /// size. With them the prediction type, the range and order of the values and the noise schedule are
    /// checked. Of larger ones the middle is used
    #[arg(long, value_name = "FOLDER|SHEET")]
    images: Option<PathBuf>,
    /// How many of them are used, evenly spread; fewer are faster
    #[arg(long, value_name = "N", default_value_t = 16, requires = "images", value_parser = clap::value_parser!(u32).range(1..=1024))]
    image_count: u32,
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

The checks:
  file, external, metadata, scheduler   what the file is and says, all that is wrong with it
  load, runtime, roles                  which input is what, and what runs it
  batch     1 to 4 items run, and each gives the same alone and in any company
  timestep  the output depends on it; a number that an export traced is a constant
  size      which multiples run, where the graph leaves the size open
  finite    no NaN or infinity at timesteps from 0 to T - 1
  scale     how much the output varies on pure noise
  classes   the output depends on the label, and every label runs
  run       ten DDIM steps end in a picture within the range
  prediction, and with --images time-unit, range, order, schedule: the pictures are noised, and what
            explains the output best is compared with what is said. Each assumption is tried where the
            noise hides as much of a picture, so that none has it easier

Where the model does not load with what is said of it, the checks go on without that.

Everything but the time of a run is the same again for the same seed on the same machine.

Exit codes:
  0  no faults
  1  faults, which the report names; a model that does not load is one
  2, 3, 4  as for the other commands: wrong usage, a file that cannot be read, no runtime";

impl Doctor {
    pub fn execute(self) -> Result<ExitCode> {
        let options = self.options.to_load(Logger::default())?;
        let mut report = Report::default();
        let mut file = file::check(&self.model, &options, &mut report)?;
        let mut time = Value::Null;
        if let Some(loaded) = load(&self.model, &options, &file, &mut report)? {
            // They may be large, and are not looked at again.
            file.bytes = Vec::new();
            let Loaded { denoiser, source, options, said } = loaded;
            let mut probe = Probe::new(denoiser, &source.name(), self.seed);
            say_load(&probe, &mut report);
            let name = source.name();
            metadata::check(&probe, (&name, &said), &mut report);
            let remade = (&source, &options);
            time = self.examine(&mut probe, remade, &said, &mut report)?;
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

    /// A check that the model did not let end is a fault, and no reason to leave out the others.
    fn say_end(&self, check: &'static str, done: Result<()>, report: &mut Report) {
        if let Err(error) = done {
            let says = format!("the check broke off: {}", short(&error, &self.model));
            report.fault(check, says, "see the other faults first");
        }
    }

    /// All checks that run the model; gives how long a run takes. Errors: pictures that cannot be read.
    fn examine(
        &self,
        probe: &mut Probe,
        (source, options): (&ModelSource, &OnnxOptions),
        said: &[(LogLevel, String)],
        report: &mut Report,
    ) -> Result<Value> {
        let most = self.image_count as usize;
        // Read before anything runs: a wrong path is no finding.
        let pictures = self
            .images
            .as_ref()
            .map(|path| pictures::read(path, most, probe.model()))
            .transpose()?;
        let schedule_is_stated =
            !metadata::defaults(said).any(|text| text.contains("beta_schedule"));
        let steps = 7 + if pictures.is_some() { prediction::STEPS } else { 0 };
        let mut progress = Progress::new(steps, "checks");
        let mut guard = |check: &'static str, done: Result<()>, report: &mut Report| {
            progress.step();
            self.say_end(check, done, report);
        };
        guard("batch", inputs::check_batch(probe, report), report);
        guard("timestep", inputs::check_timestep(probe, report), report);
        guard("size", size::check(probe, source, options, report), report);
        guard("finite", values::check_finite(probe, report), report);
        guard("scale", values::check_scale(probe, report), report);
        guard("classes", inputs::check_classes(probe, report), report);
        guard("run", values::check_run(probe, report), report);
        let done = match pictures {
            Some(pictures) => {
                let told = (&mut progress, &mut *report);
                prediction::on_pictures(probe, pictures, schedule_is_stated, told)
            }
            None => prediction::on_noise(probe, report),
        };
        self.say_end("prediction", done, report);
        Ok(values::speed(probe).unwrap_or(Value::Null))
    }
}

/// What was loaded, and on what.
fn say_load(probe: &Probe, report: &mut Report) {
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
}
