//! Whether samples are copies: how near each is to the training images, beside how near real images are.

use anyhow::Result;
use burn::tensor::{Device, Tensor, TensorData};
use serde::Serialize;

/// Vectors that are compared at a time with as many of the other set.
const PART: usize = 512;

/// The nearest vector of a set to each of some others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Nearest {
    /// Its place in the set.
    pub index: Vec<usize>,
    /// Its Euclidean distance, over the root of the vector's length: a difference of so much in every
    /// value.
    pub distance: Vec<f64>,
}

impl Nearest {
    /// None found yet for `count` vectors.
    pub fn none(count: usize) -> Self {
        Self { index: vec![0; count], distance: vec![f64::INFINITY; count] }
    }

    /// Looks for nearer ones in a part of the set: `set` holds vectors of length `dims`, the first of
    /// which has the place `first`. `own` is the place in the set of each of `vectors` itself, where it
    /// is one of the set and must not be found.
    pub fn look_in(
        &mut self,
        vectors: &[f32],
        set: &[f32],
        dims: usize,
        first: usize,
        own: Option<&[usize]>,
        device: &Device,
    ) -> Result<()> {
        let tensor = |values: &[f32]| {
            let data = TensorData::new(values.to_vec(), [values.len() / dims, dims]);
            Tensor::<2>::from_data(data, device)
        };
        let square = |v: &[f32]| v.iter().map(|v| v * v).sum::<f32>();
        for (part, set) in set.chunks(PART * dims).enumerate() {
            let squares: Vec<f32> = set.chunks_exact(dims).map(square).collect();
            let transposed = tensor(set).transpose();
            for (block, some) in vectors.chunks(PART * dims).enumerate() {
                let products = tensor(some)
                    .matmul(transposed.clone())
                    .try_into_vec_as::<f32>()
                    .map_err(|error| anyhow::anyhow!("cannot read a tensor back: {error:?}"))?;
                let rows = products.chunks_exact(squares.len());
                for (i, (vector, row)) in some.chunks_exact(dims).zip(rows).enumerate() {
                    let i = block * PART + i;
                    let place = |j: usize| first + part * PART + j;
                    // |a - b|^2 less |a|^2, which is the same for all b.
                    let best = row
                        .iter()
                        .zip(&squares)
                        .map(|(product, square)| square - 2.0 * product)
                        .enumerate()
                        .filter(|(j, _)| own.is_none_or(|own| own[i] != place(*j)))
                        .min_by(|a, b| a.1.total_cmp(&b.1));
                    let Some((j, _)) = best else { continue };
                    // Anew: near 0 the difference above has lost its digits.
                    let distance = root_mean_square(vector, &set[j * dims..][..dims]);
                    if distance < self.distance[i] {
                        (self.index[i], self.distance[i]) = (place(j), distance);
                    }
                }
            }
        }
        Ok(())
    }
}

fn root_mean_square(a: &[f32], b: &[f32]) -> f64 {
    let sum: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (sum / a.len().max(1) as f64).sqrt()
}

/// The distances of samples to their nearest training images, beside those of real images.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Nearness {
    /// Samples looked at, and real images they are compared with.
    pub samples: usize,
    pub real: usize,
    /// The 1st, 5th, 25th, 50th and 75th percentile of the distances.
    pub sample_percentiles: [f64; 5],
    pub real_percentiles: [f64; 5],
    /// Share of the samples nearer than the 1st percentile of real images: 0.01 where samples are as near
    /// as real images are.
    pub share_below_real_1: f64,
    /// Share nearer than the 5th percentile: 0.05 where they are as near.
    pub share_below_real_5: f64,
    /// Whether that is more than chance makes: the samples look copied.
    pub suspicious: bool,
}

/// The percentiles that are reported.
pub const PERCENTILES: [f64; 5] = [0.01, 0.05, 0.25, 0.5, 0.75];

impl Nearness {
    /// Of the distances of samples, and of real images that the model has not seen or that are left out
    /// of the set when they are looked for. Both must not be empty.
    pub fn of(samples: &[f64], real: &[f64]) -> Self {
        let (samples, real) = (sorted(samples), sorted(real));
        let percentiles = |values: &[f64]| PERCENTILES.map(|p| percentile(values, p));
        let real_percentiles = percentiles(&real);
        let below = |limit: f64| {
            samples.iter().filter(|d| **d < limit).count() as f64 / samples.len().max(1) as f64
        };
        let [first, fifth, ..] = real_percentiles;
        // The limit is itself drawn from a finite set: three standard errors of both, at least 2 %.
        let noise = |p: f64| {
            let error = p * (1.0 - p) * (1.0 / samples.len() as f64 + 1.0 / real.len() as f64);
            3.0 * error.sqrt() + 0.02
        };
        let (share_1, share_5) = (below(first), below(fifth));
        Self {
            samples: samples.len(),
            real: real.len(),
            sample_percentiles: percentiles(&samples),
            real_percentiles,
            share_below_real_1: share_1,
            share_below_real_5: share_5,
            suspicious: share_1 > 0.01 + noise(0.01) || share_5 > 0.05 + noise(0.05),
        }
    }
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values
}

/// The value below which the share `p` of sorted values lies, interpolated.
fn percentile(sorted: &[f64], p: f64) -> f64 {
    let place = p * sorted.len().saturating_sub(1) as f64;
    let (low, high) = (place.floor() as usize, place.ceil() as usize);
    match (sorted.get(low), sorted.get(high)) {
        (Some(a), Some(b)) => a + (b - a) * (place - low as f64),
        _ => f64::NAN,
    }
}
