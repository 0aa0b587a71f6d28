use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use burn::tensor::Device;
use clap::Args;
use ddpm_train::config::Config;
use ddpm_train::fit::{self, End};
use ddpm_train::interrupt;
use ddpm_train::resume::Begin;
use ddpm_train::run_files::RunFiles;

/// Train as a configuration file says.
///
/// Ctrl-C saves a checkpoint after the step it is in and exits with code 130; again, a second later or
/// more, it exits at once.
#[derive(Args)]
pub struct Fit {
    /// The configuration, TOML.
    #[arg(long)]
    config: PathBuf,
    /// Folder for checkpoint, loss log and pictures, instead of the configuration's.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Go on from the checkpoint in that folder.
    #[arg(long)]
    resume: bool,
    /// Begin a new run with the averaged weights of this checkpoint, of fit or of import.
    #[arg(long, conflicts_with = "resume")]
    from: Option<PathBuf>,
}

impl Fit {
    pub fn run(self, device: &Device) -> Result<ExitCode> {
        let mut config = Config::read(&self.config)?;
        if let Some(out) = self.out {
            config.out = out;
        }
        let files = RunFiles { folder: config.out.clone() };
        ensure!(
            !files.includes(&self.config),
            "{}: would be written over by what a run writes to {}; choose another place with --out",
            self.config.display(),
            config.out.display()
        );
        let begin = match self.from {
            Some(checkpoint) => Begin::From(checkpoint),
            None if self.resume => Begin::Resume,
            None => Begin::Fresh,
        };
        Ok(match fit::fit(&config, &begin, device)? {
            End::Finished => ExitCode::SUCCESS,
            End::Interrupted => ExitCode::from(interrupt::EXIT_CODE),
        })
    }
}
