//! An engine that waits for the next step leaves the processor alone.
//!
//! A binary with one test, since the processor time read is the whole process's.

#![cfg(target_os = "linux")]

use std::path::Path;
use std::time::{Duration, Instant};

use ddpm::engine::{Engine, EngineConfig, Provider, StepOutcome, StreamConfig};

/// Processor time of all threads of this process.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // The name in parentheses may hold blanks; user and system time are the 12th and 13th after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    // Linux counts in hundredths of a second towards user space on every architecture.
    Duration::from_millis(ticks * 10)
}

#[test]
fn the_gaps_between_steps_cost_next_to_nothing() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut config = EngineConfig::new(models.join("lin.onnx"));
    config.provider = Provider::Cpu;
    // A pool that could spin.
    config.threads = 2;
    let engine = Engine::new(config).unwrap();
    engine.wait(None).unwrap();
    let stream = engine.stream(&StreamConfig::default()).unwrap();
    let started = Instant::now();
    let before = processor_time();
    for _ in 0..12 {
        assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
        std::thread::sleep(Duration::from_millis(160));
    }
    let used = (processor_time() - before).as_secs_f64();
    let share = used / started.elapsed().as_secs_f64();
    // One spinning thread would be 1. A few per cent are the aim; the rest is for coarse ticks.
    assert!(share < 0.2, "{:.0} % of a core between steps", share * 100.0);
}
