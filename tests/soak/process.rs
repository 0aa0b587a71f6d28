//! What the process holds. Elsewhere than on Linux nothing is read, and nothing found wrong.

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that Rust code has from the allocator; not ONNX Runtime's.
static HELD: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, and a count of what it gave.
struct Counting;

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.fetch_add(size, Ordering::Relaxed);
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Has glibc take all memory from one place. As it comes it gives threads places of their own, each of
/// which keeps the most that was ever in it: what engines on threads of their own hold then creeps up for
/// long, and a leak could hide in it.
pub fn keep_memory_together() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call sets a number of the allocator's.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Has glibc give back what nobody uses, so that what is resident is what is held.
fn give_back_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the call has no conditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub threads: usize,
    pub files: usize,
    /// Resident memory of the process.
    pub mib: f64,
    /// Bytes of Rust's heap.
    pub held: usize,
}

impl Usage {
    pub fn now() -> Self {
        give_back_memory();
        let entries = |path| fs::read_dir(path).map_or(0, Iterator::count);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok());
        Self {
            threads: entries("/proc/self/task"),
            files: entries("/proc/self/fd"),
            mib: kib.unwrap_or(0.0) / 1024.0,
            held: HELD.load(Ordering::Relaxed),
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
        let Self { threads, files, mib, held } = self;
        write!(f, "{threads} threads, {files} files, {mib:.1} MiB, {held} bytes of Rust's heap")
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
