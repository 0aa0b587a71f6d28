//! Noise as a function: Philox4x32-10 keyed by the seed, counted by purpose, row and element.
//!
//! Nothing here has state. The value at an element depends on (seed, purpose, row, element) and on
//! nothing else: not on how many elements are asked for, nor on batch mates, threads or order.
//!
//! Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.

use std::f64::consts::TAU;

/// What a stream of random numbers is for. Two purposes never share a number.
///
/// The values are part of what a seed means: a new purpose takes a new value, none is reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Purpose {
    /// x_T, the noise a run starts from. Row 0.
    InitialNoise = 0,
    /// The noise a sampler adds. The row is the index of the step table's row.
    StepNoise = 1,
    /// The timestep of each training example.
    TrainTimesteps = 2,
    /// The noise of each training example.
    TrainNoise = 3,
    /// The order of the training examples.
    Shuffle = 4,
    /// The initial weights of a network.
    Init = 5,
    /// What renews a sample's noise where a run branches off. The row is the index of the step table's.
    Branch = 6,
    /// How each training example is flipped and shifted. The row is the training step.
    Augment = 7,
    /// Which training examples lose their class. The row is the training step.
    LabelDropout = 8,
    /// The noise that all pixels of a channel of a training example share. The row is the training step.
    NoiseOffset = 9,
    /// The noise of the images whose likelihood is measured. The row is the timestep.
    LikelihoodNoise = 10,
    /// The timesteps at which it is measured. The row is the image.
    LikelihoodTimesteps = 11,
    /// What the classifier of `ddpm-train eval` learns from: faults, splits and first centres.
    Judge = 12,
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block of Philox4x32 with ten rounds: four 32-bit words from a counter and a key.
///
/// Does not allocate or block. Source: Salmon et al. 2011, section 3.3.
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut c = counter;
    let mut k = key;
    for _ in 0..ROUNDS {
        let p0 = u64::from(MULTIPLIERS[0]) * u64::from(c[0]);
        let p1 = u64::from(MULTIPLIERS[1]) * u64::from(c[2]);
        c = [
            (p1 >> 32) as u32 ^ c[1] ^ k[0],
            p1 as u32,
            (p0 >> 32) as u32 ^ c[3] ^ k[1],
            p0 as u32,
        ];
        k = [k[0].wrapping_add(WEYL[0]), k[1].wrapping_add(WEYL[1])];
    }
    c
}

fn block(seed: u64, purpose: Purpose, row: u32, index: u64) -> [u32; 4] {
    philox4x32_10(
        [index as u32, (index >> 32) as u32, row, purpose as u32],
        [seed as u32, (seed >> 32) as u32],
    )
}

/// Fills `out` with independent standard normal values, all finite and at most 6.8 in magnitude.
///
/// Element i depends on (seed, purpose, row, i) only, so a shorter fill is a prefix of a longer one.
/// Elements 4b to 4b + 3 are block b, two Box-Muller pairs computed in f64 and rounded once. They
/// repeat bit for bit with the same build; between platforms whose `ln` or `sin` differ in the last
/// bit of an f64, a value may differ by one unit in the last place of an f32.
/// Does not allocate or block.
pub fn fill_standard_normal(seed: u64, purpose: Purpose, row: u32, out: &mut [f32]) {
    fill_standard_normal_from(seed, purpose, row, 0, out);
}

/// As [`fill_standard_normal`], from element `first` on: a row is filled piece by piece.
pub fn fill_standard_normal_from(
    seed: u64,
    purpose: Purpose,
    row: u32,
    first: u64,
    out: &mut [f32],
) {
    let (mut index, mut skip) = (first / 4, (first % 4) as usize);
    let mut rest = out;
    while !rest.is_empty() {
        let words = block(seed, purpose, row, index);
        let (a, b) = box_muller(words[0], words[1]);
        let (c, d) = box_muller(words[2], words[3]);
        let values = &[a, b, c, d][skip..];
        let (chunk, after) = rest.split_at_mut(values.len().min(rest.len()));
        chunk.copy_from_slice(&values[..chunk.len()]);
        (rest, index, skip) = (after, index + 1, 0);
    }
}

/// Two normals from two words: Box and Muller, "A note on the generation of random normal deviates", 1958.
fn box_muller(radius: u32, angle: u32) -> (f32, f32) {
    // The half keeps the uniform inside (0, 1): the logarithm never sees 0.
    let uniform = |word: u32| (f64::from(word) + 0.5) * 2f64.powi(-32);
    let r = (-2.0 * uniform(radius).ln()).sqrt();
    let (sin, cos) = (TAU * uniform(angle)).sin_cos();
    ((r * cos) as f32, (r * sin) as f32)
}

/// A uniform 64-bit number, a function of its arguments only. Does not allocate or block.
pub fn uniform_u64(seed: u64, purpose: Purpose, row: u32, index: u64) -> u64 {
    let words = block(seed, purpose, row, index);
    u64::from(words[0]) | u64::from(words[1]) << 32
}

/// A uniform number in 0..bound (0 where bound is 0), a function of its arguments only.
///
/// The bias of the fixed-point product is below bound / 2^64. Does not allocate or block.
pub fn uniform_below(seed: u64, purpose: Purpose, row: u32, index: u64, bound: u64) -> u64 {
    let wide = u128::from(uniform_u64(seed, purpose, row, index)) * u128::from(bound);
    (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_random123() {
        let cases: [([u32; 4], [u32; 2], [u32; 4]); 3] = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn normals_have_the_moments_and_tails_of_the_normal_law() {
        const N: usize = 1 << 20;
        let mut values = vec![0f32; N];
        fill_standard_normal(7, Purpose::InitialNoise, 0, &mut values);
        let n = N as f64;
        let moment = |p: i32| values.iter().map(|&v| f64::from(v).powi(p)).sum::<f64>() / n;
        // Standard errors of the first four raw moments are sqrt((E x^2p - (E x^p)^2) / n); five of them.
        let cases = [(1, 0.0, 1f64), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)];
        for (p, expected, variance) in cases {
            let bound = 5.0 * (variance / n).sqrt();
            assert!((moment(p) - expected).abs() < bound, "moment {p}: {}", moment(p));
        }
        // P(|x| > k) for k = 1, 2, 3, 4.
        for (k, p) in
            [(1f32, 0.317_310_5), (2.0, 0.045_500_26), (3.0, 0.002_699_8), (4.0, 6.334e-5)]
        {
            let share = values.iter().filter(|v| v.abs() > k).count() as f64 / n;
            assert!((share - p).abs() < 5.0 * (p / n).sqrt(), "beyond {k}: {share}");
        }
        // Neighbours, inside a Box-Muller pair and across pairs and blocks, have uncorrelated values
        // and uncorrelated squares: a word used twice shows in one or the other.
        for lag in 1..=5 {
            let pairs =
                || values.iter().zip(&values[lag..]).map(|(&a, &b)| (f64::from(a), f64::from(b)));
            let of_values = pairs().map(|(a, b)| a * b).sum::<f64>() / n;
            let of_squares = pairs().map(|(a, b)| (a * a - 1.0) * (b * b - 1.0)).sum::<f64>() / n;
            assert!(of_values.abs() < 5.0 / n.sqrt(), "lag {lag}: {of_values}");
            assert!(of_squares.abs() < 5.0 * 2.0 / n.sqrt(), "lag {lag}: {of_squares}");
        }
    }

    #[test]
    fn extreme_words_stay_finite() {
        for words in [(0, 0), (0, u32::MAX), (u32::MAX, 0), (u32::MAX, u32::MAX)] {
            let (a, b) = box_muller(words.0, words.1);
            assert!(a.is_finite() && b.is_finite() && a.hypot(b) < 6.8, "{words:?}: {a} {b}");
        }
    }

    #[test]
    fn shorter_fill_is_a_prefix_of_a_longer_one() {
        let mut long = vec![0f32; 103];
        fill_standard_normal(3, Purpose::StepNoise, 9, &mut long);
        for len in [0, 1, 2, 3, 4, 5, 64, 102] {
            let mut short = vec![0f32; len];
            fill_standard_normal(3, Purpose::StepNoise, 9, &mut short);
            assert_eq!(short, long[..len]);
        }
    }

    #[test]
    fn row_filled_piece_by_piece_is_the_row() {
        let mut whole = vec![0f32; 103];
        fill_standard_normal(3, Purpose::TrainNoise, 9, &mut whole);
        for piece in [1, 2, 3, 4, 5, 7, 64] {
            let mut pieces = vec![0f32; 103];
            for (i, piece_of) in pieces.chunks_mut(piece).enumerate() {
                fill_standard_normal_from(3, Purpose::TrainNoise, 9, (i * piece) as u64, piece_of);
            }
            assert_eq!(pieces, whole, "pieces of {piece}");
        }
    }

    #[test]
    fn seed_row_and_purpose_each_change_every_block() {
        let fill = |seed, purpose, row| {
            let mut out = [0f32; 8];
            fill_standard_normal(seed, purpose, row, &mut out);
            out
        };
        let base = fill(1, Purpose::StepNoise, 0);
        for other in [
            fill(2, Purpose::StepNoise, 0),
            fill((1 << 32) + 1, Purpose::StepNoise, 0),
            fill(u64::MAX, Purpose::StepNoise, 0),
            fill(1, Purpose::InitialNoise, 0),
            fill(1, Purpose::StepNoise, 1),
        ] {
            assert!(base.iter().zip(&other).all(|(a, b)| a != b));
        }
    }

    #[test]
    fn uniform_below_covers_its_range_evenly() {
        let mut counts = [0u32; 7];
        for index in 0..70_000 {
            counts[uniform_below(5, Purpose::Shuffle, 0, index, 7) as usize] += 1;
        }
        // Binomial: mean 10,000, standard deviation 93; five of them.
        assert!(counts.iter().all(|&c| (9_537..10_463).contains(&c)), "{counts:?}");
        assert_eq!(uniform_below(5, Purpose::Shuffle, 0, 0, 0), 0);
    }
}
