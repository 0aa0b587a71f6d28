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

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [TimestepSpacing; 3] =
        [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace];

    #[test]
    fn lists_are_those_of_the_source() {
        // Lin et al. 2024, table 2 (1-based there), for T = 1000 and 10 steps.
        let cases = [
            (TimestepSpacing::Leading, [900, 800, 700, 600, 500, 400, 300, 200, 100, 0]),
            (TimestepSpacing::Trailing, [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]),
            (TimestepSpacing::Linspace, [999, 888, 777, 666, 555, 444, 333, 222, 111, 0]),
        ];
        for (spacing, expected) in cases {
            assert_eq!(timesteps(1000, 10, spacing, 0).unwrap(), expected, "{spacing:?}");
        }
    }

    #[test]
    fn every_list_is_complete_falling_and_in_range() {
        for total in [1, 2, 7, 1000] {
            for steps in 1..=total {
                for spacing in ALL {
                    for offset in [0, 1, 5000] {
                        let list = timesteps(total, steps, spacing, offset).unwrap();
                        assert_eq!(list.len(), steps);
                        assert!(list[0] < total, "{spacing:?} {steps} {offset}: {}", list[0]);
                        assert!(
                            list.windows(2).all(|w| w[1] < w[0]),
                            "{spacing:?} {steps} {offset}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn offset_moves_a_leading_list_only_as_far_as_there_is_room() {
        let leading =
            |steps, offset| timesteps(1000, steps, TimestepSpacing::Leading, offset).unwrap();
        assert_eq!(leading(20, 1)[..2], [951, 901]);
        assert_eq!(leading(20, 1)[19], 1);
        assert_eq!(leading(1000, 1), leading(1000, 0));
        let trailing = |offset| timesteps(1000, 20, TimestepSpacing::Trailing, offset).unwrap();
        assert_eq!(trailing(1), trailing(0));
    }

    #[test]
    fn single_step_starts_at_the_noise_where_the_rule_allows_it() {
        let first = ALL.map(|spacing| timesteps(1000, 1, spacing, 0).unwrap()[0]);
        assert_eq!(first, [0, 999, 999]);
    }

    #[test]
    fn bad_step_counts_and_names_are_refused() {
        for steps in [0, 1001] {
            let error = timesteps(1000, steps, TimestepSpacing::Trailing, 0).unwrap_err();
            assert!(
                error.to_string().starts_with(&format!("steps: found {steps}, expected 1 to 1000"))
            );
        }
        let error = "karras".parse::<TimestepSpacing>().unwrap_err();
        assert!(error.to_string().starts_with("timestep_spacing: found \"karras\""));
        assert_eq!("leading".parse(), Ok(TimestepSpacing::Leading));
    }
}
