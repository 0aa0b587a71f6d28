//! The order in which a run sees its images.

use ddpm::rng::{self, Purpose};

/// The order of the images: every epoch a permutation of its own, a function of seed and epoch.
pub struct Order {
    seed: u64,
    epoch: usize,
    indices: Vec<u32>,
}

impl Order {
    /// For `len` images, at least 1.
    pub fn new(seed: u64, len: usize) -> Self {
        let mut order = Self { seed, epoch: 0, indices: (0..len as u32).collect() };
        order.shuffle();
        order
    }

    /// The image at place `position` of the run, counted over all epochs.
    pub fn image(&mut self, position: usize) -> usize {
        let epoch = position / self.indices.len();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.shuffle();
        }
        self.indices[position % self.indices.len()] as usize
    }

    /// Fisher and Yates, from the identity, so that an epoch needs no history.
    fn shuffle(&mut self) {
        for (i, index) in self.indices.iter_mut().enumerate() {
            *index = i as u32;
        }
        for i in (1..self.indices.len()).rev() {
            let row = self.epoch as u32;
            let j = rng::uniform_below(self.seed, Purpose::Shuffle, row, i as u64, i as u64 + 1);
            self.indices.swap(i, j as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_image_once_in_an_order_of_its_own() {
        let mut order = Order::new(3, 100);
        let epochs: Vec<Vec<usize>> =
            (0..3).map(|e| (0..100).map(|i| order.image(e * 100 + i)).collect()).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
        // Entering in the middle gives the same order.
        let mut late = Order::new(3, 100);
        assert_eq!((200..300).map(|i| late.image(i)).collect::<Vec<_>>(), epochs[2]);
    }
}
