//! Whether a host's frames feel the engine: how long 4 ms of the host's own work take in a loop of 60
//! frames a second, with the engine left alone and with a step asked for in every frame.
//!
//! `cargo bench --bench frame_effect [-- MODEL [THREADS]]`; the shipped model without, and as many
//! threads as the engine takes by itself. Both ways take turns, so that a machine that changes shows in
//! both.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use ddpm::engine::Stream;
use ddpm::error::Result;

use common::host::{Frames, Work};
use common::numbers::{Times, heading, ms, row};
use common::{Arguments, ask, ddim, engine_config, loaded, models};

const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 60);
const WORK: Duration = Duration::from_millis(4);
/// Frames of one turn, and turns of each way.
const FRAMES: usize = 300;
const TURNS: usize = 5;
/// Frames at the start of a turn that do not count: what the turn before left behind.
const SETTLING: usize = 20;

fn main() -> Result<()> {
    let arguments = Arguments::read();
    let mut rest = arguments.rest.iter();
    let model = rest.next().map_or_else(models::portraits, PathBuf::from);
    let mut config = engine_config(&model);
    config.threads = rest.next().and_then(|threads| threads.parse().ok()).unwrap_or(0);
    let engine = loaded(config)?;
    let info = engine.info()?;
    let stream = ddim(&engine, 1000, 0)?;
    let side = info.model.width;
    let mut pixels = vec![0; side * info.model.height * 4];
    let work = Work::lasting(WORK);
    let frames = arguments.count(FRAMES);
    println!(
        "frame_effect: {}, {} engine threads; the host's own work in ms, {frames} frames a turn\n",
        model.file_name().unwrap_or_default().display(),
        info.threads
    );

    let (mut alone, mut stepping) = (Times::default(), Times::default());
    let mut frame_of_engine = |stream: &Stream| -> Result<bool> {
        let new = stream.copy_frame(&mut pixels, side * 4)?.is_some();
        ask(stream)?;
        Ok(new)
    };
    heading(&["turn", "p50", "p99", "max", "new frames"]);
    for turn in 0..2 * arguments.rounds(TURNS) {
        let steps = turn % 2 == 1;
        let mut times = Times::with_capacity(frames);
        let mut shown = 0;
        let mut clock = Frames::every(PERIOD);
        for frame in 0..SETTLING + frames {
            clock.wait();
            let new = steps && frame_of_engine(&stream)?;
            let took = work.timed();
            if frame >= SETTLING {
                times.push(ms(took));
                shown += usize::from(new);
            }
        }
        // Nothing of this turn runs on into the next.
        stream.wait(None)?;
        let name = if steps { "stepping" } else { "engine idle" };
        print(name, &mut times, &shown.to_string());
        if steps { stepping.extend(&times) } else { alone.extend(&times) }
    }
    print("all: engine idle", &mut alone, "");
    print("all: stepping", &mut stepping, "");
    let ratios =
        [0.5, 0.99, 1.0].map(|share| format!("{:.3}", stepping.at(share) / alone.at(share)));
    row(&[&["stepping / idle".to_owned()], &ratios[..], &[String::new()]].concat());
    println!();
    Ok(())
}

fn print(name: &str, times: &mut Times, shown: &str) {
    let figures = [0.5, 0.99, 1.0].map(|share| format!("{:.2}", times.at(share)));
    row(&[&[name.to_owned()], &figures[..], &[shown.to_owned()]].concat());
}
