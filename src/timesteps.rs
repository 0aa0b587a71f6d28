//! Which training timesteps a run of n steps visits, highest first.
//!
//! This module must not know samplers or schedules beyond their length T.
//! The three rules are those of Lin et al. 2024 ("Common diffusion noise schedules and sample steps
//! are flawed"), table 2, as diffusers rounds them: halves to even.

use std::str::FromStr;

use crate::error::{Error, Result};

/// How the n timesteps are spread over 0..T.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestepSpacing {
    /// 0, k, 2k, ... with k = floor(T / n), plus the steps offset; T - 1 is not visited unless n = T.
    Leading,
    /// T - 1, T - 1 - T/n, ... rounded: starts where the noise is pure, the default.
    #[default]
    Trailing,
    /// n points from T - 1 to 0, both included, rounded; a single step is at T - 1.
    Linspace,
}

impl FromStr for TimestepSpacing {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "leading" => Ok(Self::Leading),
            "trailing" => Ok(Self::Trailing),
            "linspace" => Ok(Self::Linspace),
            _ => Err(Error::invalid_argument(format!(
                "timestep_spacing: found \"{name}\", expected leading, trailing or linspace"
            ))),
        }
    }
}

/// The timesteps of a run: `steps` of them, strictly falling, all in 0..`num_train_timesteps`.
///
/// `steps_offset` is added to a leading list only (diffusers' `steps_offset`), and only so far that
/// the list stays below T: with T = n = 1000 an offset of 1 has no room and is dropped.
/// Errors: `InvalidArgument` where `steps` is not 1 to T.
pub fn timesteps(
    num_train_timesteps: usize,
    steps: usize,
    spacing: TimestepSpacing,
    steps_offset: usize,
) -> Result<Vec<usize>> {
    if steps == 0 || steps > num_train_timesteps {
        return Err(Error::invalid_argument(format!(
            "steps: found {steps}, expected 1 to {num_train_timesteps}, the model's training timesteps"
        )));
    }
    let (total, n, last) = (num_train_timesteps as f64, steps as f64, num_train_timesteps - 1);
    let list = match spacing {
        TimestepSpacing::Leading => {
            let stride = num_train_timesteps / steps;
            let offset = steps_offset.min(last - (steps - 1) * stride);
            (0..steps).rev().map(|i| i * stride + offset).collect()
        }
        TimestepSpacing::Trailing => (0..steps)
            .map(|i| (total - i as f64 * (total / n)).round_ties_even() as usize - 1)
            .collect(),
        TimestepSpacing::Linspace => {
            let stride = if steps > 1 { last as f64 / (n - 1.0) } else { 0.0 };
            (0..steps).map(|i| last - (i as f64 * stride).round_ties_even() as usize).collect()
        }
    };
    Ok(list)
}
