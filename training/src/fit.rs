//! The training run: batches, loss, steps, and what is written on the way.
//!
//! A step is a function of configuration, data and step number alone (its images, their flips and
//! shifts, timesteps and noise are counted out by Philox), so a run goes on from a checkpoint as if
//! never interrupted.

use std::fs;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;

use crate::batches::Batches;
use crate::checkpoint;
use crate::config::{Config, DataConfig};
use crate::data::Dataset;
use crate::device;
use crate::divergence::{self, Divergence};
use crate::interrupt::Interrupt;
use crate::loss_log::{LossLog, Row};
use crate::objective::Objective;
use crate::optimizer::{TrainState, learning_rate};
use crate::progress::Progress;
use crate::resume::{self, Begin};
use crate::run_files::{Claim, RunFiles};
use crate::say;
use crate::step::{self, Gradient};
use crate::tensorboard::EventFile;
use crate::{curves, memory, output, picture, sample};

/// By so many losses a finished run is judged.
const LAST_LOSSES: usize = 100;

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All steps are taken.
    Finished,
    /// It was asked to stop, and has saved where it was.
    Interrupted,
}

/// The data of a run, and its configuration with the names of the classes found there.
pub fn read_data(config: &Config) -> Result<(Config, Dataset)> {
    let data = Dataset::read(&config.data)?;
    let mut config = config.clone();
    config.data.class_names = data.class_names().to_vec();
    config.validate()?;
    Ok((config, data))
}

/// Trains as `config` says.
///
/// Errors: what cannot be read or written is named; a run whose loss or gradient is no finite number, or
/// that diverges, ends with advice. The checkpoint in the folder is then the last that was good.
pub fn fit(config: &Config, begin: &Begin, device: &Device) -> Result<End> {
    let files = RunFiles { folder: config.out.clone() };
    refuse_among_pictures(config)?;
    refuse_own_files(config, &files)?;
    let (config, data) = &read_data(config)?;
    for note in data.notes() {
        say!("{note}");
    }
    memory::check(config, device)?;
    let claim = files.claim()?;
    let images = data.fingerprint();
    let state = resume::start(config, &files, &images, begin, device)?;
    output::check_writable(&files.checkpoint())?;
    let (log, note) = LossLog::open(&files.loss_log(), state.step)?;
    if let Some(note) = note {
        say!("{note}");
    }
    say!(
        "{} images of {}x{}; {} weights; on {}; step {} of {}; writing to {}",
        data.len(),
        config.data.width,
        config.data.height,
        state.parameters.count(),
        device::name(device),
        state.step,
        config.train.steps,
        files.folder.display()
    );
    let train = &config.train;
    if train.warmup_steps >= train.steps {
        say!(
            "train.warmup_steps is {} of {} steps: the rate is still rising when the run ends, and never \
             reaches train.learning_rate",
            train.warmup_steps,
            train.steps
        );
    }
    let progress = Progress::new(config, log.rows(), state.step);
    let first = state.step;
    let mut batches = Batches::new(config, data, device)?;
    let objective = Objective::new(config)?;
    let mut divergence = Divergence::new(config, &objective, &mut batches)?;
    let events =
        if config.report.tensorboard { Some(EventFile::create(&files.folder)?) } else { None };
    let mut run = Run {
        config,
        files,
        claim,
        events,
        images,
        device,
        state,
        log,
        progress,
        first,
        saved: first,
        due: false,
    };
    // Only now: until here there is nothing to save, and a signal ends the program.
    let interrupt = Interrupt::watch()?;
    loop {
        let step = run.state.step;
        let weights = &run.state.parameters;
        let gradient = step::gradient(config, &objective, &mut batches, step, weights)?;
        // Weights are written only when the next images have shown that they are good.
        let good = divergence.judge(step, gradient.loss)?;
        let end = if step == config.train.steps {
            Some(End::Finished)
        } else {
            interrupt.asked().then_some(End::Interrupted)
        };
        run.keep_claim()?;
        if let Err(error) = run.report(end, good) {
            // It may have been removed a moment ago.
            if run.claim.holds() {
                return Err(error);
            }
            run.keep_claim()?;
            run.report(end, good)?;
        }
        if let Some(end) = end {
            run.end(end, good)?;
            let rows = run.log.rows();
            let last: Vec<f64> = rows.iter().rev().take(LAST_LOSSES).map(|row| row.loss).collect();
            if end == End::Finished && rows.len() > LAST_LOSSES && divergence.taught_nothing(&last)
            {
                say!(
                    "but it has learned nothing: the last losses are not below that of the untrained \
                     network. Try a lower train.learning_rate"
                );
            }
            return Ok(end);
        }
        run.step(gradient)?;
    }
}

/// What a run writes would be read as pictures when it goes on.
fn refuse_among_pictures(config: &Config) -> Result<()> {
    let Some(pictures) = config.data.folder.as_deref().and_then(|it| fs::canonicalize(it).ok())
    else {
        return Ok(());
    };
    let out = std::path::absolute(&config.out)?;
    let place = out.ancestors().find_map(|folder| fs::canonicalize(folder).ok());
    ensure!(
        place.is_none_or(|place| !place.starts_with(&pictures)),
        "{} lies among the pictures of {}; choose another place with out or --out",
        config.out.display(),
        pictures.display()
    );
    Ok(())
}

/// What a run writes must be nothing that it reads, and its configuration is kept as text.
fn refuse_own_files(config: &Config, files: &RunFiles) -> Result<()> {
    let DataConfig { folder, sheet, idx, idx_labels, .. } = &config.data;
    for path in [sheet, idx, idx_labels].into_iter().flatten() {
        ensure!(
            !files.includes(path),
            "{}: is read, and would be written over by what a run writes to {}; choose another place with \
             out or --out",
            path.display(),
            config.out.display()
        );
    }
    for path in [folder, sheet, idx, idx_labels].into_iter().flatten().chain([&config.out]) {
        ensure!(
            path.to_str().is_some(),
            "{}: the path is not UTF-8, which a checkpoint cannot keep",
            path.display()
        );
    }
    Ok(())
}

/// A run that goes on.
struct Run<'a> {
    config: &'a Config,
    files: RunFiles,
    /// Of their folder.
    claim: Claim,
    events: Option<EventFile>,
    images: String,
    device: &'a Device,
    state: TrainState,
    log: LossLog,
    progress: Progress,
    /// The step that it began at; what is due then is written.
    first: usize,
    /// The step of the checkpoint in the folder, or 0.
    saved: usize,
    /// Whether a checkpoint is to be written as soon as the weights are good.
    due: bool,
}

impl Run<'_> {
    /// A folder that was removed on the way, or moved, costs its pictures, not the run.
    ///
    /// Errors: where another run has taken its place.
    fn keep_claim(&mut self) -> Result<()> {
        if self.claim.holds() {
            return Ok(());
        }
        let shown = self.files.folder.display();
        // Its lock stays when a run ends.
        ensure!(
            std::fs::symlink_metadata(self.files.lock()).is_err(),
            "{shown}: was removed or moved, and another run has written there since; this one ends. What \
             it saved is where the folder went"
        );
        self.progress.say(&format!("{shown}: was removed or moved; the folder is made again"));
        self.claim = self.files.claim()?;
        if self.events.is_some() {
            self.events = Some(EventFile::create(&self.files.folder)?);
        }
        Ok(())
    }

    /// Moves the weights along the gradient, and logs it.
    fn step(&mut self, gradient: Gradient) -> Result<()> {
        let train = &self.config.train;
        let step = self.state.step;
        let grad_norm = self
            .state
            .update(gradient.by_weight, train)
            .with_context(|| format!("step {}: {}", step + 1, divergence::advice()))?;
        let row = Row {
            step: self.state.step,
            loss: gradient.loss,
            learning_rate: Some(learning_rate(train, step)),
            grad_norm: Some(grad_norm),
            mse: Some(gradient.mse),
            bound: gradient.bound,
            images_per_second: Some(self.progress.images_per_second(self.state.step)),
        };
        self.log.push(row)?;
        if let Some(events) = &mut self.events {
            let values = [
                ("loss", Some(row.loss)),
                ("learning_rate", row.learning_rate),
                ("grad_norm", row.grad_norm),
                ("mse", row.mse),
                ("bound", row.bound),
                ("images_per_second", row.images_per_second),
            ];
            let known = |(name, value): (_, Option<f64>)| Some((name, value?));
            let values: Vec<(&str, f64)> = values.into_iter().filter_map(known).collect();
            events.scalars(row.step, &values)?;
        }
        self.progress.step(&row);
        Ok(())
    }

    /// Writes what is due after a step.
    fn report(&mut self, end: Option<End>, good: bool) -> Result<()> {
        let report = &self.config.report;
        let step = self.state.step;
        let finished = end == Some(End::Finished);
        let draws = step > 0
            && report.sample_every > 0
            && (finished || step.is_multiple_of(report.sample_every));
        if step == self.first {
            // Of a run that was killed between its checkpoint and its pictures.
            if draws && !self.files.samples(step).exists() {
                self.draw_samples()?;
            }
            return Ok(());
        }
        self.due |= end.is_some() || step.is_multiple_of(report.checkpoint_every);
        if self.due && good {
            self.save()?;
        }
        if draws {
            self.draw_samples()?;
        }
        Ok(())
    }

    fn save(&mut self) -> Result<()> {
        let step = self.state.step;
        let path = self.files.checkpoint();
        let state = checkpoint::save(&path, self.config, &self.images, &self.state)?;
        self.saved = step;
        self.files.keep_checkpoint(&state, step, self.config.report.keep_checkpoints)?;
        self.log.restore()?;
        curves::write(&self.files.curves("svg"), &self.files.curves("png"), self.log.rows())?;
        self.progress.wrote(&format!("{} of step {step}", path.display()));
        self.due = false;
        Ok(())
    }

    fn draw_samples(&mut self) -> Result<()> {
        let (data, report) = (&self.config.data, &self.config.report);
        let request = sample::Request::ddim(report.samples, report.sample_steps);
        let images = sample::sample(self.config, &self.state.ema, &request, self.device)?;
        let path = self.files.samples(self.state.step);
        sample::write_grid(&path, self.config, &images)?;
        picture::write_film_strip(&self.files, self.state.step, data.width, data.height)?;
        if let Some(events) = &mut self.events {
            let read = || format!("cannot read {}", path.display());
            let png = fs::read(&path).with_context(read)?;
            let size = image::image_dimensions(&path).with_context(read)?;
            events.image(self.state.step, "samples", &png, size)?;
        }
        self.progress.wrote(&path.display().to_string());
        Ok(())
    }

    /// Says how it ended.
    fn end(&self, end: End, good: bool) -> Result<()> {
        self.progress.finish();
        let (path, step) = (self.files.checkpoint(), self.state.step);
        let path = path.display();
        if end == End::Finished {
            if !good {
                bail!("the run ended with a loss that was too large; {}", divergence::advice());
            }
            if step == self.first {
                say!("all {step} steps were taken before; {path} is left as it was");
            } else {
                say!("wrote {path}");
            }
            return Ok(());
        }
        let kept = match self.saved {
            0 => "nothing is saved".to_string(),
            saved if saved == step => format!("written to {path}; go on with --resume"),
            saved => format!("the loss was too large to save that, {path} is of step {saved}"),
        };
        say!("stopped at step {step} of {}, {kept}", self.config.train.steps);
        Ok(())
    }
}
