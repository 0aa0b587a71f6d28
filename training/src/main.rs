//! The command line of the training crate.

mod judge_command;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use burn::tensor::Device;
use clap::{Parser, Subcommand};
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::config::Config;
use ddpm_train::export::Precision;
use ddpm_train::fit::{self, Begin, End};
use ddpm_train::forward::BurnDenoiser;
use ddpm_train::{export, import, interrupt, likelihood, ops, sample, step};
use judge_command::{ClassifierArgs, EvalArgs};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fits a diffusion model to images and exports it to ONNX.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train as a configuration file says.
    Fit {
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
    },
    /// Make a checkpoint of a UNet2DModel of diffusers: to sample from, to export, to fit --from.
    Import {
        /// A folder with config.json and diffusion_pytorch_model.safetensors, or that of a pipeline.
        folder: PathBuf,
        /// The checkpoint, safetensors. Beside it comes a configuration to train it with, TOML.
        #[arg(short, long)]
        out: PathBuf,
    },
    /// Write the averaged network of a checkpoint as an ONNX file that the engine loads.
    Export {
        /// A checkpoint written by fit or import.
        checkpoint: PathBuf,
        /// The model, ONNX.
        #[arg(short, long, required_unless_present = "weights")]
        out: Option<PathBuf>,
        /// The weights, safetensors, as training/pytorch/unet.py loads them.
        #[arg(long)]
        weights: Option<PathBuf>,
        /// Of the numbers inside. f16 is for GPUs, f16-weights is as fast as f32 everywhere; both halve the
        /// file.
        #[arg(long, value_enum, default_value_t)]
        precision: Precision,
    },
    /// Time training steps: a line of seconds for each, the first (warm-up) left out.
    #[command(hide = true)]
    Time {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
        /// Images a step, instead of the configuration's.
        #[arg(long)]
        batch: Option<usize>,
        /// Steps to time.
        #[arg(long, default_value_t = 10)]
        steps: usize,
    },
    /// Judge a checkpoint: distances to the training images, classes, copies, steps. An HTML report.
    Eval(Box<EvalArgs>),
    /// Train the classifier that eval judges with.
    Classifier(ClassifierArgs),
    /// Measure how well a checkpoint's averaged network describes images: the variational bound in bits
    /// a value, over ranges of timesteps. A tool to compare models of the same images with.
    Likelihood {
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
    },
    /// Draw a grid of samples from a checkpoint.
    Sample {
        /// A checkpoint written by fit.
        checkpoint: PathBuf,
        /// The picture, PNG.
        #[arg(short, long)]
        out: PathBuf,
        /// Pictures in the grid.
        #[arg(long, default_value_t = 64)]
        count: usize,
        /// ddpm, ddim, dpmpp_2m, unipc, ...: any sampler of the engine.
        #[arg(long, default_value = "ddim")]
        sampler: String,
        /// Steps of the sampler.
        #[arg(long, default_value_t = 50)]
        steps: usize,
        /// Name of the class of all pictures; without it every class in turn.
        #[arg(long)]
        class: Option<String>,
        /// How strongly the class is insisted on (classifier-free guidance): 1 for not at all, 2 to 4 often.
        #[arg(long, default_value_t = 1.0)]
        guidance: f64,
        /// Seed of the first picture; the others count on from it.
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

fn run(command: Command) -> Result<ExitCode> {
    let device = Device::flex();
    match command {
        Command::Fit { config, out, resume, from } => {
            let mut config = Config::read(&config)?;
            if let Some(out) = out {
                config.out = out;
            }
            let begin = match from {
                Some(checkpoint) => Begin::From(checkpoint),
                None if resume => Begin::Resume,
                None => Begin::Fresh,
            };
            Ok(match fit::fit_from(&config, &begin, &device)? {
                End::Finished => ExitCode::SUCCESS,
                End::Interrupted => ExitCode::from(interrupt::EXIT_CODE),
            })
        }
        Command::Import { folder, out } => {
            let written = import::write(&out, &import::import(&folder, &device)?, &device)?;
            eprintln!("wrote {} and {}", out.display(), written.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Export { checkpoint, out, weights, precision } => {
            let checkpoint = Checkpoint::read(&checkpoint)?;
            let (config, parameters) = (&checkpoint.config, checkpoint.ema(&device)?);
            if let Some(path) = weights {
                let bytes = export::export_weights(&path, config, &parameters)?;
                eprintln!("wrote {}: {bytes} bytes", path.display());
            }
            let Some(out) = out else { return Ok(ExitCode::SUCCESS) };
            let verified = export::export(&out, config, &parameters, precision, &device)?;
            eprintln!(
                "wrote {}: {} bytes; ONNX Runtime within {:.1e} of the trained network over {} values",
                out.display(),
                verified.bytes,
                verified.worst,
                verified.values
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Time { config, batch, steps } => {
            let mut config = Config::read(&config)?;
            config.train.batch = batch.unwrap_or(config.train.batch);
            config.validate()?;
            for seconds in step::time(&config, steps, &device)? {
                println!("{seconds}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Likelihood { checkpoint, data, count, every, batch, seed } => {
            let checkpoint = Checkpoint::read(&checkpoint)?;
            let weights = checkpoint.ema(&device)?;
            let config = &checkpoint.config;
            let data = likelihood::read_data(config, data.as_deref())?;
            let images = likelihood::evenly_spread(data.len(), count);
            let request = likelihood::Request { every, seed, batch };
            let mut denoiser = BurnDenoiser::new(config, weights, device)?;
            println!("{}", likelihood::likelihood(&mut denoiser, &data, &images, request)?);
            Ok(ExitCode::SUCCESS)
        }
        Command::Eval(arguments) => {
            arguments.run(&device)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Classifier(arguments) => {
            arguments.run(&device)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Sample { checkpoint, out, count, sampler, steps, seed, class, guidance } => {
            let checkpoint = Checkpoint::read(&checkpoint)?;
            let config = &checkpoint.config;
            let weights = checkpoint.ema(&device)?;
            let sampler = sampler.parse()?;
            let class = class.map(|class| config.class(&class)).transpose()?;
            let request = sample::Request { count, sampler, steps, seed, class, guidance };
            let images = sample::sample(config, &weights, &request, &device)?;
            sample::write_grid(&out, config, &images)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn main() -> ExitCode {
    ops::memory::keep_freed_memory();
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ddpm-train: {error:#}");
            ExitCode::FAILURE
        }
    }
}
