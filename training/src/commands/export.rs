use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::export;

/// Write the averaged network of a checkpoint as an ONNX file that the engine loads.
#[derive(Args)]
pub struct Export {
    /// A checkpoint written by fit.
    checkpoint: PathBuf,
    /// The model, ONNX.
    #[arg(short, long)]
    out: PathBuf,
}

impl Export {
    pub fn run(self, device: &Device) -> Result<ExitCode> {
        let checkpoint = Checkpoint::read(&self.checkpoint)?;
        let weights = checkpoint.ema(device)?;
        let verified = export::export(&self.out, &checkpoint.config, &weights, device)?;
        eprintln!(
            "wrote {}: {} bytes; ONNX Runtime within {:.1e} of the trained network over {} values",
            self.out.display(),
            verified.bytes,
            verified.worst,
            verified.values
        );
        Ok(ExitCode::SUCCESS)
    }
}
