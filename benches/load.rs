//! What a start costs: how long the host's thread is held by making an engine and a stream, and when
//! the first picture is there.
//!
//! `cargo bench --bench load [-- MODEL...]`; without, the shipped model and one of 35.7 million
//! weights. Every start is a process of its own, so that it loads ONNX Runtime as well; the files are in
//! the system's cache. One engine thread. The host polls every millisecond. The cache is that of optimised
//! graphs (`EngineConfig::cache_dir`): without, filled by this start, and filled before.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use ddpm::engine::{Engine, EngineConfig, EngineState};
use ddpm::error::Result;

use common::numbers::{Times, heading, ms, row};
use common::{Arguments, ask, ddim, engine_config, fault, models};

const STARTS: usize = 6;
/// How this program is told to be one start.
const CHILD: &str = "--start";
const FIGURES: usize = 5;

fn main() -> Result<()> {
    let mut arguments = Arguments::read();
    if arguments.rest.first().is_some_and(|first| first == CHILD) {
        let figures = start(Path::new(&arguments.rest[1]), arguments.rest.get(2))?;
        println!("{}", figures.map(|figure| figure.to_string()).join(" "));
        return Ok(());
    }
    if arguments.rest.is_empty() {
        for path in [models::portraits(), models::cifar()?] {
            arguments.rest.push(path.display().to_string());
        }
    }
    let starts = arguments.count(STARTS);
    println!("load: {starts} starts of each, medians (and the longest), in ms\n");
    heading(&[
        "model",
        "cache",
        "in Engine::new",
        "longest poll",
        "in Engine::stream",
        "ready",
        "first picture",
    ]);
    for path in arguments.rest.iter().map(PathBuf::from) {
        measure(&path, starts)?;
    }
    println!();
    Ok(())
}

fn measure(path: &Path, starts: usize) -> Result<()> {
    let mut times: [[Times; FIGURES]; 3] = Default::default();
    let cache =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cache.{}", std::process::id()));
    for _ in 0..starts {
        for (times, cache) in times.iter_mut().zip([None, Some(&cache), Some(&cache)]) {
            let figures = start_apart(path, cache)?;
            times.iter_mut().zip(figures).for_each(|(times, figure)| times.push(figure));
        }
        std::fs::remove_dir_all(&cache).map_err(fault)?;
    }
    let name = path.file_name().unwrap_or_default().display().to_string();
    for (times, cache) in times.into_iter().zip(["without", "filled by it", "filled before"]) {
        let cells = times.map(|mut times| format!("{:.2} ({:.2})", times.median(), times.at(1.0)));
        row(&[&[name.clone(), cache.to_owned()], &cells[..]].concat());
    }
    Ok(())
}

/// The figures of a start in a process of its own.
fn start_apart(path: &Path, cache: Option<&PathBuf>) -> Result<Vec<f64>> {
    let program = std::env::current_exe().map_err(fault)?;
    let output = Command::new(program).arg(CHILD).arg(path).args(cache).output().map_err(fault)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let figures: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    if figures.len() != FIGURES {
        let error = String::from_utf8_lossy(&output.stderr);
        return Err(fault(format!("a start failed: {error}")));
    }
    Ok(figures)
}

/// One start of a host: what it waited for, and when its engine was ready and had a picture.
fn start(path: &Path, cache: Option<&String>) -> Result<[f64; FIGURES]> {
    // The first calls of greater batches, made while nobody asks for a step, belong to a start.
    let cache_dir = cache.map(PathBuf::from);
    let config = EngineConfig { max_batch: 0, cache_dir, ..engine_config(path) };
    let started = Instant::now();
    let engine = Engine::new(config)?;
    let created = started.elapsed();
    let mut longest_poll = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let state = engine.state();
        longest_poll = longest_poll.max(asked.elapsed());
        if state != EngineState::Loading {
            break;
        }
        thread::sleep(Duration::from_millis(1));
    }
    engine.wait(None)?;
    let ready = started.elapsed();
    let asked = Instant::now();
    let stream = ddim(&engine, 50, 0)?;
    let streamed = asked.elapsed();
    let info = engine.info()?;
    let mut pixels = vec![0; info.model.width * info.model.height * 4];
    ask(&stream)?;
    while stream.copy_frame(&mut pixels, info.model.width * 4)?.is_none() {
        stream.wait(None)?;
    }
    Ok([created, longest_poll, streamed, ready, started.elapsed()].map(ms))
}
