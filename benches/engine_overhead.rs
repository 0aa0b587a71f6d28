//! What the engine adds to the model: the time of its steps over that of ONNX Runtime running the same
//! file with its tensors bound once, nothing fed and nothing read.
//!
//! `cargo bench --bench engine_overhead [-- MODEL...]`; without, the shipped model and one of 35.7
//! million weights. One thread. ONNX Runtime alone runs in a process of its own. Blocks of each way take turns, with everything made anew in every round,
//! as the place of a tensor in memory is worth a per cent; a ratio is that of two neighbouring blocks.
//!
//! "alone": the host asks for a whole run at once, as a playback of no time does. "two streams": the host
//! keeps the worker's queue filled, a step at a time. "one stream": it waits for a step and then asks for
//! the next, which adds both threads' waking up.

mod common;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use ddpm::engine::{Engine, PlaybackConfig, Stream};
use ddpm::error::Result;
use ort::memory::Allocator;
use ort::session::builder::GraphOptimizationLevel;
use ort::session::{IoBinding, RunOptions, Session};
use ort::value::Tensor;

use common::numbers::{Times, heading, ms, row};
use common::{Arguments, ask, ddim, engine_config, fault, loaded, models};

const ROUNDS: usize = 4;
/// Blocks of each way in a round, and how long one lasts.
const BLOCKS: usize = 4;
const BLOCK_MS: f64 = 600.0;
/// How this program is told to be ONNX Runtime alone.
const BARE: &str = "--bare";

fn main() -> Result<()> {
    let arguments = Arguments::read();
    if let [bare, model, runtime] = arguments.rest.as_slice()
        && bare == BARE
    {
        return Bare::new(Path::new(model), Path::new(runtime))
            .and_then(Bare::serve)
            .map_err(fault);
    }
    let mut paths: Vec<PathBuf> = arguments.rest.iter().map(PathBuf::from).collect();
    if paths.is_empty() {
        paths = vec![models::portraits(), models::cifar()?];
    }
    let rounds = arguments.rounds(ROUNDS);
    println!(
        "engine_overhead: one thread, medians (and quartiles) of {rounds} rounds of {BLOCKS} blocks\n"
    );
    heading(&[
        "model",
        "session run, ms",
        "step alone, ms",
        "two streams",
        "one stream",
        "alone / run",
        "two streams / run",
        "one stream / run",
    ]);
    for path in paths {
        measure(&path, &arguments)?;
    }
    println!();
    Ok(())
}

fn measure(path: &Path, arguments: &Arguments) -> Result<()> {
    let mut times: [Times; 4] = Default::default();
    let mut ratios: [Times; 3] = Default::default();
    for _ in 0..arguments.rounds(ROUNDS) {
        let engine = loaded(engine_config(path))?;
        let streams = [ddim(&engine, 1000, 0)?, ddim(&engine, 1000, 1)?];
        let mut bare = BareProcess::start(path, &engine.info()?.runtime_library)?;
        let run = bare.ms_a_run(5)?;
        let steps = arguments.count((BLOCK_MS / run) as usize).max(3);
        for _ in 0..BLOCKS {
            let block = [
                bare.ms_a_run(steps)?,
                alone(&engine, steps)?,
                kept_busy(&streams, steps)?,
                one_stream(&streams[0], steps)?,
            ];
            times.iter_mut().zip(block).for_each(|(times, time)| times.push(time));
            ratios
                .iter_mut()
                .zip(&block[1..])
                .for_each(|(ratios, time)| ratios.push(time / block[0]));
        }
    }
    let name = path.file_name().unwrap_or_default().display().to_string();
    let times = times.map(|mut times| format!("{:.3}", times.median()));
    let ratios =
        ratios.map(|mut r| format!("{:.3} ({:.3} to {:.3})", r.median(), r.at(0.25), r.at(0.75)));
    row(&[&[name], &times[..], &ratios[..]].concat());
    Ok(())
}

/// Milliseconds a step of a run that the worker makes by itself.
fn alone(engine: &Engine, steps: usize) -> Result<f64> {
    // A run has a thousand steps at most; the first is asked for before the clock starts.
    let steps = steps.min(999);
    let stream = ddim(engine, steps + 1, 0)?;
    ask(&stream)?;
    stream.wait(None)?;
    // Never shortened, however late it is.
    stream.play(PlaybackConfig { fewest_steps: u32::MAX, ..PlaybackConfig::new(1e-3) })?;
    let started = Instant::now();
    stream.tick(1.0)?;
    stream.wait(None)?;
    Ok(ms(started.elapsed()) / steps as f64)
}

/// Milliseconds a step while the queue is never empty.
fn kept_busy(streams: &[Stream; 2], steps: usize) -> Result<f64> {
    for stream in streams {
        ask(stream)?;
    }
    let [mut older, mut newer] = [&streams[0], &streams[1]];
    older.wait(None)?;
    let started = Instant::now();
    for _ in 0..steps {
        ask(older)?;
        newer.wait(None)?;
        (older, newer) = (newer, older);
    }
    let taken = ms(started.elapsed()) / steps as f64;
    // The last one asked for.
    newer.wait(None)?;
    Ok(taken)
}

/// Milliseconds from one request to the next.
fn one_stream(stream: &Stream, steps: usize) -> Result<f64> {
    let started = Instant::now();
    for _ in 0..steps {
        ask(stream)?;
        stream.wait(None)?;
    }
    Ok(ms(started.elapsed()) / steps as f64)
}

/// ONNX Runtime alone, in a process of its own: a process has one environment, and here it is the
/// engine's.
struct BareProcess {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl BareProcess {
    fn start(model: &Path, runtime: &Path) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe().map_err(fault)?)
            .arg(BARE)
            .args([model, runtime])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(fault)?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(fault("the other process has no pipes"));
        };
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    fn ms_a_run(&mut self, runs: usize) -> Result<f64> {
        writeln!(self.orders, "{runs}").map_err(fault)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer).map_err(fault)?;
        answer.trim().parse().map_err(|_| fault(format!("ONNX Runtime alone: found {answer:?}")))
    }
}

impl Drop for BareProcess {
    fn drop(&mut self) {
        // It holds no files; there is nothing that it could lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A session as the engine makes it, and what it is run with.
struct Bare {
    // Before the session: it must be released first.
    binding: IoBinding,
    session: Session,
    options: RunOptions,
}

type BareResult<T> = std::result::Result<T, Box<dyn std::error::Error>>;

impl Bare {
    fn new(model: &Path, runtime: &Path) -> BareResult<Self> {
        let environment = ort::init_from(runtime)?.build()?;
        let session = Session::builder(&environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            .with_intra_op_spinning(false)?
            .with_inter_op_spinning(false)?
            .with_memory_pattern(true)?
            .commit_from_file(model)?;
        let mut shape = session.inputs()[0].dtype().tensor_shape().ok_or("no tensor")?.to_vec();
        shape[0] = 1;
        let shape: Vec<usize> = shape.into_iter().map(|size| size as usize).collect();
        let allocator = Allocator::default();
        let mut sample = Tensor::<f32>::new(&allocator, shape.clone())?;
        let noise = sample.extract_tensor_mut().1;
        ddpm::rng::fill_standard_normal(0, ddpm::rng::Purpose::InitialNoise, 0, noise);
        let mut timestep = Tensor::<i64>::new(&allocator, [1usize])?;
        timestep.extract_tensor_mut().1.fill(500);
        let mut output = Tensor::<f32>::new(&allocator, shape)?;
        let mut binding = session.create_binding()?;
        binding.bind_input(session.inputs()[0].name(), &sample)?;
        binding.bind_input(session.inputs()[1].name(), &timestep)?;
        binding.bind_output(session.outputs()[0].name(), &mut output)?;
        Ok(Self { binding, session, options: RunOptions::new()? })
    }

    /// Answers each number of runs with the milliseconds that one took.
    fn serve(mut self) -> BareResult<()> {
        for order in std::io::stdin().lines() {
            let runs: u32 = order?.trim().parse()?;
            let started = Instant::now();
            for _ in 0..runs {
                self.session.run_binding_with_options(&self.binding, &self.options)?;
            }
            println!("{}", ms(started.elapsed()) / f64::from(runs));
        }
        Ok(())
    }
}
