//! What a run of a sampler depends on besides the model, and what of it can be wrong.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use super::Sampler;
use super::plan::Grid;
use crate::error::{Error, Result};
pub use crate::step::Thresholding;
use crate::timesteps::TimestepSpacing;

/// The variance of DDPM's reverse step (Ho et al. 2020, section 3.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum VarianceType {
    /// The posterior's variance, beta tilde of eq. 7.
    #[default]
    FixedSmall,
    /// The same, named by diffusers for computing it as a logarithm.
    FixedSmallLog,
    /// beta itself.
    FixedLarge,
    /// The same. (diffusers takes the square root of the logarithm, which is NaN.)
    FixedLargeLog,
    /// The model's second half is the logarithm of the variance (improved-diffusion's `LEARNED`;
    /// diffusers reads it as the variance itself).
    Learned,
    /// The model's second half chooses between beta tilde (-1) and beta (1), on a logarithmic scale
    /// (Nichol and Dhariwal 2021, eq. 15).
    LearnedRange,
}

impl VarianceType {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::FixedSmall,
        Self::FixedSmallLog,
        Self::FixedLarge,
        Self::FixedLargeLog,
        Self::Learned,
        Self::LearnedRange,
    ];

    /// The name in diffusers' configs and in `ddpm.variance_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::FixedSmall => "fixed_small",
            Self::FixedSmallLog => "fixed_small_log",
            Self::FixedLarge => "fixed_large",
            Self::FixedLargeLog => "fixed_large_log",
            Self::Learned => "learned",
            Self::LearnedRange => "learned_range",
        }
    }

    /// Whether the model has to give it, in as many channels again as the sample has.
    pub fn is_learned(self) -> bool {
        matches!(self, Self::Learned | Self::LearnedRange)
    }
}

/// What follows the last timestep of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FinalAlpha {
    /// alpha_bar 1, sigma 0: the clean sample.
    #[default]
    One,
    /// alpha_bar of timestep 0, as diffusers with `set_alpha_to_one = false` (Stable Diffusion) or
    /// `final_sigmas_type = "sigma_min"`.
    First,
}

/// How the noise levels are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SigmaSpacing {
    /// Those of the timesteps.
    #[default]
    Timesteps,
    /// Evenly in sigma^(1/7) (Karras et al. 2022, eq. 5); the timesteps follow from the sigmas.
    Karras,
    /// Evenly in the logarithm of sigma; the timesteps follow from the sigmas.
    Exponential,
}

/// How a solver of order 2 or more uses its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SolverType {
    /// DPM-Solver++: the second-order term by the midpoint rule.
    Midpoint,
    /// DPM-Solver++: the second-order term by Heun's rule.
    Heun,
    /// UniPC with B_1(h) = h.
    Bh1,
    /// UniPC with B_2(h) = e^h - 1.
    Bh2,
}

macro_rules! named {
    ($type:ident, $what:literal, $($variant:ident = $name:literal),+) => {
        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name, as in diffusers' configs where they have one.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name),+
                }
            }
        }

        impl FromStr for $type {
            type Err = Error;

            fn from_str(name: &str) -> Result<Self> {
                from_name($what, name, Self::ALL, |value| value.name())
            }
        }
    };
}

named!(
    SigmaSpacing,
    "sigmas",
    Timesteps = "timesteps",
    Karras = "karras",
    Exponential = "exponential"
);
named!(SolverType, "solver_type", Midpoint = "midpoint", Heun = "heun", Bh1 = "bh1", Bh2 = "bh2");

impl FromStr for VarianceType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        from_name("variance_type", name, &Self::ALL, |value| value.name())
    }
}

fn from_name<T: Copy>(
    what: &str,
    name: &str,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T> {
    all.iter().copied().find(|&value| name_of(value) == name).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|&value| name_of(value)).collect();
        Error::invalid_argument(format!(
            "{what}: found \"{name}\", expected one of {}",
            names.join(", ")
        ))
    })
}

/// Everything a step table depends on besides the noise schedule and what the model predicts.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplerConfig {
    /// The update rule.
    pub kind: Sampler,
    /// Steps, 1 to T: as many model evaluations, but of n steps Heun makes 2 n - 1, PNDM n + 1, and
    /// PNDM with Runge-Kutta n + 9.
    pub steps: usize,
    /// How the steps are spread over training time. LCM and TCD have timesteps of their own.
    pub spacing: TimestepSpacing,
    /// Added to a leading list, see [`crate::timesteps::timesteps`].
    pub steps_offset: usize,
    /// The timesteps to visit, falling; in place of `steps`, `spacing` and `steps_offset`.
    pub timesteps: Option<Arc<[usize]>>,
    /// How the noise levels are spread.
    pub sigmas: SigmaSpacing,
    /// Whether the model takes timesteps between the whole ones, which Euler's and Heun's linspace
    /// and their sigma spacings visit. Where it does not they are rounded.
    pub fractional_timesteps: bool,
    /// The share of the steps that is taken, from an image that noise is added to: the last
    /// floor(steps x strength) of them, 0 to 1. 1 where a run starts from noise.
    pub strength: f64,
    /// What is done to the predicted x_0.
    pub thresholding: Thresholding,
    /// DDPM's variance.
    pub variance_type: VarianceType,
    /// What follows the last timestep.
    pub final_alpha: FinalAlpha,
    /// How much noise a step draws, 0 to 1: DDIM's eta (0 where `None`), TCD's gamma (0.3).
    pub eta: Option<f64>,
    /// DDIM only: epsilon is taken from x_0 after thresholding (diffusers' `use_clipped_model_output`).
    pub clipped_epsilon: bool,
    /// The order of DPM-Solver++, UniPC and DEIS, 1 to 3; 2 where `None`.
    pub order: Option<u32>,
    /// DPM-Solver++'s midpoint (where `None`) or Heun, UniPC's bh1 or bh2 (where `None`).
    pub solver_type: Option<SolverType>,
    /// Solvers with an order: the last steps of a short run (below 15) have a lower one.
    pub lower_order_final: bool,
    /// DPM-Solver++: the last step has order 1 whatever the run's length.
    pub euler_at_final: bool,
    /// LCM and TCD: the steps of the distillation, from whose timesteps a run's are chosen.
    pub original_steps: usize,
}

impl Default for SamplerConfig {
    /// DDPM, 50 trailing steps, x_0 held to [-1, 1].
    fn default() -> Self {
        Self {
            kind: Sampler::Ddpm,
            steps: 50,
            spacing: TimestepSpacing::Trailing,
            steps_offset: 0,
            timesteps: None,
            sigmas: SigmaSpacing::Timesteps,
            fractional_timesteps: true,
            strength: 1.0,
            thresholding: Thresholding::Clip(1.0),
            variance_type: VarianceType::FixedSmall,
            final_alpha: FinalAlpha::One,
            eta: None,
            clipped_epsilon: false,
            order: None,
            solver_type: None,
            lower_order_final: true,
            euler_at_final: false,
            original_steps: 50,
        }
    }
}

impl SamplerConfig {
    /// Checks the values that need no schedule. Errors: `InvalidArgument` naming the first fault,
    /// among them a setting that the sampler has no use for.
    pub fn validate(&self) -> Result<()> {
        let definition = self.kind.definition();
        let useless = |what: &str, value: &dyn std::fmt::Display| {
            Error::invalid_argument(format!("{what}: found {value}, but {} has none", self.kind))
        };
        match self.eta {
            Some(eta) if definition.eta.is_none() && eta != 0.0 => {
                return Err(useless("eta", &eta));
            }
            Some(eta) if !(0.0..=1.0).contains(&eta) => {
                return Err(Error::invalid_argument(format!("eta: found {eta}, expected 0 to 1")));
            }
            _ => {}
        }
        match (self.order, &definition.orders) {
            (Some(order), None) => return Err(useless("order", &order)),
            (Some(order), Some(orders)) if !orders.contains(&order) => {
                let (low, high) = (orders.start(), orders.end());
                return Err(Error::invalid_argument(format!(
                    "order: found {order} with {}, expected {low} to {high}",
                    self.kind
                )));
            }
            _ => {}
        }
        if let Some(solver_type) = self.solver_type
            && !definition.solver_types.contains(&solver_type)
        {
            return Err(useless("solver_type", &solver_type.name()));
        }
        if self.clipped_epsilon && self.kind != Sampler::Ddim {
            return Err(useless("clipped_epsilon", &true));
        }
        validate_thresholding(self.thresholding)?;
        if !(0.0..=1.0).contains(&self.strength) {
            return Err(Error::invalid_argument(format!(
                "strength: found {}, expected 0 to 1",
                self.strength
            )));
        }
        if self.timesteps.is_some() && self.sigmas != SigmaSpacing::Timesteps {
            return Err(Error::invalid_argument(format!(
                "timesteps: found a list with sigmas {}, expected one of the two",
                self.sigmas.name()
            )));
        }
        if self.sigmas != SigmaSpacing::Timesteps && !definition.takes_sigmas {
            return Err(useless("sigmas", &self.sigmas.name()));
        }
        if self.original_steps == 0 {
            return Err(Error::invalid_argument("original_steps: found 0, expected at least 1"));
        }
        Ok(())
    }

    /// The same with another sampler, without the settings that it has no use for.
    pub fn with_kind(&self, kind: Sampler) -> Self {
        let definition = kind.definition();
        let mut config = self.clone();
        config.kind = kind;
        config.eta = self.eta.filter(|_| definition.eta.is_some() && kind == self.kind);
        config.order = self.order.filter(|order| {
            definition.orders.as_ref().is_some_and(|orders| orders.contains(order))
        });
        config.solver_type =
            self.solver_type.filter(|solver_type| definition.solver_types.contains(solver_type));
        config.clipped_epsilon &= kind == Sampler::Ddim;
        if !definition.takes_sigmas {
            config.sigmas = SigmaSpacing::Timesteps;
        }
        config
    }

    /// Whether it visits timesteps between the whole ones, if the model takes them.
    pub(crate) fn wants_fractional_timesteps(&self) -> bool {
        self.kind.definition().grid == Grid::Sigma
            && self.timesteps.is_none()
            && (self.spacing == TimestepSpacing::Linspace || self.sigmas != SigmaSpacing::Timesteps)
    }

    /// eta, or the sampler's own.
    pub(super) fn eta(&self) -> f64 {
        self.eta.or(self.kind.definition().eta).unwrap_or(0.0)
    }

    /// The order, or the sampler's own: 2, or the nearest it has.
    pub(super) fn order(&self) -> usize {
        let orders = self.kind.definition().orders.clone().unwrap_or(1..=1);
        self.order.unwrap_or(2).clamp(*orders.start(), *orders.end()) as usize
    }

    /// The steps that `strength` leaves of `total`: whole ones, rounded down. The small addition
    /// keeps 0.29 of 100, which is below 29 in binary, at 29.
    pub(super) fn steps_taken(&self, total: usize) -> usize {
        ((total as f64 * self.strength + 1e-6) as usize).min(total)
    }
}

fn validate_thresholding(thresholding: Thresholding) -> Result<()> {
    match thresholding {
        Thresholding::Clip(range) if !(range > 0.0 && range.is_finite()) => {
            Err(Error::invalid_argument(format!(
                "clip: found {range}, expected a finite number above 0"
            )))
        }
        Thresholding::Dynamic { ratio, .. } if !(ratio > 0.0 && ratio <= 1.0) => {
            Err(Error::invalid_argument(format!(
                "dynamic_thresholding_ratio: found {ratio}, expected a number above 0 and up to 1"
            )))
        }
        Thresholding::Dynamic { max, .. } if !(max >= 1.0 && max.is_finite()) => {
            Err(Error::invalid_argument(format!(
                "sample_max_value: found {max}, expected a finite number from 1"
            )))
        }
        _ => Ok(()),
    }
}

/// The orders a sampler has, where it has any.
pub(super) type Orders = Option<RangeInclusive<u32>>;
