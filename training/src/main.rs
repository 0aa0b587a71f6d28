//! The command line of the training crate.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod judge_command;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use ddpm_train::device::{self, Choice};
use ddpm_train::ops;
use ddpm_train::say;
use judge_command::{ClassifierArgs, EvalArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fits a diffusion model to images and exports it to ONNX.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// What to compute on: cpu, gpu, or gpu:N by number. The default is the GPU in a program that was built for
    /// one, with --features wgpu or cuda. `export` and `import` always use the CPU.
    #[arg(long, global = true, default_value_t)]
    device: Choice,
    #[command(subcommand)]
    command: Command,
}

/// A command a file in `commands`; each ends with the program's exit code.
#[derive(Subcommand)]
enum Command {
    New(commands::new::New),
    Fit(commands::fit::Fit),
    Sample(commands::sample::Sample),
    Export(commands::export::Export),
    Import(commands::import::Import),
    /// Judge a checkpoint: distances to the training images, classes, copies, steps. An HTML report.
    Eval(Box<EvalArgs>),
    /// Train the classifier that eval judges with.
    Classifier(ClassifierArgs),
    Likelihood(commands::likelihood::Likelihood),
    Noise(commands::noise::Noise),
    #[command(hide = true)]
    Time(commands::time::Time),
}

fn run(Cli { device: choice, command }: Cli) -> Result<ExitCode> {
    // A GPU is not opened for what does not use it.
    let choice = match command {
        Command::Export(_) | Command::Import(_) | Command::New(_) | Command::Noise(_) => {
            Choice::Cpu
        }
        _ => choice,
    };
    let device = &device::open(choice)?;
    match command {
        Command::New(command) => command.run(),
        Command::Fit(command) => command.run(device),
        Command::Sample(command) => command.run(device),
        Command::Export(command) => command.run(device),
        Command::Import(command) => command.run(device),
        Command::Eval(arguments) => arguments.run(device).map(|()| ExitCode::SUCCESS),
        Command::Classifier(arguments) => arguments.run(device).map(|()| ExitCode::SUCCESS),
        Command::Likelihood(command) => command.run(device),
        Command::Noise(command) => command.run(),
        Command::Time(command) => command.run(device),
    }
}

fn main() -> ExitCode {
    ops::memory::keep_freed_memory();
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            say!("ddpm-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
