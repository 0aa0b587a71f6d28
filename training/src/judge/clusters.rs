//! Labels for images that have none: which of k groups of alike images each belongs to.

use rayon::prelude::*;

use super::faults::uniform;
use super::images::{Images, Shape};

/// The longest side of the small copies that are compared.
const SIDE: usize = 8;
const ROUNDS: usize = 12;

/// Centres of groups, as small images.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// One after the other.
    centres: Vec<f32>,
    /// Values of a small image.
    item: usize,
}

impl Clusters {
    /// Finds at most `count` groups: k-means (Lloyd 1982) from the start of k-means++ (Arthur and
    /// Vassilvitskii 2007), on copies shrunk to at most 8 pixels a side. A function of its arguments.
    pub fn find(images: &Images, count: usize, seed: u64) -> Self {
        let points = shrink(images);
        let item = points.len() / images.len().max(1);
        let mut found = Self { centres: Vec::new(), item };
        let mut distances = vec![f32::INFINITY; images.len()];
        for k in 0..count.min(images.len()) {
            let total: f64 = distances.iter().map(|d| f64::from(*d)).sum();
            let drawn = uniform(seed, u32::MAX, k, 0);
            let next = if k == 0 {
                (drawn * images.len() as f64) as usize
            } else if total > 0.0 {
                let mut left = drawn * total;
                let place = distances.iter().position(|d| {
                    left -= f64::from(*d);
                    left < 0.0
                });
                place.unwrap_or(images.len() - 1)
            } else {
                // All images are centres already.
                break;
            };
            let centre = points[next * item..][..item].to_vec();
            for (distance, point) in distances.iter_mut().zip(points.chunks_exact(item)) {
                *distance = distance.min(squared(point, &centre));
            }
            found.centres.extend(centre);
        }
        for _ in 0..ROUNDS {
            found.settle(&points);
        }
        found
    }

    /// Moves each centre to the mean of what is nearest to it; one that has nothing stays.
    fn settle(&mut self, points: &[f32]) {
        let nearest = self.nearest(points);
        let mut sums = vec![0f64; self.centres.len()];
        let mut counts = vec![0usize; self.len()];
        for (point, &k) in points.chunks_exact(self.item).zip(&nearest) {
            counts[k] += 1;
            let sum = &mut sums[k * self.item..][..self.item];
            sum.iter_mut().zip(point).for_each(|(sum, v)| *sum += f64::from(*v));
        }
        for (k, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let centre = &mut self.centres[k * self.item..][..self.item];
            let sum = &sums[k * self.item..][..self.item];
            centre.iter_mut().zip(sum).for_each(|(c, sum)| *c = (sum / count as f64) as f32);
        }
    }

    fn nearest(&self, points: &[f32]) -> Vec<usize> {
        let nearest = |point: &[f32]| {
            let distances = self.centres.chunks_exact(self.item).map(|c| squared(point, c));
            distances.enumerate().min_by(|a, b| a.1.total_cmp(&b.1)).map_or(0, |(k, _)| k)
        };
        points.par_chunks_exact(self.item).map(nearest).collect()
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.centres.len() / self.item.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.centres.is_empty()
    }

    /// The group of each image.
    pub fn labels(&self, images: &Images) -> Vec<usize> {
        self.nearest(&shrink(images))
    }
}

fn squared(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// Copies of at most [`SIDE`] pixels each way, each the mean of a box.
fn shrink(images: &Images) -> Vec<f32> {
    let Shape { width, height, channels } = images.shape;
    let (w, h) = (width.min(SIDE), height.min(SIDE));
    let mut out = Vec::with_capacity(images.len() * w * h * channels);
    for image in images.iter() {
        for y in 0..h {
            for x in 0..w {
                let rows = y * height / h..(y + 1) * height / h;
                let columns = x * width / w..(x + 1) * width / w;
                let count = (rows.len() * columns.len()) as f32;
                for c in 0..channels {
                    let of_row = |y: usize| -> f32 {
                        columns.clone().map(|x| image[(y * width + x) * channels + c]).sum()
                    };
                    out.push(rows.clone().map(of_row).sum::<f32>() / count);
                }
            }
        }
    }
    out
}
