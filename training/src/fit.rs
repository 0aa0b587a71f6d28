//! The training run: batches, loss, steps, and what is written on the way.
//!
//! A step is a function of configuration, data and step number alone (its images, their flips and
//! shifts, timesteps and noise are counted out by Philox), so a run goes on from a checkpoint as if
//! never interrupted.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use burn::tensor::Device;

use crate::batches::Batches;
use crate::checkpoint::{self, Checkpoint};
use crate::config::Config;
use crate::data::Dataset;
use crate::interrupt::Interrupt;
use crate::loss_log::losses_so_far;
use crate::optimizer::TrainState;
use crate::parameters::specs;
use crate::progress::Progress;
use crate::{picture, sample, step};

/// Files of a run.
pub struct RunFiles {
    pub folder: PathBuf,
}

impl RunFiles {
    pub fn checkpoint(&self) -> PathBuf {
        self.folder.join("checkpoint.safetensors")
    }

    pub fn loss_log(&self) -> PathBuf {
        self.folder.join("loss.csv")
    }

    fn loss_curve(&self) -> PathBuf {
        self.folder.join("loss.svg")
    }

    fn samples(&self, step: usize) -> PathBuf {
        self.folder.join(format!("samples_{step:06}.png"))
    }
}

/// The data of a run, and its configuration with the names of the classes found there.
pub fn read_data(config: &Config) -> Result<(Config, Dataset)> {
    let data = Dataset::read(&config.data)?;
    let mut config = config.clone();
    config.data.class_names = data.class_names().to_vec();
    config.validate()?;
    Ok((config, data))
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are taken.
    Finished,
    /// It was asked to stop, and has saved where it was.
    Interrupted,
}

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

/// Trains as `config` says. With `resume`, goes on from the checkpoint in its folder.
pub fn fit(config: &Config, resume: bool, device: &Device) -> Result<End> {
    fit_from(config, &if resume { Begin::Resume } else { Begin::Fresh }, device)
}

/// Trains as `config` says, from what `begin` says.
pub fn fit_from(config: &Config, begin: &Begin, device: &Device) -> Result<End> {
    let files = RunFiles { folder: config.out.clone() };
    let (config, data) = &read_data(config)?;
    for note in data.notes() {
        eprintln!("{note}");
    }
    fs::create_dir_all(&files.folder)
        .with_context(|| format!("cannot make {}", files.folder.display()))?;
    let images = data.fingerprint();
    let mut state = start(config, &files, &images, begin, device)?;
    let mut losses = losses_so_far(&files.loss_log(), state.step)?;
    eprintln!(
        "{} images of {}x{}; {} weights; step {} of {}; writing to {}",
        data.len(),
        config.data.width,
        config.data.height,
        state.parameters.count(),
        state.step,
        config.train.steps,
        files.folder.display()
    );

    let mut log = OpenOptions::new()
        .append(true)
        .open(files.loss_log())
        .with_context(|| format!("cannot open {}", files.loss_log().display()))?;
    let mut batches = Batches::new(config, data, device)?;
    let mut progress = Progress::new(config, state.step);
    // Only now: until here there is nothing to save, and a signal ends the program.
    let interrupt = Interrupt::watch()?;
    while state.step < config.train.steps {
        let loss = step::take(config, &mut batches, &mut state)?.loss;
        losses.push(loss);
        writeln!(log, "{},{loss}", state.step).context("cannot write the loss log")?;
        progress.step(state.step, loss);
        let last = state.step == config.train.steps;
        let interrupted = interrupt.asked();
        if last || interrupted || state.step.is_multiple_of(config.report.checkpoint_every) {
            checkpoint::save(&files.checkpoint(), config, &images, &state)?;
            picture::write_loss_curve(&files.loss_curve(), &losses)?;
        }
        if interrupted && !last {
            progress.finish();
            eprintln!(
                "stopped at step {} of {}, written to {}; go on with --resume",
                state.step,
                config.train.steps,
                files.checkpoint().display()
            );
            return Ok(End::Interrupted);
        }
        let every = config.report.sample_every;
        if every > 0 && (last || state.step.is_multiple_of(every)) {
            let report = &config.report;
            let request = sample::Request::ddim(report.samples, report.sample_steps);
            let images = sample::sample(config, &state.ema, &request, device)?;
            sample::write_grid(&files.samples(state.step), config, &images)?;
        }
    }
    progress.finish();
    eprintln!("wrote {}", files.checkpoint().display());
    Ok(End::Finished)
}

fn start(
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
