//! The way from one stream to the worker.

use std::sync::Arc;
use std::thread::Thread;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::run::{Branch, Run};

use super::inbox::{Outbox, rouse};
use super::progress::{Goal, Ticket};
use super::request::Request;
use super::stream_core::{Options, StepOutcome, StreamCore};
use super::sync::{AtomicUsize, Ordering};
use super::{MAX_STREAMS, Shared, closed};

/// The way from one stream to the worker. Outlives the worker.
pub(crate) struct Link<I> {
    shared: Arc<Shared<I>>,
    outbox: Outbox<Shown>,
    worker: Thread,
    place: Arc<Place>,
}

/// A stream's place in the queue, kept until it is out of there.
struct Place(Arc<AtomicUsize>);

/// A stream as it stands in the queue.
pub(super) struct Shown {
    core: Arc<StreamCore>,
    _place: Arc<Place>,
}

impl Shown {
    pub(super) fn core(&self) -> &Arc<StreamCore> {
        &self.core
    }

    /// Its wish is about to be looked at: who changes it after this shows the stream again.
    pub(super) fn set_seen(&self) {
        self.core.is_queued.store(false, Ordering::SeqCst);
    }

    /// What it asks for; none where that is nothing any more.
    pub(super) fn request(self) -> Option<Request> {
        self.set_seen();
        Request::of(self.core)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<I> Link<I> {
    /// Errors: `OutOfMemory` where there is no place left.
    pub(super) fn new(
        shared: &Arc<Shared<I>>,
        outbox: &Outbox<Shown>,
        worker: &Thread,
    ) -> Result<Self> {
        let place = Place(Arc::clone(&shared.streams));
        if place.0.fetch_add(1, Ordering::AcqRel) >= MAX_STREAMS {
            return Err(Error::new(
                ErrorKind::OutOfMemory,
                format!(
                    "streams: found {MAX_STREAMS} on this engine, expected fewer: it takes no more"
                ),
            ));
        }
        Ok(Self {
            shared: Arc::clone(shared),
            outbox: outbox.clone(),
            worker: worker.clone(),
            place: Arc::new(place),
        })
    }

    /// Another way to the same worker, for another stream. Errors: as [`new`](Self::new).
    pub(crate) fn another(&self) -> Result<Self> {
        Self::new(&self.shared, &self.outbox, &self.worker)
    }

    /// Asks for a step of `core`. Does not block or allocate.
    pub(crate) fn step(&self, core: &Arc<StreamCore>) -> Result<StepOutcome> {
        self.ask(core, Goal::Next)
    }

    /// Lets `seconds` pass in the playback of `core`, and asks for the steps that are due. Does not block
    /// or allocate.
    pub(crate) fn tick(&self, core: &Arc<StreamCore>, seconds: f64) -> Result<StepOutcome> {
        self.check_open()?;
        let usual = f64::from_bits(self.shared.step_time.load(Ordering::Relaxed));
        match core.tick(seconds, Some(usual).filter(|&time| time > 0.0))? {
            Err(outcome) => Ok(outcome),
            Ok(goal) => Ok(match self.ask(core, goal)? {
                StepOutcome::Busy => StepOutcome::Accepted,
                outcome => outcome,
            }),
        }
    }

    pub(super) fn ask(&self, core: &Arc<StreamCore>, goal: Goal) -> Result<StepOutcome> {
        self.check_open()?;
        match core.ask(goal)? {
            Ok(ticket) => self.show(core, ticket).map(|()| StepOutcome::Accepted),
            Err(outcome) => Ok(outcome),
        }
    }

    /// Goes to `step` of the run. Does not block or allocate.
    pub(crate) fn seek(&self, core: &Arc<StreamCore>, step: u32) -> Result<()> {
        self.check_open()?;
        self.discard(core.seek(step)?, core);
        match core.progress.wanted() {
            Some(ticket) => self.show(core, ticket),
            // Another thread has cancelled or reset it since.
            None => Ok(()),
        }
    }

    pub(crate) fn reset(&self, core: &StreamCore, seed: Option<u64>) -> Result<()> {
        self.check_open()?;
        self.discard(core.reset(seed)?, core);
        Ok(())
    }

    pub(crate) fn cancel(&self, core: &StreamCore) {
        self.discard(core.cancel(), core);
    }

    /// See `StreamCore::branch`.
    pub(crate) fn branch(&self, core: &Arc<StreamCore>, branch: Branch) -> Result<(Run, Options)> {
        self.check_open()?;
        core.branch(branch, &|| self.call_home(core))
    }

    /// See `StreamCore::look_at_run`.
    pub(crate) fn look_at_run<T>(
        &self,
        core: &Arc<StreamCore>,
        look: impl FnOnce(&Run) -> Result<T>,
    ) -> Result<T> {
        self.check_open()?;
        core.look_at_run(&|| self.call_home(core), look)
    }

    /// Has the worker bring the stream's samples here. Blocks until it did, for a run of the model at most.
    fn call_home(&self, core: &Arc<StreamCore>) -> Result<()> {
        if std::thread::current().id() == self.worker.id() {
            return Err(Error::invalid_argument(
                "the run of a fused step cannot be had from the engine's own log callback: take it from another thread",
            ));
        }
        core.is_called_home.store(true, Ordering::SeqCst);
        self.queue(core)?;
        // The worker empties the queue after it has seen `closing`, as below.
        self.check_open().inspect_err(|_| core.came_home())?;
        rouse(&self.worker);
        core.wait_until_home();
        self.check_open()
    }

    /// Breaks off the run of the model where it was for this stream and no other wants it.
    fn discard(&self, was_in_flight: bool, core: &StreamCore) {
        if was_in_flight && self.shared.calls.leave(&core.membership) {
            self.shared.stopper.break_off();
        }
    }

    /// Brings the stream to the worker's notice.
    fn show(&self, core: &Arc<StreamCore>, ticket: Ticket) -> Result<()> {
        self.queue(core).inspect_err(|_| core.give_back(ticket))?;
        // The worker empties the queue after it has seen `closing`. What was queued behind its back
        // ends here.
        self.check_open().inspect_err(|error| core.fail(ticket, error.clone()))
    }

    /// Puts the stream into the queue, if it is not there.
    fn queue(&self, core: &Arc<StreamCore>) -> Result<()> {
        if !core.is_queued.swap(true, Ordering::SeqCst) {
            let shown = Shown { core: Arc::clone(core), _place: Arc::clone(&self.place) };
            if self.outbox.send(shown).is_err() {
                core.is_queued.store(false, Ordering::SeqCst);
                return Err(Error::new(ErrorKind::Internal, "internal fault: the queue is full"));
            }
        }
        Ok(())
    }

    /// Waits until nothing of the stream is in flight; false where `timeout` passed first.
    pub(crate) fn wait(&self, core: &StreamCore, timeout: Option<Duration>) -> Result<bool> {
        // Whoever waits gives up its core, so the worker need not doze on.
        rouse(&self.worker);
        core.wait(timeout)
    }

    /// What came with the model. Errors: as the worker's.
    pub(crate) fn info(&self) -> Result<Arc<I>> {
        self.check_open()?;
        self.shared.state.lock().info()
    }

    /// Errors: `EngineClosed`.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.shared.is_closing() { Err(closed()) } else { Ok(()) }
    }
}
