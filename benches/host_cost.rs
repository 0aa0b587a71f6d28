//! What the engine costs the host's frame: `step` + `copy_frame` while the worker is busy.
//!
//! `cargo bench --bench host_cost`. Microseconds; one worker thread, pictures of 256 x 256. A new
//! frame costs one copy of its pixels, so those calls have a row of their own. The longest calls are
//! those in which the system gave the core to something else.

use std::path::Path;
use std::time::{Duration, Instant};

use ddpm::engine::{
    Engine, EngineConfig, FrameFormat, Provider, Stream, StreamConfig, StreamState,
};
use ddpm::error::Result;
use ddpm::sampler::Sampler;

const CALLS: usize = 100_000;
const SIDE: usize = 256;

/// Time between two calls, so that they spread over many steps of the worker.
const GAP: Duration = Duration::from_micros(100);

fn main() -> Result<()> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut config = EngineConfig::new(models.join("slow_open.onnx"));
    config.provider = Provider::Cpu;
    config.threads = 1;
    config.overrides.height = Some(SIDE);
    config.overrides.width = Some(SIDE);
    let engine = Engine::new(config)?;
    engine.wait(None)?;
    let sampler = engine.info()?.model.sampler_config(Sampler::Ddpm, 1000);
    let stream = engine.stream(&StreamConfig::new(sampler, 0))?;

    let mut pixels = vec![0; SIDE * SIDE * 4];
    let mut plain = Vec::with_capacity(CALLS);
    let mut copied = Vec::with_capacity(CALLS);
    let (mut busy, mut steps) = (0usize, 0u64);
    for _ in 0..CALLS {
        let started = Instant::now();
        let outcome = stream.step();
        let frame = stream.copy_frame(&mut pixels, SIDE * 4, FrameFormat::Rgba8)?;
        let taken = started.elapsed();
        outcome?;
        if frame.is_some() {
            copied.push(taken);
            steps += 1;
        } else {
            plain.push(taken);
        }
        busy += usize::from(keep_going(&stream, steps)?);
        spin(GAP);
    }

    let mut all: Vec<Duration> = plain.iter().chain(&copied).copied().collect();
    println!(
        "step + copy_frame, {SIDE} x {SIDE}, {} on {} thread, worker busy in {:.0} % of the calls",
        engine.info()?.provider,
        engine.info()?.threads,
        100.0 * busy as f64 / CALLS as f64
    );
    println!("| calls | count | p50 us | p99 us | p99.9 us | max us |");
    println!("| --- | ---: | ---: | ---: | ---: | ---: |");
    row("all", &mut all);
    row("without a new frame", &mut plain);
    row("with a new frame", &mut copied);
    Ok(())
}

/// Starts the next run at the end of one. True while the worker has a step to make.
fn keep_going(stream: &Stream, seed: u64) -> Result<bool> {
    match stream.status().state {
        StreamState::Done => stream.reset(Some(seed)).map(|()| false),
        state => Ok(state == StreamState::Stepping),
    }
}

fn spin(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn row(name: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len() as f64 * share) as usize;
        let time = times.get(index.min(times.len().saturating_sub(1)));
        time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let (p50, p99, p999, max) = (at(0.5), at(0.99), at(0.999), at(1.0));
    println!("| {name} | {} | {p50:.2} | {p99:.2} | {p999:.2} | {max:.1} |", times.len());
}
