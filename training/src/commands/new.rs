//! `ddpm-train new`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ddpm_train::console;
use ddpm_train::new;

/// Look at a folder of pictures and write a configuration to train on it.
#[derive(Args)]
pub struct New {
    /// The pictures, with all folders in it.
    folder: PathBuf,
    /// The configuration, .toml; nothing may be there yet.
    #[arg(short, long, default_value = "config.toml")]
    out: PathBuf,
}

impl New {
    pub fn run(self) -> Result<ExitCode> {
        console::print(new::new(&self.folder, &self.out)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
