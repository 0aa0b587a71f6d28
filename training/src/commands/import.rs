use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use ddpm_train::import;
use ddpm_train::say;

/// Make a checkpoint of a UNet2DModel of diffusers: to sample from, to export, to fit --from.
#[derive(Args)]
pub struct Import {
    /// A folder with config.json and diffusion_pytorch_model.safetensors, or that of a pipeline.
    folder: PathBuf,
    /// The checkpoint, .safetensors. Beside it comes a configuration to train it with, .toml. Neither may be
    /// there yet.
    #[arg(short, long)]
    out: PathBuf,
}

impl Import {
    pub fn run(self, device: &Device) -> Result<ExitCode> {
        import::check(&self.out)?;
        let written = import::write(&self.out, &import::import(&self.folder, device)?, device)?;
        say!("wrote {} and {}", self.out.display(), written.display());
        Ok(ExitCode::SUCCESS)
    }
}
