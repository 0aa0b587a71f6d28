//! What the benchmarks share: their arguments, figures of many times, models, and a host with work of
//! its own.

// No benchmark uses all of it.
#![allow(dead_code)]

pub mod graph;
pub mod host;
pub mod models;
pub mod numbers;

use ddpm::engine::{Engine, EngineConfig, Provider, StepOutcome, Stream, StreamConfig};
use ddpm::error::{Error, ErrorKind, Result};
use ddpm::sampler::Sampler;

/// What stands behind `cargo bench --bench NAME --`.
pub struct Arguments {
    /// `--quick`: a hundredth of everything, to see that it runs; its figures mean nothing.
    quick: bool,
    /// The others, in order.
    pub rest: Vec<String>,
}

impl Arguments {
    pub fn read() -> Self {
        let mut quick = false;
        let mut rest: Vec<String> = std::env::args().skip(1).collect();
        rest.retain(|argument| {
            quick |= argument == "--quick";
            // Cargo's own flag for benchmarks is no argument of ours.
            argument != "--quick" && argument != "--bench"
        });
        Self { quick, rest }
    }

    /// So many, or a hundredth of them but at least two.
    pub fn count(&self, full: usize) -> usize {
        if self.quick { (full / 100).max(2) } else { full }
    }

    /// So many rounds, or one.
    pub fn rounds(&self, full: usize) -> usize {
        if self.quick { 1 } else { full }
    }
}

/// One thread on the CPU, one stream a run of the model: what the figures are about unless they say
/// otherwise.
pub fn engine_config(model: &std::path::Path) -> EngineConfig {
    let mut config = EngineConfig::new(model);
    config.provider = Provider::Cpu;
    config.threads = 1;
    config.max_batch = 1;
    config
}

/// The engine, loaded.
pub fn loaded(config: EngineConfig) -> Result<Engine> {
    let engine = Engine::new(config)?;
    engine.wait(None)?;
    Ok(engine)
}

/// A stream of so many DDIM steps.
pub fn ddim(engine: &Engine, steps: usize, seed: u64) -> Result<Stream> {
    let sampler = engine.info()?.model.sampler_config(Sampler::Ddim, steps);
    engine.stream(&StreamConfig::new(sampler, seed))
}

/// Asks for a step of a stream that has none in flight; one that is done starts again.
pub fn ask(stream: &Stream) -> Result<()> {
    if stream.step()? == StepOutcome::Done {
        stream.reset(None)?;
        stream.step()?;
    }
    Ok(())
}

/// A fault of the benchmark's surroundings, such as a file that cannot be written.
pub fn fault(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, error.to_string())
}
