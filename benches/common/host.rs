//! A host as the engine meets it: work of its own, frames at a rate, and others on its cores.

use std::hint::{black_box, spin_loop};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A fixed amount of computing, which takes longer when it is disturbed.
pub struct Work {
    rounds: u64,
}

impl Work {
    /// What takes about `time` on a quiet machine.
    pub fn lasting(time: Duration) -> Self {
        let probe = Self { rounds: 1_000_000 };
        let quickest = (0..20).map(|_| probe.timed()).min().unwrap_or(time);
        let rounds = time.as_secs_f64() / quickest.as_secs_f64() * probe.rounds as f64;
        Self { rounds: rounds as u64 }
    }

    /// Does it; how long it took.
    pub fn timed(&self) -> Duration {
        let started = Instant::now();
        let mut state = black_box(1u64);
        for _ in 0..self.rounds {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        black_box(state);
        started.elapsed()
    }
}

/// Frames at a steady rate.
pub struct Frames {
    start: Instant,
    period: Duration,
    next: u32,
}

impl Frames {
    pub fn every(period: Duration) -> Self {
        Self { start: Instant::now(), period, next: 0 }
    }

    /// Sleeps until the next frame begins; one that is late begins at once.
    pub fn wait(&mut self) {
        let begin = self.start + self.period * self.next;
        self.next += 1;
        while let Some(left) = begin.checked_duration_since(Instant::now()) {
            if left.is_zero() {
                return;
            }
            thread::sleep(left);
        }
    }
}

/// Threads that compute all the time, one for each core, until this is dropped.
pub struct Neighbours {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Neighbours {
    pub fn on_every_core() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let busy = |stop: Arc<AtomicBool>| {
            let work = Work { rounds: 10_000 };
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    work.timed();
                }
            })
        };
        let threads = (0..cores).map(|_| busy(Arc::clone(&stop))).collect();
        Self { stop, threads }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A neighbour only computes; it has nothing to report.
            let _ = thread.join();
        }
    }
}

/// Keeps the core busy for so long.
pub fn spin(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        spin_loop();
    }
}

/// Processor time of all threads of this process.
#[cfg(unix)]
pub fn processor_time() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes the struct it is given and nothing else.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut now) };
    assert_eq!(failed, 0, "the clock of the process's processor time");
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}
