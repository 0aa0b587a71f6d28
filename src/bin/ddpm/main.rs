//! `ddpm`: the library from the command line.
//!
//! A layer above everything: it uses the crate's public API and nothing else of it.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod bench;
mod chart;
mod describe;
mod doctor;
mod info;
mod model_options;
mod output;
mod picture;
mod plot;
mod progress;
mod provider_options;
mod run;
mod sampler_options;
mod samplers;
mod trace;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use ddpm::error::{Error, ErrorKind, Result};

use crate::model_options::Console;

/// Makes pictures with denoising diffusion models (ONNX files), and shows what a sampler does.
#[derive(Parser)]
#[command(name = "ddpm", version, after_help = AFTER_HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Also says what was loaded and which defaults were taken
    #[arg(short, long, global = true)]
    verbose: bool,
}

const AFTER_HELP: &str = "\
Examples:
  ddpm info model.onnx
  ddpm doctor model.onnx --images pictures/
  ddpm run model.onnx --sampler dpmpp-2m --steps 20 --seed 7 --count 16 -o sheet.png
  ddpm plot --sampler dpmpp-2m --sampler euler --sigmas karras -o plot.svg

`ddpm COMMAND --help` is the manual of a command. Results go to standard output, everything else to
standard error; with --json, where a command has it, standard output is one JSON document.

Exit codes:
  0  done
  2  wrong usage, or an argument that is out of range or does not fit the model
  3  the model or a file cannot be used
  4  ONNX Runtime or the provider asked for cannot be used
  1  anything else";

#[derive(Subcommand)]
enum Command {
    /// What a model is: its shape, how it was trained, and which defaults were taken
    Info(info::Info),
    /// Examines a model: what its export has wrong, in words
    Doctor(doctor::Doctor),
    /// Makes pictures
    Run(run::Run),
    /// Records every step of a run, from given noise, as tensors
    Trace(trace::Trace),
    /// Draws a noise schedule and the timesteps of a sampler as SVG
    Plot(plot::Plot),
    /// Measures the time of a step and the pictures a second
    Bench(bench::Bench),
    /// Lists the samplers and the options of each
    Samplers(samplers::Samplers),
}

fn main() -> ExitCode {
    let Cli { command, verbose } = match parse() {
        Ok(cli) => cli,
        // Help and version are no errors.
        Err(asked) if !asked.use_stderr() => asked.exit(),
        Err(error) => {
            say(format!("ddpm: {}", error.render()).trim_end());
            return ExitCode::from(2);
        }
    };
    let console = Console { verbose };
    let done = match command {
        Command::Info(command) => command.execute(),
        Command::Doctor(command) => match command.execute() {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Run(command) => command.execute(console),
        Command::Trace(command) => command.execute(console),
        Command::Plot(command) => command.execute(console),
        Command::Bench(command) => command.execute(console),
        Command::Samplers(command) => command.execute(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Reads the command line. A negative number is a value, so that what is wrong with it is said by the
/// option, and not that there is no option of that name.
fn parse() -> std::result::Result<Cli, clap::Error> {
    let command = Cli::command().mut_subcommands(|command| {
        command.mut_args(|arg| {
            let takes_values = arg.get_action().takes_values();
            if takes_values { arg.allow_negative_numbers(true) } else { arg }
        })
    });
    Cli::from_arg_matches(&command.try_get_matches()?)
}

fn fail(error: &Error) -> ExitCode {
    say(&format!("ddpm: error: {error}"));
    if let Some(hint) = hint(error) {
        say(&format!("ddpm: hint: {hint}"));
    }
    ExitCode::from(exit_code(error.kind()))
}

fn exit_code(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::InvalidArgument => 2,
        ErrorKind::Model | ErrorKind::Io | ErrorKind::Unsupported => 3,
        ErrorKind::RuntimeLibrary | ErrorKind::Provider => 4,
        _ => 1,
    }
}

/// What can be done about it, where the message does not say so itself.
fn hint(error: &Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::RuntimeLibrary => Some(
            "`make fetch` in libddpm's folder puts a fitting ONNX Runtime into the user's cache; \
             or name one with --runtime PATH or in the environment variable DDPM_ONNXRUNTIME",
        ),
        ErrorKind::Provider => Some("--provider cpu runs the model without a GPU"),
        ErrorKind::NonFinite => Some(
            "a value in the run became NaN or infinite: more steps, another sampler or --clip 1 may help",
        ),
        ErrorKind::OutOfMemory => Some("a smaller --count or --batch needs less memory"),
        _ => None,
    }
}

/// Says a line on standard error. Where it cannot be written, a full disk say, the words are lost and not
/// the work.
fn say(line: &str) {
    use std::io::Write;
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes a result to standard output. Whoever closed it, a pager say, has seen enough.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::new(ErrorKind::Io, format!("standard output: {error}")))
        }
        _ => Ok(()),
    }
}
