//! Other timesteps for the rest of a run that is under way.

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::noise_schedule::NoiseSchedule;
use crate::sampler::{SamplerConfig, SigmaSpacing, StepTable, step_table};
use crate::timesteps::{TimestepSpacing, timesteps};

use super::Run;
use super::start::check_branches;

/// Steps in which every sampler has come to use all it ever keeps, and does not lower its order any
/// more for being short.
const LONG_RUN: usize = 16;

/// A table of a long run with the same sampler: what its rows keep is what those of any list of
/// timesteps do.
pub(super) fn long_table(
    schedule: &NoiseSchedule,
    model: &ModelConfig,
    sampler: &SamplerConfig,
) -> Result<StepTable> {
    let total = schedule.num_train_timesteps();
    let list = timesteps(total, total.min(LONG_RUN), TimestepSpacing::Trailing, 0)?;
    step_table(schedule, model.prediction_type, &with_timesteps(sampler, &list))
}

/// Whether a run over `table` can be given other timesteps under way; `long` is its long table.
pub(super) fn takes_timesteps(
    sampler: &SamplerConfig,
    table: &StepTable,
    long: &StepTable,
) -> bool {
    let falls =
        |table: &StepTable| table.rows().windows(2).all(|pair| pair[1].timestep < pair[0].timestep);
    let is_whole = table.rows().iter().all(|row| row.timestep.fract() == 0.0);
    sampler.sigmas == SigmaSpacing::Timesteps
        && !sampler.kind.is_inverse()
        && !sampler.kind.is_distilled()
        && !table.rows().is_empty()
        && is_whole
        // A sampler that asks more than once a step comes back to a timestep.
        && falls(long)
        && falls(table)
}

fn with_timesteps(sampler: &SamplerConfig, list: &[usize]) -> SamplerConfig {
    SamplerConfig {
        steps: list.len(),
        timesteps: Some(list.into()),
        // The list has no steps that were left out.
        strength: 1.0,
        sigmas: SigmaSpacing::Timesteps,
        ..sampler.clone()
    }
}

impl Run {
    /// Whether [`replan`](Self::replan) is possible: one row for each timestep, and those whole ones and
    /// free to choose. Not with Heun, PNDM in either form, LCM, TCD, the inverse, Karras or exponential
    /// sigmas, or fractional timesteps. Does not allocate or block.
    pub fn can_replan(&self) -> bool {
        self.takes_timesteps
    }

    /// The fewest timesteps that a new list can have: those of the steps taken, that of the next, and
    /// those up to the last branch, which is to stay in the run. Does not allocate or block.
    pub fn least_steps(&self) -> usize {
        let last = self.start.branches.last().map_or(0, |branch| branch.step as usize);
        self.steps().min(self.step_index.max(last) + 1)
    }

    /// Replaces the run's timesteps by `list`, which must have those of the steps taken and of the step
    /// that comes next at its beginning. `model` is the one the run was made for.
    ///
    /// The state stays, and from here on the run is that of the sampler with this list
    /// (`SamplerConfig::timesteps`): bit for bit the one that has it from the start. One thing is
    /// decided by steps to come: an order of 3 is lowered to 2 in the last step but one (of DPM-Solver++
    /// and DEIS in runs below 15 steps). Where that step has been taken and is not, or only now is, the
    /// last but one, it stays as it was taken; [`is_straight`](Self::is_straight) is false then, and a
    /// restart or a seek goes the way of the new list from the start.
    ///
    /// Allocates the new table. Errors: `InvalidArgument` where the run cannot have other timesteps, the
    /// list is not falling or below T, does not begin as said, or ends before a branch; the run is as it
    /// was then.
    pub fn replan(&mut self, model: &ModelConfig, list: &[usize]) -> Result<()> {
        let refuse = |message: String| Err(Error::invalid_argument(message));
        if !self.takes_timesteps {
            return refuse(format!(
                "timesteps: found a new list for a run of {} whose steps are its own choice",
                self.config.kind
            ));
        }
        let [_, channels, height, width] = self.shape;
        if [model.channels, model.height, model.width] != [channels, height, width] {
            return refuse(format!(
                "model: found samples of [{}, {}, {}], expected [{channels}, {height}, {width}]",
                model.channels, model.height, model.width
            ));
        }
        let taken = self.step_index;
        let fixed = self.steps().min(taken + 1);
        // After the last step there is none to come, and no list can add one to a clean sample.
        if list.len() < fixed || (fixed == taken && list.len() > fixed) {
            return refuse(format!(
                "timesteps: found {} of them after {taken} steps of {}, expected {} {fixed}",
                list.len(),
                self.steps(),
                if fixed == taken { "the same" } else { "at least" },
            ));
        }
        for (index, (&found, row)) in list.iter().zip(&self.table.rows()[..fixed]).enumerate() {
            if found as f64 != row.timestep {
                return refuse(format!(
                    "timesteps[{index}]: found {found}, expected {} as in the run, which took {taken} steps",
                    row.timestep
                ));
            }
        }
        check_branches(&self.start.branches, list.len())?;
        let config = with_timesteps(&self.config, list);
        self.table = step_table(&model.noise_schedule()?, model.prediction_type, &config)?;
        self.config = config;
        Ok(())
    }
}
