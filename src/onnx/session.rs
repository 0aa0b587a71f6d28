//! A model file as a [`Denoiser`]: loaded, checked, warmed up, and run without allocating.

use std::fmt;
use std::path::PathBuf;

use ndarray::{ArrayView4, ArrayViewMut4};
use ort::session::Session;

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};
use crate::model::{Batching, Classes, Denoiser, FusedAsk, FusedSteps, ModelConfig};
use crate::rng::{Purpose, fill_standard_normal};
use crate::step::zeros;

use super::binding::{Binding, Feed};
use super::cache::CacheUse;
use super::classes::last_stands_for_none;
use super::commit::OnDevice;
use super::cuda::DeviceInfo;
use super::fused::Places;
use super::interrupt::Interrupt;
use super::library::runtime;
use super::load::{Loading, check_readable, provider_fault, threads};
use super::metadata::Golden;
use super::parts::Parts;
use super::ports::ValueShape;
use super::progress::LoadStage;
use super::provider::{Device, Provider};
use super::roles::Roles;
use super::{ModelSource, OnnxOptions};

/// How far the mean square of a golden output may be off, relatively. Providers and thread counts
/// reorder sums, which is good for 1e-5; another network, or weights in a lower precision than the
/// exporter's, is off by more than this.
const GOLDEN_TOLERANCE: f64 = 2e-3;

/// The inputs and the output that a model is run by, each as the graph declares it, such as
/// `"sample" float32 [?, 3, 16, 16]`; an open dimension is a question mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Takes the sample x_t.
    pub sample: String,
    /// Takes the timestep.
    pub timestep: String,
    /// Takes the class labels, where there are any.
    pub labels: Option<String>,
    /// Gives the prediction.
    pub output: String,
}

/// The batch sizes whose tensors are kept.
const MAX_BINDINGS: usize = 8;

/// What a loaded model turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub struct OnnxInfo {
    /// The provider in use, never `Auto`.
    pub provider: Provider,
    /// Why `Auto` uses the CPU and not CUDA; `None` where it did not have to choose.
    pub fallback_reason: Option<String>,
    /// The device of the provider in use; `None` for the CPU.
    pub device: Option<DeviceInfo>,
    /// Its inputs and its output.
    pub contract: Contract,
    /// The model: its shape, its colour, how it was trained.
    pub model: ModelConfig,
    /// The names of its classes, from the metadata, label 0 first; empty where it does not name them,
    /// and for a model that takes no labels.
    pub classes: Vec<String>,
    /// The batch size it is fixed to; `None` for any.
    pub fixed_batch: Option<usize>,
    /// The version of ONNX Runtime, such as `1.31.1`.
    pub runtime_version: String,
    /// The file ONNX Runtime was loaded from.
    pub runtime_library: PathBuf,
    /// Threads inside one operator.
    pub threads: u32,
    /// What tells the model from others: 32 hexadecimal digits, XXH3-128 of its file. Of one that keeps
    /// weights in other files, of the digests of them all: its own, then theirs in the order of their
    /// names, then that of [`OnnxOptions::weights`].
    pub fingerprint: String,
    /// Whether its optimised graph came from the cache.
    pub cache: CacheUse,
    /// Whether a run of the model makes the whole step; see [`FusedStep`](super::FusedStep).
    pub is_fused: bool,
}

/// An ONNX model run by ONNX Runtime.
///
/// One thread at a time. [`predict`](Denoiser::predict) allocates for the first run of a batch
/// size; later runs reuse its tensors.
pub struct OnnxDenoiser {
    /// One for each batch size used lately. Before the session: they must be released first.
    bindings: Vec<Binding>,
    /// What fused steps work on, likewise.
    places: Places,
    session: Session,
    /// After the session, which uses it.
    device: Device,
    interrupt: Interrupt,
    roles: Roles,
    info: OnnxInfo,
    name: String,
    log: Logger,
}

impl OnnxDenoiser {
    /// Loads a model and runs it once. Blocks for both, up to many seconds.
    ///
    /// ONNX Runtime is taken from `options.runtime_library`; without it from the file that the
    /// environment variable `DDPM_ONNXRUNTIME` names; without that from the folder of this library
    /// or the executable, then from the cache (`DDPM_CACHE`, else `libddpm` in the user's cache
    /// folder). The first load decides for the whole process. The telemetry of official builds of it is
    /// switched off, by the variable `ORT_DISABLE_TELEMETRY`, which is set while the runtime starts and
    /// only then, unless the environment has it.
    ///
    /// How the model was trained and is sampled is taken from `options.overrides`, else from a
    /// `scheduler_config.json` of diffusers in the file's folder or in `../scheduler`, else from the
    /// metadata, else from the DDPM paper. A model with classes is run up to twice more, to see
    /// whether the label after the last stands for no class.
    ///
    /// Errors: `RuntimeLibrary`; `Io` where a file cannot be read; `Model` where it is no model, its
    /// inputs and outputs have no known roles, its metadata or scheduler config is not understood,
    /// they do not fit the graph or each other, its size is open, or it does not reproduce its golden
    /// checksum; `Unsupported` for a scheduler config, or metadata, of what this version does not
    /// have; `Provider` where CUDA is asked for and cannot be used; `Inference` where the first run
    /// fails; `OutOfMemory` where the process may not have the memory; `InvalidArgument` for an option
    /// out of range.
    pub fn load(source: &ModelSource, options: &OnnxOptions) -> Result<Self> {
        Self::load_interruptible(source, options, &Interrupt::new())
    }

    /// [`load`](Self::load), with a way to break it, and all later runs, off from another thread.
    pub fn load_interruptible(
        source: &ModelSource,
        options: &OnnxOptions,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let threads = threads(options.threads)?;
        options.cuda.validate()?;
        if let ModelSource::Path(path) = source {
            check_readable(path)?;
        }
        let wants_cuda = matches!(options.provider, Provider::Auto | Provider::Cuda);
        let runtime = runtime(options.runtime_library.as_deref(), wants_cuda, &options.log)?;
        options.progress.set(LoadStage::Model, 0.0);
        let (parts, fingerprint) = &Parts::gather(source, options, interrupt)?;
        let loading = Loading { source, options, interrupt, runtime, parts, fingerprint, threads };
        let loaded = match options.provider {
            Provider::Cpu => loading.on(Provider::Cpu),
            Provider::Auto => loading.on(Provider::Cuda).or_else(|error| {
                interrupt.check()?;
                let mut loaded = loading.on(Provider::Cpu)?;
                let reason = error.to_string();
                options.log.log(LogLevel::Warning, format!("using the CPU: {reason}"));
                loaded.info.fallback_reason = Some(reason);
                Ok(loaded)
            }),
            asked => loading.on(asked).or_else(|error| {
                // A model that the CPU does not load either is at fault itself.
                interrupt.check()?;
                match error.kind() {
                    ErrorKind::Provider => Err(error),
                    _ => loading.on(Provider::Cpu).and_then(|_| Err(provider_fault(asked, &error))),
                }
            }),
        }?;
        options.progress.set(LoadStage::Done, 1.0);
        Ok(loaded)
    }

    /// One that has not run yet.
    pub(super) fn new(
        (session, device): OnDevice,
        interrupt: Interrupt,
        roles: Roles,
        info: OnnxInfo,
        name: String,
    ) -> Self {
        let places = Places::on(device.number());
        let log = Logger::default();
        Self { bindings: Vec::new(), places, session, device, interrupt, roles, info, name, log }
    }

    /// Runs for the first time: verifies a golden output, or runs on zeros, so that a model that
    /// cannot run fails at load, and the first step takes no longer than the others. Then finds the
    /// label for no class.
    pub(super) fn try_out(
        &mut self,
        golden: Option<Golden>,
        null_label: Option<i64>,
        log: &Logger,
    ) -> Result<()> {
        self.log = log.clone();
        match golden {
            Some(golden) => self.verify(golden)?,
            None => {
                self.run_first(false, |_| {}, 0.0, 0)?;
            }
        }
        self.find_null_label(null_label, log)?;
        self.info.device = self.device.info(log);
        self.interrupt.check()
    }

    /// What the model turned out to be.
    pub fn info(&self) -> &OnnxInfo {
        &self.info
    }

    fn run(&mut self, quiet: bool, feed: Feed<'_>, output: &mut [f32]) -> Result<()> {
        let batch = feed.timesteps.len();
        let name = &self.name;
        let fault = |kind, text: &str| Error::new(kind, format!("{name}: {text}"));
        let index = match self.bindings.iter().position(|bound| bound.batch() == batch) {
            Some(index) => index,
            None => {
                let kind = (self.info.provider != Provider::Cpu, self.info.is_fused);
                let bound = Binding::new(&self.session, &self.roles, batch, &self.info.model, kind)
                    .map_err(|error| fault(ErrorKind::Inference, error.message()))?;
                if self.bindings.len() == MAX_BINDINGS {
                    self.bindings.remove(0);
                }
                self.bindings.push(bound);
                self.bindings.len() - 1
            }
        };
        let (binding, session, roles) = (&mut self.bindings[index], &mut self.session, &self.roles);
        self.interrupt
            .during(quiet, |options| binding.run(session, options, roles, feed, output))
            .map_err(|error| fault(error.kind(), error.message()))
    }

    /// The batch of the first runs: what the model is fixed to, else 1.
    fn first_batch(&self) -> usize {
        self.info.fixed_batch.unwrap_or(1)
    }

    /// Runs `batch` items once: `fill` makes each item's sample, and every item has the same timestep
    /// and label.
    fn run_once(
        &mut self,
        quiet: bool,
        batch: usize,
        fill: impl Fn(&mut [f32]),
        timestep: f64,
        label: i64,
    ) -> Result<Vec<f32>> {
        let model = &self.info.model;
        let labels = if model.classes.is_some() { vec![label; batch] } else { Vec::new() };
        let mut sample = zeros(model.sample_len(batch)?)?;
        let mut output = zeros(sample.len() / model.channels * model.output_channels())?;
        let item = sample.len() / batch;
        sample.chunks_mut(item).for_each(fill);
        let timesteps = vec![timestep; batch];
        let feed = Feed { sample: &sample, timesteps: &timesteps, labels: &labels };
        self.run(quiet, feed, &mut output)?;
        Ok(output)
    }

    /// [`run_once`](Self::run_once) while loading, with the batch of the first runs. What breaks off a
    /// single run is meant for those of a loaded model.
    fn run_first(
        &mut self,
        quiet: bool,
        fill: impl Fn(&mut [f32]) + Copy,
        timestep: f64,
        label: i64,
    ) -> Result<Vec<f32>> {
        loop {
            match self.run_once(quiet, self.first_batch(), fill, timestep, label) {
                Err(_) if self.interrupt.was_broken_off() => self.interrupt.check()?,
                outcome => return outcome,
            }
        }
    }

    fn verify(&mut self, golden: Golden) -> Result<()> {
        let noise =
            |item: &mut [f32]| fill_standard_normal(golden.seed, Purpose::InitialNoise, 0, item);
        let output = self.run_first(false, noise, golden.timestep, golden.label)?;
        let squares = output.iter().map(|&value| f64::from(value).powi(2));
        let found = squares.sum::<f64>() / output.len() as f64;
        let expected = golden.mean_square;
        let off = ((found - expected) / expected).abs();
        // NaN is off as well.
        if off <= GOLDEN_TOLERANCE {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Model,
            format!(
                "{}: does not reproduce its golden checksum: mean square {found} with seed {} at t = {}, expected {expected}; the file is damaged or its metadata belongs to another",
                self.name, golden.seed, golden.timestep
            ),
        ))
    }

    /// The label for no class: the caller's, which must run, else the one after the last class where
    /// the model has it. Runs the model up to twice where it has classes.
    fn find_null_label(&mut self, given: Option<i64>, log: &Logger) -> Result<()> {
        let Some(Classes { count, .. }) = self.info.model.classes else {
            return Ok(());
        };
        let noise = |item: &mut [f32]| fill_standard_normal(0, Purpose::InitialNoise, 0, item);
        let name = self.name.clone();
        let interrupt = self.interrupt.clone();
        // A label that the model does not have is no fault of the model, so the runtime is silent.
        let mut ask = |label| {
            self.run_first(true, noise, 0.0, label).map_err(|error| error.message().to_owned())
        };
        let null = match (given, count) {
            (Some(null), _) => match ask(null) {
                Ok(_) => Some(null),
                Err(reason) => {
                    interrupt.check()?;
                    return Err(Error::new(
                        ErrorKind::Model,
                        format!(
                            "{name}: null_label: found {null}, which the model does not run with: {reason}"
                        ),
                    ));
                }
            },
            (None, Some(count)) => match last_stands_for_none(count, ask) {
                Ok(null) => Some(null),
                Err(reason) => {
                    log.log(
                        LogLevel::Info,
                        format!("{name}: no label for no class, so no guidance: {reason}"),
                    );
                    None
                }
            },
            (None, None) => None,
        };
        self.info.model.classes = Some(Classes { count, null });
        Ok(())
    }

    fn check_labels(&self, batch: usize, labels: &[i64]) -> Result<()> {
        let refuse = |what: String| Err(Error::invalid_argument(format!("{}: {what}", self.name)));
        let Some(Classes { count, null }) = self.info.model.classes else {
            return match labels.len() {
                0 => Ok(()),
                found => refuse(format!("labels: found {found}, but the model has no classes")),
            };
        };
        if labels.len() != batch {
            return refuse(format!("labels: found {}, expected {batch}, one each", labels.len()));
        }
        // CUDA would look up zeros and say nothing.
        let is_out = |label: &&i64| {
            let out = count.is_some_and(|count| !usize::try_from(**label).is_ok_and(|l| l < count));
            out && Some(**label) != null
        };
        match (labels.iter().find(is_out), count) {
            (Some(label), Some(count)) => {
                refuse(format!("class: found {label}, expected 0 to {}", count.saturating_sub(1)))
            }
            _ => Ok(()),
        }
    }
}

impl Denoiser for OnnxDenoiser {
    fn config(&self) -> &ModelConfig {
        &self.info.model
    }

    fn batching(&self) -> Batching {
        let one = |shape: ValueShape| shape != ValueShape::PerSample;
        Batching {
            fixed: self.info.fixed_batch,
            shared_timestep: one(self.roles.timestep.shape),
            shared_label: self.roles.label.as_ref().is_some_and(|label| one(label.shape)),
        }
    }

    /// Runs the model once on zeros, whose result nobody sees.
    fn warm_up(&mut self, batch: usize) -> Result<()> {
        self.interrupt.forget();
        self.run_once(false, batch, |_| {}, 0.0, 0).map(|_| ())
    }

    fn fused(&mut self) -> Option<&mut dyn FusedSteps> {
        self.info.is_fused.then_some(self as &mut dyn FusedSteps)
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        self.interrupt.forget();
        let batch = timesteps.len();
        let model = &self.info.model;
        let shapes = [
            ("sample", sample.shape(), model.channels),
            ("output", output.shape(), model.output_channels()),
        ];
        for (what, shape, channels) in shapes {
            let expected = [batch, channels, model.height, model.width];
            if shape != expected {
                return Err(Error::invalid_argument(format!(
                    "{}: {what}: found shape {shape:?}, expected {expected:?}",
                    self.name
                )));
            }
        }
        if let Some(fixed) = self.info.fixed_batch
            && fixed != batch
        {
            return Err(Error::invalid_argument(format!(
                "{}: batch: found {batch}, expected {fixed} as the model is fixed to it",
                self.name
            )));
        }
        self.check_labels(batch, labels)?;
        let contiguous =
            || Error::invalid_argument("sample and output: expected C-contiguous arrays");
        let sample = sample.to_slice().ok_or_else(contiguous)?;
        let output = output.as_slice_mut().ok_or_else(contiguous)?;
        if batch == 0 {
            return Ok(());
        }
        self.run(false, Feed { sample, timesteps, labels }, output)
    }
}

impl FusedSteps for OnnxDenoiser {
    fn step(&mut self, place: usize, ask: FusedAsk<'_>) -> Result<bool> {
        let made = self.step_in(place, ask);
        if let Err(error) = &made {
            // As the worker sees it: what one stream asks for says nothing of the others.
            let is_asked_for =
                matches!(error.kind(), ErrorKind::InvalidArgument | ErrorKind::Unsupported);
            let is_ours =
                !is_asked_for && !self.interrupt.was_broken_off() && self.interrupt.check().is_ok();
            if is_ours {
                let text = format!("{}: from here on steps are not fused: {error}", self.name);
                self.log.log(LogLevel::Warning, text);
            }
        }
        made
    }

    fn fetch(&mut self, place: usize, state: &mut [f32]) -> Result<()> {
        self.places.fetch(place, state)
    }
}

impl OnnxDenoiser {
    fn step_in(&mut self, place: usize, ask: FusedAsk<'_>) -> Result<bool> {
        self.interrupt.forget();
        self.check_labels(ask.rows.len(), ask.labels)?;
        let (session, roles, model) = (&mut self.session, &self.roles, &self.info.model);
        let place = self.places.get(place, ask.rows.len(), session, roles, model)?;
        place.feed(roles, &ask)?;
        self.interrupt.during(false, |options| place.run(session, options, roles, &ask))?;
        Ok(place.finish(ask.shown))
    }
}

impl fmt::Debug for OnnxDenoiser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnnxDenoiser").field("name", &self.name).field("info", &self.info).finish()
    }
}
