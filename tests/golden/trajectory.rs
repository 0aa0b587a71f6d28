//! Reads a golden file: the recorded tensors, and the sampler its metadata describes.

use std::path::{Path, PathBuf};

use ddpm::noise_schedule::{BetaSchedule, NoiseSchedule};
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig};
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;

/// A file of this folder, by its path below it.
pub fn golden_path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(relative)
}

pub struct Trajectory {
    pub name: String,
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
        let (schedule, config) = sampler_of(&recorded);
        Self { name: name.to_owned(), schedule, config, bytes }
    }

    /// The recorded step numbers, rising.
    pub fn recorded_steps(&self) -> Vec<usize> {
        (0..self.config.steps).filter(|k| self.has(&format!("x.{k}"))).collect()
    }

    pub fn has(&self, tensor: &str) -> bool {
        self.tensors().names().contains(&tensor)
    }

    pub fn f32(&self, tensor: &str) -> Vec<f32> {
        self.read(tensor, Dtype::F32, f32::from_le_bytes)
    }

    pub fn f64(&self, tensor: &str) -> Vec<f64> {
        self.read(tensor, Dtype::F64, f64::from_le_bytes)
    }

    /// The noise of step k, nothing where the sampler drew none.
    pub fn noise(&self, k: usize) -> Vec<f32> {
        let tensor = format!("noise.{k}");
        if self.has(&tensor) { self.f32(&tensor) } else { Vec::new() }
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

/// Takes every key of the recorded config or panics, so that no setting is passed over in silence.
fn sampler_of(recorded: &Value) -> (NoiseSchedule, SamplerConfig) {
    // diffusers' defaults where they are not ours.
    let mut config = SamplerConfig {
        kind: match recorded["scheduler"].as_str().unwrap() {
            "DDPMScheduler" => Sampler::Ddpm,
            "DDIMScheduler" => Sampler::Ddim { eta: 0.0 },
            other => panic!("scheduler {other}"),
        },
        steps: recorded["num_inference_steps"].as_u64().unwrap() as usize,
        spacing: "leading".parse().unwrap(),
        ..SamplerConfig::default()
    };
    let (mut beta_schedule, mut start, mut end, mut train_steps) = ("linear", 1e-4, 0.02, 1000);
    let mut zero_snr = false;
    for (key, value) in recorded["config"].as_object().unwrap() {
        let text = || value.as_str().unwrap();
        match key.as_str() {
            "beta_schedule" => beta_schedule = text(),
            "beta_start" => start = value.as_f64().unwrap(),
            "beta_end" => end = value.as_f64().unwrap(),
            "num_train_timesteps" => train_steps = value.as_u64().unwrap() as usize,
            "prediction_type" => config.prediction_type = text().parse().unwrap(),
            "timestep_spacing" => config.spacing = text().parse().unwrap(),
            "steps_offset" => config.steps_offset = value.as_u64().unwrap() as usize,
            "variance_type" => config.variance_type = text().parse().unwrap(),
            "clip_sample" => assert_eq!(config.clip.take().is_some(), !value.as_bool().unwrap()),
            "set_alpha_to_one" => {
                assert!(!value.as_bool().unwrap());
                config.final_alpha = FinalAlpha::First;
            }
            "rescale_betas_zero_snr" => zero_snr = value.as_bool().unwrap(),
            other => panic!("config {other}"),
        }
    }
    for (key, value) in recorded["step_args"].as_object().unwrap() {
        match key.as_str() {
            "eta" => config.kind = Sampler::Ddim { eta: value.as_f64().unwrap() },
            "use_clipped_model_output" => config.clipped_epsilon = value.as_bool().unwrap(),
            other => panic!("step_args {other}"),
        }
    }
    let beta_schedule = BetaSchedule::from_name(beta_schedule, start, end).unwrap();
    let mut schedule = NoiseSchedule::new(&beta_schedule, train_steps).unwrap();
    if zero_snr {
        schedule = schedule.rescaled_to_zero_snr().unwrap();
    }
    (schedule, config)
}
