//! The director: which timesteps make every frame change the picture by about the same amount.
//!
//! What is seen is measured on a pilot run with plain timesteps. Between equal timesteps a picture
//! looks like nothing, nothing, everything; between directed ones the visible change is even.

use super::curve::{Curve, lookup};
use super::even_shares;
use crate::error::{Error, Result};

/// The share of a directed list that is spread as the plain one is, so that no gap is wider than four
/// of the plain ones.
///
/// Measured on a model of 16x16 portraits with DDIM, DDPM and DPM-Solver++, 20 to 250 steps: the change
/// from frame to frame varies less than half as much as with plain timesteps (coefficient of
/// variation), and the pictures are as near to those of 1,000 steps.
pub const DEFAULT_FLOOR: f64 = 0.25;

/// The rows of a pilot run that are enough, with one seed.
///
/// Measured as above: with 16 and 24 rows predictions, most of which change at the very start, are
/// less even; 2 and 4 seeds change nothing.
pub const PILOT_ROWS: usize = 32;

/// Values of a preview that are compared, at most.
const MAX_VALUES: usize = 4096;

/// Where the sample after the last row lies: alpha_bar before timestep 0 is 1.
const END: f64 = -1.0;

/// What the previews of a run show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// x_0 as predicted in the row: it belongs to the row's own timestep.
    Prediction,
    /// The sample that the row made: it belongs to the next row's timestep.
    Sample,
}

impl Shown {
    /// Where the picture after each row of a run that visits `timesteps` belongs.
    fn positions(self, timesteps: &[f64]) -> Vec<f64> {
        let first = match self {
            Self::Prediction => 0,
            Self::Sample => 1.min(timesteps.len()),
        };
        let end = (self == Self::Sample && !timesteps.is_empty()).then_some(END);
        timesteps[first..].iter().copied().chain(end).collect()
    }
}

/// Where on the way from noise to picture the visible change lies, as a pilot run shows it.
///
/// The change between two pictures is the root of the mean squared difference of their values. Over a gap
/// of timesteps it grows as a power of the gap: in proportion to it where a picture changes smoothly, as
/// its root where every row adds noise of its own. The pilot's changes over one row and over two tell the
/// power H; changes to the power 1 / H add up over a run, and are what is spread evenly.
#[derive(Clone, Debug)]
pub struct VisibleChange {
    timesteps: Vec<f64>,
    shown: Shown,
    /// The values of a preview, once one was recorded.
    values: Option<usize>,
    /// What was compared of the last two previews, the later one last.
    last: [Vec<f32>; 2],
    recorded: usize,
    /// From the preview of row r to that of row r + 1.
    over_one: Vec<f64>,
    /// From the preview of row r to that of row r + 2.
    over_two: Vec<f64>,
}

impl VisibleChange {
    /// Nothing seen yet of a pilot run that visits `timesteps`, one a row, never rising. Allocates what
    /// little it will use, besides 32 KiB of previews at most.
    ///
    /// Errors: `InvalidArgument` where `timesteps` is empty, rises, or has one that is below 0 or not
    /// finite.
    pub fn new(timesteps: Vec<f64>, shown: Shown) -> Result<Self> {
        if timesteps.is_empty() {
            return Err(Error::invalid_argument("pilot timesteps: found none, expected some"));
        }
        let is_bad = |at: usize| {
            !(timesteps[at] >= 0.0 && timesteps[at].is_finite())
                || (at > 0 && timesteps[at] > timesteps[at - 1])
        };
        if let Some(at) = (0..timesteps.len()).find(|&at| is_bad(at)) {
            return Err(Error::invalid_argument(format!(
                "pilot timesteps[{at}]: found {}, expected numbers from 0 that never rise",
                timesteps[at]
            )));
        }
        let gaps = timesteps.len() - 1;
        Ok(Self {
            timesteps,
            shown,
            values: None,
            last: [Vec::new(), Vec::new()],
            recorded: 0,
            over_one: Vec::with_capacity(gaps),
            over_two: Vec::with_capacity(gaps.saturating_sub(1)),
        })
    }

    /// Takes what the pilot shows after row `row`, row by row: any number of values from -1 to 1, held
    /// to that as a display does; NaN is black, as in [`image::to_byte`](crate::image::to_byte). Several
    /// pictures side by side count together. Of more than 4,096 values so many are compared, spread evenly.
    ///
    /// Errors: `InvalidArgument` where `row` is not the next of the pilot's, or `preview` is empty or not
    /// as long as the first.
    pub fn record(&mut self, row: usize, preview: &[f32]) -> Result<()> {
        if row != self.recorded || row >= self.timesteps.len() {
            return Err(Error::invalid_argument(format!(
                "pilot row: found {row}, expected {} of {}",
                self.recorded,
                self.timesteps.len()
            )));
        }
        let expected = self.values.unwrap_or(preview.len());
        if preview.is_empty() || preview.len() != expected {
            return Err(Error::invalid_argument(format!(
                "pilot preview: found {} values, expected {}",
                preview.len(),
                if expected == 0 { "some".to_owned() } else { expected.to_string() }
            )));
        }
        self.values = Some(expected);
        // An odd stride does not stay in a few columns of a picture.
        let stride = expected.div_ceil(MAX_VALUES) | 1;
        let [before, last] = &mut self.last;
        let changes = [(&mut self.over_two, &*before), (&mut self.over_one, &*last)];
        for (changes, earlier) in changes.into_iter().filter(|(_, earlier)| !earlier.is_empty()) {
            changes.push(change(earlier, preview.iter().step_by(stride)));
        }
        std::mem::swap(before, last);
        last.clear();
        last.extend(preview.iter().step_by(stride).copied().map(displayed));
        self.recorded += 1;
        if self.recorded == self.timesteps.len() {
            // Nothing is compared any more, and the rest is small.
            self.last = Default::default();
        }
        Ok(())
    }

    /// As many timesteps as `base`, a plain spacing's falling list, has, from the same first one and
    /// strictly falling, so spread that each row changes what is seen by about the same amount.
    ///
    /// `floor`, 0 to 1, is the share that is spread as `base` is: no gap is wider than 1 / `floor` of
    /// those of `base`, up to the rounding to whole timesteps. [`DEFAULT_FLOOR`] keeps the pictures' quality;
    /// 1 gives `base`, as does NaN, a pilot that saw no change, and a `base` that does not fall. Where the
    /// predictions are shown the last timestep is that of `base` too. Beyond the timesteps that the
    /// pilot saw the change goes on as at the nearest. Allocates the list.
    pub fn directed_timesteps(&self, base: &[usize], floor: f64) -> Vec<usize> {
        let falls = base.windows(2).all(|pair| pair[1] < pair[0]);
        let curve = self.curve().filter(|_| falls && floor < 1.0);
        let directed = curve.and_then(|curve| self.spread(base, &curve, floor.max(0.0)));
        directed.unwrap_or_else(|| base.to_vec())
    }

    fn spread(&self, base: &[usize], curve: &Curve, floor: f64) -> Option<Vec<usize>> {
        let (&first, &last) = (base.first()?, base.last()?);
        let mut plain: Vec<f64> = base.iter().map(|&timestep| -(timestep as f64)).collect();
        if self.shown == Shown::Sample {
            plain.push(-END);
        }
        let (start, end) = (plain[0], plain[plain.len() - 1]);
        let total = curve.at(-end) - curve.at(-start);
        if plain.len() < 2 || total <= 0.0 {
            return None;
        }
        // Between two neighbours among the timesteps of both, everything is linear.
        let knots = curve.timesteps().map(|timestep| -timestep);
        let mut times: Vec<f64> = knots.filter(|&time| time > start && time < end).collect();
        times.extend(&plain);
        times.sort_by(f64::total_cmp);
        let shares = even_places(plain.len());
        let places: Vec<f64> = times
            .iter()
            .map(|&time| {
                let change = (curve.at(-time) - curve.at(-start)) / total;
                (1.0 - floor) * change + floor * lookup(time, &plain, &shares)
            })
            .collect();
        // Of predictions the last is that of the last timestep, however early all is seen.
        let lowest = if self.shown == Shown::Sample { 0 } else { last };
        let mut list = vec![first];
        for (row, &share) in shares.iter().enumerate().take(base.len()).skip(1) {
            let time = if share < 1.0 { lookup(share, &places, &times) } else { end };
            // Strictly falling, and with room for those that follow.
            let (low, high) = (lowest + base.len() - 1 - row, list[row - 1] - 1);
            list.push((-time.round() as usize).clamp(low, high));
        }
        Some(list)
    }

    /// The share of the visible change that is shown after each row of a run that visits `timesteps`,
    /// for [`Playback::goal`](super::Playback::goal): never falling, 1 at the end. The shares of
    /// [`even_shares`] where the pilot saw no change between them. Allocates the list.
    pub fn shares(&self, timesteps: &[f64]) -> Vec<f32> {
        let positions = self.shown.positions(timesteps);
        let (Some(curve), Some(&first), Some(&last)) =
            (self.curve(), timesteps.first(), positions.last())
        else {
            return even_shares(timesteps.len());
        };
        let (start, total) = (curve.at(first), curve.at(last) - curve.at(first));
        if total.is_nan() || total <= 0.0 {
            return even_shares(timesteps.len());
        }
        let mut highest = 0.0_f64;
        let mut shares: Vec<f32> = positions
            .iter()
            .map(|&position| {
                highest = highest.max((curve.at(position) - start) / total).min(1.0);
                highest as f32
            })
            .collect();
        if let Some(last) = shares.last_mut() {
            *last = 1.0;
        }
        shares
    }

    /// What adds up over a run; `None` where the pilot saw no change.
    fn curve(&self) -> Option<Curve> {
        let largest = self.over_one.iter().copied().fold(0.0, f64::max);
        if largest <= 0.0 {
            return None;
        }
        let power = 1.0 / self.growth();
        let changes: Vec<f64> =
            self.over_one.iter().map(|change| (change / largest).powf(power)).collect();
        let positions = self.shown.positions(&self.timesteps);
        Curve::new(&positions[..self.recorded], &changes)
    }

    /// H: by which power of a gap the change over it grows. From 1/2, a random walk, to 1, a straight way.
    fn growth(&self) -> f64 {
        // A step of two rows against the mean of the two steps of one row that it is made of.
        let two: f64 = self.over_two.iter().sum();
        let one: f64 = self.over_one.windows(2).map(|pair| 0.5 * (pair[0] + pair[1])).sum();
        let growth = (two / one).log2();
        if growth.is_nan() { 1.0 } else { growth.clamp(0.5, 1.0) }
    }
}

/// 0 to 1 in `count` places.
fn even_places(count: usize) -> Vec<f64> {
    (0..count).map(|at| at as f64 / (count - 1) as f64).collect()
}

/// A value as a display shows it.
fn displayed(value: f32) -> f32 {
    if value.is_nan() { -1.0 } else { value.clamp(-1.0, 1.0) }
}

/// The root of the mean squared difference of pictures of the same size.
fn change<'a>(earlier: &[f32], later: impl Iterator<Item = &'a f32>) -> f64 {
    let squares = earlier.iter().zip(later).map(|(&a, &b)| f64::from(a - displayed(b)).powi(2));
    (squares.sum::<f64>() / earlier.len() as f64).sqrt()
}
