//! What a run says on the terminal while it goes on.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Config;
use crate::loss_log::Row;
use crate::say;

/// A few lines that stay in place on a terminal, a line now and then elsewhere.
pub struct Progress {
    bar: ProgressBar,
    plain: bool,
    images: usize,
    steps: usize,
    first: usize,
    smoothed: Option<f64>,
    sparkline: Sparkline,
    wrote: String,
    started: Instant,
    spoke: Instant,
}

const PLAIN_EVERY: Duration = Duration::from_secs(15);

impl Progress {
    /// Of a run that goes on after `before`.
    pub fn new(config: &Config, before: &[Row], step: usize) -> Self {
        let plain = !std::io::stderr().is_terminal();
        let bar = ProgressBar::new(config.train.steps as u64).with_position(step as u64);
        let lines = "{bar:40.cyan/blue} {pos}/{len}  {percent}%  {eta} left\n{msg}";
        if let Ok(style) = ProgressStyle::with_template(lines) {
            bar.set_style(style);
        }
        bar.reset_eta();
        let mut progress = Self {
            bar,
            plain,
            images: config.train.batch * config.train.accumulate,
            steps: config.train.steps,
            first: step,
            smoothed: None,
            sparkline: Sparkline::default(),
            wrote: String::new(),
            started: Instant::now(),
            spoke: Instant::now(),
        };
        for row in before {
            progress.count(row.loss);
        }
        progress
    }

    fn count(&mut self, loss: f64) -> f64 {
        let smoothed = self.smoothed.map_or(loss, |old| old + 0.02 * (loss - old));
        self.smoothed = Some(smoothed);
        self.sparkline.push(loss);
        smoothed
    }

    /// Images a second since the run was started.
    pub fn images_per_second(&self, step: usize) -> f64 {
        let taken = ((step - self.first) * self.images) as f64;
        taken / self.started.elapsed().as_secs_f64().max(1e-9)
    }

    /// Shows a step.
    pub fn step(&mut self, row: &Row) {
        let smoothed = self.count(row.loss);
        let speed = row.images_per_second.unwrap_or_default();
        let rate = row.learning_rate.unwrap_or_default();
        let norm = row.grad_norm.unwrap_or_default();
        let numbers = format!(
            "loss {smoothed:.4}  learning rate {rate:.2e}  gradient {norm:.3}  {speed:.0} images/s"
        );
        if self.plain {
            if self.spoke.elapsed() >= PLAIN_EVERY {
                self.spoke = Instant::now();
                let left = ((self.steps - row.step) * self.images) as f64 / speed;
                let (step, steps) = (row.step, self.steps);
                say!("step {step} of {steps}  {numbers}  {:.1} min left", left / 60.0);
            }
            return;
        }
        self.bar.set_position(row.step as u64);
        self.bar.set_message(format!("{numbers}\n{}\n{}", self.sparkline.draw(), self.wrote));
    }

    /// Names the newest file.
    pub fn wrote(&mut self, what: &str) {
        self.wrote = format!("newest: {what}");
    }

    /// Says a line above what stays in place.
    pub fn say(&self, line: &str) {
        self.bar.suspend(|| say!("{line}"));
    }

    pub fn finish(&self) {
        self.bar.finish();
    }
}

/// The whole run in a line of characters: each the mean loss of so many steps, on a logarithmic scale.
struct Sparkline {
    /// Sums of `each` losses; the last of `filled`.
    sums: Vec<f64>,
    each: usize,
    filled: usize,
}

impl Default for Sparkline {
    fn default() -> Self {
        Self { sums: Vec::new(), each: 1, filled: 1 }
    }
}

impl Sparkline {
    const WIDTH: usize = 72;

    fn push(&mut self, loss: f64) {
        if self.filled < self.each {
            self.filled += 1;
            if let Some(last) = self.sums.last_mut() {
                *last += loss;
            }
            return;
        }
        if self.sums.len() == Self::WIDTH {
            self.sums = self.sums.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.each *= 2;
        }
        self.sums.push(loss);
        self.filled = 1;
    }

    fn draw(&self) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let last = self.sums.len().saturating_sub(1);
        let count = |i: usize| if i == last { self.filled } else { self.each };
        let mean = |(i, sum): (usize, &f64)| (sum / count(i) as f64).max(1e-12).ln();
        let logs: Vec<f64> = self.sums.iter().enumerate().map(mean).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min);
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let step = ((high - low) / 7.0).max(1e-9);
        logs.iter().map(|log| BARS[(((log - low) / step).round() as usize).min(7)]).collect()
    }
}
