//! The way to break off a load or a run of the model from another thread.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ort::session::RunOptions;
use ort::session::builder::LoadCanceler;

use crate::error::{Error, ErrorKind, Result};

/// Breaks off a load or a run of the model from another thread, for good.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Interruptible>);

#[derive(Default)]
struct Interruptible {
    stopped: AtomicBool,
    /// What to stop. Never held while it runs.
    running: Mutex<(Option<LoadCanceler>, Option<Arc<RunOptions>>)>,
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
        let running = self.0.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Both only set a flag, and there is nobody to tell if that fails.
        if let Some(load) = &running.0 {
            let _ = load.cancel();
        }
        if let Some(run) = &running.1 {
            let _ = run.terminate();
        }
    }

    /// Changes what is to be stopped.
    pub(super) fn watch(&self, load: Option<LoadCanceler>, run: Option<Arc<RunOptions>>) {
        *self.0.running.lock().unwrap_or_else(PoisonError::into_inner) = (load, run);
        if self.0.stopped.load(Ordering::SeqCst) {
            self.stop();
        }
    }

    /// Errors: `EngineClosed` once stopped.
    pub(super) fn check(&self) -> Result<()> {
        if self.0.stopped.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::EngineClosed, "loading was broken off"));
        }
        Ok(())
    }
}
