//! What the engine costs the host's thread: `step`, `status` and `copy_frame`, one by one and all
//! together, while the worker is busy; with the cores free else, and with a busy thread on each.
//!
//! `cargo bench --bench host_cost`. Microseconds; one worker thread, pictures of 256 x 256. A new
//! frame costs one copy of its pixels, so those calls have a row of their own. The longest calls are
//! those in which the system gave the core to something else.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use ddpm::engine::{Stream, StreamState};
use ddpm::error::Result;

use common::host::{Neighbours, spin};
use common::numbers::{Times, heading, row, us};
use common::{Arguments, ask, ddim, engine_config, loaded};

const CALLS: usize = 100_000;
const SIDE: usize = 256;

/// Time between two rounds of calls, so that they spread over many steps of the worker.
const GAP: Duration = Duration::from_micros(100);

thread_local! {
    static ALLOCATOR_CALLS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the calls of each thread.
struct Counting;

fn count() {
    // At a thread's end the counter may be gone, and then nobody asks for it.
    let _ = ALLOCATOR_CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> Result<()> {
    let arguments = Arguments::read();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/slow_open.onnx");
    let mut config = engine_config(&model);
    config.overrides.height = Some(SIDE);
    config.overrides.width = Some(SIDE);
    let engine = loaded(config)?;
    let stream = ddim(&engine, 1000, 0)?;
    let info = engine.info()?;
    println!(
        "host_cost: {SIDE} x {SIDE}, {} on {} thread, in microseconds\n",
        info.provider, info.threads
    );
    let calls = arguments.count(CALLS);
    measure(&stream, calls)?.print("the worker busy, the other cores free");
    let _neighbours = Neighbours::on_every_core();
    measure(&stream, calls)?.print("the worker busy, and a busy thread for every core");
    Ok(())
}

/// The times of each call.
#[derive(Default)]
struct Costs {
    step: Times,
    status: Times,
    copy: Times,
    copy_new: Times,
    all: Times,
    all_new: Times,
    busy: usize,
    allocator_calls: u64,
}

fn measure(stream: &Stream, calls: usize) -> Result<Costs> {
    let times = || Times::with_capacity(calls);
    let mut costs = Costs {
        step: times(),
        status: times(),
        copy: times(),
        copy_new: times(),
        all: times(),
        all_new: times(),
        busy: 0,
        allocator_calls: 0,
    };
    let mut pixels = vec![0; SIDE * SIDE * 4];
    ask(stream)?;
    for seed in 0..calls as u64 {
        let before = ALLOCATOR_CALLS.get();
        let started = Instant::now();
        let outcome = stream.step();
        let stepped = Instant::now();
        let status = stream.status();
        let looked = Instant::now();
        let frame = stream.copy_frame(&mut pixels, SIDE * 4);
        let copied = Instant::now();
        costs.allocator_calls += ALLOCATOR_CALLS.get() - before;
        outcome?;
        costs.step.push(us(stepped - started));
        costs.status.push(us(looked - stepped));
        let (copy, all) = match frame? {
            None => (&mut costs.copy, &mut costs.all),
            Some(_) => (&mut costs.copy_new, &mut costs.all_new),
        };
        copy.push(us(copied - looked));
        all.push(us(copied - started));
        costs.busy += usize::from(status.state == StreamState::Stepping);
        if status.state == StreamState::Done {
            stream.reset(Some(seed))?;
        }
        spin(GAP);
    }
    Ok(costs)
}

impl Costs {
    fn print(mut self, name: &str) {
        let share = 100.0 * self.busy as f64 / self.step.len() as f64;
        println!(
            "{name} (a step in flight in {share:.0} % of the calls, {} allocator calls on the host's thread):\n",
            self.allocator_calls
        );
        heading(&["call", "count", "p50", "p99", "p99.9", "max"]);
        let rows = [
            ("step", &mut self.step),
            ("status", &mut self.status),
            ("copy_frame, nothing new", &mut self.copy),
            ("copy_frame, a new frame", &mut self.copy_new),
            ("all three, nothing new", &mut self.all),
            ("all three, a new frame", &mut self.all_new),
        ];
        for (name, times) in rows {
            let figures = [0.5, 0.99, 0.999].map(|share| format!("{:.2}", times.at(share)));
            let mut cells = vec![name.to_owned(), times.len().to_string()];
            cells.extend(figures);
            cells.push(format!("{:.1}", times.at(1.0)));
            row(&cells);
        }
        println!();
    }
}
