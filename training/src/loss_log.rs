//! The log of a run, `loss.csv`: a line a step.
//!
//! The last column, images_per_second, depends on the machine; the others do not. The log is for people:
//! where it does not fit the checkpoint, the checkpoint holds.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::output::write_atomically;

const HEADER: &str = "step,loss,learning_rate,grad_norm,mse,bound,images_per_second";

/// A step as logged.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Row {
    /// Counted from 1.
    pub step: usize,
    pub loss: f64,
    /// Not in logs of earlier versions, like all that follow.
    pub learning_rate: Option<f64>,
    /// Of the gradient, before it was shortened.
    pub grad_norm: Option<f64>,
    /// The plain mean square error, whatever the loss is.
    pub mse: Option<f64>,
    /// The variational bound in bits a value, where a variance is learned.
    pub bound: Option<f64>,
    pub images_per_second: Option<f64>,
}

impl Row {
    fn parse(line: &str) -> Option<Self> {
        let mut cells = line.split(',');
        let step = cells.next()?.parse().ok()?;
        let loss = cells.next()?.parse().ok()?;
        let mut number = || cells.next().and_then(|cell| cell.parse().ok());
        Some(Self {
            step,
            loss,
            learning_rate: number(),
            grad_norm: number(),
            mse: number(),
            bound: number(),
            images_per_second: number(),
        })
    }

    fn line(&self) -> String {
        let mut line = format!("{},{}", self.step, self.loss);
        let speed = self.images_per_second.map(|speed| (speed * 10.0).round() / 10.0);
        for cell in [self.learning_rate, self.grad_norm, self.mse, self.bound, speed] {
            line.push(',');
            line.extend(cell.map(|value| value.to_string()));
        }
        line.push('\n');
        line
    }
}

/// The log of a run that goes on.
pub struct LossLog {
    path: PathBuf,
    file: File,
    rows: Vec<Row>,
}

impl LossLog {
    /// Opens the log of a run that goes on after `step`; later lines were never saved and are cut off.
    /// Of steps whose lines are missing or damaged it says how many, for the user to know.
    pub fn open(path: &Path, step: usize) -> Result<(Self, Option<String>)> {
        let shown = path.display();
        let bytes = match fs::read(path) {
            Ok(bytes) if step > 0 => bytes,
            Err(error) if step > 0 && error.kind() != ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot read {shown}"));
            }
            _ => Vec::new(),
        };
        let mut rows: Vec<Row> = Vec::new();
        // A line without its end was cut in the middle of a number.
        for line in String::from_utf8_lossy(&bytes).split_inclusive('\n').skip(1) {
            let Some(row) = line.strip_suffix('\n').and_then(Row::parse) else { continue };
            if row.step > rows.last().map_or(0, |row| row.step) && row.step <= step {
                rows.push(row);
            }
        }
        let lost = step - rows.len();
        let note = (lost > 0).then(|| {
            format!(
                "{shown}: has no line of {lost} of the {step} steps taken; the run is not affected"
            )
        });
        let file = write(path, &rows)?;
        Ok((Self { path: path.to_owned(), file, rows }, note))
    }

    /// The steps so far.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Adds a step.
    pub fn push(&mut self, row: Row) -> Result<()> {
        self.rows.push(row);
        let line = row.line();
        self.file
            .write_all(line.as_bytes())
            .with_context(|| format!("cannot write {}", self.path.display()))
    }

    /// Writes the log anew where somebody has removed it.
    pub fn restore(&mut self) -> Result<()> {
        if !self.path.exists() {
            self.file = write(&self.path, &self.rows)?;
        }
        Ok(())
    }
}

/// Writes a log and opens it at its end.
fn write(path: &Path, rows: &[Row]) -> Result<File> {
    let mut text = format!("{HEADER}\n");
    for row in rows {
        text.push_str(&row.line());
    }
    write_atomically(path, text.as_bytes())?;
    let file = OpenOptions::new().append(true).open(path);
    file.with_context(|| format!("cannot open {}", path.display()))
}

/// Reads the log of a run.
///
/// Errors: a line that is none of a log is named.
pub fn read_rows(path: &Path) -> Result<Vec<Row>> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let parse =
        |line: &str| Row::parse(line).with_context(|| format!("{}: line {line:?}", path.display()));
    text.lines().skip(1).map(parse).collect()
}

/// Reads the losses written by a run.
pub fn read_losses(path: &Path) -> Result<Vec<f64>> {
    Ok(read_rows(path)?.into_iter().map(|row| row.loss).collect())
}
