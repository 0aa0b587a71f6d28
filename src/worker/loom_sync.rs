//! parking_lot's locks and crossbeam's bounded queue, as far as they are used, over the model checker's
//! lock; the standard library's atomics over its own. What those crates promise is taken for granted; what
//! is checked is what stands on it.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// Tries every order in which threads are switched `switches` times where they need not be, or every
/// order there is. The environment variable `LOOM_MAX_PREEMPTIONS` puts another number in its place.
pub(crate) fn check(switches: Option<usize>, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(switches);
    builder.max_branches = 100_000;
    let orders = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counted = Arc::clone(&orders);
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        body();
    });
    println!("{} orders of events", orders.load(Ordering::Relaxed));
}

/// An atomic of the model checker's whose SeqCst stores are exchanges. The checker has no one order of
/// SeqCst stores and exchanges: it finds faults in which an exchange overlooks a store that came before
/// it. Nor does it take the first value for a SeqCst one.
macro_rules! atomic {
    ($name:ident, $value:ty $(, $fetch:ident)*) => {
        #[derive(Debug)]
        pub(crate) struct $name(loom::sync::atomic::$name);

        #[allow(dead_code, reason = "as the standard library has it")]
        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                let new = Self(loom::sync::atomic::$name::new(value));
                new.store(value, Ordering::SeqCst);
                new
            }

            pub(crate) fn load(&self, ordering: Ordering) -> $value {
                self.0.load(ordering)
            }

            pub(crate) fn store(&self, value: $value, ordering: Ordering) {
                match ordering {
                    Ordering::SeqCst => drop(self.0.swap(value, ordering)),
                    _ => self.0.store(value, ordering),
                }
            }

            pub(crate) fn swap(&self, value: $value, ordering: Ordering) -> $value {
                self.0.swap(value, ordering)
            }

            pub(crate) fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.0.compare_exchange(current, new, success, failure)
            }

            $(pub(crate) fn $fetch(&self, value: $value, ordering: Ordering) -> $value {
                self.0.$fetch(value, ordering)
            })*
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(<$value>::default())
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicU8, u8);
atomic!(AtomicU32, u32, fetch_add, fetch_sub);
atomic!(AtomicU64, u64, fetch_add, fetch_sub, fetch_and);
atomic!(AtomicUsize, usize, fetch_add, fetch_sub);

pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// Empty only while its condition variable waits.
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

pub(crate) struct Condvar(loom::sync::Condvar);

/// Whether a wait was given up; a model has no clock, so never.
pub(crate) struct WaitTimeoutResult;

#[allow(dead_code, reason = "as parking_lot has it")]
impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap()))
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap()
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        guard.0 = guard.0.take().map(|guard| self.0.wait(guard).unwrap());
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

struct Queue<T> {
    messages: Mutex<VecDeque<T>>,
    filled: Condvar,
    most: usize,
}

pub(crate) struct Sender<T>(Arc<Queue<T>>);

pub(crate) struct Receiver<T>(Arc<Queue<T>>);

/// The queue is full.
pub(crate) struct TrySendError<T>(T);

/// A model ends before its queue's ends do, so nobody is ever disconnected.
pub(crate) enum TryRecvError {
    Empty,
    #[expect(dead_code, reason = "matched on")]
    Disconnected,
}

pub(crate) fn bounded<T>(most: usize) -> (Sender<T>, Receiver<T>) {
    let queue =
        Arc::new(Queue { messages: Mutex::new(VecDeque::new()), filled: Condvar::new(), most });
    (Sender(Arc::clone(&queue)), Receiver(queue))
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut messages = self.0.messages.lock();
        if messages.len() == self.0.most {
            return Err(TrySendError(message));
        }
        messages.push_back(message);
        self.0.filled.notify_all();
        Ok(())
    }
}

impl<T> TrySendError<T> {
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.messages.lock().pop_front().ok_or(TryRecvError::Empty)
    }

    pub(crate) fn try_iter(&self) -> impl Iterator<Item = T> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    pub(crate) fn recv(&self) -> Result<T, TryRecvError> {
        let mut messages = self.0.messages.lock();
        loop {
            match messages.pop_front() {
                Some(message) => return Ok(message),
                None => self.0.filled.wait(&mut messages),
            }
        }
    }
}
