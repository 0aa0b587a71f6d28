use std::iter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm_train::config::Config;
use ddpm_train::noise;
use ddpm_train::output;
use ddpm_train::say;

/// Draw what the noise makes of a picture: at timesteps 0, 200, 400, 600, 800 and 999 of 1000.
#[derive(Args)]
pub struct Noise {
    /// A picture of any kind that fit reads.
    image: PathBuf,
    /// The figure, .png.
    #[arg(short, long)]
    out: PathBuf,
    /// Take the noise schedule of this configuration, TOML; without it the linear one of the DDPM paper.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Of the noise.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Noise {
    pub fn run(self) -> Result<ExitCode> {
        let inputs: Vec<&Path> = iter::once(&*self.image).chain(self.config.as_deref()).collect();
        output::check(&self.out, "png", &inputs)?;
        let schedule = match self.config {
            Some(path) => Config::read(&path)?.model_config()?.noise_schedule()?,
            None => NoiseSchedule::ddpm(),
        };
        let timesteps = noise::figure(&self.image, &schedule, self.seed, &self.out)?;
        let timesteps: Vec<String> = timesteps.iter().map(usize::to_string).collect();
        say!("wrote {}: t = {}", self.out.display(), timesteps.join(", "));
        Ok(ExitCode::SUCCESS)
    }
}
