//! One stream as the host and the worker share it.
//!
//! The host side reads and moves the progress word and takes frames; the worker side owns the run.
//! The only locks the host takes are its own (a frame being copied, a reset) and, where a thread
//! waits, the wait lock; nobody holds that while anything runs. This module must not know where steps are queued.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind, Result};
use crate::model::ModelConfig;
use crate::run::{Run, RunStart};
use crate::sampler::SamplerConfig;

use super::frame_format::FrameFormat;
use super::frames::{Drawn, FrameGuard, FrameInfo, Frames};
use super::internal;
use super::progress::{Begin, MAX_STEPS, Progress, StreamState, Ticket};

/// What a stream's frames show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preview {
    /// The predicted clean sample x_0: a blurred guess that sharpens.
    #[default]
    PredOriginalSample,
    /// The sample x_t itself: noise that settles.
    Sample,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamStatus {
    /// What it is doing.
    pub state: StreamState,
    /// Finished steps of this run.
    pub step: u32,
    /// Steps of the whole run.
    pub steps: u32,
    /// The generation of the newest frame of this run; 0 before its first step, if it has any.
    pub generation: u64,
    /// The training timestep given to the model in the step that runs or comes next; after the last
    /// step, that of the last.
    pub timestep: f64,
}

/// What asking for a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The step is queued.
    Accepted,
    /// The last one still runs, or the engine's queue is full: ask again next frame.
    Busy,
    /// The run is over: finished, or cancelled.
    Done,
}

/// What only the worker touches, so that its lock is never contended.
struct Work {
    run: Run,
    epoch: u32,
}

/// See the module's text.
pub(crate) struct StreamCore {
    progress: Progress,
    /// By the epoch's parity. Epoch e's seed is overwritten by the reset to e + 2, and by then e's
    /// tickets are worthless; so whoever holds a ticket that counts reads the right one.
    seeds: [AtomicU64; 2],
    reset_lock: Mutex<()>,
    work: Mutex<Work>,
    frames: Frames,
    error: Mutex<Option<Error>>,
    waiters: AtomicU32,
    wait_lock: Mutex<()>,
    settled: Condvar,
    timesteps: Box<[f64]>,
    preview: Preview,
}

impl StreamCore {
    /// Allocates everything the stream will use. Runs no model. A run without steps is done, and its
    /// start picture is its frame. Errors: `InvalidArgument`.
    pub(crate) fn new(
        model: &ModelConfig,
        sampler: &SamplerConfig,
        start: RunStart,
        preview: Preview,
        format: FrameFormat,
    ) -> Result<Self> {
        let seed = start.seed;
        let run = Run::starting(model, sampler, start, 1)?;
        let timesteps: Box<[f64]> = run.timesteps().collect();
        if timesteps.len() > MAX_STEPS {
            return Err(Error::invalid_argument(format!(
                "steps: found {}, expected at most {MAX_STEPS}",
                timesteps.len()
            )));
        }
        let core = Self {
            progress: Progress::new(timesteps.len()),
            seeds: [AtomicU64::new(seed), AtomicU64::new(seed)],
            reset_lock: Mutex::new(()),
            work: Mutex::new(Work { run, epoch: 0 }),
            frames: Frames::new(format, model)?,
            error: Mutex::new(None),
            waiters: AtomicU32::new(0),
            wait_lock: Mutex::new(()),
            settled: Condvar::new(),
            timesteps,
            preview,
        };
        core.show_start(0)?;
        Ok(core)
    }

    /// Host: asks for a step. On `Ok(Ok(ticket))` the caller queues it or gives it back.
    pub(crate) fn begin(&self) -> Result<std::result::Result<Ticket, StepOutcome>> {
        match self.progress.begin() {
            Begin::Granted(ticket) => Ok(Ok(ticket)),
            Begin::Busy => Ok(Err(StepOutcome::Busy)),
            Begin::Over => Ok(Err(StepOutcome::Done)),
            Begin::Failed => Err(self.sticky_error()),
        }
    }

    /// Host: gives back a ticket that could not be queued.
    fn give_back(&self, ticket: Ticket) {
        self.progress.give_back(ticket);
        self.notify();
    }

    /// Host: see [`StreamStatus`].
    pub(crate) fn status(&self) -> StreamStatus {
        let now = self.progress.snapshot();
        let last = self.timesteps.len().saturating_sub(1);
        let row = (now.step as usize).min(last);
        StreamStatus {
            state: now.state,
            step: now.step,
            steps: self.timesteps.len() as u32,
            generation: self.frames.generation_of(now.epoch),
            timestep: self.timesteps.get(row).copied().unwrap_or(0.0),
        }
    }

    /// Host: copies the newest frame of this run, if it was not taken before.
    pub(crate) fn copy_frame(
        &self,
        target: &mut [u8],
        row_stride: usize,
    ) -> Result<Option<FrameInfo>> {
        self.frames.copy(target, row_stride, || self.progress.snapshot().epoch)
    }

    /// Host: takes the newest frame of this run, if it was not taken before.
    pub(crate) fn acquire_frame(&self) -> Result<Option<FrameGuard>> {
        self.frames.acquire(|| self.progress.snapshot().epoch)
    }

    /// Bytes of a frame's row without gaps.
    pub(crate) fn row_bytes(&self) -> usize {
        self.frames.row_bytes()
    }

    /// Host: starts again at step 0; `None` keeps the seed. Whatever is in flight is discarded.
    pub(crate) fn reset(&self, seed: Option<u64>) -> Result<()> {
        let resetting = self.reset_lock.lock();
        let epoch = self.progress.next_epoch();
        let current = self.seed_of(epoch.wrapping_sub(1)).load(Ordering::Relaxed);
        self.seed_of(epoch).store(seed.unwrap_or(current), Ordering::Relaxed);
        // Held over both, so that whoever copies finds a new run without steps with its frame.
        let reading = self.timesteps.is_empty().then(|| self.frames.close());
        self.show_start(epoch)?;
        // Releases the seed: a worker that sees the new epoch sees its seed.
        self.progress.reset(epoch);
        drop((reading, resetting));
        self.notify();
        Ok(())
    }

    /// Host: publishes the start picture of a run that has no steps, which no worker ever touches.
    fn show_start(&self, epoch: u32) -> Result<()> {
        if !self.timesteps.is_empty() {
            return Ok(());
        }
        self.draw(&self.work.lock().run, epoch, 0)?.publish();
        Ok(())
    }

    /// Draws the run's picture as the next frame.
    fn draw(&self, run: &Run, epoch: u32, step: u32) -> Result<Drawn<'_>> {
        let shown = match self.preview {
            Preview::PredOriginalSample => run.x0(),
            Preview::Sample => run.sample(),
        };
        self.frames.draw(shown, epoch, step, self.timesteps.len() as u32)
    }

    /// Host: ends the run.
    pub(crate) fn cancel(&self) {
        self.progress.cancel();
        self.notify();
    }

    /// Host: waits until no step is in flight; false where `timeout` passed first.
    pub(crate) fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.wait_lock.lock();
        let mut timed_out = false;
        let outcome = loop {
            // Pairs with the fence in `notify`: either this sees the change, or that the waiter.
            fence(Ordering::SeqCst);
            match self.progress.snapshot().state {
                StreamState::Failed => break Err(self.sticky_error()),
                StreamState::Stepping if timed_out => break Ok(false),
                StreamState::Stepping => {}
                StreamState::Idle | StreamState::Done | StreamState::Cancelled => break Ok(true),
            }
            match deadline {
                None => self.settled.wait(&mut lock),
                Some(at) => timed_out = self.settled.wait_until(&mut lock, at).timed_out(),
            }
        };
        drop(lock);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    /// Worker: how many samples the step asks the model about; none where it is no longer wanted.
    fn queries(&self, ticket: Ticket) -> usize {
        if !self.progress.wants(ticket) {
            return 0;
        }
        self.work.try_lock().map_or(0, |work| work.run.queries())
    }

    /// Worker: what the step asks the model, see [`Run::ask`].
    fn ask(
        &self,
        ticket: Ticket,
        sample: &mut [f32],
        timesteps: &mut [f64],
        labels: &mut [i64],
    ) -> Result<()> {
        let mut work = self.work.try_lock().ok_or_else(|| internal("two workers on one stream"))?;
        if work.epoch != ticket.epoch {
            work.run.reset(self.seed_of(ticket.epoch).load(Ordering::Relaxed));
            work.epoch = ticket.epoch;
        }
        work.run.ask(sample, timesteps, labels)
    }

    /// Worker: makes the step of what the model said, publishes its frame. Does nothing where the step
    /// is no longer wanted.
    fn answer(&self, ticket: Ticket, output: &[f32]) -> Result<()> {
        if !self.progress.wants(ticket) {
            return Ok(());
        }
        let mut work = self.work.try_lock().ok_or_else(|| internal("two workers on one stream"))?;
        let more = work.run.answer(output)?;
        let drawn = self.draw(&work.run, ticket.epoch, ticket.step + 1)?;
        if self.progress.commit(ticket) {
            drawn.publish();
            self.progress.finish(ticket, !more);
            self.notify();
        }
        Ok(())
    }

    /// Records that the step failed, unless it is no longer wanted.
    pub(crate) fn fail(&self, ticket: Ticket, error: Error) {
        if self.progress.wants(ticket) {
            *self.error.lock() = Some(error);
            self.progress.fail(ticket);
            self.notify();
        }
    }

    fn seed_of(&self, epoch: u32) -> &AtomicU64 {
        &self.seeds[(epoch & 1) as usize]
    }

    fn sticky_error(&self) -> Error {
        let lost = || internal("a step failed and its error was lost");
        self.error.lock().clone().unwrap_or_else(lost)
    }

    fn notify(&self) {
        fence(Ordering::SeqCst);
        // A frame loop does not wait, and then no lock is touched.
        if self.waiters.load(Ordering::SeqCst) == 0 {
            return;
        }
        // Taken so that a waiter between its look at the word and its sleep cannot miss this.
        drop(self.wait_lock.lock());
        self.settled.notify_all();
    }
}

/// A queued step. Dropped unsettled, as when the engine closes over a full queue, it fails the
/// stream, so that no stream is left stepping for ever.
pub(crate) struct Request {
    core: Arc<StreamCore>,
    ticket: Ticket,
    settled: bool,
}

impl Request {
    pub(crate) fn new(core: Arc<StreamCore>, ticket: Ticket) -> Self {
        Self { core, ticket, settled: false }
    }

    /// Host: could not be queued after all.
    pub(crate) fn give_back(mut self) {
        self.settled = true;
        self.core.give_back(self.ticket);
    }

    /// Worker: how many samples it asks the model about. With none it is settled.
    pub(crate) fn queries(&mut self) -> usize {
        let queries = self.core.queries(self.ticket);
        self.settled |= queries == 0;
        queries
    }

    /// Worker: what it asks, for as many queries.
    pub(crate) fn ask(
        &mut self,
        sample: &mut [f32],
        timesteps: &mut [f64],
        labels: &mut [i64],
    ) -> Result<()> {
        if self.settled {
            return Ok(());
        }
        self.core.ask(self.ticket, sample, timesteps, labels)
    }

    /// Worker: makes the step. After an error the request is still to be failed.
    pub(crate) fn answer(&mut self, output: &[f32]) -> Result<()> {
        self.core.answer(self.ticket, output)?;
        self.settled = true;
        Ok(())
    }

    /// Worker: ends the step with this error.
    pub(crate) fn fail(&mut self, error: Error) {
        if !self.settled {
            self.core.fail(self.ticket, error);
            self.settled = true;
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if !self.settled {
            let error =
                Error::new(ErrorKind::EngineClosed, "the engine was closed during the step");
            self.core.fail(self.ticket, error);
        }
    }
}
