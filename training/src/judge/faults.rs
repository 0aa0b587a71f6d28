//! What can be wrong with an image: known faults of known strength.
//!
//! The classifier learns to tell them, so that its features change with them, and a report shows what
//! distances they make, so that a distance can be read.

use ddpm::rng::{self, Purpose};

use super::images::{Images, Shape};

/// A kind of fault. Strength 0 changes nothing, 1 is the strongest that is taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A Gaussian blur of 1.5 pixels' sigma at strength 1.
    Blur,
    /// Normal noise, of a standard deviation of a quarter of the range from black to white at 1.
    Noise,
    /// Half of it is another image, seen through, at strength 1.
    Mix,
    /// A box of half the area, in the colour of the upper left pixel, at strength 1.
    Hole,
    /// A box of half the area from another image at strength 1.
    Patch,
    /// All pixels moved half way to the image's mean at strength 1.
    Fade,
}

/// Places of random numbers kept for each image; the noise has the places below all of them.
const WORDS: u64 = 8;
const FIRST_WORD: u64 = 1 << 40;

/// A uniform number in 0..1, a function of its arguments only.
pub fn uniform(seed: u64, row: u32, item: usize, word: u64) -> f64 {
    let index = FIRST_WORD + item as u64 * WORDS + word;
    rng::uniform_u64(seed, Purpose::Judge, row, index) as f64 * 2f64.powi(-64)
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Blur, Self::Noise, Self::Mix, Self::Hole, Self::Patch, Self::Fade];

    /// What it is called in a report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blur => "blurred",
            Self::Noise => "noisy",
            Self::Mix => "two images mixed",
            Self::Hole => "a part missing",
            Self::Patch => "a part of another image",
            Self::Fade => "faded",
        }
    }

    /// Applies it to `image`, `[h, w, c]`; `other` is another image of the set. What is random is a
    /// function of (seed, row, item).
    pub fn apply(
        self,
        strength: f64,
        image: &mut [f32],
        other: &[f32],
        shape: Shape,
        (seed, row, item): (u64, u32, usize),
    ) {
        let amount = strength as f32;
        match self {
            Self::Blur => blur(image, 1.5 * strength, shape),
            Self::Noise => {
                let mut noise = vec![0.0; image.len()];
                let own = seed ^ (item as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                rng::fill_standard_normal(own, Purpose::Judge, row, &mut noise);
                for (v, noise) in image.iter_mut().zip(noise) {
                    *v = (*v + 0.5 * amount * noise).clamp(-1.0, 1.0);
                }
            }
            Self::Mix => {
                image.iter_mut().zip(other).for_each(|(v, o)| *v += 0.5 * amount * (o - *v));
            }
            Self::Hole | Self::Patch => {
                let corner = image[..shape.channels].to_vec();
                let side = (0.5 * strength).sqrt();
                let span = |size: usize, word| {
                    let length = (side * size as f64).round() as usize;
                    let free = (size - length.min(size)) as f64 + 1.0;
                    let first = (uniform(seed, row, item, word) * free) as usize;
                    first..first + length
                };
                let (rows, columns) = (span(shape.height, 0), span(shape.width, 1));
                for y in rows {
                    for x in columns.clone() {
                        let at = (y * shape.width + x) * shape.channels;
                        let source = if self == Self::Hole {
                            &corner
                        } else {
                            &other[at..][..shape.channels]
                        };
                        image[at..at + shape.channels].copy_from_slice(source);
                    }
                }
            }
            Self::Fade => {
                for c in 0..shape.channels {
                    let values = image.iter_mut().skip(c).step_by(shape.channels);
                    let mean =
                        values.map(|v| *v).sum::<f32>() / (shape.width * shape.height) as f32;
                    let values = image.iter_mut().skip(c).step_by(shape.channels);
                    values.for_each(|v| *v += 0.5 * amount * (mean - *v));
                }
            }
        }
    }

    /// All images of a set with it; each one's other is the next in the set.
    pub fn of(self, images: &Images, strength: f64, seed: u64) -> Images {
        let mut out = images.clone();
        let (item, count) = (images.shape.item(), images.len());
        for (i, image) in out.pixels.chunks_exact_mut(item).enumerate() {
            let other = images.image((i + 1) % count);
            self.apply(strength, image, other, images.shape, (seed, 0, i));
        }
        out
    }
}

/// A Gaussian blur, the edges repeated.
fn blur(image: &mut [f32], sigma: f64, shape: Shape) {
    if sigma < 1e-3 {
        return;
    }
    let reach = (3.0 * sigma).ceil() as isize;
    let weights: Vec<f64> =
        (-reach..=reach).map(|i| (-0.5 * (i as f64 / sigma).powi(2)).exp()).collect();
    let total: f64 = weights.iter().sum();
    let weights: Vec<f32> = weights.iter().map(|w| (w / total) as f32).collect();
    let Shape { width, height, channels } = shape;
    // Along x, then along y: (pixels in a line, values from one to the next).
    for (length, stride) in [(width, channels), (height, width * channels)] {
        let source = image.to_vec();
        for (index, out) in image.iter_mut().enumerate() {
            let place = index / stride % length;
            let start = index - place * stride;
            *out = weights
                .iter()
                .zip(-reach..)
                .map(|(weight, offset)| {
                    let at = (place as isize + offset).clamp(0, length as isize - 1) as usize;
                    weight * source[start + at * stride]
                })
                .sum();
        }
    }
}
