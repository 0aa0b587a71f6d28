//! The loss of every step of a run, in a text file: the step, what it made small, and the plain mean
//! square error of the prediction, by which runs of different objectives can be compared.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::checkpoint::write_atomically;
use crate::step::Losses;

const LOG_HEADER: &str = "step,loss,mse";

/// The line of a step, without its end.
pub fn line(step: usize, losses: Losses) -> String {
    format!("{step},{},{}", losses.loss, losses.mse)
}

/// Reads the losses of steps 1 to `step` and cuts the log there: later lines were never saved.
pub fn losses_so_far(path: &Path, step: usize) -> Result<Vec<f64>> {
    let mut losses = Vec::new();
    let mut kept = format!("{LOG_HEADER}\n");
    if step > 0 {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        // As they are: the lines of an older version have a column less.
        for line in text.lines().skip(1).take(step) {
            losses.push(parse_loss(line, path)?);
            kept.extend([line, "\n"]);
        }
        ensure!(
            losses.len() == step,
            "{}: has {} steps, the checkpoint {step}",
            path.display(),
            losses.len()
        );
    }
    write_atomically(path, kept.as_bytes())?;
    Ok(losses)
}

/// Reads the losses written by a run.
pub fn read_losses(path: &Path) -> Result<Vec<f64>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    text.lines().skip(1).map(|line| parse_loss(line, path)).collect()
}

fn parse_loss(line: &str, path: &Path) -> Result<f64> {
    let loss = line.split(',').nth(1).and_then(|loss| loss.parse().ok());
    loss.with_context(|| format!("{}: line {line:?}", path.display()))
}
