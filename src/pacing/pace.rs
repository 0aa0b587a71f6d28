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
    frame: f64,
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
        Ok(Self { duration, easing, elapsed: 0.0, frame: 0.0, from: 0.0 })
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
        if seconds > 0.0 {
            self.frame = seconds.min(self.duration);
        }
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

    /// The seconds that passed at once the last time that any did: how far the host's frames
    /// are apart. Up to the duration.
    pub fn frame(&self) -> f64 {
        self.frame
    }

    /// How many rows should have been asked for by now; never below `made`, those that have been.
    ///
    /// `shares` has an entry a row: the share of the run that is shown once the row is made, never
    /// falling, 1 at the end ([`even_shares`], or [`VisibleChange::shares`](super::VisibleChange::shares)).
    /// A row is due when the easing reaches its share. With `step_time`, the measured seconds from asking
    /// for a row to having it, rows are asked for that much earlier, and ahead of the curve where
    /// what is left would not fit into the time that is left otherwise. Without, which is also where it
    /// is not above 0 and finite, the first row is asked for at once, to be measured. At the end of the
    /// time it is all rows. Does not allocate.
    pub fn goal(&self, shares: &[f32], made: usize, step_time: Option<f64>) -> usize {
        let rows = shares.len();
        if self.elapsed >= self.duration {
            return rows.max(made);
        }
        let step_time = usable(step_time);
        let lead = step_time.unwrap_or(0.0);
        let eased = self.easing.at((self.elapsed + lead) / self.duration);
        let shown = (self.from + (1.0 - self.from) * eased) as f32;
        let mut due = shares.partition_point(|&share| share <= shown);
        if step_time.is_none() {
            due = due.max(1.min(rows));
        }
        // After the one asked for now, so many can be asked for later and still be in time.
        let later = fitting(self.remaining() - lead, step_time);
        due.max(rows.saturating_sub(later)).max(made)
    }

    /// How many rows of `step_time` seconds each fit into the time that is left and a [`frame`](Self::frame):
    /// what is due after the last frame in time is asked for in the next. `usize::MAX` where `step_time` is not above 0 and finite.
    pub fn affordable(&self, step_time: f64) -> usize {
        fitting(self.remaining() + self.frame, usable(Some(step_time)))
    }
}

fn fitting(seconds: f64, step_time: Option<f64>) -> usize {
    // A cast to an integer saturates.
    step_time.map_or(usize::MAX, |step_time| (seconds / step_time) as usize)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Linear, of a second, with so much of it over.
    fn second(elapsed: f64) -> Playback {
        let mut playback = Playback::new(1.0, Easing::Linear).unwrap();
        playback.advance(elapsed).unwrap();
        playback
    }

    #[test]
    fn rows_are_due_when_the_easing_reaches_their_share() {
        let shares = even_shares(8);
        for (elapsed, due) in [(0.0, 1), (0.249, 1), (0.25, 2), (0.5, 4), (0.99, 7), (1.0, 8)] {
            assert_eq!(second(elapsed).goal(&shares, 0, None), due, "{elapsed}");
        }
        // What is seen decides, not the number of rows; and what was asked for stays so.
        assert_eq!(second(0.5).goal(&[0.0, 0.5, 0.5, 0.9, 1.0], 0, None), 3);
        assert_eq!(second(0.5).goal(&shares, 6, None), 6);
        assert_eq!(second(1.0).goal(&shares, 9, None), 9);
        assert_eq!((second(0.5).goal(&[], 0, None), second(0.5).goal(&[], 0, Some(0.1))), (0, 0));
        let mut eased = Playback::new(2.0, Easing::EaseIn).unwrap();
        eased.advance(1.0).unwrap();
        assert_eq!(eased.goal(&shares, 0, None), 1);
    }

    #[test]
    fn rows_are_asked_for_a_step_before_they_are_due() {
        let shares = even_shares(8);
        for (elapsed, asked) in [(0.0, 0), (0.0625, 1), (0.1875, 2), (0.9375, 8)] {
            assert_eq!(second(elapsed).goal(&shares, 0, Some(0.0625)), asked, "{elapsed}");
        }
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(second(0.5).goal(&shares, 0, Some(nonsense)), 4, "{nonsense}");
        }
    }

    #[test]
    fn slow_rows_run_ahead_of_the_curve_to_end_on_time() {
        // Nothing is due for long, but eight rows of an eighth of a second need the whole second.
        let shares = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 1.0];
        for row in 0..8 {
            let playback = second(row as f64 / 8.0);
            assert_eq!(playback.goal(&shares, row, Some(0.125)), row + 1, "{row}");
        }
        assert_eq!(second(0.0).goal(&shares, 0, Some(0.1)), 0);
        assert_eq!(second(0.25).goal(&shares, 0, Some(0.1)), 2);
    }

    #[test]
    fn the_rest_of_a_run_is_spread_over_the_time() {
        let shares = even_shares(8);
        let from = |share| second(0.5).starting_at(share).goal(&shares, 0, None);
        assert_eq!((from(0.0), from(0.5), from(1.0), from(f32::NAN)), (4, 6, 8, 4));
    }

    #[test]
    fn time_is_counted_up_to_the_end() {
        let mut playback = second(0.25);
        for bad in [-0.001, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = playback.advance(bad).unwrap_err();
            assert!(error.message().starts_with(&format!("seconds: found {bad}")), "{error}");
        }
        playback.advance(0.0).unwrap();
        assert_eq!((playback.elapsed(), playback.remaining()), (0.25, 0.75));
        playback.advance(1e300).unwrap();
        assert_eq!((playback.elapsed(), playback.remaining()), (1.0, 0.0));
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, 86_401.0] {
            let error = Playback::new(bad, Easing::Linear).unwrap_err();
            assert!(error.message().starts_with(&format!("duration: found {bad}")), "{error}");
        }
        assert!(Playback::new(MAX_DURATION, Easing::Linear).is_ok());
    }

    #[test]
    fn affordable_rows_fit_into_the_time_that_is_left() {
        let mut playback = second(0.0);
        assert_eq!(playback.affordable(0.25), 4);
        playback.advance(0.125).unwrap();
        // Seven eighths, and the frame.
        assert_eq!((playback.affordable(0.25), playback.affordable(0.125)), (4, 8));
        playback.advance(0.875 - 0.0625).unwrap();
        playback.advance(0.0625).unwrap();
        playback.advance(0.0).unwrap();
        assert_eq!((playback.affordable(0.0625), playback.affordable(0.07)), (1, 0));
        playback.advance(1000.0).unwrap();
        assert_eq!(playback.frame(), 1.0);
        for nothing in [0.0, -1.0, f64::NAN, 1e-300] {
            assert_eq!(second(0.5).affordable(nothing), usize::MAX);
        }
    }

    #[test]
    fn plans_change_for_more_than_noise_and_seldom() {
        // An eighth, and at least a row, is left alone.
        assert_eq!(should_shorten(80, 70, 1), None);
        assert_eq!(should_shorten(80, 69, 1), Some(69));
        assert_eq!(should_shorten(3, 2, 1), None);
        assert_eq!(should_shorten(3, 1, 1), Some(1));
        assert_eq!(should_shorten(3, 3, 1), None);
        // The fewest, and never none.
        assert_eq!(should_shorten(80, 3, 10), Some(10));
        assert_eq!(should_shorten(80, 0, 0), Some(1));
        assert_eq!(should_shorten(10, 0, 10), None);
        assert_eq!(should_shorten(10, 0, 11), None);
        assert_eq!(should_shorten(1, 0, 0), None);
        assert_eq!(should_shorten(usize::MAX, 0, 5), Some(5));
        assert_eq!(should_shorten(5, usize::MAX, 5), None);
        // However slow the machine gets, row after row.
        let (mut rows, mut plans) = (1000, 0);
        while let Some(fewer) = should_shorten(rows, rows - rows / 8 - 1, 1) {
            (rows, plans) = (fewer, plans + 1);
        }
        assert!(plans < 45, "{plans}");
    }
}
