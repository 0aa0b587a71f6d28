//! The threads that help the worker to run a model, and how urgent all of them are.
//!
//! They take over affinity, scheduling policy and priority from the thread that made the engine, as
//! threads do; only a low priority changes that, and only downwards.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use crate::error::{Error, ErrorKind, Result};

/// How urgent an engine's threads are to the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ThreadPriority {
    /// As the thread that made the engine.
    #[default]
    Inherited,
    /// Less than that: where all cores are busy, the host's threads come first. Linux: 5 on the scale of
    /// `nice`. Windows: below normal. Other systems: as `Inherited`, with a warning in the log.
    Low,
}

/// Names of threads in the system's tools hold 15 bytes on Linux.
const NAME: &str = "ddpm-model-";

/// Waits for the end of a thread.
pub(crate) type End = Box<dyn FnOnce() + Send>;

/// Makes the calling thread, the worker, as urgent as this. Errors: why it is not, for the log.
pub(crate) fn set_own_priority(priority: ThreadPriority) -> std::result::Result<(), String> {
    match priority {
        ThreadPriority::Inherited => Ok(()),
        ThreadPriority::Low => system::lower(),
    }
}

/// What starts the worker's helpers, from the worker, and numbers their names.
pub(crate) fn helpers(
    priority: ThreadPriority,
) -> impl Fn(Box<dyn FnOnce() + Send>) -> Result<End> + Send + Sync {
    let started = AtomicU32::new(0);
    move |work| {
        let number = started.fetch_add(1, Ordering::Relaxed) % 10_000;
        let body = move || {
            if priority == ThreadPriority::Low && !system::INHERITS {
                // The worker has said it already.
                let _ = system::lower();
            }
            work();
        };
        let thread = thread::Builder::new().name(format!("{NAME}{number}")).spawn(body);
        let thread = thread.map_err(|error| {
            Error::new(ErrorKind::Internal, format!("no thread for the model: {error}"))
        })?;
        Ok(Box::new(move || {
            // A panic has been reported where it happened.
            let _ = thread.join();
        }))
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    /// A thread is as nice as the one that started it.
    pub(super) const INHERITS: bool = true;

    /// On Linux `nice` is of the calling thread.
    pub(super) fn lower() -> Result<(), String> {
        rustix::process::nice(5).map(|_| ()).map_err(|error| error.to_string())
    }
}

#[cfg(windows)]
mod system {
    use thread_priority::{ThreadPriority, WinAPIThreadPriority, set_current_thread_priority};

    pub(super) const INHERITS: bool = false;

    pub(super) fn lower() -> Result<(), String> {
        set_current_thread_priority(ThreadPriority::Os(WinAPIThreadPriority::BelowNormal.into()))
            .map_err(|error| format!("{error:?}"))
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android", windows)))]
mod system {
    pub(super) const INHERITS: bool = false;

    pub(super) fn lower() -> Result<(), String> {
        Err("not supported on this system".to_owned())
    }
}
