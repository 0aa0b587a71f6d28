use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::output;
use ddpm_train::picture;
use ddpm_train::sample::{self, Request};
use ddpm_train::say;

/// Draw a grid of samples from a checkpoint.
#[derive(Args)]
pub struct Sample {
    /// A checkpoint written by fit.
    checkpoint: PathBuf,
    /// The picture, .png.
    #[arg(short, long)]
    out: PathBuf,
    /// Pictures in the grid.
    #[arg(long, default_value_t = 64)]
    count: usize,
    /// ddpm, ddim, dpmpp_2m, unipc, ...: any sampler of the engine.
    #[arg(long, default_value = "ddim")]
    sampler: String,
    /// Steps of the sampler; 50, or as many as the model has, if not given.
    #[arg(long)]
    steps: Option<usize>,
    /// Name of the class of all pictures; without it every class in turn.
    #[arg(long)]
    class: Option<String>,
    /// How strongly the class is insisted on (classifier-free guidance): 1 for not at all, 2 to 4 often.
    #[arg(long, default_value_t = 1.0)]
    guidance: f64,
    /// Seed of the first picture; the others count on from it.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Sample {
    pub fn run(self, device: &Device) -> Result<ExitCode> {
        output::check(&self.out, "png", &[&self.checkpoint])?;
        let checkpoint = Checkpoint::read(&self.checkpoint)?;
        let config = &checkpoint.config;
        picture::check_count("--count", self.count, config.data.width, config.data.height)?;
        let weights = checkpoint.ema(device)?;
        let request = Request {
            count: self.count,
            sampler: self.sampler.parse()?,
            steps: self.steps.unwrap_or(config.model_config()?.sampler.steps),
            seed: self.seed,
            class: self.class.map(|class| config.class(&class)).transpose()?,
            guidance: self.guidance,
        };
        let images = sample::sample(config, &weights, &request, device)?;
        sample::write_grid(&self.out, config, &images)?;
        say!("wrote {}", self.out.display());
        Ok(ExitCode::SUCCESS)
    }
}
