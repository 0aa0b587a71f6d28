//! The atomics, locks and queues that streams and their worker share.
//!
//! Everything that hands something from one thread to another takes them from here, so that the model
//! checker (loom, `make loom`) can put its own in their place and try every order of events. Where it
//! does, only its tests can run: those in `loom_frames` and `loom_streams`.

#[cfg(not(all(test, loom)))]
pub(super) use {
    crossbeam_channel::{Receiver, Sender, TryRecvError, bounded},
    parking_lot::{Condvar, Mutex, MutexGuard},
    std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence},
};

#[cfg(all(test, loom))]
pub(super) use {
    super::loom_sync::{
        AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard,
        Receiver, Sender, TryRecvError, bounded,
    },
    loom::sync::atomic::{Ordering, fence},
};
