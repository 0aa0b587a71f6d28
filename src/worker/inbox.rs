//! The way by which streams come to the worker's notice, and the worker's sleep until one does.
//!
//! A stream is in the queue once at most, so that a queue with a place for each stream never is full. For
//! a while after it had work the worker only dozes: it looks at the queue in short naps. A step that is
//! asked for then costs its host no system call, and the system does not wake the worker on the core that
//! the host draws its frame on, in the middle of that frame. After that it sleeps until it is woken.

use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::sync::{Receiver, Sender, TryRecvError, bounded};

/// How long the worker dozes before it sleeps. A nap ends by itself; the model checker looks at the sleep.
const DOZE: Duration = Duration::from_millis(if cfg!(all(test, loom)) { 0 } else { 100 });

/// What a step waits for at most because the worker dozes.
const NAP: Duration = Duration::from_micros(500);

/// The sending end.
pub(crate) struct Outbox<T> {
    queue: Sender<Option<T>>,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

/// The worker's end.
pub(crate) struct Inbox<T> {
    queue: Receiver<Option<T>>,
    /// The end of the last work.
    quiet_since: Instant,
}

/// A queue with places for `most`.
pub(crate) fn inbox<T>(most: usize) -> (Outbox<T>, Inbox<T>) {
    // One more for what wakes a worker that closes.
    let (sender, receiver) = bounded(most + 1);
    (Outbox { queue: sender }, Inbox { queue: receiver, quiet_since: Instant::now() })
}

impl<T> Outbox<T> {
    /// Does not block or allocate. Gives `message` back where there is no place.
    pub(crate) fn send(&self, message: T) -> Result<(), Option<T>> {
        self.queue.try_send(Some(message)).map_err(|error| error.into_inner())
    }

    /// Wakes a worker that sleeps in the queue. A full queue does too.
    pub(crate) fn wake(&self) {
        let _ = self.queue.try_send(None);
    }
}

impl<T> Inbox<T> {
    /// What is there, without waiting.
    pub(crate) fn drain(&self) -> impl Iterator<Item = T> + '_ {
        self.queue.try_iter().flatten()
    }

    /// The worker has just worked: it dozes first when it next waits.
    pub(crate) fn worked(&mut self) {
        self.quiet_since = Instant::now();
    }

    /// Waits for a message; none where it was woken for something else.
    pub(crate) fn wait(&self, is_over: impl Fn() -> bool) -> Option<T> {
        while self.quiet_since.elapsed() < DOZE {
            match self.queue.try_recv() {
                Ok(message) => return message,
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if is_over() => return None,
                Err(TryRecvError::Empty) => thread::park_timeout(NAP),
            }
        }
        // What was sent to wake the worker may have been drained since it last looked.
        if is_over() {
            return None;
        }
        self.queue.recv().ok().flatten()
    }
}

/// Ends the nap of a worker that dozes, for whoever waits for it.
pub(crate) fn rouse(worker: &Thread) {
    worker.unpark();
}
