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

impl TimestepSpacing {
    /// The name in diffusers' configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leading => "leading",
            Self::Trailing => "trailing",
            Self::Linspace => "linspace",
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
    check_steps(num_train_timesteps, steps)?;
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
        TimestepSpacing::Linspace if steps == 1 => vec![last],
        TimestepSpacing::Linspace => {
            // Counted from 0, which decides where halves go: 999 / 6 rounds to 166, not to 167.
            let stride = last as f64 / (n - 1.0);
            (0..steps).rev().map(|i| (i as f64 * stride).round_ties_even() as usize).collect()
        }
    };
    Ok(list)
}

/// The same for solvers that end beyond their last evaluation: of `steps` + 1 timesteps the lowest is
/// left out, as diffusers' multistep solvers have it. A trailing list is that of [`timesteps`], and
/// so is any list of T steps, which leaves nothing out.
///
/// Errors: as [`timesteps`].
pub fn open_timesteps(
    num_train_timesteps: usize,
    steps: usize,
    spacing: TimestepSpacing,
    steps_offset: usize,
) -> Result<Vec<usize>> {
    check_steps(num_train_timesteps, steps)?;
    if spacing == TimestepSpacing::Trailing || steps == num_train_timesteps {
        return timesteps(num_train_timesteps, steps, spacing, steps_offset);
    }
    let mut list = timesteps(num_train_timesteps, steps + 1, spacing, steps_offset)?;
    list.truncate(steps);
    Ok(list)
}

/// The evenly spaced, fractional points of solvers in sigma space: `steps` from T - 1 to 0; a single
/// step is at T - 1. Errors: as [`timesteps`].
pub fn fractional_linspace(num_train_timesteps: usize, steps: usize) -> Result<Vec<f64>> {
    check_steps(num_train_timesteps, steps)?;
    let last = (num_train_timesteps - 1) as f64;
    let stride = if steps > 1 { last / (steps - 1) as f64 } else { 0.0 };
    Ok((0..steps)
        .map(|i| if i + 1 == steps && i > 0 { 0.0 } else { last - i as f64 * stride })
        .collect())
}

/// The timesteps of consistency distillation, from which LCM and TCD choose (Luo et al. 2023, section
/// 4.3): of `original` evenly spaced ones `steps`, evenly again, the highest first.
///
/// With more steps than `original` there are as many as steps. Errors: as [`timesteps`].
pub fn distilled_timesteps(
    num_train_timesteps: usize,
    steps: usize,
    original: usize,
) -> Result<Vec<usize>> {
    check_steps(num_train_timesteps, steps)?;
    let original = original.clamp(steps, num_train_timesteps);
    let stride = num_train_timesteps / original;
    Ok((0..steps).map(|i| (original - i * original / steps) * stride - 1).collect())
}

/// Checks a list given by the caller. Errors: `InvalidArgument` where it is empty, not strictly
/// falling, or not below T.
pub fn check_timesteps(num_train_timesteps: usize, list: &[usize]) -> Result<()> {
    let Some(&first) = list.first() else {
        return Err(Error::invalid_argument("timesteps: found none, expected at least one"));
    };
    if first >= num_train_timesteps {
        return Err(Error::invalid_argument(format!(
            "timesteps[0]: found {first}, expected 0 to {}",
            num_train_timesteps - 1
        )));
    }
    match list.windows(2).position(|pair| pair[1] >= pair[0]) {
        None => Ok(()),
        Some(index) => Err(Error::invalid_argument(format!(
            "timesteps[{}]: found {} after {}, expected a falling list",
            index + 1,
            list[index + 1],
            list[index]
        ))),
    }
}

fn check_steps(num_train_timesteps: usize, steps: usize) -> Result<()> {
    if steps == 0 || steps > num_train_timesteps {
        return Err(Error::invalid_argument(format!(
            "steps: found {steps}, expected 1 to {num_train_timesteps}, the model's training timesteps"
        )));
    }
    Ok(())
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
    fn halves_of_a_linspace_round_as_diffusers_rounds_them() {
        // diffusers 0.42.1, DDPMScheduler with timestep_spacing "linspace".
        let linspace = |steps| timesteps(1000, steps, TimestepSpacing::Linspace, 0).unwrap();
        assert_eq!(linspace(3), [999, 500, 0]);
        assert_eq!(linspace(7), [999, 832, 666, 500, 333, 166, 0]);
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
    fn open_lists_leave_the_cleanest_timestep_out() {
        let open = |steps, spacing, offset| open_timesteps(1000, steps, spacing, offset).unwrap();
        // diffusers 0.42.1, DPMSolverMultistepScheduler.
        assert_eq!(open(5, TimestepSpacing::Linspace, 0), [999, 799, 599, 400, 200]);
        assert_eq!(open(5, TimestepSpacing::Leading, 1), [831, 665, 499, 333, 167]);
        assert_eq!(open(5, TimestepSpacing::Trailing, 0), [999, 799, 599, 399, 199]);
        for total in [1, 2, 7, 1000] {
            for steps in 1..=total {
                for spacing in ALL {
                    let list = open_timesteps(total, steps, spacing, 1).unwrap();
                    assert_eq!(list.len(), steps);
                    check_timesteps(total, &list).unwrap();
                }
            }
        }
        assert!(open_timesteps(10, 11, TimestepSpacing::Linspace, 0).is_err());
    }

    #[test]
    fn fractional_points_reach_both_ends() {
        assert_eq!(fractional_linspace(1000, 1).unwrap(), [999.0]);
        let list = fractional_linspace(1000, 20).unwrap();
        assert_eq!((list[0], list[19]), (999.0, 0.0));
        assert!((list[1] - 946.421_052_631_578_9).abs() < 1e-9);
        for steps in 1..=1000 {
            let list = fractional_linspace(1000, steps).unwrap();
            assert!(list.len() == steps && list.windows(2).all(|w| w[1] < w[0]), "{steps}");
        }
    }

    #[test]
    fn distilled_timesteps_are_among_those_of_the_distillation() {
        // diffusers 0.42.1, LCMScheduler with 4 and 8 of 50 steps.
        assert_eq!(distilled_timesteps(1000, 4, 50).unwrap(), [999, 759, 499, 259]);
        let eight = [999, 879, 759, 639, 499, 379, 259, 139];
        assert_eq!(distilled_timesteps(1000, 8, 50).unwrap(), eight);
        for steps in 1..=1000 {
            let list = distilled_timesteps(1000, steps, 50).unwrap();
            assert_eq!(list.len(), steps);
            check_timesteps(1000, &list).unwrap();
        }
    }

    #[test]
    fn given_lists_are_refused_by_what_is_wrong() {
        check_timesteps(1000, &[999, 500, 0]).unwrap();
        for (list, named) in [
            (&[][..], "timesteps: found none"),
            (&[1000, 5], "timesteps[0]: found 1000, expected 0 to 999"),
            (&[900, 500, 500], "timesteps[2]: found 500 after 500"),
            (&[500, 900], "timesteps[1]: found 900 after 500"),
        ] {
            let error = check_timesteps(1000, list).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
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
