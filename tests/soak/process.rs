//! What the process holds. Elsewhere than on Linux nothing is read, and nothing found wrong.

use std::fmt;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub threads: usize,
    pub files: usize,
    /// Resident memory.
    pub mib: f64,
}

impl Usage {
    pub fn now() -> Self {
        let entries = |path| fs::read_dir(path).map_or(0, Iterator::count);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        Self {
            threads: entries("/proc/self/task"),
            files: entries("/proc/self/fd"),
            mib: kib.unwrap_or(0.0) / 1024.0,
        }
    }

    /// What is held once threads and files are down to those of `other`: a thread that was joined is in
    /// the system's list for a moment more. After `limit` what is held then.
    pub fn settling_to(other: Self, limit: Duration) -> Self {
        let started = Instant::now();
        loop {
            let now = Self::now();
            let same = (now.threads, now.files) == (other.threads, other.files);
            if same || started.elapsed() > limit {
                return now;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}, {:.1}", self.threads, self.files, self.mib)
    }
}

/// The slope of the line of least squares through (steps, MiB), in MiB a million steps.
pub fn slope(samples: &[(f64, f64)]) -> Option<f64> {
    let count = samples.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| samples.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|s| s.0), mean(|s| s.1));
    let spread: f64 = samples.iter().map(|s| (s.0 - x).powi(2)).sum();
    let along: f64 = samples.iter().map(|s| (s.0 - x) * (s.1 - y)).sum();
    (spread > 0.0).then(|| 1e6 * along / spread)
}
