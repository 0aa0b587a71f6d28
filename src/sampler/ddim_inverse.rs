//! DDIM run backwards, from a picture to the noise that DDIM makes it of. Source: Song, Meng, Ermon,
//! "Denoising diffusion implicit models", 2021, section 4.3.
//!
//! The model is asked at the level that the sample goes to, with the sample of the level before, which
//! is what the forward step will see as nearly as can be had without solving for it.

use super::Definition;
use super::plan::{Grid, Plan, Point};
use crate::prediction::PredictionType;
use crate::step::{Combination, Row};

pub(super) const DEFINITION: Definition = Definition {
    names: &[("ddim-inverse", None)],
    summary: "from a picture to the noise that DDIM makes it of; needs an image",
    grid: Grid::Ascending,
    takes_sigmas: false,
    takes_zero_snr: true,
    rows: |plan| plan.points.iter().enumerate().map(|(k, to)| row(plan, k, to)).collect(),
    ..Definition::PLAIN
};

fn row(plan: &Plan<'_>, k: usize, to: &Point) -> Row {
    let from = k.checked_sub(1).map_or(plan.end, |before| plan.points[before]);
    let ((p_x, p_m), epsilon) = match plan.prediction_type {
        // Read as an output at the sample's own level.
        PredictionType::Epsilon | PredictionType::VPrediction => {
            let read = plan.point(to.timestep, from.alpha_bar);
            (read.x0, read.raw_epsilon())
        }
        // Where there is no noise yet x_0 says nothing of it: read at the level to come.
        PredictionType::Sample | PredictionType::Mean if from.is_clean() => {
            (to.x0, to.raw_epsilon())
        }
        PredictionType::Sample | PredictionType::Mean => {
            let x0 = Combination::X * to.x0.0 + Combination::M * to.x0.1;
            (to.x0, (Combination::X - x0 * from.alpha()) * (1.0 / from.spread()))
        }
    };
    // Eq. 12 with sigma 0, towards more noise.
    let next = Combination::X0 * to.alpha() + epsilon * to.spread();
    Row { alpha_cumprod: from.alpha_bar, p_x, p_m, ..plan.row(to, next) }
}
