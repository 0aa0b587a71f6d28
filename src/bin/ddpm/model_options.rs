//! Flags that say which model is loaded, how, and what is known better than its file.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ddpm::error::{Error, Result};
use ddpm::log::{LogLevel, LogSink, Logger};
use ddpm::model::{Color, ModelConfig};
use ddpm::noise_schedule::BetaSchedule;
use ddpm::onnx::{
    ModelOverrides, ModelSource, OnnxDenoiser, OnnxInfo, OnnxOptions, SchedulerConfig,
};
use ddpm::prediction::PredictionType;

use crate::provider_options::ProviderOptions;
use crate::say;

/// How much is said on standard error.
#[derive(Clone, Copy)]
pub struct Console {
    pub verbose: bool,
}

impl Console {
    /// Where the library's messages go.
    pub fn logger(self) -> Logger {
        let sink: LogSink = Arc::new(|level, text: &str| {
            let level = match level {
                LogLevel::Error => "error",
                LogLevel::Warning => "warning",
                LogLevel::Info | LogLevel::Debug => "info",
            };
            say(&format!("ddpm: {level}: {text}"));
        });
        Logger::new(Some(sink), if self.verbose { LogLevel::Info } else { LogLevel::Warning })
    }

    /// Says what the user should know of, and may go on without.
    pub fn note(self, text: &str) {
        say(&format!("ddpm: note: {text}"));
    }
}

#[derive(Args)]
#[command(next_help_heading = "Model options")]
pub struct ModelOptions {
    #[command(flatten)]
    provider: ProviderOptions,
    /// CPU threads that run the model; 0 is the machine's cores less one
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: u32,
    /// The ONNX Runtime library [default: $DDPM_ONNXRUNTIME, else beside the program, else the cache]
    #[arg(long, value_name = "PATH")]
    runtime: Option<PathBuf>,
    /// A folder for optimised graphs, so that a model loads faster the next time
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// A safetensors file whose tensors take the place of the model's weights of the same names
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Width in pixels, for a model that leaves it open
    #[arg(long, value_name = "PIXELS")]
    width: Option<usize>,
    /// Height in pixels, for a model that leaves it open
    #[arg(long, value_name = "PIXELS")]
    height: Option<usize>,
    /// What the channels are
    #[arg(long, value_parser = named(["gray", "rgb", "rgba"], Color::from_str))]
    color: Option<Color>,
    /// What the model's output stands for
    #[arg(long, value_name = "TYPE", value_parser = named(PREDICTION_TYPES, PredictionType::from_str))]
    prediction_type: Option<PredictionType>,
    /// How many classes there are, for a model that does not say
    #[arg(long, value_name = "N")]
    class_count: Option<usize>,
    /// The label that stands for no class [default: the one after the last, where the model takes it]
    #[arg(long, value_name = "LABEL")]
    null_label: Option<i64>,
    /// The input that takes the sample, where its name does not tell
    #[arg(long, value_name = "NAME")]
    sample_input: Option<String>,
    /// The input that takes the timestep
    #[arg(long, value_name = "NAME")]
    timestep_input: Option<String>,
    /// The input that takes class labels
    #[arg(long, value_name = "NAME")]
    label_input: Option<String>,
    /// The output that is the prediction
    #[arg(long, value_name = "NAME")]
    model_output: Option<String>,
    /// A scheduler_config.json of diffusers: what it says of the noise schedule, the prediction and the
    /// sampler comes before what the model file says. One beside the model is found without this
    #[arg(long, value_name = "FILE")]
    scheduler: Option<PathBuf>,
    #[command(flatten)]
    schedule: ScheduleOptions,
}

/// A model that was loaded.
pub struct Loaded {
    pub denoiser: OnnxDenoiser,
    /// What it turned out to be.
    pub info: OnnxInfo,
}

const PREDICTION_TYPES: [&str; 4] = ["epsilon", "sample", "v_prediction", "mean"];

/// The forward process a model was trained with.
#[derive(Args)]
#[command(next_help_heading = "Noise schedule (the model's own unless given)")]
pub struct ScheduleOptions {
    /// How beta grows over training time
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(BETA_SCHEDULES))]
    beta_schedule: Option<String>,
    /// The first beta, for linear, scaled_linear and sigmoid [default: 0.0001]
    #[arg(long, value_name = "BETA", requires = "beta_schedule")]
    beta_start: Option<f64>,
    /// The last beta, for the same [default: 0.02]
    #[arg(long, value_name = "BETA", requires = "beta_schedule")]
    beta_end: Option<f64>,
    /// T, the number of training timesteps
    #[arg(long, value_name = "T")]
    num_train_timesteps: Option<usize>,
    /// The betas were rescaled to end in pure noise
    #[arg(long)]
    zero_snr: bool,
}

const BETA_SCHEDULES: [&str; 5] =
    ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"];

impl ScheduleOptions {
    fn apply(&self, overrides: &mut ModelOverrides) -> Result<()> {
        if let Some(name) = &self.beta_schedule {
            let (start, end) = (self.beta_start.unwrap_or(1e-4), self.beta_end.unwrap_or(0.02));
            let schedule = BetaSchedule::from_name(name, start, end)?;
            let given = self.beta_start.or(self.beta_end);
            if let (None, Some(beta)) = (schedule.ends(), given) {
                return Err(Error::invalid_argument(format!(
                    "beta_start, beta_end: found {beta}, but {name} has neither"
                )));
            }
            overrides.beta_schedule = Some(schedule);
        }
        overrides.num_train_timesteps = self.num_train_timesteps.or(overrides.num_train_timesteps);
        if self.zero_snr {
            overrides.rescale_betas_zero_snr = Some(true);
        }
        Ok(())
    }
}

impl ModelOptions {
    /// The files that a command reads: `model`, `other` and those that these flags name.
    pub fn inputs<'a>(&'a self, model: &'a Path, other: Option<&'a Path>) -> [Option<&'a Path>; 4] {
        [Some(model), other, self.weights.as_deref(), self.scheduler.as_deref()]
    }

    /// What the flags know better than the file. Errors: `InvalidArgument`.
    fn overrides(&self) -> Result<ModelOverrides> {
        let mut overrides = ModelOverrides {
            height: self.height,
            width: self.width,
            color: self.color,
            prediction_type: self.prediction_type,
            sample_input: self.sample_input.clone(),
            timestep_input: self.timestep_input.clone(),
            label_input: self.label_input.clone(),
            class_count: self.class_count,
            null_label: self.null_label,
            output: self.model_output.clone(),
            ..ModelOverrides::default()
        };
        self.schedule.apply(&mut overrides)?;
        Ok(overrides)
    }

    /// The description of a model that is nowhere but in the flags: one for its noise schedule.
    ///
    /// Errors: `InvalidArgument`, for a flag that only a model file has a use for too.
    pub fn without_a_file(&self, log: &Logger) -> Result<ModelConfig> {
        let useless = [
            ("--runtime", self.runtime.is_some()),
            ("--cache", self.cache.is_some()),
            ("--weights", self.weights.is_some()),
            ("--width", self.width.is_some()),
            ("--height", self.height.is_some()),
            ("--color", self.color.is_some()),
            ("--threads", self.threads != 0),
            ("--provider", self.provider.are_given()),
            ("--class-count", self.class_count.is_some()),
            ("--null-label", self.null_label.is_some()),
            ("--sample-input", self.sample_input.is_some()),
            ("--timestep-input", self.timestep_input.is_some()),
            ("--label-input", self.label_input.is_some()),
            ("--model-output", self.model_output.is_some()),
        ];
        if let Some((flag, _)) = useless.iter().find(|(_, is_given)| *is_given) {
            return Err(Error::invalid_argument(format!("{flag}: found without a MODEL to load")));
        }
        let mut overrides = self.overrides()?;
        let mut model = ModelConfig::ddpm(3, 1, 1);
        if let Some(path) = &self.scheduler {
            let scheduler = SchedulerConfig::read(path, log)?;
            model.beta_schedule = scheduler.beta_schedule;
            model.num_train_timesteps = scheduler.num_train_timesteps;
            model.rescale_betas_zero_snr = scheduler.rescale_betas_zero_snr;
            overrides.prediction_type =
                overrides.prediction_type.or(Some(scheduler.prediction_type));
            model.sampler = scheduler.sampler;
            // As such a model would have it.
            model.gives_variance = model.sampler.variance_type.is_learned();
        }
        if let Some(schedule) = overrides.beta_schedule {
            model.beta_schedule = schedule;
        }
        model.rescale_betas_zero_snr |= overrides.rescale_betas_zero_snr.unwrap_or(false);
        if let Some(timesteps) = overrides.num_train_timesteps {
            model.num_train_timesteps = timesteps;
            model.sampler.steps = model.sampler.steps.min(timesteps);
        }
        // What is predicted does not move the points, but epsilon is no prediction at zero SNR.
        let fitting = match model.rescale_betas_zero_snr {
            true => PredictionType::VPrediction,
            false => PredictionType::Epsilon,
        };
        model.prediction_type = overrides.prediction_type.unwrap_or(fitting);
        model.validate()?;
        Ok(model)
    }

    /// How the flags have a model loaded. Errors: `InvalidArgument`.
    pub fn to_load(&self, log: Logger) -> Result<OnnxOptions> {
        Ok(OnnxOptions {
            runtime_library: self.runtime.clone(),
            provider: self.provider.provider,
            cuda: self.provider.cuda()?,
            plugin: self.provider.plugin()?,
            threads: self.threads,
            overrides: self.overrides()?,
            scheduler_config: self.scheduler.clone(),
            cache_dir: self.cache.clone(),
            weights: self.weights.clone().map(ModelSource::Path),
            log,
            ..OnnxOptions::default()
        })
    }

    /// Loads the model and runs it once. Errors: as [`OnnxDenoiser::load`]; `InvalidArgument` for the
    /// flags.
    pub fn load(&self, model: &Path, log: Logger) -> Result<Loaded> {
        let options = self.to_load(log)?;
        let denoiser = OnnxDenoiser::load(&ModelSource::Path(model.to_owned()), &options)?;
        let info = denoiser.info().clone();
        Ok(Loaded { denoiser, info })
    }
}

/// What a class-conditional model is asked for.
#[derive(Args)]
#[command(next_help_heading = "Class")]
pub struct ClassOptions {
    /// A class of the model: one of its names, or a number from 0
    #[arg(long, value_name = "NAME")]
    class: Option<String>,
    /// The scale of classifier-free guidance; 1 is none, above 1 holds more to the class
    #[arg(long, value_name = "SCALE", default_value_t = 1.0)]
    pub guidance: f64,
}

impl ClassOptions {
    /// The label of the class. Errors: `InvalidArgument` where it is neither a name nor a number.
    pub fn label(&self, info: &OnnxInfo) -> Result<Option<i64>> {
        let Some(class) = &self.class else {
            return Ok(None);
        };
        let by_name = info.classes.iter().position(|name| name == class);
        let label = by_name.and_then(|index| i64::try_from(index).ok()).or(class.parse().ok());
        label.map(Some).ok_or_else(|| {
            let expected = if info.classes.is_empty() {
                "a number, as the model names no classes".to_owned()
            } else {
                format!("a number or one of {}", info.classes.join(", "))
            };
            Error::invalid_argument(format!("class: found \"{class}\", expected {expected}"))
        })
    }
}

/// A flag that takes one of `names`, which its help lists.
pub fn named<T: Clone + Send + Sync + 'static>(
    names: impl IntoIterator<Item = &'static str>,
    parse: fn(&str) -> Result<T>,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(names).try_map(move |name| parse(&name))
}
