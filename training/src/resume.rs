//! Where a run begins: at fresh weights or at its checkpoint, and what may have changed meanwhile.

use anyhow::{Result, ensure};
use burn::tensor::Device;

use crate::checkpoint::Checkpoint;
use crate::config::Config;
use crate::optimizer::TrainState;
use crate::parameters::specs;
use crate::run_files::RunFiles;

/// The state to go on from. `images` is the fingerprint of the data.
///
/// Errors: with `resume`, where there is no checkpoint, or one of another run; without, where there is one.
pub fn start(
    config: &Config,
    files: &RunFiles,
    images: &str,
    resume: bool,
    device: &Device,
) -> Result<TrainState> {
    let path = files.checkpoint();
    if resume {
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
    TrainState::initial(specs(&config.network()), config.seed, device)
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
