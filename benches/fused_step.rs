//! A step that the model makes whole, against one whose samples go back and forth: its time, and how
//! often a sample was copied between the host and where the model runs.
//!
//! `cargo bench --bench fused_step [-- [--cuda] MODEL...]`; without a model, the shipped one, and with CUDA
//! one of 35.7 million weights too; without `--cuda` on the CPU, with one thread. Streams that step together, each frame copied
//! as a host would; both ways take turns, the median of the rounds counts.

mod common;

use std::path::PathBuf;
use std::time::Instant;

use ddpm::engine::{Engine, EngineConfig, FusedStep, Provider, Stream};
use ddpm::error::Result;

use common::numbers::{Times, heading, ms, row};
use common::{Arguments, ask, ddim, engine_config, loaded, models};

const STREAMS: [usize; 3] = [1, 8, 64];
/// Steps of all streams together in one round.
const STEPS: usize = 128;
const ROUNDS: usize = 5;

fn main() -> Result<()> {
    let mut arguments = Arguments::read();
    let on_cuda = arguments.rest.iter().any(|argument| argument == "--cuda");
    arguments.rest.retain(|argument| argument != "--cuda");
    let models: Vec<PathBuf> = match arguments.rest.is_empty() {
        true if on_cuda => vec![models::portraits(), models::cifar()?],
        true => vec![models::portraits()],
        false => arguments.rest.iter().map(PathBuf::from).collect(),
    };
    let provider = if on_cuda { Provider::Cuda } else { Provider::Cpu };
    let rounds = arguments.rounds(ROUNDS);
    println!(
        "fused_step: {provider}, {STEPS} steps a round, {rounds} rounds, ms a step of one stream\n"
    );
    heading(&[
        "model",
        "streams",
        "not fused",
        "fused",
        "ratio",
        "copies a step, not fused",
        "fused",
    ]);
    for model in &models {
        let engine = |fused_step| {
            let config = engine_config(model);
            loaded(EngineConfig { provider, fused_step, max_batch: 64, ..config })
        };
        let (plain, fused) = (engine(FusedStep::Off)?, engine(FusedStep::On)?);
        for streams in STREAMS {
            let (mut old, mut new) = (Side::new(&plain, streams)?, Side::new(&fused, streams)?);
            for round in 0..=rounds {
                old.round(round > 0)?;
                new.round(round > 0)?;
            }
            let (before, after) = (old.times.median(), new.times.median());
            row(&[
                model.file_name().unwrap_or_default().display().to_string(),
                streams.to_string(),
                format!("{before:.3}"),
                format!("{after:.3}"),
                format!("{:.3}", after / before),
                format!("{:.2}", old.copies_a_step()),
                format!("{:.2}", new.copies_a_step()),
            ]);
        }
    }
    println!();
    Ok(())
}

struct Side<'a> {
    engine: &'a Engine,
    streams: Vec<Stream>,
    frame: Vec<u8>,
    /// Milliseconds a step of one stream, one for each round.
    times: Times,
    steps: usize,
    copies: u64,
}

impl<'a> Side<'a> {
    fn new(engine: &'a Engine, streams: usize) -> Result<Self> {
        let streams: Vec<Stream> =
            (0..streams as u64).map(|seed| ddim(engine, 1000, seed)).collect::<Result<_>>()?;
        let rows = engine.info()?.model.height;
        let frame = vec![0; streams.first().map_or(0, Stream::row_bytes) * rows];
        Ok(Self { engine, streams, frame, times: Times::default(), steps: 0, copies: 0 })
    }

    fn round(&mut self, counts: bool) -> Result<()> {
        let (began, copies) = (Instant::now(), self.engine.host_copies());
        let mut steps = 0;
        while steps < STEPS {
            self.streams.iter().try_for_each(ask)?;
            for stream in &self.streams {
                stream.wait(None)?;
                stream.copy_frame(&mut self.frame, 0)?;
                steps += 1;
            }
        }
        if counts {
            self.times.push(ms(began.elapsed()) / steps as f64);
            self.steps += steps;
            self.copies += self.engine.host_copies() - copies;
        }
        Ok(())
    }

    fn copies_a_step(&self) -> f64 {
        self.copies as f64 / self.steps as f64
    }
}
