//! Renewing the noise in a sample where a run branches off.
//!
//! A branch with a variation v replaces a part of the noise that the sample holds. With x_0 the last
//! predicted one, epsilon = (x - sqrt(alpha_bar) x_0) / sqrt(1 - alpha_bar) becomes
//! sqrt(1 - v) epsilon + sqrt(v) z: the same mean and variance, and at v = 1 nothing of the old noise.
//!
//! The renewal is a function of the state at its row, made when the row asks the model and again when
//! it is applied: in between, the state is the one before it.

use crate::rng::{Purpose, fill_standard_normal};
use crate::step::{Combination, HISTORY, Memory, Row};

use super::Run;

/// The renewal before one row.
pub(super) struct Renewal {
    /// Of item 0.
    seed: u64,
    row: u32,
    /// The shares of x_0 and epsilon in the sample.
    signal: f64,
    spread: f64,
    /// What the old epsilon loses, and the share of the new one.
    loss: f64,
    share: f64,
}

impl Run {
    /// The renewal before the next row, where there is one.
    pub(super) fn renewal(&self) -> Option<Renewal> {
        let row = self.table.rows().get(self.step_index)?;
        let branch = self.start.branches.iter().find(|b| b.step as usize == self.step_index)?;
        // A run that starts from noise starts from nothing else, whatever its first alpha_bar.
        let is_noise = self.step_index == 0 && self.start.image.is_none();
        let alpha_bar = if is_noise { 0.0 } else { row.alpha_cumprod };
        let spread = (1.0 - alpha_bar).sqrt();
        // A clean sample has no noise to renew.
        (branch.variation > 0.0 && spread > 0.0).then(|| Renewal {
            seed: branch.seed,
            row: branch.step,
            signal: alpha_bar.sqrt(),
            spread,
            loss: (1.0 - branch.variation).sqrt() - 1.0,
            share: branch.variation.sqrt(),
        })
    }

    /// The seed of item 0 for the noise of row `step`.
    pub(super) fn seed_at(&self, step: usize) -> u64 {
        let mut branches = self.start.branches.iter().rev();
        branches.find(|b| b.step as usize <= step).map_or(self.start.seed, |b| b.seed)
    }
}

impl Renewal {
    /// The change of epsilon at one element.
    fn change(&self, x: f32, x0: f32, z: f32) -> f64 {
        let epsilon = (f64::from(x) - self.signal * f64::from(x0)) / self.spread;
        self.loss * epsilon + self.share * f64::from(z)
    }

    fn renewed(&self, x: f32, change: f64) -> f32 {
        (f64::from(x) + self.spread * change) as f32
    }

    fn fill_noise(&self, item: usize, noise: &mut [f32]) {
        let seed = self.seed.wrapping_add(item as u64);
        fill_standard_normal(seed, Purpose::Branch, self.row, noise);
    }

    /// The renewed samples of all items, for the model to see.
    pub(super) fn write(&self, item_len: usize, sample: &[f32], x0: &[f32], to: &mut [f32]) {
        let items = sample.chunks(item_len).zip(x0.chunks(item_len)).zip(to.chunks_mut(item_len));
        for (item, ((sample, x0), to)) in items.enumerate() {
            self.fill_noise(item, to);
            for ((to, &x), &x0) in to.iter_mut().zip(sample).zip(x0) {
                *to = self.renewed(x, self.change(x, x0, *to));
            }
        }
    }

    /// Renews one item, and what is kept of it: `before` are the rows it went through. Overwrites
    /// `noise`.
    pub(super) fn apply(
        &self,
        item: usize,
        before: &[Row],
        (sample, x0, noise): (&mut [f32], &[f32], &mut [f32]),
        memory: &mut Memory,
    ) {
        self.fill_noise(item, noise);
        let shares = Shares::after(before);
        let (carried, history) = memory.kept_mut();
        let kept = [(shares.carried, carried)].into_iter();
        let kept = kept.chain(shares.history.into_iter().zip(history.iter_mut().map(|v| &mut **v)));
        // The kept values first: the change is a function of the sample as it was.
        for (share, values) in kept {
            for (((value, &x), &x0), &z) in values.iter_mut().zip(&*sample).zip(x0).zip(&*noise) {
                *value = (f64::from(*value) + share * self.change(x, x0, z)) as f32;
            }
        }
        for ((x, &x0), &z) in sample.iter_mut().zip(x0).zip(&*noise) {
            *x = self.renewed(*x, self.change(*x, x0, z));
        }
    }
}

/// How much of the sample's epsilon is in what is kept between rows.
///
/// UniPC corrects the sample from the one before, Heun and PNDM step again from a carried one, DEIS and
/// PNDM extrapolate remembered epsilons. Left with the old noise they would undo the renewal, or
/// take it for a slope. So what is kept is moved along: by the change of epsilon, times the share of
/// epsilon that follows from the rows where x_0 is held fast, x having sqrt(1 - alpha_bar).
#[derive(Default)]
struct Shares {
    carried: f64,
    history: [f64; HISTORY],
}

impl Shares {
    fn after(rows: &[Row]) -> Self {
        let mut kept = Self::default();
        for row in rows {
            let x = (1.0 - row.alpha_cumprod).sqrt();
            // x_0 = p_x x + p_m m has none.
            let m = if row.p_m == 0.0 { 0.0 } else { -row.p_x * x / row.p_m };
            let share = |c: &Combination| {
                let history = c.history.iter().zip(&kept.history);
                let history: f64 = history.map(|(c, share)| c * share).sum();
                c.x * x + c.m * m + c.carried * kept.carried + history
            };
            let carried = row.carried.as_ref().map(share);
            let remembered = row.remember.as_ref().map(share);
            kept.carried = carried.unwrap_or(kept.carried);
            if let Some(newest) = remembered {
                kept.history.rotate_right(1);
                kept.history[0] = newest;
            }
        }
        kept
    }
}
