//! What an engine and a stream are made from. Every field but the model has a default.

use std::path::PathBuf;

use crate::log::{LogLevel, LogSink};
use crate::onnx::{CudaOptions, FusedStep, ModelOverrides, ModelSource, PluginOptions, Provider};
use crate::run::{Run, RunStart};
use crate::sampler::SamplerConfig;
use crate::worker::{FrameFormat, Preview, Priority, ThreadPriority};

/// What an engine is made from.
#[derive(Clone)]
pub struct EngineConfig {
    /// The model.
    pub model: ModelSource,
    /// Weights in place of the model's own: see [`OnnxOptions::weights`].
    ///
    /// [`OnnxOptions::weights`]: crate::onnx::OnnxOptions::weights
    pub weights: Option<ModelSource>,
    /// Where a model in memory has its external data: see [`OnnxOptions::external_data_dir`].
    ///
    /// [`OnnxOptions::external_data_dir`]: crate::onnx::OnnxOptions::external_data_dir
    pub external_data_dir: Option<PathBuf>,
    /// The ONNX Runtime library. `None` takes `DDPM_ONNXRUNTIME`, else looks beside this library
    /// and the executable, then in the cache that the fetch script fills.
    pub runtime_library: Option<PathBuf>,
    /// What runs the model.
    pub provider: Provider,
    /// How CUDA runs it, where it does.
    pub cuda: CudaOptions,
    /// How a provider that comes as a library of its own is used, where one is asked for.
    pub plugin: PluginOptions,
    /// Threads inside one operator; 0 is the machine's cores less one, at least one.
    pub threads: u32,
    /// How urgent the engine's own threads are. Their affinity is that of the thread that makes the
    /// engine; none of the host's threads is touched.
    pub thread_priority: ThreadPriority,
    /// A folder for optimised graphs, so that later loads are faster: see [`OnnxOptions::cache_dir`].
    ///
    /// [`OnnxOptions::cache_dir`]: crate::onnx::OnnxOptions::cache_dir
    pub cache_dir: Option<PathBuf>,
    /// The most streams that one call of the model steps at once, up to 256; 0 is 8, 1 serves them one
    /// by one. A model that is fixed to a batch is run with that. The first calls of the sizes below,
    /// 2, 4 and so on, are made after the load, while nobody asks for a step.
    pub max_batch: u32,
    /// Whether a run of the model makes the whole step. A stream with guidance, dynamic thresholding or, for
    /// that step, a branch with a variation has its samples brought back for it.
    pub fused_step: FusedStep,
    /// What the caller knows better than the model file, the size for one.
    pub overrides: ModelOverrides,
    /// Gets the log messages, mostly on the engine's thread. It must not call the engine.
    pub log: Option<LogSink>,
    /// The least serious messages that `log` gets.
    pub log_level: LogLevel,
}

impl EngineConfig {
    /// Defaults for this model: any provider, cores less one threads, no cache, no log.
    pub fn new(model: impl Into<ModelSource>) -> Self {
        Self {
            model: model.into(),
            weights: None,
            external_data_dir: None,
            runtime_library: None,
            provider: Provider::default(),
            cuda: CudaOptions::default(),
            plugin: PluginOptions::default(),
            threads: 0,
            thread_priority: ThreadPriority::default(),
            cache_dir: None,
            max_batch: 0,
            fused_step: FusedStep::default(),
            overrides: ModelOverrides::default(),
            log: None,
            log_level: LogLevel::default(),
        }
    }
}

/// What a stream is made from. The default is the model's own sampler from noise with seed 0.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StreamConfig {
    /// The sampler; `None` is the model's own. [`ModelConfig::sampler_config`] makes another that
    /// fits the model.
    ///
    /// [`ModelConfig::sampler_config`]: crate::model::ModelConfig::sampler_config
    pub sampler: Option<SamplerConfig>,
    /// Seed, class, guidance and picture to start from. A start picture is the predicted x_0 until
    /// the first step is made; it is published as a frame only where the strength leaves no step.
    pub start: RunStart,
    /// What the frames show.
    pub preview: Preview,
    /// How the frames' pixels are laid out.
    pub format: FrameFormat,
    /// Whose steps are made first where more streams wait than one run of the model takes.
    pub priority: Priority,
    /// Whether the timesteps are chosen so that each step brings what one sees nearer to the finished
    /// picture by about as much, in place of the sampler's spacing. For the first such stream of a sampler and a preview the
    /// engine makes a run of its own, of up to 32 rows, to measure that. Not for samplers that have timesteps of
    /// their own: Heun, PNDM, LCM, TCD, the inverse, Karras and exponential sigmas, a strength below 1.
    pub director: bool,
    /// The most bytes of states that are kept on the way, from which a seek goes on; they are allocated with
    /// the stream. `None` is room for about the square root of the number of steps, up to 1 MiB; 0 keeps none,
    /// and every seek back begins at the start.
    pub checkpoint_bytes: Option<usize>,
}

/// What a stream keeps for seeking at most, unless it says otherwise.
const DEFAULT_CHECKPOINT_BYTES: usize = 1 << 20;

impl StreamConfig {
    /// What the stream of this run keeps for seeking.
    pub(super) fn checkpoint_bytes_of(&self, run: &Run) -> usize {
        let of_root = run.state_bytes().saturating_mul(run.steps().isqrt());
        self.checkpoint_bytes.unwrap_or(of_root.min(DEFAULT_CHECKPOINT_BYTES))
    }
}

impl StreamConfig {
    /// This sampler, and noise of this seed.
    pub fn new(sampler: SamplerConfig, seed: u64) -> Self {
        let start = RunStart { seed, ..RunStart::default() };
        Self { sampler: Some(sampler), start, ..Self::default() }
    }
}
