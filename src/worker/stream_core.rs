//! One stream as the host and the worker share it.
//!
//! The host side reads and moves the progress word and takes frames; the worker side (see
//! [`request`](super::request)) owns the run. The only locks the host takes in a frame are its own (a frame
//! being copied, a reset, the clock of a playback); nobody holds those while the model runs. This module
//! must not know where steps are queued.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::run::{Checkpoints, Run};

use super::calls::Membership;
use super::frame_format::FrameFormat;
use super::frames::{Drawn, FrameGuard, FrameInfo, Frames};
use super::internal;
use super::playback::Pace;
use super::progress::{Begin, Goal, MAX_STEPS, Progress, StreamState, Ticket};
use super::sync::{AtomicBool, AtomicU32, AtomicU64, Condvar, Mutex, Ordering, fence};

/// What a stream's frames show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preview {
    /// The predicted clean sample x_0: a blurred guess that sharpens.
    #[default]
    PredOriginalSample,
    /// The sample x_t itself: noise that settles.
    Sample,
}

impl Preview {
    /// What of a run it shows, whose samples are here.
    pub(super) fn of(self, run: &Run) -> &[f32] {
        match self {
            Self::PredOriginalSample => run.x0(),
            Self::Sample => run.sample(),
        }
    }
}

/// Whose steps are made first where more streams wait than one run of the model takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// After the others.
    Low,
    /// As it comes.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// How a stream is served and shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    pub(crate) preview: Preview,
    pub(crate) format: FrameFormat,
    pub(crate) priority: Priority,
    /// Whether the timesteps are to be chosen by the change one sees.
    pub(crate) director: bool,
    /// What the checkpoints for seeking back may take.
    pub(crate) checkpoint_bytes: usize,
}

/// Where a stream stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamStatus {
    /// What it is doing.
    pub state: StreamState,
    /// Finished steps of this run; while it seeks, the step it is to stand at.
    pub step: u32,
    /// Steps of the whole run. A playback that would end late makes them fewer.
    pub steps: u32,
    /// The generation of the newest frame of this run; 0 before its first step, if it has any.
    pub generation: u64,
    /// The training timestep given to the model in the step that runs or comes next; after the last
    /// step, that of the last.
    pub timestep: f64,
    /// Whether it is paused.
    pub is_paused: bool,
}

/// What asking for steps came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// The worker has them to make. From a tick: the picture is on time and under way.
    Accepted,
    /// The last one still runs: ask again next frame.
    Busy,
    /// The run is over: finished, or cancelled.
    Done,
    /// The stream is paused.
    Paused,
}

/// A reset: the epoch it starts, and how many there were before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) epoch: u32,
    count: u32,
}

impl Origin {
    fn pack(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.count)
    }

    fn unpack(bits: u64) -> Self {
        Self { epoch: (bits >> 32) as u32, count: bits as u32 }
    }

    fn next(self, epoch: u32) -> Self {
        Self { epoch, count: self.count.wrapping_add(1) }
    }
}

/// What the worker works on. The host takes its lock to branch and to save, and never in a frame; the
/// worker does not hold it while the model runs.
pub(super) struct Work {
    pub(super) run: Run,
    pub(super) checkpoints: Checkpoints,
    /// The epoch that the run was made ready for.
    pub(super) epoch: u32,
    /// The last reset that the run has seen.
    pub(super) origin: Origin,
    /// The timesteps are still to be chosen.
    pub(super) awaits_director: bool,
    /// The timesteps, and what each step shows, before a playback made them fewer.
    pub(super) unshortened: Option<(Vec<usize>, Vec<f32>)>,
    /// When the last step was finished, if the worker went on at once.
    pub(super) last_finish: Option<Instant>,
    /// When the worker took up the step that it makes.
    pub(super) taken_up: Instant,
}

/// See the module's text.
pub(crate) struct StreamCore {
    pub(super) progress: Progress,
    /// Whether it is in the worker's queue.
    pub(super) is_queued: AtomicBool,
    /// The call of the model that runs for it.
    pub(super) membership: Membership,
    /// The last reset, packed.
    origin: AtomicU64,
    /// By the parity of the reset. The seed of reset n is overwritten by reset n + 2, and by then the
    /// tickets of n are worthless; so whoever holds a ticket that counts reads the right one.
    seeds: [AtomicU64; 2],
    /// Those who look at the run: while there are any, its samples are here or about to be.
    pub(super) guests: AtomicU32,
    /// The samples are away and wanted here.
    pub(super) is_called_home: AtomicBool,
    /// Held by whoever starts an epoch.
    pub(super) epoch_lock: Mutex<()>,
    pub(super) work: Mutex<Work>,
    pub(super) frames: Frames,
    pub(super) pace: Mutex<Pace>,
    /// When a playback is to end, in nanoseconds since `born`; 0 where none runs.
    pub(super) deadline: AtomicU64,
    /// Seconds that a step takes, an f64; 0 until one was measured.
    pub(super) step_time: AtomicU64,
    pub(super) born: Instant,
    error: Mutex<Option<Error>>,
    waiters: AtomicU32,
    wait_lock: Mutex<()>,
    settled: Condvar,
    /// f64s. The worker overwrites them where it chooses others.
    pub(super) timesteps: Box<[AtomicU64]>,
    pub(super) steps: AtomicU32,
    pub(super) model: ModelConfig,
    pub(super) options: Options,
}

impl StreamCore {
    /// Allocates everything the stream will use. Runs no model. The run may have made steps; one that
    /// has none left is done. Errors: `InvalidArgument`, `OutOfMemory`.
    pub(crate) fn new(model: &ModelConfig, run: Run, options: Options) -> Result<Self> {
        let (step, steps, seed) = (run.step_index(), run.steps(), run.seed());
        let [batch, ..] = run.shape();
        if batch != 1 {
            return Err(Error::invalid_argument(format!(
                "run: found one of {batch} samples, expected 1: a stream reveals one"
            )));
        }
        if steps > MAX_STEPS {
            return Err(Error::invalid_argument(format!(
                "steps: found {steps}, expected at most {MAX_STEPS}"
            )));
        }
        // A pilot starts from noise.
        if options.director && (!run.can_replan() || run.config().strength < 1.0) {
            return Err(Error::invalid_argument(format!(
                "director: {} with these settings has timesteps of its own",
                run.config().kind
            )));
        }
        let timesteps = run.timesteps().map(|t| AtomicU64::new(t.to_bits())).collect();
        let core = Self {
            progress: Progress::resuming(step, steps),
            is_queued: AtomicBool::new(false),
            membership: Membership::default(),
            origin: AtomicU64::new(Origin::default().pack()),
            seeds: [AtomicU64::new(seed), AtomicU64::new(seed)],
            guests: AtomicU32::new(0),
            is_called_home: AtomicBool::new(false),
            epoch_lock: Mutex::new(()),
            frames: Frames::new(options.format, model)?,
            pace: Mutex::new(Pace::new(steps)),
            deadline: AtomicU64::new(0),
            step_time: AtomicU64::new(0),
            born: Instant::now(),
            error: Mutex::new(None),
            waiters: AtomicU32::new(0),
            wait_lock: Mutex::new(()),
            settled: Condvar::new(),
            timesteps,
            steps: AtomicU32::new(steps as u32),
            model: model.clone(),
            work: Mutex::new(Work {
                checkpoints: Checkpoints::new(&run, options.checkpoint_bytes)?,
                run,
                epoch: 0,
                origin: Origin::default(),
                awaits_director: options.director && step == 0,
                unshortened: None,
                last_finish: None,
                taken_up: Instant::now(),
            }),
            options,
        };
        if step > 0 || steps == 0 {
            core.show(0)?;
        }
        Ok(core)
    }

    /// Host: asks for steps. On `Ok(Ok(ticket))` the caller shows the stream to the worker.
    pub(crate) fn ask(&self, goal: Goal) -> Result<std::result::Result<Ticket, StepOutcome>> {
        match self.progress.ask(goal) {
            Begin::Granted(ticket) => Ok(Ok(ticket)),
            Begin::Busy => Ok(Err(StepOutcome::Busy)),
            Begin::Reached => Ok(Err(StepOutcome::Accepted)),
            Begin::Paused => Ok(Err(StepOutcome::Paused)),
            Begin::Over => Ok(Err(StepOutcome::Done)),
            Begin::Failed => Err(self.sticky_error()),
        }
    }

    /// Host: takes back what could not be shown to the worker.
    pub(crate) fn give_back(&self, ticket: Ticket) {
        self.progress.give_back(ticket);
        self.notify();
    }

    /// Host: see [`StreamStatus`].
    pub(crate) fn status(&self) -> StreamStatus {
        let now = self.progress.snapshot();
        let steps = self.steps.load(Ordering::Acquire);
        let row = now.step.min(steps.saturating_sub(1)) as usize;
        let timestep = self.timesteps.get(row).map_or(0, |bits| bits.load(Ordering::Acquire));
        StreamStatus {
            state: now.state,
            step: now.step,
            steps,
            generation: self.frames.generation_of(now.epoch),
            timestep: f64::from_bits(timestep),
            is_paused: self.progress.is_paused(),
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

    /// Host: starts again at step 0; `None` keeps the seed. True where that discarded what was in
    /// flight.
    pub(crate) fn reset(&self, seed: Option<u64>) -> Result<bool> {
        let starting = self.epoch_lock.lock();
        let epoch = self.progress.next_epoch();
        let origin = self.origin();
        let seed = seed.unwrap_or_else(|| self.seed_of(origin).load(Ordering::Relaxed));
        let origin = origin.next(epoch);
        self.seed_of(origin).store(seed, Ordering::Relaxed);
        // Release the seed: a worker that sees the new origin, or the new epoch, sees its seed.
        self.origin.store(origin.pack(), Ordering::Release);
        self.restart_playback(0);
        // The worker does the same for the run, before its first step.
        self.steps.store(self.timesteps.len() as u32, Ordering::Release);
        // Held over both, so that whoever copies finds a new run without steps with its frame.
        let reading = (self.steps() == 0).then(|| self.frames.close());
        if reading.is_some() {
            self.show(epoch)?;
        }
        let discarded = self.progress.reset(epoch);
        drop((reading, starting));
        self.notify();
        Ok(discarded)
    }

    /// Host: publishes the picture of a run that no worker touches yet.
    fn show(&self, epoch: u32) -> Result<()> {
        let work = self.work.lock();
        let shown = self.options.preview.of(&work.run);
        self.draw(shown, epoch, work.run.step_index() as u32)?.publish();
        Ok(())
    }

    /// Draws a picture as the next frame.
    pub(super) fn draw(&self, shown: &[f32], epoch: u32, step: u32) -> Result<Drawn<'_>> {
        self.frames.draw(shown, epoch, step, self.steps())
    }

    /// Host: ends the run. True where that discarded what was in flight.
    pub(crate) fn cancel(&self) -> bool {
        let discarded = self.progress.cancel();
        self.notify();
        discarded
    }

    /// Host: waits until nothing is in flight; false where `timeout` passed first.
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

    /// Host: waits until the worker has heard the call home.
    pub(super) fn wait_until_home(&self) {
        self.waiters.fetch_add(1, Ordering::SeqCst);
        let mut lock = self.wait_lock.lock();
        loop {
            // As in `wait`.
            fence(Ordering::SeqCst);
            if !self.is_called_home.load(Ordering::SeqCst) {
                break;
            }
            self.settled.wait(&mut lock);
        }
        drop(lock);
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Worker: the samples are here, or lost.
    pub(super) fn came_home(&self) {
        self.is_called_home.store(false, Ordering::SeqCst);
        self.notify();
    }

    /// Records that what was in flight failed, unless it is no longer wanted.
    pub(crate) fn fail(&self, ticket: Ticket, error: Error) {
        if self.progress.wants(ticket) {
            *self.error.lock() = Some(error);
            self.progress.fail(ticket);
            self.notify();
        }
    }

    /// Steps of the whole run.
    pub(crate) fn steps(&self) -> u32 {
        self.steps.load(Ordering::Acquire)
    }

    /// The last reset.
    pub(super) fn origin(&self) -> Origin {
        Origin::unpack(self.origin.load(Ordering::Acquire))
    }

    pub(super) fn seed_of(&self, origin: Origin) -> &AtomicU64 {
        &self.seeds[(origin.count & 1) as usize]
    }

    fn sticky_error(&self) -> Error {
        let lost = || internal("a step failed and its error was lost");
        self.error.lock().clone().unwrap_or_else(lost)
    }

    pub(super) fn notify(&self) {
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
