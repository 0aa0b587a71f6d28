//! What many streams on one engine cost: all in step, sharing runs of the model, against one after the
//! other (`max_batch` 1).
//!
//! `cargo bench --bench many_streams [MODEL [THREADS]]`; the shipped model and one thread without.
//! Steps a second over all streams, and the ratio; both ways take turns, the median of the rounds counts.

use std::path::PathBuf;
use std::time::Instant;

use ddpm::engine::{Engine, EngineConfig, Provider, StepOutcome, Stream, StreamConfig};
use ddpm::error::Result;
use ddpm::sampler::Sampler;

const STREAMS: [usize; 4] = [1, 4, 16, 64];
/// Steps of all streams together in one round.
const STEPS: usize = 512;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    // Cargo's own flag for benchmarks is no argument of ours.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let shipped = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("assets/portraits.onnx");
    let model = arguments.next().map_or(shipped, PathBuf::from);
    let threads = arguments.next().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let engine = |max_batch| -> Result<Engine> {
        let mut config = EngineConfig::new(&model);
        config.provider = Provider::Cpu;
        config.threads = threads;
        config.max_batch = max_batch;
        let engine = Engine::new(config)?;
        engine.wait(None)?;
        Ok(engine)
    };
    let (alone, together) = (engine(1)?, engine(8)?);
    println!("{}, {threads} threads, {STEPS} steps a round, {ROUNDS} rounds", model.display());
    println!("| streams | one by one, steps/s | up to 8 at once, steps/s | ratio |");
    println!("| ---: | ---: | ---: | ---: |");
    for streams in STREAMS {
        let (mut one, mut many) = (Vec::new(), Vec::new());
        for _ in 0..=ROUNDS {
            one.push(steps_a_second(&alone, streams)?);
            many.push(steps_a_second(&together, streams)?);
        }
        // The first round of each is the start-up's.
        let (one, many) = (median(&mut one[1..]), median(&mut many[1..]));
        println!("| {streams} | {one:.0} | {many:.0} | {:.2} |", many / one);
    }
    Ok(())
}

fn steps_a_second(engine: &Engine, streams: usize) -> Result<f64> {
    let sampler = engine.info()?.model.sampler_config(Sampler::Ddim, 1000);
    let streams: Vec<Stream> = (0..streams as u64)
        .map(|seed| engine.stream(&StreamConfig::new(sampler.clone(), seed)))
        .collect::<Result<_>>()?;
    let started = Instant::now();
    let mut steps = 0;
    while steps < STEPS {
        for stream in &streams {
            steps += usize::from(stream.step()? == StepOutcome::Accepted);
        }
        for stream in &streams {
            stream.wait(None)?;
        }
    }
    Ok(steps as f64 / started.elapsed().as_secs_f64())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
