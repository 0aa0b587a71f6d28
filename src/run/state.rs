//! A run's state, to be put away and taken up again.

use crate::error::{Error, Result};
use crate::step::{HISTORY, zeros};

use super::{Run, trail};

/// Where a run stood: its step, its samples and what its sampler keeps. Not its noise, which is a
/// function of seed and step, nor what the model said.
///
/// Takes [`bytes`](Self::bytes) of memory, all of it when it is made.
#[derive(Debug)]
pub struct RunState {
    shape: [usize; 4],
    pub(super) step_index: usize,
    pub(super) trail: u64,
    sample: Vec<f32>,
    x0: Vec<f32>,
    /// Of all items, empty where the run keeps none.
    carried: Vec<f32>,
    /// Newest first, each of all items, empty beyond what the run keeps.
    history: [Vec<f32>; HISTORY],
}

impl RunState {
    /// Room for the states of `run`; holds none yet, and stands at step 0 with all values 0.
    ///
    /// Allocates. Errors: `OutOfMemory`.
    pub fn new(run: &Run) -> Result<Self> {
        let [sample, x0, carried, history @ ..] = lengths(run);
        let mut state = Self {
            shape: run.shape,
            step_index: 0,
            trail: trail::astray(0),
            sample: zeros(sample)?,
            x0: zeros(x0)?,
            carried: zeros(carried)?,
            history: Default::default(),
        };
        for (values, len) in state.history.iter_mut().zip(history) {
            *values = zeros(len)?;
        }
        Ok(state)
    }

    /// The steps that had been taken.
    pub fn step_index(&self) -> usize {
        self.step_index
    }

    /// The memory that its values take.
    pub fn bytes(&self) -> usize {
        self.parts().iter().map(|(_, values)| size_of_val(*values)).sum()
    }

    /// Its values by name, each those of [N, C, H, W]; empty where the run keeps no such thing.
    pub(crate) fn parts(&self) -> [(&'static str, &[f32]); 3 + HISTORY] {
        let [newest, second, third] = &self.history;
        [
            ("sample", &self.sample),
            ("x0", &self.x0),
            ("carried", &self.carried),
            ("history.0", newest),
            ("history.1", second),
            ("history.2", third),
        ]
    }

    /// The same, to be written.
    pub(crate) fn parts_mut(&mut self) -> [(&'static str, &mut [f32]); 3 + HISTORY] {
        let [newest, second, third] = &mut self.history;
        [
            ("sample", &mut self.sample),
            ("x0", &mut self.x0),
            ("carried", &mut self.carried),
            ("history.0", newest),
            ("history.1", second),
            ("history.2", third),
        ]
    }

    /// Says that its values are those of `run` at `step`; `is_straight` as [`Run::is_straight`].
    pub(crate) fn set_step(&mut self, run: &Run, step: usize, is_straight: bool) {
        self.step_index = step;
        let trail = run.trail_at(step);
        self.trail = if is_straight { trail } else { trail::astray(trail) };
    }

    /// Whether it has the shape of the run's states.
    pub(super) fn fits(&self, run: &Run) -> bool {
        let own = self.parts().map(|(_, values)| values.len());
        self.shape == run.shape && own == lengths(run)
    }

    /// Whether `other` has its shape.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let lengths = |state: &Self| state.parts().map(|(_, values)| values.len());
        self.shape == other.shape && lengths(self) == lengths(other)
    }

    /// Takes over a state of the same shape.
    pub(super) fn copy_from(&mut self, other: &Self) {
        self.step_index = other.step_index;
        self.trail = other.trail;
        for ((_, to), (_, from)) in self.parts_mut().into_iter().zip(other.parts()) {
            to.copy_from_slice(from);
        }
    }
}

impl Run {
    /// The bytes that a [`RunState`] of this run takes.
    pub fn state_bytes(&self) -> usize {
        bytes_of(self)
    }
}

/// The bytes of a state of `run`.
pub(super) fn bytes_of(run: &Run) -> usize {
    lengths(run).into_iter().sum::<usize>().saturating_mul(size_of::<f32>())
}

/// The values in each part of a state of `run`.
fn lengths(run: &Run) -> [usize; 3 + HISTORY] {
    let batch = run.shape[0];
    let memory = run.memory.first();
    let kept = |age: usize| memory.map_or(0, |memory| batch * memory.history()[age].len());
    let carried = memory.map_or(0, |memory| batch * memory.carried().len());
    [run.sample.len(), run.x0.len(), carried, kept(0), kept(1), kept(2)]
}

impl Run {
    /// Puts the state into `state`. At a branch it is the state before the noise is renewed.
    ///
    /// Errors: `InvalidArgument` where `state` was made for another shape, a step has failed in
    /// the middle and the run was not taken back since, or its samples are [away](Self::away). Does not allocate or block.
    pub fn save_state(&self, state: &mut RunState) -> Result<()> {
        self.check_fits(state)?;
        if self.is_spoiled || self.away.is_some() {
            let what = if self.is_spoiled { "spoiled by a failed step" } else { "away" };
            return Err(Error::invalid_argument(format!(
                "run: found its sample {what} at step {}, expected a restart first",
                self.step_index
            )));
        }
        state.step_index = self.step_index;
        state.trail = self.trail;
        state.sample.copy_from_slice(&self.sample);
        state.x0.copy_from_slice(&self.x0);
        let item = self.item_len();
        for (to, memory) in state.carried.chunks_mut(item).zip(&self.memory) {
            to.copy_from_slice(memory.carried());
        }
        for (age, to) in state.history.iter_mut().enumerate() {
            for (to, memory) in to.chunks_mut(item).zip(&self.memory) {
                to.copy_from_slice(&memory.history()[age]);
            }
        }
        Ok(())
    }

    /// Goes back (or on) to `state`, from where the run continues as it did then, bit for bit, if it
    /// has the same start, and the same timesteps from there on.
    ///
    /// [`model_output`](Self::model_output) stays what it is. Errors: `InvalidArgument` where `state`
    /// was made for another shape or lies behind the last step. Does not allocate or block.
    pub fn restore_state(&mut self, state: &RunState) -> Result<()> {
        self.check_fits(state)?;
        if state.step_index > self.steps() {
            return Err(Error::invalid_argument(format!(
                "state: found step {}, expected 0 to {}",
                state.step_index,
                self.steps()
            )));
        }
        self.step_index = state.step_index;
        self.trail = state.trail;
        self.is_spoiled = false;
        self.away = None;
        self.sample.copy_from_slice(&state.sample);
        self.x0.copy_from_slice(&state.x0);
        let item = self.item_len();
        for (from, memory) in state.carried.chunks(item).zip(&mut self.memory) {
            memory.kept_mut().0.copy_from_slice(from);
        }
        for (age, from) in state.history.iter().enumerate() {
            for (from, memory) in from.chunks(item).zip(&mut self.memory) {
                memory.kept_mut().1[age].copy_from_slice(from);
            }
        }
        Ok(())
    }

    /// Whether a restart, stepped as far, comes to the very state the run is in. Not so after
    /// [`set_sample`](Self::set_sample), a state of another start, or timesteps that changed steps
    /// already taken (see [`replan`](Self::replan)).
    ///
    /// Does not allocate or block.
    pub fn is_straight(&self) -> bool {
        !self.is_spoiled && self.trail == self.trail_at(self.step_index)
    }

    /// Whether a step has failed in the middle, or the samples were lost, so that the run has to go back.
    /// Does not allocate or block.
    pub fn is_spoiled(&self) -> bool {
        self.is_spoiled
    }

    fn check_fits(&self, state: &RunState) -> Result<()> {
        if state.fits(self) {
            return Ok(());
        }
        let lengths = |values: [usize; 3 + HISTORY]| values.iter().sum::<usize>();
        Err(Error::invalid_argument(format!(
            "state: found one of shape {:?} with {} values, expected {:?} with {}",
            state.shape,
            lengths(state.parts().map(|(_, values)| values.len())),
            self.shape,
            lengths(self::lengths(self)),
        )))
    }
}
