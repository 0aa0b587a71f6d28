//! Random choices that a seed repeats.

use ddpm::rng::{Purpose, uniform_below};

pub struct Dice {
    seed: u64,
    who: u32,
    thrown: u64,
}

impl Dice {
    /// Those of one user; others' are independent.
    pub fn new(seed: u64, who: u32) -> Self {
        Self { seed, who, thrown: 0 }
    }

    pub fn below(&mut self, bound: usize) -> usize {
        self.thrown += 1;
        uniform_below(self.seed, Purpose::Shuffle, self.who, self.thrown, bound as u64) as usize
    }

    /// True once in `odds` times.
    pub fn once_in(&mut self, odds: usize) -> bool {
        self.below(odds) == 0
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}
