//! Random flips and shifts: a function of seed, step and place in the batch, so a run can be resumed.

use ddpm::rng::{self, Purpose};

use super::config::DataConfig;

/// How an image is shown: mirrored, then moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Left and right exchanged.
    pub flip: bool,
    /// Pixels to the right and down.
    pub shift: (isize, isize),
}

/// Words of random numbers kept for each item of a batch; a new kind of change takes a free one.
const WORDS: u64 = 8;

impl View {
    /// The view of item `item` of step `step`.
    pub fn random(config: &DataConfig, seed: u64, step: usize, item: usize) -> Self {
        let below = |word: u64, bound: u64| {
            let index = item as u64 * WORDS + word;
            rng::uniform_below(seed, Purpose::Augment, step as u32, index, bound)
        };
        let reach = config.shift as isize;
        let shift = |word| below(word, 2 * config.shift as u64 + 1) as isize - reach;
        Self { flip: config.flip && below(0, 2) == 1, shift: (shift(1), shift(2)) }
    }

    /// The pixel of the image that is seen at (x, y); beyond an edge it is the edge's.
    pub fn source(self, x: usize, y: usize, width: usize, height: usize) -> (usize, usize) {
        let moved = |at: usize, by: isize, size: usize| {
            (at as isize - by).clamp(0, size as isize - 1) as usize
        };
        let (x, y) = (moved(x, self.shift.0, width), moved(y, self.shift.1, height));
        (if self.flip { width - 1 - x } else { x }, y)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_cover_every_flip_and_shift_and_repeat() {
        let config = DataConfig { flip: true, shift: 1, ..DataConfig::folder("x", 4, 4) };
        let views: Vec<View> = (0..400).map(|i| View::random(&config, 5, i / 8, i % 8)).collect();
        for flip in [false, true] {
            for shift in (-1..=1).flat_map(|x| (-1..=1).map(move |y| (x, y))) {
                // 400 draws of 18 equal cases: 22 each in the mean; none below 5 (3.7 sigma).
                let count = views.iter().filter(|v| **v == View { flip, shift }).count();
                assert!(count >= 5, "{flip} {shift:?}: {count} of 400");
            }
        }
        assert_eq!(View::random(&config, 5, 49, 7), views[399]);
        assert_eq!(View::random(&DataConfig::folder("x", 4, 4), 5, 0, 0), View::default());
    }

    #[test]
    fn shifts_move_right_and_down_and_repeat_the_edge() {
        let view = View { flip: false, shift: (1, -1) };
        assert_eq!(view.source(0, 0, 4, 3), (0, 1));
        assert_eq!(view.source(3, 2, 4, 3), (2, 2));
        assert_eq!(View { flip: true, ..view }.source(3, 0, 4, 3), (1, 1));
    }
}
