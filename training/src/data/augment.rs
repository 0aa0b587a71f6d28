//! Random flips, turns, shifts and colours: a function of seed, step and place in the batch, so a run
//! can be resumed.

use ddpm::rng::{self, Purpose};

use super::config::DataConfig;
use super::jitter::Recolor;

/// How an image is shown: mirrored, then turned, then moved; its colours changed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct View {
    /// Left and right exchanged.
    pub flip: bool,
    /// Top and bottom exchanged.
    pub flip_vertical: bool,
    /// Quarter turns clockwise, 0 to 3; of square images.
    pub turns: u8,
    /// Pixels to the right and down.
    pub shift: (isize, isize),
    pub color: Recolor,
}

/// Words of random numbers kept for each item of a batch; a new kind of change takes a free one.
const WORDS: u64 = 8;

impl View {
    /// The view of item `item` of step `step`.
    pub fn random(config: &DataConfig, seed: u64, step: usize, item: usize) -> Self {
        let index = |word: u64| item as u64 * WORDS + word;
        let below = |word, bound| {
            rng::uniform_below(seed, Purpose::Augment, step as u32, index(word), bound)
        };
        let reach = config.shift as isize;
        let shift = |word| below(word, 2 * config.shift as u64 + 1) as isize - reach;
        let mut view = Self {
            flip: config.flip && below(0, 2) == 1,
            flip_vertical: config.flip_vertical && below(3, 2) == 1,
            turns: if config.rotate { below(4, 4) as u8 } else { 0 },
            shift: (shift(1), shift(2)),
            color: Recolor::default(),
        };
        if !config.jitter.is_none() {
            // Two numbers of 32 bits in each word.
            let halves = |word| {
                let word = rng::uniform_u64(seed, Purpose::Augment, step as u32, index(word));
                [word as u32, (word >> 32) as u32].map(|half| f64::from(half) * 2f64.powi(-32))
            };
            let ([brightness, contrast], [saturation, hue]) = (halves(5), halves(6));
            view.color = config.jitter.change([brightness, contrast, saturation, hue]);
        }
        view
    }

    /// The pixel of the image that is seen at (x, y); beyond an edge it is the edge's.
    pub fn source(self, x: usize, y: usize, width: usize, height: usize) -> (usize, usize) {
        let moved = |at: usize, by: isize, size: usize| {
            (at as isize - by).clamp(0, size as isize - 1) as usize
        };
        let (mut x, mut y) = (moved(x, self.shift.0, width), moved(y, self.shift.1, height));
        for _ in 0..self.turns {
            (x, y) = (y, width - 1 - x);
        }
        (
            if self.flip { width - 1 - x } else { x },
            if self.flip_vertical { height - 1 - y } else { y },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::jitter::Jitter;

    #[test]
    fn views_cover_every_flip_and_shift_and_repeat() {
        let config = DataConfig { flip: true, shift: 1, ..DataConfig::folder("x", 4, 4) };
        let views: Vec<View> = (0..400).map(|i| View::random(&config, 5, i / 8, i % 8)).collect();
        for flip in [false, true] {
            for shift in (-1..=1).flat_map(|x| (-1..=1).map(move |y| (x, y))) {
                // 400 draws of 18 equal cases: 22 each in the mean; none below 5 (3.7 sigma).
                let expected = View { flip, shift, ..View::default() };
                let count = views.iter().filter(|v| **v == expected).count();
                assert!(count >= 5, "{flip} {shift:?}: {count} of 400");
            }
        }
        assert_eq!(View::random(&config, 5, 49, 7), views[399]);
        assert_eq!(View::random(&DataConfig::folder("x", 4, 4), 5, 0, 0), View::default());
        // A new kind of change leaves those that were there before as they were.
        let jitter = Jitter { brightness: 0.1, contrast: 0.2, saturation: 0.3, hue: 0.4 };
        let more = DataConfig { flip_vertical: true, rotate: true, jitter, ..config };
        for (i, view) in views.iter().enumerate() {
            let changed = View::random(&more, 5, i / 8, i % 8);
            assert_eq!((changed.flip, changed.shift), (view.flip, view.shift));
        }
    }

    #[test]
    fn views_cover_every_turn_and_the_range_of_each_colour() {
        let jitter = Jitter { brightness: 0.1, contrast: 0.2, saturation: 0.3, hue: 0.4 };
        let config = DataConfig {
            flip_vertical: true,
            rotate: true,
            jitter,
            ..DataConfig::folder("x", 4, 4)
        };
        let views: Vec<View> = (0..400).map(|i| View::random(&config, 5, i / 8, i % 8)).collect();
        for (flip, turns) in [false, true].iter().flat_map(|flip| (0..4).map(move |t| (*flip, t))) {
            let count =
                views.iter().filter(|v| (v.flip_vertical, v.turns) == (flip, turns)).count();
            // 50 in the mean, none below 25 (3.8 sigma).
            assert!(count >= 25, "{flip} {turns}: {count} of 400");
        }
        let values = |of: fn(Recolor) -> f32| views.iter().map(move |view| of(view.color));
        for (of, middle, limit) in [
            ((|c| c.brightness) as fn(Recolor) -> f32, 1.0, 0.1f32),
            (|c| c.contrast, 1.0, 0.2),
            (|c| c.saturation, 1.0, 0.3),
            (|c| c.hue, 0.0, 0.4),
        ] {
            let (low, high) = values(of)
                .fold((f32::MAX, f32::MIN), |(low, high), value| (low.min(value), high.max(value)));
            let near = |value: f32, end: f32| (value - end).abs() < limit * 0.05;
            assert!(near(low, middle - limit) && near(high, middle + limit), "{low} to {high}");
        }
    }

    #[test]
    fn shifts_move_right_and_down_and_repeat_the_edge() {
        let view = View { shift: (1, -1), ..View::default() };
        assert_eq!(view.source(0, 0, 4, 3), (0, 1));
        assert_eq!(view.source(3, 2, 4, 3), (2, 2));
        assert_eq!(View { flip: true, ..view }.source(3, 0, 4, 3), (1, 1));
    }

    #[test]
    fn turns_are_clockwise_and_after_flips() {
        let seen =
            |view: View| [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(x, y)| view.source(x, y, 2, 2));
        let turned = View { turns: 1, ..View::default() };
        // The left column, from below, is the upper row.
        assert_eq!(seen(turned), [(0, 1), (0, 0), (1, 1), (1, 0)]);
        assert_eq!(seen(View { turns: 2, ..turned }), [(1, 1), (0, 1), (1, 0), (0, 0)]);
        let upside_down = View { flip_vertical: true, ..View::default() };
        assert_eq!(seen(upside_down), [(0, 1), (1, 1), (0, 0), (1, 0)]);
        // First upside down: then the left column from below is what was its top.
        assert_eq!(seen(View { turns: 1, ..upside_down })[..2], [(0, 0), (0, 1)]);
    }
}
