//! Which images are learned from, and which are kept back to measure with.

use anyhow::{Result, ensure};

use crate::data::{Dataset, Order};

/// Places in a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub train: Vec<usize>,
    pub held_out: Vec<usize>,
}

impl Split {
    /// Keeps back a share of the images, drawn at random: at least one, and not all.
    pub fn new(data: &Dataset, share: f64, seed: u64) -> Result<Self> {
        ensure!(
            share > 0.0 && share < 1.0,
            "the share held out is {share}, expected more than 0 and less than 1"
        );
        let n = data.len();
        ensure!(
            n >= 2,
            "{n} images, expected at least 2 to learn from some and measure with others"
        );
        let count = ((n as f64 * share).round() as usize).clamp(1, n - 1);
        let mut order = shuffled(n, seed);
        let held_out = order.split_off(n - count);
        Ok(Self { train: order, held_out })
    }
}

/// 0..n in an order of its own.
pub fn shuffled(n: usize, seed: u64) -> Vec<usize> {
    let mut order = Order::new(seed, n);
    (0..n).map(|place| order.image(place)).collect()
}
