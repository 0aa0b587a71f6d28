//! What a host with a frame loop has anyway: pacing, and work of its own to do.

use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// Keeps a loop at 60 frames a second.
pub struct FramePace {
    next: Instant,
    began: Instant,
}

impl FramePace {
    pub fn start() -> Self {
        let now = Instant::now();
        Self { next: now, began: now }
    }

    /// Seconds since the frame before began; since the start for the first.
    pub fn begin(&mut self) -> f64 {
        let now = Instant::now();
        let passed = now.duration_since(self.began).as_secs_f64();
        self.began = now;
        passed
    }

    /// Milliseconds since `begin`.
    pub fn worked_ms(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }

    pub fn sleep_until_next(&mut self) {
        self.next += FRAME;
        thread::sleep(self.next.saturating_duration_since(Instant::now()));
    }
}

/// A fixed amount of computing, which takes longer when it is disturbed.
pub struct HostWork {
    rounds: u64,
}

impl HostWork {
    /// The work that takes about so long on this machine while it is quiet.
    pub fn lasting(ms: f64) -> Self {
        let probe = Self { rounds: 1_000_000 };
        let quickest = (0..20).map(|_| {
            let start = Instant::now();
            probe.run();
            start.elapsed().as_secs_f64() * 1000.0
        });
        let quickest = quickest.fold(f64::INFINITY, f64::min);
        Self { rounds: (ms / quickest * probe.rounds as f64) as u64 }
    }

    pub fn run(&self) {
        let mut state = black_box(1_u64);
        for _ in 0..self.rounds {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
        }
        black_box(state);
    }
}

/// Prints p50, p99 and the largest frame time.
pub fn print_frame_times(label: &str, mut times_ms: Vec<f64>) {
    times_ms.sort_by(f64::total_cmp);
    let Some(max) = times_ms.last() else { return };
    let count = times_ms.len();
    let (p50, p99) = (times_ms[count / 2], times_ms[(count - 1) * 99 / 100]);
    println!(
        "host work per frame, {label}: p50 {p50:.2} ms, p99 {p99:.2} ms, max {max:.2} ms ({count} frames)"
    );
}
