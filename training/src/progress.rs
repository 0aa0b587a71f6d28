//! What a run says on the terminal while it goes on.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;

/// A bar on a terminal, a line now and then elsewhere.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    batch: usize,
    steps: usize,
    first: usize,
    smoothed: Option<f64>,
    started: Instant,
    spoke: Instant,
}

const PLAIN_EVERY: Duration = Duration::from_secs(15);

impl Progress {
    pub fn new(config: &Config, step: usize) -> Self {
        let bar = ProgressBar::new(config.train.steps as u64).with_position(step as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}  {msg}  {eta} left") {
            bar.set_style(style);
        }
        bar.reset_eta();
        Self {
            bar,
            plain: !std::io::stderr().is_terminal(),
            batch: config.train.batch,
            steps: config.train.steps,
            first: step,
            smoothed: None,
            started: Instant::now(),
            spoke: Instant::now(),
        }
    }

    pub fn step(&mut self, step: usize, loss: f64) {
        let smoothed = self.smoothed.map_or(loss, |old| old + 0.02 * (loss - old));
        self.smoothed = Some(smoothed);
        let taken = (step - self.first) as f64;
        let rate = taken / self.started.elapsed().as_secs_f64().max(1e-9);
        let images = rate * self.batch as f64;
        self.bar.set_position(step as u64);
        self.bar.set_message(format!("loss {smoothed:.4}  {images:.0} images/s"));
        if self.plain && self.spoke.elapsed() >= PLAIN_EVERY {
            self.spoke = Instant::now();
            let left = (self.steps - step) as f64 / rate;
            eprintln!(
                "step {step} of {}  loss {smoothed:.4}  {images:.0} images/s  {:.1} min left",
                self.steps,
                left / 60.0
            );
        }
    }

    pub fn finish(&self) {
        self.bar.finish();
    }
}
