//! How many rows of a reveal are due at a moment, so that it ends on time on slow and fast machines.

use super::Easing;
use crate::error::{Error, Result};

/// The longest duration of a reveal, in seconds: a day.
pub const MAX_DURATION: f64 = 24.0 * 3600.0;

/// A reveal that is to take a given time, and how much of that time is over.
///
/// It counts what [`advance`](Self::advance) is given and nothing else: a reveal whose host ticks no
/// more stands still.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Playback {
    duration: f64,
    easing: Easing,
    elapsed: f64,
    /// What was shown when the time began.
    from: f64,
}

impl Playback {
    /// A reveal of `duration` seconds from nothing to the whole picture.
    ///
    /// Errors: `InvalidArgument` where `duration` is not above 0 and up to [`MAX_DURATION`].
    pub fn new(duration: f64, easing: Easing) -> Result<Self> {
        if !(duration > 0.0 && duration <= MAX_DURATION) {
            return Err(Error::invalid_argument(format!(
                "duration: found {duration}, expected seconds above 0 and up to {MAX_DURATION}"
            )));
        }
        Ok(Self { duration, easing, elapsed: 0.0, from: 0.0 })
    }

    /// The same for what is left of a run: the share `from` of it, 0 to 1, is shown already, and the
    /// duration is that of the rest.
    pub fn starting_at(self, from: f32) -> Self {
        let from = if from.is_nan() { 0.0 } else { f64::from(from).clamp(0.0, 1.0) };
        Self { from, ..self }
    }

    /// Lets time pass: so many seconds since the last call, 0 among them.
    ///
    /// Errors: `InvalidArgument` where `seconds` is below 0 or not finite; no time passes then.
    pub fn advance(&mut self, seconds: f64) -> Result<()> {
        if !(seconds >= 0.0 && seconds.is_finite()) {
            return Err(Error::invalid_argument(format!(
                "seconds: found {seconds}, expected a finite number from 0"
            )));
        }
        self.elapsed = (self.elapsed + seconds).min(self.duration);
        Ok(())
    }

    /// Seconds from start to end.
    pub fn duration(&self) -> f64 {
        self.duration
    }

    /// How the shown share grows.
    pub fn easing(&self) -> Easing {
        self.easing
    }

    /// Seconds that are over, up to the duration.
    pub fn elapsed(&self) -> f64 {
        self.elapsed
    }

    /// Seconds that are left, 0 at the end.
    pub fn remaining(&self) -> f64 {
        self.duration - self.elapsed
    }

    /// How many rows should have been asked for by now; never below `made`, those that have been.
    ///
    /// `shares` has an entry a row: the share of the run that is shown once the row is made, never
    /// falling, 1 at the end ([`even_shares`], or [`VisibleChange::shares`](super::VisibleChange::shares)).
    /// A row is due when the easing reaches its share. With `step_time`, the measured seconds from asking
    /// for a row to having it, rows are asked for that much earlier, and ahead of the curve where
    /// what is left would not fit into the time that is left otherwise. At the end of the time it is all
    /// rows. A `step_time` that is not above 0 and finite counts as none. Does not allocate.
    pub fn goal(&self, shares: &[f32], made: usize, step_time: Option<f64>) -> usize {
        let rows = shares.len();
        if self.elapsed >= self.duration {
            return rows.max(made);
        }
        let step_time = usable(step_time);
        let lead = step_time.unwrap_or(0.0);
        let eased = self.easing.at((self.elapsed + lead) / self.duration);
        let shown = (self.from + (1.0 - self.from) * eased) as f32;
        let due = shares.partition_point(|&share| share <= shown);
        // After the one asked for now, so many can be asked for later and still be in time.
        let later =
            step_time.map_or(usize::MAX, |step_time| self.affordable(step_time).saturating_sub(1));
        due.max(rows.saturating_sub(later)).max(made)
    }

    /// How many rows of `step_time` seconds each fit into the time that is left; `usize::MAX` where
    /// `step_time` is not above 0 and finite.
    pub fn affordable(&self, step_time: f64) -> usize {
        match usable(Some(step_time)) {
            // A cast to an integer saturates.
            Some(step_time) => (self.remaining() / step_time) as usize,
            None => usize::MAX,
        }
    }
}

fn usable(step_time: Option<f64>) -> Option<f64> {
    step_time.filter(|&seconds| seconds > 0.0 && seconds.is_finite())
}

/// The shares of a run whose rows all count the same: row r ends at (r + 1) / `rows`.
pub fn even_shares(rows: usize) -> Vec<f32> {
    (1..=rows).map(|row| (row as f64 / rows as f64) as f32).collect()
}

/// To how many rows the `remaining_rows` should be shortened where only `affordable` fit into the
/// time; `None` where they are left as they are.
///
/// A plan is changed only where more than an eighth of it, and more than one row, is too much: less
/// than that may be noise of the measurement, and an excess that is no noise is acted on while there
/// are rows left to drop, as an eighth of what is left gets ever smaller. As each change drops more than an
/// eighth, there are few. A run is never lengthened again, and never shortened below `fewest`, or 1.
pub fn should_shorten(remaining_rows: usize, affordable: usize, fewest: usize) -> Option<usize> {
    let slack = (remaining_rows / 8).max(1);
    if remaining_rows <= affordable.saturating_add(slack) {
        return None;
    }
    let shortened = affordable.max(fewest).max(1);
    (shortened < remaining_rows).then_some(shortened)
}
