//! Runs of the program itself, and what they leave.

use std::path::Path;
use std::process::{Command, Output};

use burn::tensor::Device;
use ddpm_train::checkpoint::Checkpoint;

/// The program, without arguments.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_ddpm-train"))
}

/// A training run of that configuration file.
pub fn command(config: &Path) -> Command {
    let mut command = program();
    command.args(["fit", "--config"]).arg(config);
    command
}

pub fn fit(config: &Path, arguments: &[&str]) -> Output {
    command(config).args(arguments).output().unwrap()
}

/// What a run that must not fail says.
#[track_caller]
pub fn succeed(config: &Path, arguments: &[&str]) -> String {
    let output = fit(config, arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{message}");
    message
}

/// The message of a run that must fail.
#[track_caller]
pub fn refuse(config: &Path, arguments: &[&str]) -> String {
    let output = fit(config, arguments);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{message}");
    message
}

/// What a run has said.
pub fn message(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Whether a file that was being written has been left in a folder.
pub fn has_partial(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.flatten().any(|entry| entry.file_name().to_string_lossy().ends_with(".partial"))
}

/// The checkpoint of the run in that folder.
#[track_caller]
pub fn checkpoint(folder: &Path) -> Checkpoint {
    Checkpoint::read(&folder.join("out/checkpoint.safetensors")).unwrap()
}

/// All values of that checkpoint: weights, their average and the moments.
#[track_caller]
pub fn weights(folder: &Path) -> Vec<Vec<f32>> {
    let state = checkpoint(folder).state(&Device::flex()).unwrap();
    [state.parameters, state.ema, state.moment1, state.moment2]
        .iter()
        .flat_map(|p| p.specs().iter().map(|s| p.values(&s.name).unwrap()).collect::<Vec<_>>())
        .collect()
}
