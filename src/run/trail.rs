//! Which way a state came: a number made of everything that its samples depend on besides the model.
//!
//! Two states of one shape and step with the same trail have the same samples. So a checkpoint of
//! another seed, another branch, or of timesteps that were replaced since, is told from one to go on
//! from, whoever kept it.

use crate::step::{Row, Thresholding};

use super::{Run, RunStart};

/// The trail of the start, without its seed.
pub(super) fn of_start(start: &RunStart) -> u64 {
    let label = [u64::from(start.label.is_some()), start.label.unwrap_or(0) as u64];
    let words = label.into_iter().chain([start.guidance.to_bits()]);
    let image = start.image.as_deref().unwrap_or_default();
    let image = image.iter().map(|value| u64::from(value.to_bits()));
    words.chain(image).fold(0, mix)
}

/// The trail of a state that a caller or a fault has changed: nothing leads to it.
pub(super) fn astray(trail: u64) -> u64 {
    mix(trail, u64::MAX)
}

/// Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014: its mixer.
fn mix(hash: u64, word: u64) -> u64 {
    let mut z = (hash ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn mix_row(trail: u64, row: &Row) -> u64 {
    let (rule, a, b) = match row.thresholding {
        Thresholding::Off => (0, 0.0, 0.0),
        Thresholding::Clip(range) => (1, range, 0.0),
        Thresholding::Dynamic { ratio, max } => (2, ratio, max),
    };
    let variance = row.learned_variance.map_or([0.0; 2], |v| [v.offset, v.slope]);
    let numbers = [row.timestep, row.alpha_cumprod, row.p_x, row.p_m, a, b];
    let kept = u64::from(row.carried.is_some()) | u64::from(row.remember.is_some()) << 1;
    let flags = rule | kept << 2 | u64::from(row.learned_variance.is_some()) << 4;
    let combinations = [Some(row.next), row.carried, row.remember].into_iter().flatten();
    let coefficients = combinations.flat_map(|combination| combination.coefficients());
    let numbers = numbers.into_iter().chain(variance).chain(coefficients);
    numbers.map(f64::to_bits).fold(mix(trail, flags), mix)
}

impl Run {
    /// The trail at step 0.
    pub(super) fn trail_of_start(&self) -> u64 {
        mix(self.origin, self.start.seed)
    }

    /// The trail after row `step`, where `trail` is that before it.
    pub(super) fn trail_after(&self, trail: u64, step: usize) -> u64 {
        let Some(row) = self.table.rows().get(step) else {
            return trail;
        };
        let branch = self.start.branches.iter().find(|b| b.step as usize == step);
        let renewal = branch.filter(|b| b.variation > 0.0);
        let renewal = renewal.into_iter().flat_map(|b| [b.seed, b.variation.to_bits()]);
        let trail = renewal.fold(mix_row(trail, row), mix);
        if row.draws_noise() { mix(trail, self.seed_at(step)) } else { trail }
    }

    /// The trail that the run has at `step` if it is stepped there from its start.
    pub(super) fn trail_at(&self, step: usize) -> u64 {
        (0..step).fold(self.trail_of_start(), |trail, step| self.trail_after(trail, step))
    }
}
