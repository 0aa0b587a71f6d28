use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::console;
use ddpm_train::forward::BurnDenoiser;
use ddpm_train::likelihood::{self, Request};

/// Measure how well a checkpoint's averaged network describes images: the variational bound in bits
/// a value, over ranges of timesteps. A tool to compare models of the same images with.
#[derive(Args)]
pub struct Likelihood {
    /// A checkpoint written by fit.
    checkpoint: PathBuf,
    /// A folder of images, or a picture of tiles, instead of those that it was trained on.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Images to measure, evenly spread over all.
    #[arg(long, default_value_t = 256)]
    count: usize,
    /// Compute one timestep in so many, drawn for each image: 1 for all (slow), more for an estimate.
    #[arg(long, default_value_t = 20)]
    every: usize,
    /// Evaluations of the network at once.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Of the noise and of the timesteps drawn.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

impl Likelihood {
    pub fn run(self, device: &Device) -> Result<ExitCode> {
        let checkpoint = Checkpoint::read(&self.checkpoint)?;
        let weights = checkpoint.ema(device)?;
        let config = &checkpoint.config;
        let data = likelihood::read_data(config, self.data.as_deref())?;
        let images = likelihood::evenly_spread(data.len(), self.count);
        let request = Request { every: self.every, seed: self.seed, batch: self.batch };
        let mut denoiser = BurnDenoiser::new(config, weights, device.clone())?;
        console::print(likelihood::likelihood(&mut denoiser, &data, &images, request)?)?;
        Ok(ExitCode::SUCCESS)
    }
}
