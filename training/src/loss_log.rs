//! The loss of every step of a run, in a text file of two columns.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::checkpoint::write_atomically;

const LOG_HEADER: &str = "step,loss";

/// Reads the losses of steps 1 to `step` and cuts the log there: later lines were never saved.
pub fn losses_so_far(path: &Path, step: usize) -> Result<Vec<f64>> {
    let mut losses = Vec::new();
    if step > 0 {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        losses = parse_losses(&text, path).take(step).collect::<Result<_>>()?;
        ensure!(
            losses.len() == step,
            "{}: has {} steps, the checkpoint {step}",
            path.display(),
            losses.len()
        );
    }
    let mut text = format!("{LOG_HEADER}\n");
    for (i, loss) in losses.iter().enumerate() {
        text.push_str(&format!("{},{loss}\n", i + 1));
    }
    write_atomically(path, text.as_bytes())?;
    Ok(losses)
}

/// Reads the losses written by a run.
pub fn read_losses(path: &Path) -> Result<Vec<f64>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_losses(&text, path).collect()
}

/// The losses of a log, line by line, so that a reader may stop before a line that was cut short.
fn parse_losses<'a>(text: &'a str, path: &'a Path) -> impl Iterator<Item = Result<f64>> + 'a {
    text.lines().skip(1).map(|line| {
        line.split_once(',')
            .and_then(|(_, loss)| loss.parse().ok())
            .with_context(|| format!("{}: line {line:?}", path.display()))
    })
}
