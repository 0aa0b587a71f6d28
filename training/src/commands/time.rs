use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use ddpm_train::config::Config;
use ddpm_train::console;
use ddpm_train::step;

/// Time training steps: a line of seconds for each, the first (warm-up) left out.
#[derive(Args)]
pub struct Time {
    /// The configuration, TOML.
    #[arg(long)]
    config: PathBuf,
    /// Images a step, instead of the configuration's.
    #[arg(long)]
    batch: Option<usize>,
    /// Steps to time.
    #[arg(long, default_value_t = 10)]
    steps: usize,
}

impl Time {
    pub fn run(self, device: &Device) -> Result<ExitCode> {
        let mut config = Config::read(&self.config)?;
        config.train.batch = self.batch.unwrap_or(config.train.batch);
        config.validate()?;
        for seconds in step::time(&config, self.steps, device)? {
            console::print(seconds)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}
