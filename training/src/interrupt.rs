//! Ctrl-C during a run: the first asks it to stop after the step it is in, a second ends it at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::say;

/// The exit code of a program that was interrupted: 128 and the number of SIGINT, as of a shell.
pub const EXIT_CODE: u8 = 130;

/// What comes within this of the first is no second wish: `timeout`, and a terminal with a wrapper in
/// it, send a signal to the program and to its group.
const ONE_WISH: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Whether the run was asked to stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens for SIGINT (Ctrl-C) and SIGTERM, for the rest of the program.
    pub fn watch() -> Result<Self> {
        let asked = Arc::new(AtomicBool::new(false));
        let came = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            flag::register(signal, Arc::clone(&asked))
                .and_then(|_| flag::register(signal, Arc::clone(&came)))
                .context("cannot listen for Ctrl-C")?;
        }
        let wait = move || end_at_second(&came);
        let waits = thread::Builder::new().name("signals".into()).spawn(wait);
        waits.context("cannot listen for Ctrl-C")?;
        Ok(Self(asked))
    }

    /// Whether one has come.
    pub fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Ends the program at the second wish that `came` tells of.
fn end_at_second(came: &AtomicBool) -> ! {
    let mut first: Option<Instant> = None;
    loop {
        thread::sleep(LOOK_EVERY);
        if !came.swap(false, Ordering::Relaxed) {
            continue;
        }
        if first.is_none() {
            say!("stopping after this step; once more, a second from now, ends it at once");
        }
        if first.get_or_insert_with(Instant::now).elapsed() >= ONE_WISH {
            say!("stopped at once: the steps since the last checkpoint are not saved");
            low_level::exit(EXIT_CODE.into());
        }
    }
}
