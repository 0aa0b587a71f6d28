//! What a run begins with, and what of it can be wrong.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::sampler::SamplerConfig;

use super::all_finite;

/// What a run begins with, besides its model and its sampler.
#[derive(Clone, Debug, PartialEq)]
pub struct RunStart {
    /// The seed of item 0; item i has `seed + i` (wrapping).
    pub seed: u64,
    /// The class of every item; `None` for a model without classes, and for no class.
    pub label: Option<i64>,
    /// The scale s of classifier-free guidance: the output is u + s (c - u), with c that of the class
    /// and u that of no class (Ho and Salimans 2022, eq. 6 with w = s - 1). 1 is no guidance.
    pub guidance: f64,
    /// A picture to start from, one sample [C, H, W] in [-1, 1] for every item, which the sampler's
    /// strength adds noise to.
    pub image: Option<Arc<[f32]>>,
    /// Where the run leaves the way of its seed, by rising steps.
    pub branches: Vec<Branch>,
}

impl Default for RunStart {
    /// Seed 0, noise, no class.
    fn default() -> Self {
        Self { seed: 0, label: None, guidance: 1.0, image: None, branches: Vec::new() }
    }
}

/// A point from which a run goes on with other noise.
///
/// A sampler that draws no noise goes the same way with any seed: there it takes a variation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Branch {
    /// The first row with the new noise, below the run's steps.
    pub step: u32,
    /// From there on the noise of steps is drawn with this seed; item i has `seed + i` (wrapping).
    pub seed: u64,
    /// How much of the noise in the sample is drawn anew before that row, 0 (nothing) to 1 (all). The
    /// predicted x_0 stays, and the sample's variance.
    pub variation: f64,
}

/// Checks that the branches are those of a run of `steps`. Errors: `InvalidArgument`.
pub(super) fn check_branches(branches: &[Branch], steps: usize) -> Result<()> {
    let mut least = 0u64;
    for (index, &Branch { step, variation, .. }) in branches.iter().enumerate() {
        let refuse =
            |message: String| Err(Error::invalid_argument(format!("branches[{index}].{message}")));
        if step as usize >= steps {
            return refuse(match steps.checked_sub(1) {
                Some(last) => format!("step: found {step}, expected 0 to {last}"),
                None => format!("step: found {step} in a run without steps"),
            });
        }
        if u64::from(step) < least {
            let before = least - 1;
            return refuse(format!("step: found {step} after {before}, expected rising steps"));
        }
        if !(0.0..=1.0).contains(&variation) {
            return refuse(format!("variation: found {variation}, expected 0 to 1"));
        }
        least = u64::from(step) + 1;
    }
    Ok(())
}

/// Checks that the run has the image it needs. Errors: `InvalidArgument`.
pub(super) fn check_image(
    sampler: &SamplerConfig,
    image: Option<&[f32]>,
    item_len: usize,
) -> Result<()> {
    let refuse = |message: String| Err(Error::invalid_argument(message));
    match image {
        None if sampler.kind.is_inverse() => {
            refuse(format!("image: found none, but {} starts from one", sampler.kind))
        }
        None if sampler.strength != 1.0 => refuse(format!(
            "strength: found {} without an image, expected 1: a run from noise takes all its steps",
            sampler.strength
        )),
        None => Ok(()),
        Some(image) if image.len() != item_len => refuse(format!(
            "image: found {} values, expected {item_len} as one sample has",
            image.len()
        )),
        Some(image) if !all_finite(image) => {
            refuse("image: found a value that is not finite".to_owned())
        }
        Some(_) => Ok(()),
    }
}

/// The label of the run, and that of no class where guidance needs it.
pub(super) fn labels_of(
    model: &ModelConfig,
    start: &RunStart,
) -> Result<(Option<i64>, Option<i64>)> {
    let refuse = |message: String| Err(Error::invalid_argument(message));
    if !start.guidance.is_finite() {
        return refuse(format!("guidance: found {}, expected a finite number", start.guidance));
    }
    let is_guided = start.guidance != 1.0;
    let Some(classes) = model.classes else {
        return match start.label {
            Some(label) => refuse(format!("class: found {label}, but the model has no classes")),
            None if is_guided => refuse(format!(
                "guidance: found {}, but the model has no classes to be guided to",
                start.guidance
            )),
            None => Ok((None, None)),
        };
    };
    if let (Some(label), Some(count)) = (start.label, classes.count)
        && !usize::try_from(label).is_ok_and(|label| label < count)
        && Some(label) != classes.null
    {
        return refuse(format!("class: found {label}, expected 0 to {}", count.saturating_sub(1)));
    }
    match (start.label, classes.null) {
        (None, None) => refuse("class: found none, but the model needs one".to_owned()),
        (None, Some(_)) if is_guided => {
            refuse(format!("guidance: found {} without a class to be guided to", start.guidance))
        }
        (None, Some(null)) => Ok((Some(null), None)),
        (Some(_), None) if is_guided => refuse(format!(
            "guidance: found {}, but the model has no label for no class to compare with",
            start.guidance
        )),
        (Some(label), null) => Ok((Some(label), null.filter(|_| is_guided))),
    }
}
