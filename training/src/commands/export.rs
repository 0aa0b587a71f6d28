use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::Args;
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::export::{self, Precision};
use ddpm_train::output;
use ddpm_train::say;

/// Write the averaged network of a checkpoint as an ONNX file that the engine loads.
#[derive(Args)]
pub struct Export {
    /// A checkpoint written by fit or import.
    checkpoint: PathBuf,
    /// The model, .onnx.
    #[arg(short, long, required_unless_present = "weights")]
    out: Option<PathBuf>,
    /// The weights, .safetensors, as training/pytorch/unet.py loads them.
    #[arg(long)]
    weights: Option<PathBuf>,
    /// Of the numbers inside. f16 is for GPUs, f16-weights is as fast as f32 everywhere; both halve the
    /// file.
    #[arg(long, value_enum, default_value_t)]
    precision: Precision,
}

impl Export {
    pub fn run(self, device: &Device) -> Result<ExitCode> {
        for (path, extension) in [(&self.out, "onnx"), (&self.weights, "safetensors")] {
            if let Some(path) = path {
                output::check(path, extension, &[&self.checkpoint])?;
            }
        }
        let checkpoint = Checkpoint::read(&self.checkpoint)?;
        let (config, parameters) = (&checkpoint.config, checkpoint.ema(device)?);
        if let Some(path) = self.weights {
            let bytes = export::export_weights(&path, config, &parameters)?;
            say!("wrote {}: {bytes} bytes", path.display());
        }
        let Some(out) = self.out else { return Ok(ExitCode::SUCCESS) };
        let verified = export::export(&out, config, &parameters, self.precision, device)?;
        say!(
            "wrote {}: {} bytes; ONNX Runtime within {:.1e} of the trained network over {} values",
            out.display(),
            verified.bytes,
            verified.worst,
            verified.values
        );
        Ok(ExitCode::SUCCESS)
    }
}
