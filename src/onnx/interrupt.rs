//! The way to break off a load or a run of the model from another thread.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering, fence};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use ort::session::RunOptions;
use ort::session::builder::LoadCanceler;

use crate::error::{Error, ErrorKind, Result};
use crate::model::Stopper;

use super::load::internal;

/// Breaks off a load or a run of one model from another thread: for good, or only the run that is going
/// on. Clones break off the same.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Interruptible>);

/// A request to break off a run is counted before and after the runtime's flag is set, so that whoever
/// clears the flag knows whether it may be set once more for a request that was counted already.
#[derive(Default)]
struct Interruptible {
    stopped: AtomicBool,
    load: Mutex<Option<LoadCanceler>>,
    /// Made for the first run, and then the same for all.
    runs: OnceLock<Runs>,
    /// Requests that began, and those of them that are over.
    asked: AtomicU32,
    done: AtomicU32,
    /// Of the thread that runs the model only: the requests that have had their effect, whether the flag
    /// may still be set for one of them, and whether the last run was broken off.
    handled: AtomicU32,
    late: AtomicBool,
    broken_off: AtomicBool,
}

struct Runs {
    loud: RunOptions,
    /// Says nothing about failures, which are expected.
    quiet: RunOptions,
}

impl Runs {
    fn new() -> ort::Result<Self> {
        let mut quiet = RunOptions::new()?;
        quiet.set_log_level(ort::logging::LogLevel::Fatal)?;
        Ok(Self { loud: RunOptions::new()?, quiet })
    }

    /// Each call only sets a flag, and there is nobody to tell if that fails.
    fn terminate(&self) {
        let _ = self.loud.terminate();
        let _ = self.quiet.terminate();
    }

    fn unterminate(&self) {
        let _ = self.loud.unterminate();
        let _ = self.quiet.unterminate();
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interrupt").field(&self.0.stopped).finish()
    }
}

impl Interrupt {
    /// One that has not been used.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the load or the run that is going on, and every later one, fail soon: a run ends
    /// before its next operator. Does not wait for that.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(load) = &*self.0.load.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = load.cancel();
        }
        if let Some(runs) = self.0.runs.get() {
            runs.terminate();
        }
    }

    /// Makes the run of the model that is going on fail soon, before its next operator; later runs go on
    /// as ever. Where none is going on, the next one fails instead, once. During a load it does nothing.
    ///
    /// Does not wait, block or allocate.
    pub fn break_off(&self) {
        let Interruptible { asked, done, runs, .. } = &*self.0;
        asked.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if let Some(runs) = runs.get() {
            runs.terminate();
        }
        fence(Ordering::SeqCst);
        done.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether the last run of the model failed for [`break_off`](Self::break_off) and nothing else, so
    /// that it can be made again. For the thread that runs the model.
    pub fn was_broken_off(&self) -> bool {
        self.0.broken_off.load(Ordering::SeqCst)
    }

    /// Changes what load is to be stopped.
    pub(super) fn watch(&self, load: LoadCanceler) {
        *self.0.load.lock().unwrap_or_else(PoisonError::into_inner) = Some(load);
        if self.0.stopped.load(Ordering::SeqCst) {
            self.stop();
        }
    }

    /// Errors: `EngineClosed` once stopped.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.stopped.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::EngineClosed, "the model was stopped for good"));
        }
        Ok(())
    }

    /// Before a call that may fail ahead of its run: no run of it was broken off yet.
    pub(super) fn forget(&self) {
        self.0.broken_off.store(false, Ordering::SeqCst);
    }

    /// Makes a run of the model that can be broken off; a quiet one logs no failure. One thread at a time.
    ///
    /// Errors: those of `run`; `EngineClosed` once stopped; `Inference` where it was broken off.
    pub(super) fn during(
        &self,
        quiet: bool,
        run: impl FnOnce(&RunOptions) -> Result<()>,
    ) -> Result<()> {
        self.forget();
        let runs = self.runs()?;
        let broken_off = || Error::new(ErrorKind::Inference, "the run was broken off");
        let mut outcome = Ok(());
        // What came since the last run was meant for that one or for this one; nobody knows which.
        let mut broken = self.settle(runs, false);
        if !broken {
            outcome = run(if quiet { &runs.quiet } else { &runs.loud });
            broken = self.settle(runs, outcome.is_err()) && outcome.is_err();
        }
        self.check()?;
        self.0.broken_off.store(broken, Ordering::SeqCst);
        if broken { Err(broken_off()) } else { outcome }
    }

    /// Lets every request so far have had its effect. Whether there was one, or the flag may have been
    /// set once more for an earlier one while a run `failed`.
    fn settle(&self, runs: &Runs, failed: bool) -> bool {
        let Interruptible { asked, done, handled, late, stopped, .. } = &*self.0;
        // In this order, so that equal numbers mean that no request is on its way.
        let is_done = done.load(Ordering::SeqCst);
        let is_asked = asked.load(Ordering::SeqCst);
        let is_new = is_asked != handled.load(Ordering::SeqCst);
        let was_late = late.load(Ordering::SeqCst);
        if !is_new && !was_late {
            return false;
        }
        runs.unterminate();
        handled.store(is_asked, Ordering::SeqCst);
        late.store(is_done != is_asked, Ordering::SeqCst);
        // Either `stop` sets the flag after it was cleared here, or this sees that it was called.
        fence(Ordering::SeqCst);
        if stopped.load(Ordering::SeqCst) {
            runs.terminate();
        }
        is_new || failed
    }

    fn runs(&self) -> Result<&Runs> {
        if let Some(runs) = self.0.runs.get() {
            return Ok(runs);
        }
        let made = Runs::new().map_err(internal)?;
        let runs = self.0.runs.get_or_init(|| made);
        fence(Ordering::SeqCst);
        if self.0.stopped.load(Ordering::SeqCst) {
            runs.terminate();
        }
        Ok(runs)
    }
}

impl Stopper for Interrupt {
    fn stop(&self) {
        self.stop();
    }

    fn break_off(&self) {
        self.break_off();
    }

    fn was_broken_off(&self) -> bool {
        self.was_broken_off()
    }
}
