//! ONNX models run by ONNX Runtime, as a [`Denoiser`](crate::model::Denoiser).
//!
//! The only module that names `ort`. It must not know threads, streams or frames.

mod binding;
mod blob;
mod blob_json;
mod cache;
mod classes;
mod commit;
mod cuda;
mod cuda_libraries;
mod declared;
mod elf;
mod external_data;
mod fingerprint;
mod fuse;
mod fused;
mod graph;
mod helpers;
mod interrupt;
mod library;
mod load;
mod lookup;
pub mod messages;
mod metadata;
mod parts;
mod plugin;
mod ports;
mod progress;
pub mod protobuf;
mod provider;
mod reading;
mod resolve;
mod roles;
#[cfg(test)]
mod roles_tests;
mod scheduler_class;
mod scheduler_config;
mod scheduler_json;
mod session;
mod source;
mod tensors;
mod weights;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::error::Result;
use crate::log::Logger;
use crate::model::Color;
use crate::noise_schedule::BetaSchedule;
use crate::prediction::PredictionType;
use crate::sampler::{Thresholding, VarianceType};

pub use blob::{read_blob, write_blob};
pub use cache::CacheUse;
pub use cuda::{ConvSearch, CudaOptions, CudaStream, DeviceInfo, HostStream};
pub use graph::{GraphSummary, Initializer, without_metadata};
pub use interrupt::Interrupt;
pub use plugin::PluginOptions;
pub use progress::{LoadMonitor, LoadStage};
pub use provider::Provider;
pub use scheduler_config::SchedulerConfig;
pub use session::{Contract, OnnxDenoiser, OnnxInfo};
pub use source::{ModelFile, ModelFiles, ModelSource};
pub use tensors::{NamedTensors, TensorFile};

/// What the caller knows better than the model file. Every `None` leaves it to the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelOverrides {
    /// H, for models whose graph and metadata leave it open.
    pub height: Option<usize>,
    /// W, likewise.
    pub width: Option<usize>,
    /// What the output stands for.
    pub prediction_type: Option<PredictionType>,
    /// The betas it was trained with.
    pub beta_schedule: Option<BetaSchedule>,
    /// T it was trained with.
    pub num_train_timesteps: Option<usize>,
    /// Whether the betas were rescaled to zero terminal SNR.
    pub rescale_betas_zero_snr: Option<bool>,
    /// The variance of DDPM steps.
    pub variance_type: Option<VarianceType>,
    /// What is done to the predicted x_0.
    pub thresholding: Option<Thresholding>,
    /// What the channels mean.
    pub color: Option<Color>,
    /// The name of the input that takes the sample.
    pub sample_input: Option<String>,
    /// The name of the input that takes the timestep.
    pub timestep_input: Option<String>,
    /// The name of the input that takes class labels.
    pub label_input: Option<String>,
    /// How many classes there are, for a model with a label input that does not say.
    pub class_count: Option<usize>,
    /// The label that stands for no class, for a model whose is not the one after the last.
    pub null_label: Option<i64>,
    /// The name of the output to use.
    pub output: Option<String>,
}

/// Waits for the end of a thread.
pub type ThreadEnd = Box<dyn FnOnce() + Send>;

/// Starts threads for the runtime.
#[derive(Clone)]
pub struct Spawner(Arc<Spawn>);

type Spawn = dyn Fn(Box<dyn FnOnce() + Send>) -> Result<ThreadEnd> + Send + Sync;

impl Spawner {
    /// `spawn` starts a thread that does its work once and ends, and gives what waits for that. It is
    /// called at the begin of a load, once for each thread but the one that loads; where it fails, so does
    /// the load.
    pub fn new(
        spawn: impl Fn(Box<dyn FnOnce() + Send>) -> Result<ThreadEnd> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(spawn))
    }

    fn spawn(&self, work: Box<dyn FnOnce() + Send>) -> Result<ThreadEnd> {
        (self.0)(work)
    }
}

impl fmt::Debug for Spawner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spawner")
    }
}

/// Whether the arithmetic of a step is made part of the model's graph, so that one run of it is one
/// reverse step and the samples of a stream stay where the model runs. Otherwise the samples go back and
/// forth, and the step is made by this crate. The pictures are the same within 1e-5.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FusedStep {
    /// With CUDA, where the model allows it. Not with the CPU, where it saves nothing (see
    /// `benches/README.md`), nor with other providers, which need not have f64.
    #[default]
    Auto,
    /// With every provider; a model that does not allow it is an error.
    On,
    /// Never.
    Off,
}

/// How to load and run a model.
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions {
    /// The ONNX Runtime library. `None` looks in the usual places, see [`OnnxDenoiser::load`].
    pub runtime_library: Option<PathBuf>,
    /// What runs the model.
    pub provider: Provider,
    /// How CUDA runs it, where it does.
    pub cuda: CudaOptions,
    /// How a provider that comes as a library of its own is used, where one is asked for.
    pub plugin: PluginOptions,
    /// Threads inside one operator; 0 is the machine's cores less one, at least one.
    pub threads: u32,
    /// What the caller knows better than the file.
    pub overrides: ModelOverrides,
    /// A safetensors file whose tensors take the place of the graph's initializers of the same names: one
    /// graph, many styles. Each has the shape of what it replaces, and its type, or one of float32, float16 and
    /// bfloat16 for a float32 or float16; what becomes float16 is rounded to nearest. A tensor without an
    /// initializer is refused; initializers without a tensor stay. Exporters rename and fold some of what a
    /// network has (`torch.onnx.export` does with normalisation and linear layers), so the file of a style is
    /// made of the initializers of its own export. The model's golden checksum is then not looked at, but the
    /// one under `ddpm.golden` in the file's metadata. The file may be [`Served`](ModelSource::Served) as a
    /// model may.
    pub weights: Option<ModelSource>,
    /// The folder that a model in memory has its external data in, or below. `None` refuses a model that has
    /// any. One that has a place of its own takes none.
    pub external_data_dir: Option<PathBuf>,
    /// A diffusers `scheduler_config.json`, in place of one beside the model.
    pub scheduler_config: Option<PathBuf>,
    /// A folder for optimised graphs, made where there is none. A model that was loaded before by the
    /// same versions on the same kind of machine is taken from there, which saves the time it takes to
    /// optimise it; nothing is ever removed but what an unfinished write left. What can write there decides
    /// what is run: keep it as safe as the program itself. `None`: no cache.
    pub cache_dir: Option<PathBuf>,
    /// Whether a run of the model makes the whole step.
    pub fused_step: FusedStep,
    /// Starts the runtime's threads in place of the runtime.
    pub spawner: Option<Spawner>,
    /// Where defaults taken, fallbacks and the runtime's own messages go.
    pub log: Logger,
    /// Told how far the load is.
    pub progress: LoadMonitor,
}
