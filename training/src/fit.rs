//! The training run: batches, loss, steps, and what is written on the way.
//!
//! A step is a function of configuration, data and step number alone (its images, their flips and
//! shifts, timesteps and noise are counted out by Philox), so a run goes on from a checkpoint as if
//! never interrupted.

use std::fs::{self, OpenOptions};
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::rng::{self, Purpose};
use indicatif::{ProgressBar, ProgressStyle};

use crate::checkpoint::{self, Checkpoint, write_atomically};
use crate::config::{Config, IMAGE_CHANNELS};
use crate::data::augment::View;
use crate::data::{Dataset, Order};
use crate::forward::forward;
use crate::optimizer::TrainState;
use crate::parameters::specs;
use crate::{picture, sample};

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

/// What a step of training is computed from.
struct Batch {
    noisy: Tensor<4>,
    target: Tensor<4>,
    timesteps: Vec<f64>,
}

/// Makes the batches of a run.
struct Batches<'a> {
    config: &'a Config,
    data: &'a Dataset,
    order: Order,
    schedule: NoiseSchedule,
    prediction: PredictionType,
    device: Device,
}

impl<'a> Batches<'a> {
    fn new(config: &'a Config, data: &'a Dataset, device: &Device) -> Result<Self> {
        let model = config.model_config()?;
        Ok(Self {
            config,
            data,
            order: Order::new(config.seed, data.len()),
            schedule: model.noise_schedule()?,
            prediction: model.prediction_type,
            device: device.clone(),
        })
    }

    /// The batch of step `step`: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise (DDPM eq. 4).
    fn batch(&mut self, step: usize) -> Result<Batch> {
        let (n, seed) = (self.config.train.batch, self.config.seed);
        let (h, w) = (self.config.data.height, self.config.data.width);
        let item = h * w * IMAGE_CHANNELS;
        let mut noise = vec![0.0; n * item];
        rng::fill_standard_normal(seed, Purpose::TrainNoise, step as u32, &mut noise);
        let (mut noisy, mut target) = (vec![0.0; n * item], vec![0.0; n * item]);
        let (mut timesteps, mut image) = (Vec::with_capacity(n), vec![0.0; item]);
        for i in 0..n {
            let view = View::random(&self.config.data, seed, step, i);
            self.data.copy_image(self.order.image(step * n + i), view, &mut image);
            let t = self.timestep(step, i);
            let noise = &noise[i * item..][..item];
            self.schedule.add_noise(&image, noise, t, &mut noisy[i * item..][..item])?;
            let (c_x0, c_noise) = self.prediction.target_coefficients(&self.schedule, t)?;
            let (c_x0, c_noise) = (c_x0 as f32, c_noise as f32);
            for ((target, x0), noise) in target[i * item..].iter_mut().zip(&image).zip(noise) {
                *target = c_x0 * x0 + c_noise * noise;
            }
            timesteps.push(t as f64);
        }
        let tensor = |values| {
            Tensor::from_data(TensorData::new(values, [n, h, w, IMAGE_CHANNELS]), &self.device)
        };
        Ok(Batch { noisy: tensor(noisy), target: tensor(target), timesteps })
    }

    /// Uniform over 0..T, spread evenly over the batch from one random start: the loss of a batch
    /// varies less (Kingma et al. 2021, "Variational diffusion models", appendix I.1).
    fn timestep(&self, step: usize, item: usize) -> usize {
        let (seed, n) = (self.config.seed, self.config.train.batch);
        let word = rng::uniform_u64(seed, Purpose::TrainTimesteps, step as u32, 0);
        let start = word as f64 * 2f64.powi(-64);
        let place = (start + item as f64 / n as f64).fract();
        let count = self.schedule.num_train_timesteps();
        ((place * count as f64) as usize).min(count - 1)
    }
}

/// Mean square error of one batch and its step of the optimiser. Returns the loss.
fn train_step(config: &Config, batch: &Batch, state: &mut TrainState) -> Result<f64> {
    let tracked = state.parameters.tracked();
    let noisy = batch.noisy.clone().autodiff();
    let out = forward(&config.model, &tracked, noisy, &batch.timesteps);
    let loss = (out - batch.target.clone().autodiff()).square().mean();
    let value = f64::from(loss.clone().into_scalar::<f32>());
    ensure!(
        value.is_finite(),
        "the loss is {value} at step {}; the last checkpoint is kept. Try a lower train.learning_rate",
        state.step + 1
    );
    let mut gradients = loss.backward();
    state.update(&tracked, &mut gradients, &config.train);
    Ok(value)
}

/// Times training steps on a fixed batch; for benchmarks. Returns seconds a step, the first left out.
pub fn time_steps(config: &Config, steps: usize, device: &Device) -> Result<Vec<f64>> {
    let data = Dataset::read(&config.data)?;
    let mut batches = Batches::new(config, &data, device)?;
    let mut state = TrainState::initial(specs(&config.model, IMAGE_CHANNELS), config.seed, device)?;
    let mut times = Vec::with_capacity(steps);
    for step in 0..=steps {
        let batch = batches.batch(step)?;
        let start = Instant::now();
        train_step(config, &batch, &mut state)?;
        if step > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}

/// Trains as `config` says. With `resume`, goes on from the checkpoint in its folder.
pub fn fit(config: &Config, resume: bool, device: &Device) -> Result<()> {
    let files = RunFiles { folder: config.out.clone() };
    let data = Dataset::read(&config.data)?;
    for note in data.notes() {
        eprintln!("{note}");
    }
    fs::create_dir_all(&files.folder)
        .with_context(|| format!("cannot make {}", files.folder.display()))?;
    let images = data.fingerprint();
    let mut state = start(config, &files, &images, resume, device)?;
    let mut losses = losses_so_far(&files, state.step)?;
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
    let mut batches = Batches::new(config, &data, device)?;
    let mut progress = Progress::new(config, state.step);
    while state.step < config.train.steps {
        let batch = batches.batch(state.step)?;
        let loss = train_step(config, &batch, &mut state)?;
        losses.push(loss);
        writeln!(log, "{},{loss}", state.step).context("cannot write the loss log")?;
        progress.step(state.step, loss);
        let last = state.step == config.train.steps;
        if last || state.step.is_multiple_of(config.report.checkpoint_every) {
            checkpoint::save(&files.checkpoint(), config, &images, &state)?;
            picture::write_loss_curve(&files.loss_curve(), &losses)?;
        }
        let every = config.report.sample_every;
        if every > 0 && (last || state.step.is_multiple_of(every)) {
            let report = &config.report;
            let images =
                sample::sample(config, &state.ema, report.samples, report.sample_steps, 0, device)?;
            let path = files.samples(state.step);
            picture::write_grid(&path, &images, config.data.width, config.data.height)?;
        }
    }
    progress.finish();
    eprintln!("wrote {}", files.checkpoint().display());
    Ok(())
}

fn start(
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
    TrainState::initial(specs(&config.model, IMAGE_CHANNELS), config.seed, device)
}

/// Whether two configurations compute the same run; where it lies and what it reports may differ.
fn same_run(a: &Config, b: &Config) -> bool {
    a.seed == b.seed
        && a.model == b.model
        && a.diffusion == b.diffusion
        && a.train == b.train
        && a.data.same_images(&b.data)
}

const LOG_HEADER: &str = "step,loss";

/// Reads the losses of steps 1 to `step` and cuts the log there: later lines were never saved.
fn losses_so_far(files: &RunFiles, step: usize) -> Result<Vec<f64>> {
    let path = files.loss_log();
    let mut losses = Vec::new();
    if step > 0 {
        let text =
            fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        losses = parse_losses(&text, &path).take(step).collect::<Result<_>>()?;
        ensure!(
            losses.len() == step,
            "{}: has {} steps, the checkpoint {step}",
            path.display(),
            losses.len()
        );
    }
    let mut text = format!("{LOG_HEADER}\n");
    for (i, loss) in losses.iter().enumerate() {
        text.push_str(&format!("{},{loss}\n", i + 1));
    }
    write_atomically(&path, text.as_bytes())?;
    Ok(losses)
}

/// A bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: ProgressBar,
    plain: bool,
    batch: usize,
    steps: usize,
    first: usize,
    smoothed: Option<f64>,
    started: Instant,
    spoke: Instant,
}

const PLAIN_EVERY: Duration = Duration::from_secs(15);

impl Progress {
    fn new(config: &Config, step: usize) -> Self {
        let bar = ProgressBar::new(config.train.steps as u64).with_position(step as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left") {
            bar.set_style(style);
        }
        bar.reset_eta();
        Self {
            bar,
            plain: !std::io::stderr().is_terminal(),
            batch: config.train.batch,
            steps: config.train.steps,
            first: step,
            smoothed: None,
            started: Instant::now(),
            spoke: Instant::now(),
        }
    }

    fn step(&mut self, step: usize, loss: f64) {
        let smoothed = self.smoothed.map_or(loss, |old| old + 0.02 * (loss - old));
        self.smoothed = Some(smoothed);
        let taken = (step - self.first) as f64;
        let rate = taken / self.started.elapsed().as_secs_f64().max(1e-9);
        let images = rate * self.batch as f64;
        self.bar.set_position(step as u64);
        self.bar.set_message(format!("loss {smoothed:.4}  {images:.0} images/s"));
        if self.plain && self.spoke.elapsed() >= PLAIN_EVERY {
            self.spoke = Instant::now();
            let left = (self.steps - step) as f64 / rate;
            eprintln!(
                "step {step} of {}  loss {smoothed:.4}  {images:.0} images/s  {:.1} min left",
                self.steps,
                left / 60.0
            );
        }
    }

    fn finish(&self) {
        self.bar.finish();
    }
}

/// Reads the losses written by a run.
pub fn read_losses(path: &Path) -> Result<Vec<f64>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_losses(&text, path).collect()
}

/// The losses of a log, line by line, so that a reader may stop before a line that was cut short.
fn parse_losses<'a>(text: &'a str, path: &'a Path) -> impl Iterator<Item = Result<f64>> + 'a {
    text.lines().skip(1).map(|line| {
        line.split_once(',')
            .and_then(|(_, loss)| loss.parse().ok())
            .with_context(|| format!("{}: line {line:?}", path.display()))
    })
}
