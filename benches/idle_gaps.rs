//! What the time between two steps does: to the next step, and to the processor.
//!
//! `cargo bench --bench idle_gaps [-- MODEL]`; the shipped model without. One engine thread; the host
//! asks for a step, waits until it is made, and then sleeps. The step's time is the host's, from its
//! request until it is awake again. Processor time is that of the whole process during the gap.

mod common;

#[cfg(unix)]
fn main() -> ddpm::error::Result<()> {
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use common::host::processor_time;
    use common::numbers::{Times, heading, ms, row};
    use common::{Arguments, ask, ddim, engine_config, loaded, models};

    /// Gaps in milliseconds, and how many steps are made with each; the last one is longer than
    /// anything that the engine may do after a step.
    const GAPS: [(u64, usize); 4] = [(0, 2000), (16, 500), (200, 40), (2000, 3)];
    const ROUNDS: usize = 2;

    let arguments = Arguments::read();
    let model = arguments.rest.first().map_or_else(models::portraits, PathBuf::from);
    let engine = loaded(engine_config(&model))?;
    let stream = ddim(&engine, 1000, 0)?;
    let mut steps: [Times; GAPS.len()] = Default::default();
    let mut burnt = [Duration::ZERO; GAPS.len()];
    let mut idle = [Duration::ZERO; GAPS.len()];
    for _ in 0..arguments.rounds(ROUNDS) {
        for (index, (gap, count)) in GAPS.into_iter().enumerate() {
            for _ in 0..arguments.count(count) {
                let asked = Instant::now();
                ask(&stream)?;
                stream.wait(None)?;
                steps[index].push(ms(asked.elapsed()));
                let (awake, used) = (Instant::now(), processor_time());
                std::thread::sleep(Duration::from_millis(gap));
                burnt[index] += processor_time() - used;
                idle[index] += awake.elapsed();
            }
        }
    }
    println!("idle_gaps: {}, one engine thread\n", model.file_name().unwrap_or_default().display());
    heading(&[
        "gap, ms",
        "steps",
        "step p50, ms",
        "step p99, ms",
        "processor ms a second of gap",
        "processor us a gap",
    ]);
    for (index, (gap, _)) in GAPS.into_iter().enumerate() {
        let times = &mut steps[index];
        let none = gap == 0;
        let share = ms(burnt[index]) / idle[index].as_secs_f64();
        let each = 1e3 * ms(burnt[index]) / times.len() as f64;
        row(&[
            gap.to_string(),
            times.len().to_string(),
            format!("{:.3}", times.median()),
            format!("{:.3}", times.at(0.99)),
            if none { "-".to_owned() } else { format!("{share:.2}") },
            if none { "-".to_owned() } else { format!("{each:.0}") },
        ]);
    }
    println!();
    Ok(())
}

#[cfg(not(unix))]
fn main() {
    println!("idle_gaps: reads the processor's time on Unix only");
}
