//! States kept along a run, in bounded memory, and the way back to them.

use crate::error::{Error, Result};

use super::Run;
use super::state::{RunState, bytes_of};

/// States of a run at every K-th step, of which as many are kept as a bound on memory allows.
#[derive(Debug)]
pub struct Checkpoints {
    /// K; 0 where none are kept.
    every: usize,
    /// Those at steps K, 2 K, ...; at step 0 where none is kept, as the start needs none.
    states: Vec<RunState>,
}

impl Checkpoints {
    /// As many states of `run` as fit into `bytes`, at every K-th step with the least such K, the end
    /// included. None are kept where not even one fits.
    ///
    /// Allocates all it will use, which is `bytes` at most. Errors: `OutOfMemory`.
    pub fn new(run: &Run, bytes: usize) -> Result<Self> {
        let steps = run.steps();
        let most = bytes.checked_div(bytes_of(run)).unwrap_or(0).min(steps);
        if most == 0 {
            return Ok(Self { every: 0, states: Vec::new() });
        }
        // The least K of which no more than `most` multiples are up to the run's end.
        let every = steps / (most + 1) + 1;
        let states = (0..steps / every).map(|_| RunState::new(run)).collect::<Result<_>>()?;
        Ok(Self { every, states })
    }

    /// Keeps the run's state if it stands at a multiple of K, above 0; in place of an older one there.
    ///
    /// After a [`replan`](Run::replan) to more steps, those beyond the first plan are not kept. Does not
    /// allocate or block.
    pub fn record(&mut self, run: &Run) {
        if let Some(slot) = self.slot(run.step_index())
            && run.save_state(&mut self.states[slot]).is_err()
        {
            // Of another shape, or spoiled: what was there is no better.
            self.states[slot].step_index = 0;
        }
    }

    /// Whether [`record`](Self::record) would keep the run's state where it stands. Does not allocate or
    /// block.
    pub fn wants(&self, run: &Run) -> bool {
        self.slot(run.step_index()).is_some()
    }

    /// Forgets all states, and keeps their memory. Does not allocate or block.
    pub fn clear(&mut self) {
        self.states.iter_mut().for_each(|state| state.step_index = 0);
    }

    /// The latest kept state at or before `step`, whichever start and timesteps it is of:
    /// [`Run::seek_start`] looks at that. Does not allocate or block.
    pub fn nearest(&self, step: usize) -> Option<&RunState> {
        let kept = |state: &&RunState| (1..=step).contains(&state.step_index);
        self.states.iter().rev().find(kept)
    }

    /// K, the distance of the kept states in steps; 0 where none are kept.
    pub fn every(&self) -> usize {
        self.every
    }

    /// Copies the states at or before `step` into those of another run, which branches off there.
    ///
    /// Does nothing where the other keeps states of another shape or at other steps. Does not allocate
    /// or block.
    pub fn copy_up_to(&self, other: &mut Self, step: usize) {
        if self.every != other.every {
            return;
        }
        for (from, to) in self.states.iter().zip(&mut other.states) {
            if (1..=step).contains(&from.step_index) && to.is_like(from) {
                to.copy_from(from);
            }
        }
    }

    /// The place of the state at `step`.
    fn slot(&self, step: usize) -> Option<usize> {
        if self.every == 0 || step == 0 || !step.is_multiple_of(self.every) {
            return None;
        }
        let slot = step / self.every - 1;
        (slot < self.states.len()).then_some(slot)
    }

    /// The state kept at `step`.
    fn at(&self, step: usize) -> Option<&RunState> {
        let state = &self.states[self.slot(step)?];
        (state.step_index == step).then_some(state)
    }
}

/// Where a run can go on from.
enum Known<'a> {
    Start,
    Here,
    Kept(&'a RunState),
}

impl Run {
    /// Takes the run to the last state at or before `target` that is known: its own, a kept one, or the
    /// start. The steps from there to `target` are the caller's to make.
    ///
    /// What comes out is bit for bit the state of a straight run with the run's start and config:
    /// states that lie on another way are passed by, the run's own among them. Errors:
    /// `InvalidArgument` where `target` is behind the last step. Does not allocate or block.
    pub fn seek_start(&mut self, checkpoints: &Checkpoints, target: usize) -> Result<()> {
        if target > self.steps() {
            return Err(Error::invalid_argument(format!(
                "step: found {target}, expected 0 to {}",
                self.steps()
            )));
        }
        let mut known = Known::Start;
        let mut trail = self.trail_of_start();
        for step in 0..=target {
            if let Some(before) = step.checked_sub(1) {
                trail = self.trail_after(trail, before);
            }
            if step == self.step_index && !self.is_spoiled && self.trail == trail {
                known = Known::Here;
            } else if let Some(state) = checkpoints.at(step)
                && state.trail == trail
                && state.fits(self)
            {
                known = Known::Kept(state);
            }
        }
        match known {
            Known::Start => self.restart(),
            Known::Here => {}
            Known::Kept(state) => self.restore_state(state)?,
        }
        Ok(())
    }
}
