//! Back and forth along a stream's run: seek, branch, save.

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::run::{Branch, Run, RunStart, RunState};

use super::stream_core::{Options, StreamCore, Work};
use super::sync::{MutexGuard, Ordering};

/// Has the worker bring the samples of a stream home, and waits for that.
pub(super) type Home<'a> = dyn Fn() -> Result<()> + 'a;

/// Whoever looks at a run. The worker takes no samples away meanwhile.
struct Guest<'a>(&'a StreamCore);

impl<'a> Guest<'a> {
    fn of(core: &'a StreamCore) -> Self {
        core.guests.fetch_add(1, Ordering::SeqCst);
        Self(core)
    }
}

impl Drop for Guest<'_> {
    fn drop(&mut self) {
        self.0.guests.fetch_sub(1, Ordering::SeqCst);
    }
}

impl StreamCore {
    /// Host: goes to `step`, whatever was going on. True where that discarded what was in flight. The
    /// caller shows the stream to the worker.
    ///
    /// Errors: `InvalidArgument` where the run has no such step.
    pub(crate) fn seek(&self, step: u32) -> Result<bool> {
        let starting = self.epoch_lock.lock();
        let steps = self.steps();
        if step > steps {
            return Err(Error::invalid_argument(format!(
                "step: found {step}, expected 0 to {steps}"
            )));
        }
        let epoch = self.progress.next_epoch();
        self.restart_playback(step);
        let discarded = self.progress.seek(epoch, step);
        drop(starting);
        self.notify();
        Ok(discarded)
    }

    /// Host: a run like this stream's that draws other noise from `step` on, as near to `step` as
    /// this one's checkpoints lead; and how it is served and shown: as this stream, whose timesteps may
    /// have been chosen already. Allocates. Blocks while the worker takes a step's result.
    ///
    /// Errors: `InvalidArgument` where there is no such step or nothing would differ; `OutOfMemory`.
    pub(super) fn branch(&self, branch: Branch, home: &Home<'_>) -> Result<(Run, Options)> {
        let work = self.settled_work(home)?;
        let run = &work.run;
        let target = branch.step as usize;
        let is_of_run = target < run.steps();
        if is_of_run && branch.variation == 0.0 && !run.draws_noise_from(target) {
            return Err(Error::invalid_argument(format!(
                "variation: found 0, but {} draws no noise from step {} on, so that another seed changes nothing",
                run.config().kind,
                branch.step
            )));
        }
        let mut branches = run.start().branches.clone();
        // What was to come after it is another trajectory's.
        branches.retain(|earlier| earlier.step < branch.step);
        branches.push(branch);
        let start = RunStart { branches, ..run.start().clone() };
        let mut made = Run::starting(&self.model, run.config(), start, 1)?;
        // Its own state, where it is not beyond, is the nearest there is; a kept one may be.
        if run.step_index() <= target {
            let mut state = RunState::new(run)?;
            if run.save_state(&mut state).is_ok() {
                made.restore_state(&state)?;
            }
        }
        made.seek_start(&work.checkpoints, target)?;
        Ok((made, Options { director: work.awaits_director, ..self.options }))
    }

    /// Host: lets a branch from `step` have the checkpoints on the way that both go.
    pub(crate) fn share_checkpoints(&self, branch: &Self, step: u32) {
        let work = self.work.lock();
        work.checkpoints.copy_up_to(&mut branch.work.lock().checkpoints, step as usize);
    }

    /// Host: lets `look` see the run as it stands after the last finished step. Blocks while the worker
    /// takes a step's result.
    ///
    /// Errors: `InvalidArgument` where the timesteps of the run are still to be chosen.
    pub(super) fn look_at_run<T>(
        &self,
        home: &Home<'_>,
        look: impl FnOnce(&Run) -> Result<T>,
    ) -> Result<T> {
        let work = self.settled_work(home)?;
        if work.awaits_director {
            return Err(Error::invalid_argument(
                "director: found a run whose timesteps are still to be chosen, expected one that has made a step",
            ));
        }
        look(&work.run)
    }

    pub(crate) fn model(&self) -> &ModelConfig {
        &self.model
    }

    /// Host: no step begins, or steps begin again.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.progress.set_paused(paused);
    }

    /// The worker's part, with the last reset applied to it and the run's samples at home; `home` has the
    /// worker bring them there.
    fn settled_work(&self, home: &Home<'_>) -> Result<MutexGuard<'_, Work>> {
        let _guest = Guest::of(self);
        loop {
            let mut work = self.work.lock();
            // So that no reset comes between a look at it and the run. Never waited for with the worker's part in
            // hand, nor the other way round: whoever resets or seeks in a frame holds it for a moment, and
            // waits for nobody who waits for the worker.
            if let Some(_starting) = self.epoch_lock.try_lock() {
                self.catch_up(&mut work)?;
                if work.run.away().is_none() {
                    return Ok(work);
                }
            }
            let is_away = work.run.away().is_some();
            drop(work);
            match is_away {
                true => home()?,
                false => std::thread::yield_now(),
            }
        }
    }
}
