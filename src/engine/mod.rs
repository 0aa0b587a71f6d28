//! The engine: a model on a thread of its own, and the streams it reveals.
//!
//! Joins the worker and the ONNX session; the C ABI is a thin layer over this. It must not know
//! pointers or C. A model loads in the background; then a host makes streams and, each frame, asks
//! for a step and copies the newest picture. Nothing on that path blocks, allocates or takes a lock
//! that is held while the model runs.

mod config;
mod stream;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::log::{LogLevel, Logger};
use crate::noise_schedule::NoiseSchedule;
use crate::onnx::{Interrupt, LoadMonitor, OnnxDenoiser, OnnxOptions, Spawner, read_blob};
use crate::run::Run;
use crate::worker::{Loaded, Options, StreamCore, Worker, helpers, set_own_priority};

pub use crate::onnx::{
    CacheUse, ConvSearch, CudaOptions, CudaStream, DeviceInfo, FusedStep, HostStream, LoadStage,
    ModelFile, ModelFiles, ModelOverrides, ModelSource, OnnxInfo as EngineInfo, PluginOptions,
    Provider,
};
pub use crate::pacing::Easing;
pub use crate::run::Branch;
pub use crate::worker::{
    DEFAULT_FEWEST_STEPS, EngineState, FrameFormat, FrameGuard, FrameInfo, PlaybackConfig, Preview,
    Priority, StepOutcome, StreamState, StreamStatus, ThreadPriority,
};
pub use config::{EngineConfig, StreamConfig};
pub use stream::Stream;

/// The most streams that one call of the model steps, for an engine that does not say.
const DEFAULT_BATCH: u32 = 8;

/// More than this is a mistake.
const MAX_BATCH: u32 = 256;

/// The part of a load that is done when all of it is but the announcement.
const ALMOST_DONE: f32 = 0.99;

/// A model and the one thread that runs it, shared by its streams.
///
/// Every call may come from any thread. Dropping the engine closes it.
pub struct Engine {
    worker: Worker<Known>,
    progress: LoadMonitor,
}

/// How far an engine is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LoadProgress {
    /// Whether it loads, is ready, or is neither any more.
    pub state: EngineState,
    /// What the load is doing, or was doing when it failed or the engine was closed; `Done` once the
    /// engine has been ready.
    pub stage: LoadStage,
    /// The part of the load that is done, 0 to 1; 1 once the engine has been ready. It never goes back.
    /// It follows how long the stages usually take and moves in steps: no promise about time.
    pub fraction: f32,
}

/// What is known of a loaded model.
struct Known {
    info: Arc<EngineInfo>,
    schedule: Arc<NoiseSchedule>,
}

impl Engine {
    /// Starts an engine. Returns at once; the model loads on the engine's thread, see
    /// [`wait`](Self::wait) and [`state`](Self::state). Loading ends with one run of the model, so
    /// that one that cannot run fails there.
    ///
    /// Errors: `InvalidArgument` for a `max_batch` or a CUDA option that is out of range; `Internal` where the system
    /// gives no thread. All else shows as a failed load.
    pub fn new(config: EngineConfig) -> Result<Self> {
        let EngineConfig {
            model,
            weights,
            external_data_dir,
            runtime_library,
            provider,
            cuda,
            plugin,
            threads,
            thread_priority,
            cache_dir,
            max_batch,
            fused_step,
            overrides,
            log,
            log_level,
        } = config;
        let max_batch = match max_batch {
            0 => DEFAULT_BATCH,
            1..=MAX_BATCH => max_batch,
            _ => {
                return Err(Error::invalid_argument(format!(
                    "max_batch: found {max_batch}, expected 0 (automatic) to {MAX_BATCH}"
                )));
            }
        } as usize;
        cuda.validate()?;
        let log = Logger::new(log, log_level);
        let options = OnnxOptions {
            runtime_library,
            provider,
            cuda,
            plugin,
            threads,
            overrides,
            weights,
            external_data_dir,
            cache_dir,
            fused_step,
            spawner: Some(Spawner::new(helpers(thread_priority))),
            log,
            ..OnnxOptions::default()
        };
        let interrupt = Interrupt::new();
        let progress = options.progress.clone();
        let stopper = Arc::new(interrupt.clone());
        let worker = Worker::spawn(stopper, max_batch, move || {
            if let Err(reason) = set_own_priority(thread_priority) {
                let text = format!("thread_priority: left as it is: {reason}");
                options.log.log(LogLevel::Warning, text);
            }
            let denoiser = OnnxDenoiser::load_interruptible(&model, &options, &interrupt)?;
            let info = Arc::new(denoiser.info().clone());
            let schedule = Arc::new(info.model.noise_schedule()?);
            Ok(Loaded { denoiser: Box::new(denoiser), info: Known { info, schedule } })
        })?;
        Ok(Self { worker, progress })
    }

    /// How far loading is. Does not block, take a lock or allocate.
    pub fn state(&self) -> EngineState {
        self.worker.state()
    }

    /// How far loading is, with its stage, to show to a user. Does not block, take a lock or allocate.
    pub fn progress(&self) -> LoadProgress {
        let state = self.state();
        let (stage, fraction) = match (state, self.progress.get()) {
            // The load is over, and the worker about to say so.
            (EngineState::Loading, (LoadStage::Done, _)) => (LoadStage::FirstRuns, ALMOST_DONE),
            (_, found) => found,
        };
        LoadProgress { state, stage, fraction }
    }

    /// How often the sample of a stream, or all that its sampler keeps, has been copied between the memory
    /// of the host and where the model runs, since the engine was made. Without a [`FusedStep`] that is twice a
    /// step; with one only where streams join, leave or seek, or a state is kept for that. Pictures do not
    /// count. Does not block, take a lock or allocate.
    pub fn host_copies(&self) -> u64 {
        self.worker.copies()
    }

    /// Blocks until the model is loaded: true; or until `timeout` has passed: false. `None` waits
    /// as long as it takes. For tools; a frame loop looks at [`state`](Self::state).
    ///
    /// Errors: why loading failed (`RuntimeLibrary`, `Model`, `Unsupported`, `Provider`,
    /// `Inference`, ...); `EngineClosed`.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.worker.wait(timeout)
    }

    /// What the engine runs. Does not block.
    ///
    /// Errors: `EngineLoading` until it is loaded; then as [`wait`](Self::wait).
    pub fn info(&self) -> Result<Arc<EngineInfo>> {
        Ok(Arc::clone(&self.worker.info()?.info))
    }

    /// The forward process that the model was trained on: its alphas_cumprod, and
    /// [`NoiseSchedule::add_noise`]. Does not block or allocate.
    ///
    /// Errors: as [`info`](Self::info).
    pub fn noise_schedule(&self) -> Result<Arc<NoiseSchedule>> {
        Ok(Arc::clone(&self.worker.info()?.schedule))
    }

    /// Makes a stream at step 0. Allocates everything the stream will use; runs no model and does
    /// not block. One whose run has no steps (strength 0) is done, and the start image is its frame.
    ///
    /// Errors: as [`info`](Self::info); `InvalidArgument` where the config does not fit the model;
    /// `OutOfMemory`, for a stream beyond 4,096 too.
    pub fn stream(&self, config: &StreamConfig) -> Result<Stream> {
        let info = self.info()?;
        let sampler = config.sampler.as_ref().unwrap_or(&info.model.sampler);
        self.stream_of(&info, Run::starting(&info.model, sampler, config.start.clone(), 1)?, config)
    }

    /// Makes a stream of a run that [`Stream::save`] wrote, as it stood: the frames of its further steps
    /// are bit for bit those that the saved stream would have had, on the same provider. Of `config` only
    /// what says how it is served and shown counts. Its frame is there at once. Allocates; does not block.
    ///
    /// Errors: as [`info`](Self::info); `InvalidArgument` where the bytes are not such a run, or of another
    /// model, or `config` has a sampler, a start or a director; `Unsupported` for one of a later version;
    /// `OutOfMemory`.
    pub fn load_stream(&self, saved: &[u8], config: &StreamConfig) -> Result<Stream> {
        let info = self.info()?;
        let is_default = StreamConfig::default();
        for (what, is_set) in [
            ("sampler", config.sampler != is_default.sampler),
            ("start", config.start != is_default.start),
            ("director", config.director),
        ] {
            if is_set {
                return Err(Error::invalid_argument(format!(
                    "{what}: found one, expected none: a saved run has its own"
                )));
            }
        }
        self.stream_of(&info, read_blob(saved, &info.model, &info.fingerprint)?, config)
    }

    fn stream_of(&self, info: &EngineInfo, run: Run, config: &StreamConfig) -> Result<Stream> {
        let options = Options {
            preview: config.preview,
            format: config.format,
            priority: config.priority,
            director: config.director,
            checkpoint_bytes: config.checkpoint_bytes_of(&run),
        };
        let core = StreamCore::new(&info.model, run, options)?;
        Ok(Stream::new(Arc::new(core), self.worker.link()?))
    }

    /// Stops what runs, ends the engine's thread and waits for it; a run of the model is broken off
    /// at its next operator. The streams stay valid and give `EngineClosed`. A second call does
    /// nothing.
    ///
    /// Errors: `InvalidArgument` when called from the log callback on the engine's own thread,
    /// which would wait for itself.
    pub fn close(&self) -> Result<()> {
        self.worker.close()
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("state", &self.state()).finish()
    }
}
