//! The command-line tool, run as a program. Most of it needs the ONNX Runtime library.

#[path = "../common/mod.rs"]
mod common;
mod doctor;
mod failures;
mod golden;
mod options;
mod pictures;
mod plot;
mod reports;
// Some of it is for the tests of the golden files themselves.
#[allow(dead_code)]
#[path = "../golden/trajectory.rs"]
mod trajectory;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

/// What a run of the tool left.
#[derive(Debug)]
struct Done {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Done {
    fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The one document on standard output.
    fn json(self) -> Value {
        let done = self.ok();
        serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {}", done.stdout))
    }
}

/// Runs the tool. `--provider cpu` is for the caller to say: not every command has it.
fn ddpm<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Done {
    ddpm_with(&[], arguments)
}

fn ddpm_with<S: AsRef<std::ffi::OsStr>>(
    variables: &[(&str, &str)],
    arguments: impl IntoIterator<Item = S>,
) -> Done {
    let output = Command::new(env!("CARGO_BIN_EXE_ddpm"))
        .args(arguments)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The words of a command line; no test has a word with a space in it but for paths, which go in
/// by themselves.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

/// `command MODEL options -o FILE` on the CPU.
fn command(command: &str, model: &Path, options: &str, output: Option<&Path>) -> Done {
    let mut arguments = vec![command.to_owned(), text(model)];
    arguments.extend(words("--provider cpu --threads 1"));
    arguments.extend(words(options));
    if let Some(output) = output {
        arguments.extend(["-o".to_owned(), text(output)]);
    }
    ddpm(arguments)
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// The names of the files in a folder, hidden ones too, sorted.
fn files_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
