//! Samplers as data: a pure function from a noise schedule and a config to a table of rows.
//!
//! A table is computed once in f64; [`crate::step::apply`] is the only code that runs per element.
//! This module must not know models, noise or images. One file a sampler; each describes itself in
//! a `Definition`, and nothing else needs to know it.

mod config;
mod ddim;
mod ddim_inverse;
mod ddpm;
mod deis;
mod dpmpp;
mod dpmpp_sde;
mod euler;
mod euler_ancestral;
mod heun;
mod lcm;
mod plan;
mod pndm;
mod pndm_prk;
mod tcd;
mod unipc;

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::noise_schedule::NoiseSchedule;
use crate::prediction::PredictionType;
use crate::step::Row;

pub use config::{FinalAlpha, SamplerConfig, SigmaSpacing, SolverType, Thresholding, VarianceType};

use config::Orders;
use plan::{Grid, Plan};

/// The rule that takes x_t to the next, less noisy x.
///
/// The numbers are those of the C ABI: a new sampler takes a new one, none is used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
#[non_exhaustive]
pub enum Sampler {
    /// Ancestral sampling (Ho et al. 2020, algorithm 2).
    #[default]
    Ddpm = 1,
    /// Denoising diffusion implicit models (Song, Meng, Ermon 2021): eta 0 draws no noise, eta 1 as
    /// much as DDPM.
    Ddim = 2,
    /// DDIM backwards, from a picture to the noise that gives it.
    DdimInverse = 3,
    /// DPM-Solver++, multistep, orders 1 to 3 (Lu et al. 2022).
    Dpmpp = 4,
    /// DPM-Solver++ of the diffusion SDE: draws noise. Orders 1 to 3.
    DpmppSde = 5,
    /// UniPC, predictor and corrector, orders 1 to 3 (Zhao et al. 2023).
    Unipc = 6,
    /// DEIS, log-rho multistep, orders 1 to 3 (Zhang and Chen 2023).
    Deis = 7,
    /// Euler's method in sigma space (Karras et al. 2022).
    Euler = 8,
    /// Euler steps with noise in between (k-diffusion's `euler_ancestral`).
    EulerAncestral = 9,
    /// Heun's method in sigma space (Karras et al. 2022, algorithm 1): two model evaluations a step.
    Heun = 10,
    /// Pseudo linear multistep (Liu et al. 2022), started with one improved Euler step: PLMS.
    Pndm = 11,
    /// Latent consistency models (Luo et al. 2023). For models distilled for it.
    Lcm = 12,
    /// Trajectory consistency distillation (Zheng et al. 2024). For models distilled for it.
    Tcd = 13,
    /// Pseudo linear multistep started by Runge-Kutta steps, as published (Liu et al. 2022, F-PNDM):
    /// four model evaluations in each of the first three steps.
    PndmPrk = 14,
}

/// What a sampler's file says about it.
struct Definition {
    /// The name, and other spellings with the order they stand for.
    names: &'static [(&'static str, Option<u32>)],
    /// One line for users.
    summary: &'static str,
    /// Where its points lie.
    grid: Grid,
    /// Whether its formulas hold where alpha_bar is 0.
    takes_zero_snr: bool,
    /// Whether Karras and exponential sigmas make sense.
    takes_sigmas: bool,
    /// Its own eta, where it has such a thing.
    eta: Option<f64>,
    /// The orders it has, where it has any.
    orders: Orders,
    /// Its solver types, its own first.
    solver_types: &'static [SolverType],
    /// The rows over the plan's points.
    rows: fn(&Plan<'_>) -> Vec<Row>,
}

impl Definition {
    /// What most samplers have in common.
    const PLAIN: Self = Self {
        names: &[],
        summary: "",
        grid: Grid::Closed,
        takes_zero_snr: false,
        takes_sigmas: true,
        eta: None,
        orders: None,
        solver_types: &[],
        rows: |_| Vec::new(),
    };
}

impl Sampler {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Ddpm,
        Self::Ddim,
        Self::DdimInverse,
        Self::Dpmpp,
        Self::DpmppSde,
        Self::Unipc,
        Self::Deis,
        Self::Euler,
        Self::EulerAncestral,
        Self::Heun,
        Self::Pndm,
        Self::Lcm,
        Self::Tcd,
        Self::PndmPrk,
    ];

    fn definition(self) -> &'static Definition {
        match self {
            Self::Ddpm => &ddpm::DEFINITION,
            Self::Ddim => &ddim::DEFINITION,
            Self::DdimInverse => &ddim_inverse::DEFINITION,
            Self::Dpmpp => &dpmpp::DEFINITION,
            Self::DpmppSde => &dpmpp_sde::DEFINITION,
            Self::Unipc => &unipc::DEFINITION,
            Self::Deis => &deis::DEFINITION,
            Self::Euler => &euler::DEFINITION,
            Self::EulerAncestral => &euler_ancestral::DEFINITION,
            Self::Heun => &heun::DEFINITION,
            Self::Pndm => &pndm::DEFINITION,
            Self::Lcm => &lcm::DEFINITION,
            Self::Tcd => &tcd::DEFINITION,
            Self::PndmPrk => &pndm_prk::DEFINITION,
        }
    }

    /// Its name, such as `ddim` or `dpmpp`.
    pub fn name(self) -> &'static str {
        self.definition().names[0].0
    }

    /// All its names: the one above first, then spellings that stand for an order, `dpmpp-2m` say.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.definition().names.iter().map(|(name, _)| *name)
    }

    /// One line about it.
    pub fn summary(self) -> &'static str {
        self.definition().summary
    }

    /// Whether it starts from a picture and ends in noise.
    pub fn is_inverse(self) -> bool {
        self.definition().grid == Grid::Ascending
    }

    /// Whether it is for distilled models, which know few timesteps and those at their own distances.
    pub(crate) fn is_distilled(self) -> bool {
        self.definition().grid == Grid::Distilled
    }

    /// The sampler with this name, and the order that the name stands for.
    ///
    /// Errors: `InvalidArgument` for another name, with all there are.
    pub fn with_order(name: &str) -> Result<(Self, Option<u32>)> {
        let named = |sampler: Self| {
            let names = sampler.definition().names.iter();
            names.clone().find(|(known, _)| *known == name).map(|(_, order)| (sampler, *order))
        };
        Self::ALL.into_iter().find_map(named).ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.into_iter().flat_map(Self::names).collect();
            Error::invalid_argument(format!(
                "sampler: found \"{name}\", expected one of {}",
                names.join(", ")
            ))
        })
    }
}

impl FromStr for Sampler {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        Self::with_order(name).map(|(sampler, _)| sampler)
    }
}

impl fmt::Display for Sampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A sampler's rows, first step first; one row per model evaluation.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTable {
    rows: Vec<Row>,
    start_alpha_cumprod: f64,
}

impl StepTable {
    /// The rows in the order they are applied; none where the strength leaves no step.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// alpha_bar that noise is added to a start image up to: that of the first row, and 1, the image
    /// itself, where there is no row or the sampler goes from the image to noise.
    pub fn start_alpha_cumprod(&self) -> f64 {
        self.start_alpha_cumprod
    }
}

/// The table of `config` over `schedule`, for a model that predicts `prediction_type`; in f64. A pure
/// function; allocates the table.
///
/// The previous timestep of a row is the next entry of the timestep list, never t - T/n.
/// Errors: `InvalidArgument` where the steps are not 1 to T or the list of timesteps is not in
/// range and falling, where [`SamplerConfig::validate`] finds a fault, or where an epsilon model meets a
/// schedule whose last alpha_bar is 0.
pub fn step_table(
    schedule: &NoiseSchedule,
    prediction_type: PredictionType,
    config: &SamplerConfig,
) -> Result<StepTable> {
    config.validate()?;
    if schedule.has_zero_terminal_snr() {
        // Refused whatever timesteps are visited: such a model cannot have learned its last one.
        prediction_type.x0_coefficients(schedule, schedule.num_train_timesteps() - 1)?;
    }
    let definition = config.kind.definition();
    let plan = Plan::new(schedule, prediction_type, config, definition)?;
    let rows = (definition.rows)(&plan);
    let start_alpha_cumprod = match rows.first() {
        Some(row) if !config.kind.is_inverse() => row.alpha_cumprod,
        _ => 1.0,
    };
    Ok(StepTable { rows, start_alpha_cumprod })
}

#[cfg(test)]
mod tests;
