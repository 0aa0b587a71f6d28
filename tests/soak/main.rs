//! Many streams at random on engines that come and go, until so many steps are made.
//!
//! Every frame that comes out is held against the one that a run of its own, without engine, worker or
//! company, has at that step. The script is a function of the seed that is printed; which steps
//! meet in a batch, and what a close breaks off, is the system's choice. A short form is part of the
//! tests; `make soak` makes a million steps. `DDPM_SOAK_STEPS`, `DDPM_SOAK_SEED` and
//! `DDPM_SOAK_DRIVERS` set it up.

mod dice;
mod driver;
mod live;
mod pool;
mod process;
mod recipes;
mod tally;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use driver::Driver;
use pool::Pool;
use process::Usage;
use recipes::Book;
use tally::Tally;

const STEPS: u64 = 5_000;
const DRIVERS: u64 = 3;

/// No step, load or close takes this long; whoever waits longer is stuck.
const HANG: Duration = Duration::from_secs(120);

/// Bytes of Rust's heap that may stay: what is made once a process, 25 kB. A stream takes as much.
const LEFT: usize = 100_000;

/// Resident memory that a long run may gain, in MiB a million steps: what the allocator leaves in pieces.
/// A leak of one frame of 256 bytes a step would be 244.
const SLOPE: f64 = 16.0;

/// Steps from which on the slope of the memory says something.
const LONG: u64 = 500_000;

/// What the drivers share.
struct Soak {
    seed: u64,
    target: u64,
    steps: AtomicU64,
    failed: AtomicBool,
    book: Book,
    pool: Pool,
}

impl Soak {
    fn is_over(&self) -> bool {
        self.steps.load(Ordering::Relaxed) >= self.target || self.failed.load(Ordering::Relaxed)
    }
}

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}: {text} is no number")),
        Err(_) => default,
    }
}

#[test]
fn every_picture_is_that_of_its_solo_run_and_nothing_is_left_behind() {
    let seed = number("DDPM_SOAK_SEED", 1);
    let target = number("DDPM_SOAK_STEPS", STEPS);
    let drivers = number("DDPM_SOAK_DRIVERS", DRIVERS);
    process::keep_memory_together();
    println!("soak: seed {seed}, {target} steps, {drivers} drivers");
    let held = Usage::now().held;
    // What ONNX Runtime starts once a process is here from now on, and so is what the book keeps.
    let book = Book::new(seed);
    println!("soak: {} recipes, {} frames", book.len(), book.frames());
    let before = Usage::now();

    let soak = Soak {
        seed,
        target,
        steps: AtomicU64::new(0),
        failed: AtomicBool::new(false),
        pool: Pool::new(),
        book,
    };
    let mut samples = Vec::new();
    let started = Instant::now();
    let tally = thread::scope(|scope| {
        let running: Vec<_> = (0..drivers)
            .map(|index| {
                let driver = Driver::new(&soak, index);
                scope.spawn(move || driver.run())
            })
            .collect();
        samples = watch(&soak, || running.iter().all(|driver| driver.is_finished()));
        // A driver's own panic says what went wrong.
        running.into_iter().map(|driver| driver.join().unwrap()).fold(Tally::default(), Tally::plus)
    });
    let seconds = started.elapsed().as_secs_f64();
    let steps = soak.steps.load(Ordering::Relaxed);
    println!("soak: {steps} single steps in {seconds:.1} s; {tally}");
    tally.check(target);
    drop(soak);

    let after = Usage::settling_to(before, HANG);
    println!("soak: {before} before; {after} after");
    assert_eq!((after.threads, after.files), (before.threads, before.files), "threads, open files");
    let left = after.held.saturating_sub(held);
    assert!(left < LEFT, "{left} bytes of Rust's heap were not given back, allowed {LEFT}");
    if let Some(slope) = process::slope(&samples).filter(|_| target >= LONG) {
        println!(
            "soak: memory grows by {slope:.2} MiB a million steps ({} samples)",
            samples.len()
        );
        assert!(slope < SLOPE, "memory grows by {slope} MiB a million steps, allowed {SLOPE}");
    }
}

/// Looks at the memory from time to time until `is_over`: steps made, and MiB. The first fifth of the
/// steps is left out, in which everything takes its size.
fn watch(soak: &Soak, is_over: impl Fn() -> bool) -> Vec<(f64, f64)> {
    let mut samples = Vec::new();
    let (mut last, mut moved) = (0, Instant::now());
    while !is_over() {
        thread::sleep(Duration::from_millis(100));
        let steps = soak.steps.load(Ordering::Relaxed);
        if steps != last {
            (last, moved) = (steps, Instant::now());
        }
        if moved.elapsed() > 2 * HANG {
            // The drivers' own limits are shorter: one of them is stuck in a call without a limit.
            eprintln!("soak: seed {}: no step for {:?} after {steps}", soak.seed, moved.elapsed());
            std::process::abort();
        }
        if steps > soak.target / 5 && steps < soak.target {
            samples.push((steps as f64, Usage::now().mib));
        }
    }
    samples
}
