//! Flags of a sampler, over the model's own settings.

use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use ddpm::error::{Error, Result};
use ddpm::model::ModelConfig;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{
    FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, SolverType, Thresholding, VarianceType,
    step_table,
};
use ddpm::timesteps::TimestepSpacing;

use crate::model_options::named;

/// A sampler by one of its names, and the order that the name stands for.
#[derive(Clone, Copy)]
pub struct SamplerName {
    pub kind: Sampler,
    order: Option<u32>,
}

impl FromStr for SamplerName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Sampler::with_order(name).map(|(kind, order)| Self { kind, order })
    }
}

/// Everything but the sampler's name. An option that the sampler has no use for is an error.
#[derive(Args)]
#[command(next_help_heading = "Sampler options (`ddpm samplers` says which apply)")]
pub struct SamplerOptions {
    /// Steps from noise to picture [default: the model's own, 50 unless it says otherwise]
    #[arg(long, value_name = "N", conflicts_with = "timesteps")]
    steps: Option<usize>,
    /// The timesteps to visit, falling, separated by commas: 999,500,10
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    timesteps: Option<Vec<usize>>,
    /// How the steps are spread over training time
    #[arg(long, value_parser = named(SPACINGS, TimestepSpacing::from_str))]
    spacing: Option<TimestepSpacing>,
    /// Added to every timestep of leading spacing
    #[arg(long, value_name = "N")]
    steps_offset: Option<usize>,
    /// How the noise levels are spread
    #[arg(long, value_parser = named(SigmaSpacing::ALL.iter().map(|s| s.name()), SigmaSpacing::from_str))]
    sigmas: Option<SigmaSpacing>,
    /// Rounds the timesteps given to the model to whole ones
    #[arg(long)]
    whole_timesteps: bool,
    /// How much noise a step draws, 0 to 1: DDIM's eta, TCD's gamma
    #[arg(long)]
    eta: Option<f64>,
    /// The order of a multistep solver, 1 to 3
    #[arg(long)]
    order: Option<u32>,
    /// How a solver of order 2 or more uses its history
    #[arg(long, value_name = "TYPE", value_parser = named(SolverType::ALL.iter().map(|s| s.name()), SolverType::from_str))]
    solver_type: Option<SolverType>,
    /// Keeps the order in the last steps of a short run
    #[arg(long)]
    no_lower_order_final: bool,
    /// The last step has order 1
    #[arg(long)]
    euler_at_final: bool,
    /// Holds the predicted picture to [-RANGE, RANGE] in every step, or does not
    #[arg(long, value_name = "RANGE|off", value_parser = clip, conflicts_with = "dynamic_threshold")]
    clip: Option<Thresholding>,
    /// Dynamic thresholding: the quantile of the predicted picture that becomes 1, 0.995 say
    #[arg(long, value_name = "RATIO")]
    dynamic_threshold: Option<f64>,
    /// The largest value that dynamic thresholding scales down
    #[arg(long, value_name = "MAX", requires = "dynamic_threshold", default_value_t = 1.0)]
    sample_max_value: f64,
    /// DDIM: epsilon is taken from the picture after it was clipped, or is not
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    clipped_epsilon: Option<bool>,
    /// The variance of DDPM's steps
    #[arg(long, value_name = "TYPE", value_parser = named(VarianceType::ALL.map(VarianceType::name), VarianceType::from_str))]
    variance: Option<VarianceType>,
    /// What follows the last timestep: the clean picture, or the noise level of timestep 0
    #[arg(long, value_name = "one|first", value_parser = named(["one", "first"], final_alpha))]
    final_alpha: Option<FinalAlpha>,
    /// LCM and TCD: the steps of the distillation
    #[arg(long, value_name = "N")]
    original_steps: Option<usize>,
}

const SPACINGS: [&str; 3] = ["leading", "trailing", "linspace"];

fn final_alpha(name: &str) -> Result<FinalAlpha> {
    Ok(if name == "first" { FinalAlpha::First } else { FinalAlpha::One })
}

fn clip(text: &str) -> std::result::Result<Thresholding, String> {
    match text {
        "off" => Ok(Thresholding::Off),
        _ => {
            text.parse().map(Thresholding::Clip).map_err(|_| "expected a number or off".to_owned())
        }
    }
}

impl SamplerOptions {
    /// The config that the flags ask for, of the sampler `name`, else the model's own.
    ///
    /// Errors: `InvalidArgument` where a value is out of range, or the sampler has no use for it.
    pub fn config(&self, name: Option<SamplerName>, model: &ModelConfig) -> Result<SamplerConfig> {
        let own = SamplerName { kind: model.sampler.kind, order: None };
        let SamplerName { kind, order } = name.unwrap_or(own);
        let mut config = model.sampler_config(kind, self.steps.unwrap_or(model.sampler.steps));
        if let (Some(named), Some(given)) = (order, self.order)
            && named != given
        {
            return Err(Error::invalid_argument(format!(
                "order: found {given} with a sampler's name that stands for order {named}"
            )));
        }
        self.check_use(kind)?;
        config.order = self.order.or(order).or(config.order);
        config.eta = self.eta.or(config.eta);
        config.solver_type = self.solver_type.or(config.solver_type);
        config.spacing = self.spacing.unwrap_or(config.spacing);
        config.steps_offset = self.steps_offset.unwrap_or(config.steps_offset);
        config.sigmas = self.sigmas.unwrap_or(config.sigmas);
        config.variance_type = self.variance.unwrap_or(config.variance_type);
        config.original_steps = self.original_steps.unwrap_or(config.original_steps);
        config.fractional_timesteps &= !self.whole_timesteps;
        config.lower_order_final &= !self.no_lower_order_final;
        config.euler_at_final |= self.euler_at_final;
        config.clipped_epsilon = self.clipped_epsilon.unwrap_or(config.clipped_epsilon);
        config.final_alpha = self.final_alpha.unwrap_or(config.final_alpha);
        config.thresholding = self.clip.unwrap_or(config.thresholding);
        if let Some(ratio) = self.dynamic_threshold {
            config.thresholding = Thresholding::Dynamic { ratio, max: self.sample_max_value };
        }
        if let Some(list) = &self.timesteps {
            config.steps = list.len();
            config.timesteps = Some(Arc::from(&**list));
        }
        if let (Some(offset), false) =
            (self.steps_offset, config.spacing == TimestepSpacing::Leading)
        {
            return Err(Error::invalid_argument(format!(
                "steps_offset: found {offset} with {} spacing, expected leading",
                config.spacing.name()
            )));
        }
        model.check_sampler(&config)?;
        Ok(config)
    }

    /// Errors: `InvalidArgument` for an option given that `kind` does not take.
    fn check_use(&self, kind: Sampler) -> Result<()> {
        let number = |value: Option<usize>| value.map(|value| value.to_string());
        let flag = |is_set: bool| is_set.then(|| is_set.to_string());
        let name = |value: Option<&str>| value.map(str::to_owned);
        let given = [
            ("spacing", name(self.spacing.map(TimestepSpacing::name))),
            ("steps_offset", number(self.steps_offset)),
            ("sigmas", name(self.sigmas.map(SigmaSpacing::name))),
            ("whole_timesteps", flag(self.whole_timesteps)),
            ("eta", self.eta.map(|eta| eta.to_string())),
            ("order", self.order.map(|order| order.to_string())),
            ("solver_type", name(self.solver_type.map(SolverType::name))),
            ("no_lower_order_final", flag(self.no_lower_order_final)),
            ("euler_at_final", flag(self.euler_at_final)),
            ("clipped_epsilon", self.clipped_epsilon.map(|is_on| is_on.to_string())),
            ("variance", name(self.variance.map(VarianceType::name))),
            ("final_alpha", self.final_alpha.map(|alpha| format!("{alpha:?}").to_lowercase())),
            ("original_steps", number(self.original_steps)),
        ];
        for (name, value) in given {
            if let Some(value) = value
                && !applies(name, kind)
            {
                return Err(Error::invalid_argument(format!(
                    "{name}: found {value}, but {kind} has none"
                )));
            }
        }
        Ok(())
    }
}

/// An option that not every sampler has, and a case in which it makes a difference to those that do.
///
/// Samplers are data: whether an option applies is seen from the rows, so no list can be out of date.
struct Probe {
    name: &'static str,
    from: fn(&mut SamplerConfig),
    to: &'static [fn(&mut SamplerConfig)],
}

const fn probe(
    name: &'static str,
    from: fn(&mut SamplerConfig),
    to: &'static [fn(&mut SamplerConfig)],
) -> Probe {
    Probe { name, from, to }
}

const OPTIONS: [Probe; 13] = [
    probe("spacing", |_| {}, &[|c| c.spacing = TimestepSpacing::Linspace]),
    probe("steps_offset", |c| c.spacing = TimestepSpacing::Leading, &[|c| c.steps_offset = 1]),
    probe("sigmas", |_| {}, &[|c| c.sigmas = SigmaSpacing::Karras]),
    probe(
        "whole_timesteps",
        |c| c.spacing = TimestepSpacing::Linspace,
        &[|c| c.fractional_timesteps = false],
    ),
    probe("eta", |_| {}, &[|c| c.eta = Some(0.5)]),
    probe("order", |_| {}, &[|c| c.order = Some(1)]),
    probe(
        "solver_type",
        |_| {},
        &[|c| c.solver_type = Some(SolverType::Heun), |c| c.solver_type = Some(SolverType::Bh1)],
    ),
    probe("no_lower_order_final", short_and_high, &[|c| c.lower_order_final = false]),
    probe("euler_at_final", |c| c.final_alpha = FinalAlpha::First, &[|c| c.euler_at_final = true]),
    probe("clipped_epsilon", |_| {}, &[|c| c.clipped_epsilon = true]),
    probe("variance", |_| {}, &[|c| c.variance_type = VarianceType::FixedLarge]),
    probe("final_alpha", |_| {}, &[|c| c.final_alpha = FinalAlpha::First]),
    probe("original_steps", |_| {}, &[|c| c.original_steps = 40]),
];

/// The last step to a clean picture has order 1 in any case.
fn short_and_high(config: &mut SamplerConfig) {
    config.steps = 7;
    config.order = Some(3);
    config.final_alpha = FinalAlpha::First;
}

impl Probe {
    fn applies_to(&self, kind: Sampler) -> bool {
        let mut config = SamplerConfig { kind, steps: 20, ..SamplerConfig::default() };
        (self.from)(&mut config);
        let rows = |config: &SamplerConfig| {
            step_table(&NoiseSchedule::ddpm(), PredictionType::Epsilon, config).ok()
        };
        let before = rows(&config);
        self.to.iter().any(|change| {
            let mut config = config.clone();
            change(&mut config);
            let after = rows(&config);
            after.is_some() && after != before
        })
    }
}

/// Whether a sampler has a use for the option `name`.
pub fn applies(name: &str, kind: Sampler) -> bool {
    OPTIONS.iter().any(|option| option.name == name && option.applies_to(kind))
}

/// The flags that apply to a sampler, but those that every sampler has.
pub fn options_of(kind: Sampler) -> Vec<String> {
    let applying = OPTIONS.iter().filter(|option| option.applies_to(kind));
    applying.map(|option| format!("--{}", option.name.replace('_', "-"))).collect()
}

/// The flags of sampling that every sampler takes.
pub const COMMON: [&str; 5] =
    ["--steps", "--timesteps", "--clip", "--dynamic-threshold", "--sample-max-value"];
