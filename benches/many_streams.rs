//! What many streams on one engine cost: all in step, sharing runs of the model, against one after the
//! other (`max_batch` 1).
//!
//! `cargo bench --bench many_streams [MODEL [THREADS]]`; the shipped model and one thread without.
//! Steps a second over all streams, and the ratio; both ways take turns, the median of the rounds counts.

mod common;

use std::path::PathBuf;
use std::time::Instant;

use ddpm::engine::{Engine, EngineConfig, StepOutcome, Stream};
use ddpm::error::Result;

use common::numbers::{Times, heading, row};
use common::{Arguments, ddim, engine_config, loaded, models};

const STREAMS: [usize; 4] = [1, 4, 16, 64];
/// Steps of all streams together in one round.
const STEPS: usize = 512;
const ROUNDS: usize = 4;

fn main() -> Result<()> {
    let arguments = Arguments::read();
    let mut rest = arguments.rest.iter();
    let model = rest.next().map_or_else(models::portraits, PathBuf::from);
    let threads = rest.next().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let engine = |max_batch| loaded(EngineConfig { threads, max_batch, ..engine_config(&model) });
    let (alone, together) = (engine(1)?, engine(8)?);
    let rounds = arguments.rounds(ROUNDS);
    let name = model.file_name().unwrap_or_default().display();
    println!("many_streams: {name}, {threads} threads, {STEPS} steps a round, {rounds} rounds\n");
    heading(&["streams", "one by one, steps/s", "up to 8 at once, steps/s", "ratio"]);
    for streams in STREAMS {
        let (mut one, mut many) = (Times::default(), Times::default());
        for round in 0..=rounds {
            let figures = (steps_a_second(&alone, streams)?, steps_a_second(&together, streams)?);
            // The first round of each is the start-up's.
            if round > 0 {
                one.push(figures.0);
                many.push(figures.1);
            }
        }
        let (one, many) = (one.median(), many.median());
        row(&[
            streams.to_string(),
            format!("{one:.0}"),
            format!("{many:.0}"),
            format!("{:.2}", many / one),
        ]);
    }
    println!();
    Ok(())
}

fn steps_a_second(engine: &Engine, streams: usize) -> Result<f64> {
    let streams: Vec<Stream> =
        (0..streams as u64).map(|seed| ddim(engine, 1000, seed)).collect::<Result<_>>()?;
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
