//! The threads of a session, started before the runtime asks for them.
//!
//! A runtime that gets fewer threads than it asks for waits for ever for those that it has, so it is not
//! left to find out that the system gives no more.

use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

use ort::environment::ThreadManager;

use crate::error::Result;

use super::{Spawner, ThreadEnd};

type Work = Box<dyn FnOnce() + Send>;

/// See the module's text.
pub(super) struct Threads {
    spawner: Spawner,
    ready: Mutex<Vec<Ready>>,
}

/// A thread that waits for what to do. Dropped, it has nothing to do and ends.
struct Ready {
    work: Option<Sender<Work>>,
    end: Option<ThreadEnd>,
}

impl Threads {
    /// Starts so many. Errors: the spawner's, where it gives fewer; those that it gave are gone then.
    pub(super) fn start(spawner: &Spawner, count: usize) -> Result<Self> {
        let ready = (0..count).map(|_| {
            let (work, waits) = mpsc::channel::<Work>();
            let end = spawner.spawn(Box::new(move || {
                if let Ok(work) = waits.recv() {
                    work();
                }
            }))?;
            Ok(Ready { work: Some(work), end: Some(end) })
        });
        let ready = ready.collect::<Result<Vec<_>>>()?;
        Ok(Self { spawner: spawner.clone(), ready: Mutex::new(ready) })
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.work = None;
        if let Some(end) = self.end.take() {
            end();
        }
    }
}

impl ThreadManager for Threads {
    type Thread = ThreadEnd;

    fn create(&self, work: impl FnOnce() + Send + 'static) -> ort::Result<Self::Thread> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(mut ready) = ready
            && let Some(sender) = ready.work.take()
            && let Some(end) = ready.end.take()
        {
            // It waits for this, so it takes it.
            let _ = sender.send(Box::new(work));
            return Ok(end);
        }
        // One more than it was told to have.
        self.spawner.spawn(Box::new(work)).map_err(|error| ort::Error::new(error.to_string()))
    }

    fn join(thread: Self::Thread) -> ort::Result<()> {
        thread();
        Ok(())
    }
}
