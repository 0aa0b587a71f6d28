//! Reads a golden file: the recorded tensors, and the sampler its metadata describes.

use std::path::{Path, PathBuf};

use ddpm::noise_schedule::{BetaSchedule, NoiseSchedule};
use ddpm::prediction::PredictionType;
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, StepTable, Thresholding};
use ddpm::timesteps::TimestepSpacing;
use safetensors::tensor::{Dtype, SafeTensors};
use serde_json::Value;

/// A file of this folder, by its path below it.
pub fn golden_path(relative: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(relative)
}

pub struct Trajectory {
    pub name: String,
    pub beta_schedule: BetaSchedule,
    pub schedule: NoiseSchedule,
    pub prediction_type: PredictionType,
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
        let Description { beta_schedule, zero_snr, train_steps, prediction_type, config } =
            Description::of(&recorded);
        let mut schedule = NoiseSchedule::new(&beta_schedule, train_steps).unwrap();
        if zero_snr {
            schedule = schedule.rescaled_to_zero_snr().unwrap();
        }
        Self { name: name.to_owned(), beta_schedule, schedule, prediction_type, config, bytes }
    }

    /// The library's table for the recorded run, of the order it was recorded with.
    pub fn table(&self) -> StepTable {
        self.table_of(&self.config)
    }

    pub fn table_of(&self, config: &SamplerConfig) -> StepTable {
        ddpm::sampler::step_table(&self.schedule, self.prediction_type, config)
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

/// What a recorded config says.
struct Description {
    beta_schedule: BetaSchedule,
    zero_snr: bool,
    train_steps: usize,
    prediction_type: PredictionType,
    config: SamplerConfig,
}

impl Description {
    /// Takes every key of the recorded config or panics, so that no setting is passed over in silence.
    fn of(recorded: &Value) -> Self {
        use Sampler::*;
        let settings = recorded["config"].as_object().unwrap();
        let is_sde = settings.get("algorithm_type").is_some_and(|v| v == "sde-dpmsolver++");
        let kind = match recorded["scheduler"].as_str().unwrap() {
            "DDPMScheduler" => Ddpm,
            "DDIMScheduler" => Ddim,
            "DDIMInverseScheduler" => DdimInverse,
            "DPMSolverMultistepScheduler" if is_sde => DpmppSde,
            "DPMSolverMultistepScheduler" => Dpmpp,
            "UniPCMultistepScheduler" => UniPc,
            "DEISMultistepScheduler" => Deis,
            "EulerDiscreteScheduler" => Euler,
            "EulerAncestralDiscreteScheduler" => EulerAncestral,
            "HeunDiscreteScheduler" => Heun,
            "PNDMScheduler" if settings.get("skip_prk_steps").is_some_and(|v| v == true) => Pndm,
            "PNDMScheduler" => PndmPrk,
            "LCMScheduler" => Lcm,
            "TCDScheduler" => Tcd,
            other => panic!("scheduler {other}"),
        };
        // diffusers' defaults where they are not ours.
        let clips = matches!(kind, Ddpm | Ddim | DdimInverse);
        let is_leading = clips || matches!(kind, Pndm | PndmPrk | Lcm | Tcd);
        let ends_at_first = matches!(kind, Deis | Pndm | PndmPrk | Tcd);
        let mut config = SamplerConfig {
            kind,
            steps: recorded["num_inference_steps"].as_u64().unwrap() as usize,
            spacing: if is_leading { TimestepSpacing::Leading } else { TimestepSpacing::Linspace },
            thresholding: if clips { Thresholding::Clip(1.0) } else { Thresholding::Off },
            final_alpha: if ends_at_first { FinalAlpha::First } else { FinalAlpha::One },
            ..SamplerConfig::default()
        };
        let (mut schedule, mut start, mut end, mut train_steps) = ("linear", 1e-4, 0.02, 1000);
        let (mut zero_snr, mut is_dynamic, mut ratio, mut max) = (false, false, 0.995, 1.0);
        let mut prediction_type = PredictionType::Epsilon;
        for (key, value) in settings {
            let text = || value.as_str().unwrap();
            let number = || value.as_f64().unwrap();
            let whole = || value.as_u64().unwrap();
            let flag = || value.as_bool().unwrap();
            match key.as_str() {
                "beta_schedule" => schedule = text(),
                "beta_start" => start = number(),
                "beta_end" => end = number(),
                "num_train_timesteps" => train_steps = whole() as usize,
                "prediction_type" => prediction_type = text().parse().unwrap(),
                "timestep_spacing" => config.spacing = text().parse().unwrap(),
                "steps_offset" => config.steps_offset = whole() as usize,
                "variance_type" => config.variance_type = text().parse().unwrap(),
                "clip_sample" if clips && !flag() => config.thresholding = Thresholding::Off,
                "thresholding" => is_dynamic = flag(),
                "dynamic_thresholding_ratio" => ratio = number(),
                "sample_max_value" => max = number(),
                "set_alpha_to_one" if !flag() => config.final_alpha = FinalAlpha::First,
                "final_sigmas_type" => {
                    config.final_alpha = match text() {
                        "zero" => FinalAlpha::One,
                        "sigma_min" => FinalAlpha::First,
                        other => panic!("final_sigmas_type {other}"),
                    }
                }
                "rescale_betas_zero_snr" => zero_snr = flag(),
                "solver_order" => config.order = Some(whole() as u32),
                "solver_type" => config.solver_type = Some(text().parse().unwrap()),
                "algorithm_type" if is_sde => {}
                "use_karras_sigmas" if flag() => config.sigmas = SigmaSpacing::Karras,
                "use_exponential_sigmas" if flag() => config.sigmas = SigmaSpacing::Exponential,
                "skip_prk_steps" if kind == Pndm => {}
                other => panic!("config {other}: {value}"),
            }
        }
        if is_dynamic {
            config.thresholding = Thresholding::Dynamic { ratio, max };
        }
        for (key, value) in recorded["step_args"].as_object().unwrap() {
            match key.as_str() {
                "eta" => config.eta = Some(value.as_f64().unwrap()),
                "use_clipped_model_output" => config.clipped_epsilon = value.as_bool().unwrap(),
                other => panic!("step_args {other}"),
            }
        }
        assert!(recorded["set_args"].as_object().unwrap().is_empty());
        let beta_schedule = BetaSchedule::from_name(schedule, start, end).unwrap();
        Self { beta_schedule, zero_snr, train_steps, prediction_type, config }
    }
}
