//! Reads a golden file: the recorded tensors, and the sampler its metadata describes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use ddpm::log::{LogLevel, LogSink, Logger};
use ddpm::noise_schedule::{BetaSchedule, NoiseSchedule};
use ddpm::onnx::SchedulerConfig;
use ddpm::sampler::{Sampler, SamplerConfig, StepTable};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;

/// A file of this folder, by its path below it.
pub fn golden_path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(relative)
}

pub struct Trajectory {
    pub name: String,
    /// What the library's reader of diffusers' configs makes of the recorded one.
    pub scheduler: SchedulerConfig,
    pub schedule: NoiseSchedule,
    pub config: SamplerConfig,
    bytes: Vec<u8>,
}

impl Trajectory {
    pub fn load(name: &str) -> Self {
        let path = golden_path(&format!("trajectories/{name}.safetensors"));
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let text = &metadata.metadata().as_ref().unwrap()["config"];
        let recorded: Value = serde_json::from_str(text).unwrap();
        let scheduler = scheduler_config(name, &recorded);
        Self {
            name: name.to_owned(),
            schedule: scheduler.noise_schedule().unwrap(),
            config: sampler_config(scheduler.sampler.clone(), &recorded),
            scheduler,
            bytes,
        }
    }

    /// The library's table for the recorded run, of the order it was recorded with.
    pub fn table(&self) -> StepTable {
        self.table_of(&self.config)
    }

    pub fn table_of(&self, config: &SamplerConfig) -> StepTable {
        ddpm::sampler::step_table(&self.schedule, self.scheduler.prediction_type, config)
            .unwrap_or_else(|e| panic!("{}: {e}", self.name))
    }

    /// The recorded rows, rising.
    pub fn recorded_rows(&self) -> Vec<usize> {
        let total = self.f64("timesteps").len();
        (0..total).filter(|k| self.has(&format!("x.{k}"))).collect()
    }

    /// The sample that row k starts from, in the variance-preserving scale.
    pub fn x(&self, k: usize) -> Vec<f32> {
        self.variance_preserving(&format!("x.{k}"), k)
    }

    /// The sample after row k, in the variance-preserving scale.
    pub fn prev(&self, k: usize) -> Vec<f32> {
        self.variance_preserving(&format!("prev.{k}"), k + 1)
    }

    /// The predicted clean sample of row k, where it was recorded.
    pub fn x0(&self, k: usize) -> Option<Vec<f32>> {
        let tensor = format!("x0.{k}");
        self.has(&tensor).then(|| self.f32(&tensor))
    }

    pub fn model_output(&self, k: usize) -> Vec<f32> {
        self.f32(&format!("model_output.{k}"))
    }

    /// The noise of row k, nothing where the sampler drew none.
    pub fn noise(&self, k: usize) -> Vec<f32> {
        let tensor = format!("noise.{k}");
        if self.has(&tensor) { self.f32(&tensor) } else { Vec::new() }
    }

    pub fn has(&self, tensor: &str) -> bool {
        self.tensors().names().contains(&tensor)
    }

    pub fn f64(&self, tensor: &str) -> Vec<f64> {
        self.read(tensor, Dtype::F64, f64::from_le_bytes)
    }

    fn f32(&self, tensor: &str) -> Vec<f32> {
        self.read(tensor, Dtype::F32, f32::from_le_bytes)
    }

    /// diffusers keeps the samples of Euler's and Heun's methods in sigma scale, x / sqrt(alpha_bar).
    fn variance_preserving(&self, tensor: &str, level: usize) -> Vec<f32> {
        let mut values = self.f32(tensor);
        if matches!(self.config.kind, Sampler::Euler | Sampler::EulerAncestral | Sampler::Heun) {
            let sigma = self.f64("sigmas")[level];
            let scale = 1.0 / (1.0 + sigma * sigma).sqrt();
            values.iter_mut().for_each(|v| *v = (f64::from(*v) * scale) as f32);
        }
        values
    }

    fn read<T, const N: usize>(
        &self,
        tensor: &str,
        dtype: Dtype,
        from: fn([u8; N]) -> T,
    ) -> Vec<T> {
        let tensors = self.tensors();
        let view = tensors.tensor(tensor).unwrap_or_else(|e| panic!("{} {tensor}: {e}", self.name));
        assert_eq!(view.dtype(), dtype, "{} {tensor}", self.name);
        view.data().as_chunks().0.iter().map(|&bytes| from(bytes)).collect()
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }
}

/// The recorded config, as a model folder's `scheduler_config.json` would have it. A key that the
/// library has no use for is no part of a recording.
fn scheduler_config(name: &str, recorded: &Value) -> SchedulerConfig {
    let mut settings = recorded["config"].clone();
    settings["_class_name"] = recorded["scheduler"].clone();
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let sink: LogSink = {
        let warnings = Arc::clone(&warnings);
        Arc::new(move |_, text: &str| warnings.lock().unwrap().push(text.to_owned()))
    };
    let log = Logger::new(Some(sink), LogLevel::Warning);
    let mut config = SchedulerConfig::from_json(&settings.to_string(), name, &log).unwrap();
    assert!(warnings.lock().unwrap().is_empty(), "{name}: {warnings:?}");
    if recorded["betas"] == "formulas.py" {
        // The paper's, where the config's name means others to diffusers.
        let name = settings["beta_schedule"].as_str().unwrap();
        config.beta_schedule = BetaSchedule::from_name(name, 0.0, 0.0).unwrap();
    }
    config
}

/// The sampler of the recorded run: the scheduler's, and the arguments of its calls.
fn sampler_config(scheduler: SamplerConfig, recorded: &Value) -> SamplerConfig {
    let steps = recorded["num_inference_steps"].as_u64().unwrap() as usize;
    let mut config = SamplerConfig { steps, ..scheduler };
    for (key, value) in recorded["step_args"].as_object().unwrap() {
        match key.as_str() {
            "eta" => config.eta = Some(value.as_f64().unwrap()),
            "use_clipped_model_output" => config.clipped_epsilon = value.as_bool().unwrap(),
            other => panic!("step_args {other}"),
        }
    }
    assert!(recorded["set_args"].as_object().unwrap().is_empty());
    config
}
