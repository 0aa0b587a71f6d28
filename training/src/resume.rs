//! Where a run begins: at fresh weights, at its checkpoint, or at the weights of another run; and what may
//! have changed meanwhile.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::optimizer::TrainState;
use crate::parameters::specs;
use crate::run_files::RunFiles;

/// What a run begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Random weights.
    Fresh,
    /// The checkpoint in the run's folder, of this same run.
    Resume,
    /// The averaged weights of this checkpoint, of another run.
    From(PathBuf),
}

/// The state to go on from. `images` is the fingerprint of the data.
///
/// Errors: to resume, where there is no checkpoint, or one of another run; else, where there is one, or
/// the other run's has another network.
pub fn start(
    config: &Config,
    files: &RunFiles,
    images: &str,
    begin: &Begin,
    device: &Device,
) -> Result<TrainState> {
    let path = files.checkpoint();
    if *begin == Begin::Resume {
        let checkpoint = Checkpoint::read(&path)?;
        ensure!(
            same_run(&checkpoint.config, config),
            "{}: was written with another configuration; resume with the same file, or train into \
             another folder",
            path.display()
        );
        if let Some(before) = checkpoint.images.as_deref().filter(|before| *before != images) {
            eprintln!(
                "{}: the images were others ({before}; now {images}). The run goes on with those of \
                 now, and is not what it would have been with the others",
                path.display()
            );
        }
        return checkpoint.state(device);
    }
    ensure!(
        !path.exists(),
        "{} exists; go on with --resume, or choose another folder with --out",
        path.display()
    );
    let Begin::From(other) = begin else {
        return TrainState::initial(specs(&config.network()), config.seed, device);
    };
    let shown = other.display();
    let checkpoint = Checkpoint::read(other)?;
    if checkpoint.config.diffusion != config.diffusion {
        eprintln!("{shown}: was trained with another [diffusion] than the configuration's");
    }
    let parameters = checkpoint.ema_for(config, device).with_context(|| format!("{shown}"))?;
    TrainState::starting_with(parameters, device)
}

/// Whether two configurations compute the same run; where it lies and what it reports may differ.
fn same_run(a: &Config, b: &Config) -> bool {
    a.seed == b.seed
        && a.model == b.model
        && a.diffusion == b.diffusion
        && a.loss == b.loss
        && a.train == b.train
        && a.data.same_images(&b.data)
}
