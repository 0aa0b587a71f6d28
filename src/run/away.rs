//! A run whose samples are elsewhere, where the model runs, while its place in its table stays here.

use crate::error::{Error, Result};
use crate::step::{RowMatrix, STATE_PARTS};

use super::Run;
use super::advance::step_noise;

impl Run {
    /// Who has the samples of this run; none where they are here. What is here is old while somebody has
    /// them, and must not be read: [`take_home`](Self::take_home) comes first. Whatever sets the samples,
    /// a reset or a state, takes the run home too.
    pub fn away(&self) -> Option<u64> {
        self.away
    }

    /// The next step as numbers for a kernel elsewhere, see [`RowMatrix`]. None where there is no step
    /// left, or one that only this crate's own kernel makes: with guidance, with dynamic thresholding,
    /// at a branch that renews its noise, or of a batch. Does not allocate or block.
    pub fn row_matrix(&self, shows_sample: bool) -> Option<RowMatrix> {
        let row = self.table.rows().get(self.step_index)?;
        let is_plain =
            self.shape[0] == 1 && self.null_labels.is_empty() && self.renewal().is_none();
        is_plain.then(|| RowMatrix::of(row, shows_sample)).flatten()
    }

    /// The label of the run's item, if its model takes one.
    pub fn label(&self) -> Option<i64> {
        self.labels.first().copied()
    }

    /// Fills `noise`, [C, H, W], with what the next step draws; false where it draws none. Does not
    /// allocate or block.
    pub fn next_noise(&self, noise: &mut [f32]) -> bool {
        let draws = self.table.rows().get(self.step_index).is_some_and(|row| row.draws_noise());
        if draws {
            step_noise(self.seed_at(self.step_index), self.step_index as u32, noise);
        }
        draws
    }

    /// Writes what the run keeps as [parts, C, H, W], in the order of
    /// [`RowMatrix`]; what it does not keep is 0.
    ///
    /// Errors: `InvalidArgument` where the length differs, the run is of a batch, is away, or was spoiled.
    /// Does not allocate or block.
    pub fn pack(&self, state: &mut [f32]) -> Result<()> {
        self.check_packed(state.len())?;
        if self.away.is_some() || self.is_spoiled {
            return Err(Error::invalid_argument(
                "run: found its samples away or spoiled, expected them here",
            ));
        }
        for (to, from) in state.chunks_mut(self.item_len()).zip(self.parts()) {
            match from.is_empty() {
                true => to.fill(0.0),
                false => to.copy_from_slice(from),
            }
        }
        Ok(())
    }

    /// Counts a step that `who` made of the packed state: the samples are away from now on. Does not
    /// allocate or block.
    pub fn step_away(&mut self, who: u64) {
        if self.step_index < self.steps() {
            self.trail = self.trail_after(self.trail, self.step_index);
            self.step_index += 1;
            self.away = Some(who);
        }
    }

    /// Takes over the packed state at the run's step from whoever has it.
    ///
    /// Errors: `InvalidArgument` where the length differs. Does not allocate or block.
    pub fn take_home(&mut self, state: &[f32]) -> Result<()> {
        self.check_packed(state.len())?;
        let item = self.item_len();
        for (to, from) in self.parts_mut().into_iter().zip(state.chunks(item)) {
            if !to.is_empty() {
                to.copy_from_slice(from);
            }
        }
        self.is_spoiled = false;
        self.away = None;
        Ok(())
    }

    /// Says that `who` still has the very state that is here. Does not allocate or block.
    pub fn leave(&mut self, who: u64) {
        self.away = Some(who);
    }

    /// `who` has done nothing with the state it was left: what is here is good. Does not allocate or block.
    pub fn return_as_left(&mut self, who: u64) {
        if self.away == Some(who) {
            self.away = None;
        }
    }

    /// Whoever had the samples has lost them: the run has to go back, by a restart, a reset, a seek or
    /// a state. Does not allocate or block.
    pub fn lose(&mut self) {
        self.away = None;
        self.is_spoiled = true;
    }

    /// What the run keeps of its item, in the order of [`RowMatrix`].
    fn parts(&self) -> [&[f32]; STATE_PARTS] {
        let [carried, newest, second, third] = match self.memory.first() {
            None => Default::default(),
            Some(memory) => {
                let [newest, second, third] = memory.history();
                [memory.carried(), newest, second, third]
            }
        };
        [&self.sample, carried, newest, second, third, &self.x0]
    }

    /// The same, to be written.
    fn parts_mut(&mut self) -> [&mut [f32]; STATE_PARTS] {
        let [carried, newest, second, third] = match self.memory.first_mut() {
            None => Default::default(),
            Some(memory) => {
                let (carried, [newest, second, third]) = memory.kept_mut();
                [carried, newest, second, third]
            }
        };
        [&mut self.sample, carried, newest, second, third, &mut self.x0]
    }

    fn check_packed(&self, found: usize) -> Result<()> {
        let expected = STATE_PARTS * self.item_len();
        if self.shape[0] == 1 && found == expected {
            return Ok(());
        }
        Err(Error::invalid_argument(format!(
            "packed state: found {found} values for {} items, expected {expected} for one",
            self.shape[0]
        )))
    }
}
