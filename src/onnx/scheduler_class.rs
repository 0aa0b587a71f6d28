//! The scheduler classes of diffusers: which keys each has, with which defaults, and the sampler it
//! is here. Names and defaults are those of diffusers 0.42.

use serde_json::json;

use crate::error::{ErrorKind, Result};
use crate::noise_schedule::BetaSchedule;
use crate::sampler::{
    FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, SolverType, Thresholding, VarianceType,
};

use super::scheduler_json::SchedulerJson;

pub(super) const ORIGINAL_STEPS: &str = "original_inference_steps";

/// What the classes have in common, each in its own way.
pub(super) struct Class {
    pub(super) name: &'static str,
    /// The sampler, where no key of the class's own chooses.
    pub(super) kind: Sampler,
    /// Default of `beta_schedule`, `beta_start` and `beta_end`.
    betas: (&'static str, f64, f64),
    /// Default of `timestep_spacing`.
    pub(super) spacing: &'static str,
    /// Default of `clip_sample`, where the class clips.
    clip: Option<bool>,
    /// Whether it has dynamic thresholding.
    thresholds: bool,
    /// Whether it has `rescale_betas_zero_snr`.
    pub(super) rescales: bool,
    /// Whether it has `use_karras_sigmas` and its like.
    spreads_sigmas: bool,
    /// Whether it has `solver_order` and `lower_order_final`.
    has_orders: bool,
    end: End,
    /// Reads the keys that no other class has, or has in this way.
    pub(super) own_keys: fn(&mut SchedulerJson<'_>, &mut SamplerConfig) -> Result<()>,
}

/// How a class says what follows the last timestep.
enum End {
    /// Not at all.
    Fixed(FinalAlpha),
    /// With `set_alpha_to_one`, of this default.
    SetAlphaToOne(bool),
    /// With `final_sigmas_type`.
    FinalSigmas,
}

/// The DDPM paper's betas, the default of most classes.
const DDPM_BETAS: (&str, f64, f64) = ("linear", 1e-4, 0.02);

const PLAIN: Class = Class {
    name: "",
    kind: Sampler::Ddpm,
    betas: DDPM_BETAS,
    spacing: "leading",
    clip: None,
    thresholds: false,
    rescales: true,
    spreads_sigmas: false,
    has_orders: false,
    end: End::Fixed(FinalAlpha::One),
    own_keys: |_, _| Ok(()),
};

/// What the multistep solvers have in common.
const MULTISTEP: Class = Class {
    spacing: "linspace",
    thresholds: true,
    spreads_sigmas: true,
    has_orders: true,
    end: End::FinalSigmas,
    ..PLAIN
};

/// What the consistency samplers have in common.
const DISTILLED: Class =
    Class { betas: ("scaled_linear", 0.00085, 0.012), end: End::SetAlphaToOne(true), ..PLAIN };

static CLASSES: [Class; 12] = [
    Class {
        name: "DDPMScheduler",
        clip: Some(true),
        thresholds: true,
        own_keys: |json, sampler| {
            let names = VarianceType::ALL.map(VarianceType::name).join(", ");
            sampler.variance_type =
                json.named("variance_type", "fixed_small", &format!("one of {names}"))?;
            Ok(())
        },
        ..PLAIN
    },
    Class {
        name: "DDIMScheduler",
        kind: Sampler::Ddim,
        clip: Some(true),
        thresholds: true,
        end: End::SetAlphaToOne(true),
        ..PLAIN
    },
    Class {
        name: "DDIMInverseScheduler",
        kind: Sampler::DdimInverse,
        clip: Some(true),
        end: End::SetAlphaToOne(true),
        own_keys: |json, sampler| {
            // The old name of `set_alpha_to_one`, which it outranks.
            if json.has("set_alpha_to_zero") {
                sampler.final_alpha = final_alpha(json.flag("set_alpha_to_zero", true)?);
            }
            Ok(())
        },
        ..PLAIN
    },
    Class {
        name: "DPMSolverMultistepScheduler",
        kind: Sampler::Dpmpp,
        own_keys: dpm_solver,
        ..MULTISTEP
    },
    Class { name: "UniPCMultistepScheduler", kind: Sampler::Unipc, own_keys: unipc, ..MULTISTEP },
    Class {
        name: "DEISMultistepScheduler",
        kind: Sampler::Deis,
        rescales: false,
        end: End::Fixed(FinalAlpha::First),
        own_keys: deis,
        ..MULTISTEP
    },
    Class {
        name: "EulerDiscreteScheduler",
        kind: Sampler::Euler,
        spacing: "linspace",
        spreads_sigmas: true,
        end: End::FinalSigmas,
        own_keys: |json, _| {
            json.keep("interpolation_type", json!("linear"))?;
            json.keep("timestep_type", json!("discrete"))?;
            json.keep("sigma_min", json!(null))?;
            json.keep("sigma_max", json!(null))
        },
        ..PLAIN
    },
    Class {
        name: "EulerAncestralDiscreteScheduler",
        kind: Sampler::EulerAncestral,
        spacing: "linspace",
        ..PLAIN
    },
    Class {
        name: "HeunDiscreteScheduler",
        kind: Sampler::Heun,
        betas: ("linear", 0.00085, 0.012),
        spacing: "linspace",
        clip: Some(false),
        rescales: false,
        spreads_sigmas: true,
        ..PLAIN
    },
    Class {
        name: "PNDMScheduler",
        kind: Sampler::PndmPrk,
        rescales: false,
        end: End::SetAlphaToOne(false),
        own_keys: |json, sampler| {
            if json.flag("skip_prk_steps", false)? {
                sampler.kind = Sampler::Pndm;
            }
            Ok(())
        },
        ..PLAIN
    },
    Class {
        name: "LCMScheduler",
        kind: Sampler::Lcm,
        clip: Some(false),
        thresholds: true,
        own_keys: |json, sampler| {
            json.keep("timestep_scaling", json!(10.0))?;
            sampler.original_steps = json.integer(ORIGINAL_STEPS, 50)?;
            Ok(())
        },
        ..DISTILLED
    },
    Class {
        name: "TCDScheduler",
        kind: Sampler::Tcd,
        // The timestep after its last is 0, whatever `set_alpha_to_one` says.
        end: End::Fixed(FinalAlpha::First),
        own_keys: |json, sampler| {
            // The class has these keys and its step looks at none of them.
            json.without_effect("set_alpha_to_one", json!(true));
            json.without_effect("timestep_scaling", json!(10.0));
            json.without_effect("clip_sample", json!(false));
            json.without_effect("clip_sample_range", json!(1.0));
            json.without_effect("thresholding", json!(false));
            json.without_effect("dynamic_thresholding_ratio", json!(0.995));
            json.without_effect("sample_max_value", json!(1.0));
            sampler.original_steps = json.integer(ORIGINAL_STEPS, 50)?;
            Ok(())
        },
        ..DISTILLED
    },
];

fn dpm_solver(json: &mut SchedulerJson<'_>, sampler: &mut SamplerConfig) -> Result<()> {
    sampler.kind = match json.text("algorithm_type", "dpmsolver++")?.as_str() {
        "dpmsolver++" => Sampler::Dpmpp,
        "sde-dpmsolver++" => Sampler::DpmppSde,
        // Another class's; diffusers takes its own default in its place.
        "deis" => {
            json.ignore("algorithm_type");
            Sampler::Dpmpp
        }
        _ => return Err(json.unsupported("algorithm_type", "dpmsolver++ or sde-dpmsolver++")),
    };
    sampler.solver_type = Some(solver_type(json, &[SolverType::Midpoint, SolverType::Heun])?);
    sampler.euler_at_final = json.flag("euler_at_final", false)?;
    // DDPM's; here it only says that the second half of the output is to be dropped.
    if json.has("variance_type") {
        let names = VarianceType::ALL.map(VarianceType::name).join(", ");
        sampler.variance_type =
            json.named("variance_type", "fixed_small", &format!("null or one of {names}"))?;
    } else {
        json.without_effect("variance_type", json!(null));
    }
    json.keep("use_lu_lambdas", json!(false))?;
    json.keep("lambda_min_clipped", json!("-Infinity"))?;
    flow(json)
}

fn unipc(json: &mut SchedulerJson<'_>, sampler: &mut SamplerConfig) -> Result<()> {
    sampler.solver_type = Some(solver_type(json, &[SolverType::Bh2, SolverType::Bh1])?);
    json.keep("predict_x0", json!(true))?;
    json.keep("disable_corrector", json!([]))?;
    json.keep("solver_p", json!(null))?;
    json.keep("sigma_min", json!(null))?;
    json.keep("sigma_max", json!(null))?;
    json.keep("shift_terminal", json!(null))?;
    flow(json)
}

fn deis(json: &mut SchedulerJson<'_>, _: &mut SamplerConfig) -> Result<()> {
    match json.text("algorithm_type", "deis")?.as_str() {
        "deis" => {}
        // Other classes'; diffusers takes its own default in their place.
        "dpmsolver" | "dpmsolver++" => json.ignore("algorithm_type"),
        _ => return Err(json.unsupported("algorithm_type", "deis")),
    }
    match json.text("solver_type", "logrho")?.as_str() {
        "logrho" => {}
        "midpoint" | "heun" | "bh1" | "bh2" => json.ignore("solver_type"),
        _ => return Err(json.unsupported("solver_type", "logrho")),
    }
    flow(json)
}

/// One of `own`, the first by default. Another class's is ignored, as diffusers does.
fn solver_type(json: &mut SchedulerJson<'_>, own: &[SolverType]) -> Result<SolverType> {
    let default = own[0];
    let text = json.text("solver_type", default.name())?;
    if let Some(found) = own.iter().find(|solver_type| solver_type.name() == text) {
        return Ok(*found);
    }
    if text != "logrho" && text.parse::<SolverType>().is_err() {
        let names: Vec<&str> = own.iter().map(|solver_type| solver_type.name()).collect();
        return Err(json.unsupported("solver_type", &names.join(" or ")));
    }
    json.ignore("solver_type");
    Ok(default)
}

/// The keys of flow matching, which is another kind of model.
fn flow(json: &mut SchedulerJson<'_>) -> Result<()> {
    json.keep("use_flow_sigmas", json!(false))?;
    json.keep("use_dynamic_shifting", json!(false))?;
    json.without_effect("flow_shift", json!(1.0));
    json.without_effect("time_shift_type", json!("exponential"));
    Ok(())
}

fn final_alpha(is_one: bool) -> FinalAlpha {
    if is_one { FinalAlpha::One } else { FinalAlpha::First }
}

impl Class {
    /// The class that the config names. Errors: `Model` where it names none; `Unsupported` for
    /// another than those here, all of which the message lists.
    pub(super) fn of(json: &mut SchedulerJson<'_>) -> Result<&'static Self> {
        let names = || CLASSES.each_ref().map(|class| class.name).join(", ");
        if !json.has("_class_name") {
            return Err(json.refuse("_class_name", &format!("one of {}", names())));
        }
        let name = json.text("_class_name", "")?;
        CLASSES
            .iter()
            .find(|class| class.name == name)
            .ok_or_else(|| json.unsupported("_class_name", &format!("one of {}", names())))
    }

    pub(super) fn beta_schedule(
        &self,
        json: &mut SchedulerJson<'_>,
        num_train_timesteps: usize,
    ) -> Result<BetaSchedule> {
        let (name, start, end) = self.betas;
        let name = json.text("beta_schedule", name)?;
        let start = json.number("beta_start", start)?;
        let end = json.number("beta_end", end)?;
        if let Some(betas) = json.numbers("trained_betas")? {
            if betas.len() != num_train_timesteps {
                let message = format!(
                    "trained_betas: found {} of them, expected {num_train_timesteps} as num_train_timesteps",
                    betas.len()
                );
                return Err(json.fault(ErrorKind::Model, &message));
            }
            return Ok(BetaSchedule::Given(betas.into()));
        }
        match name.as_str() {
            "laplace" => Ok(from_alpha_bar(num_train_timesteps, laplace)),
            "exp" => Ok(from_alpha_bar(num_train_timesteps, |time| (-12.0 * time).exp())),
            name => BetaSchedule::from_name(name, start, end).map_err(|_| {
                json.unsupported(
                    "beta_schedule",
                    "linear, scaled_linear, squaredcos_cap_v2, sigmoid, laplace or exp",
                )
            }),
        }
    }

    /// Thresholding outranks clipping, as in diffusers.
    pub(super) fn thresholding(&self, json: &mut SchedulerJson<'_>) -> Result<Thresholding> {
        let mut found = Thresholding::Off;
        if let Some(default) = self.clip {
            let is_on = json.flag("clip_sample", default)?;
            let range = json.number("clip_sample_range", 1.0)?;
            if is_on {
                if range <= 0.0 {
                    return Err(json.refuse("clip_sample_range", "a number above 0"));
                }
                found = Thresholding::Clip(range);
            }
        }
        if self.thresholds {
            let is_on = json.flag("thresholding", false)?;
            let ratio = json.number("dynamic_thresholding_ratio", 0.995)?;
            let max = json.number("sample_max_value", 1.0)?;
            if is_on {
                found = Thresholding::Dynamic { ratio, max };
            }
        }
        Ok(found)
    }

    pub(super) fn sigmas(&self, json: &mut SchedulerJson<'_>) -> Result<SigmaSpacing> {
        if !self.spreads_sigmas {
            return Ok(SigmaSpacing::Timesteps);
        }
        json.keep("use_beta_sigmas", json!(false))?;
        let karras = json.flag("use_karras_sigmas", false)?;
        let exponential = json.flag("use_exponential_sigmas", false)?;
        match (karras, exponential) {
            (true, true) => Err(json.fault(
                ErrorKind::Model,
                "use_karras_sigmas and use_exponential_sigmas are true, expected one of the two",
            )),
            (true, false) => Ok(SigmaSpacing::Karras),
            (false, true) => Ok(SigmaSpacing::Exponential),
            (false, false) => Ok(SigmaSpacing::Timesteps),
        }
    }

    pub(super) fn final_alpha(&self, json: &mut SchedulerJson<'_>) -> Result<FinalAlpha> {
        match self.end {
            End::Fixed(end) => Ok(end),
            End::SetAlphaToOne(default) => json.flag("set_alpha_to_one", default).map(final_alpha),
            End::FinalSigmas => match json.text("final_sigmas_type", "zero")?.as_str() {
                "zero" => Ok(FinalAlpha::One),
                "sigma_min" => Ok(FinalAlpha::First),
                _ => Err(json.refuse("final_sigmas_type", "zero or sigma_min")),
            },
        }
    }

    /// The order of a solver, and whether it falls at the end.
    pub(super) fn orders(
        &self,
        json: &mut SchedulerJson<'_>,
        sampler: &mut SamplerConfig,
    ) -> Result<()> {
        if !self.has_orders {
            return Ok(());
        }
        sampler.order = match json.integer("solver_order", 2)? {
            order @ 1..=3 => Some(order as u32),
            _ => return Err(json.unsupported("solver_order", "1 to 3")),
        };
        sampler.lower_order_final = json.flag("lower_order_final", true)?;
        Ok(())
    }
}

/// The betas of a closed form of alpha_bar over [0, 1], at most 0.999.
fn from_alpha_bar(len: usize, alpha_bar: fn(f64) -> f64) -> BetaSchedule {
    let at = |i: usize| alpha_bar(i as f64 / len as f64);
    BetaSchedule::Given((0..len).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999)).collect())
}

/// What diffusers takes for alpha_bar in its `laplace`: the root of that of Hang et al. 2024, "Improved
/// noise schedule for diffusion training", table 1.
fn laplace(time: f64) -> f64 {
    let from_middle = 0.5 - time;
    let log_snr = -0.5 * 1f64.copysign(from_middle) * (1.0 - 2.0 * from_middle.abs() + 1e-6).ln();
    (1.0 / (1.0 + (-log_snr).exp())).sqrt()
}
