//! How far two sets of feature vectors are apart.

use rayon::prelude::*;

use super::eigen::{Eigen, product};

/// Feature vectors, one after the other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// `[n, dims]`.
    pub values: Vec<f32>,
    pub dims: usize,
}

impl Features {
    /// Number of vectors.
    pub fn len(&self) -> usize {
        self.values.len() / self.dims.max(1)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The vectors, in order.
    pub fn rows(&self) -> std::slice::ChunksExact<'_, f32> {
        self.values.chunks_exact(self.dims.max(1))
    }

    /// The first `count` vectors, or all there are.
    pub fn first(&self, count: usize) -> Self {
        let end = (count * self.dims).min(self.values.len());
        Self { values: self.values[..end].to_vec(), dims: self.dims }
    }
}

/// Mean and covariance of a set of vectors.
#[derive(Clone, Debug)]
pub struct Gaussian {
    pub mean: Vec<f64>,
    /// `[dims, dims]`.
    pub covariance: Vec<f64>,
}

impl Gaussian {
    /// The mean and the unbiased covariance of at least 2 vectors; of fewer the covariance is 0.
    pub fn of(features: &Features) -> Self {
        let (n, d) = (features.len(), features.dims);
        let mut mean = vec![0.0; d];
        for row in features.rows() {
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += f64::from(*v));
        }
        mean.iter_mut().for_each(|mean| *mean /= n.max(1) as f64);
        let mut covariance = vec![0.0; d * d];
        let mut centred = vec![0.0; d];
        for row in features.rows() {
            for ((c, v), mean) in centred.iter_mut().zip(row).zip(&mean) {
                *c = f64::from(*v) - mean;
            }
            for (out, a) in covariance.chunks_exact_mut(d).zip(&centred) {
                out.iter_mut().zip(&centred).for_each(|(out, b)| *out += a * b);
            }
        }
        let degrees = n.saturating_sub(1).max(1) as f64;
        covariance.iter_mut().for_each(|v| *v /= degrees);
        Self { mean, covariance }
    }

    /// The Frechet distance to `other` (Dowson and Landau 1982; Heusel et al. 2017, eq. 6): at least 0,
    /// in squared units of the features. It is 0 for equal sets, and grows as the sets get smaller.
    pub fn frechet(&self, other: &Self) -> f64 {
        let n = self.mean.len();
        let means: f64 = self.mean.iter().zip(&other.mean).map(|(a, b)| (a - b).powi(2)).sum();
        let trace = |matrix: &[f64]| (0..n).map(|i| matrix[i * n + i]).sum::<f64>();
        // The product of two covariances has the eigenvalues of A^1/2 B A^1/2, which is symmetric.
        let root = Eigen::of(&self.covariance, n).map(|v| v.max(0.0).sqrt());
        let inner = product(&product(&root, &other.covariance, n), &root, n);
        let cross: f64 = Eigen::of(&inner, n).values.iter().map(|v| v.max(0.0).sqrt()).sum();
        (means + trace(&self.covariance) + trace(&other.covariance) - 2.0 * cross).max(0.0)
    }
}

/// The Frechet distance of two sets.
pub fn frechet(a: &Features, b: &Features) -> f64 {
    Gaussian::of(a).frechet(&Gaussian::of(b))
}

/// A kernel distance, and how far it may be off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Kernel {
    /// The unbiased estimate: 0 in the mean for two sets of one law, so it may be below 0.
    pub value: f64,
    /// Its standard error, from blocks of the two sets.
    pub error: f64,
}

/// The kernel `(x . y / dims + 1)^3` of Binkowski et al. 2018, section 4.
fn kernel_of(x: &[f32], y: &[f32]) -> f64 {
    let dot: f32 = x.iter().zip(y).map(|(x, y)| x * y).sum();
    (f64::from(dot) / x.len() as f64 + 1.0).powi(3)
}

/// The sum of the kernel over all pairs; over those of two different places where `apart`.
fn kernel_sum(a: &[&[f32]], b: &[&[f32]], apart: bool) -> f64 {
    let row = |(i, x): (usize, &&[f32])| -> f64 {
        let other = b.iter().enumerate().filter(|(j, _)| !apart || i != *j);
        other.map(|(_, y)| kernel_of(x, y)).sum()
    };
    // Collected before it is summed: the order of a sum decides its last bits.
    let rows: Vec<f64> = a.par_iter().enumerate().map(row).collect();
    rows.iter().sum()
}

fn discrepancy(a: &[&[f32]], b: &[&[f32]]) -> f64 {
    let (m, n) = (a.len() as f64, b.len() as f64);
    kernel_sum(a, a, true) / (m * (m - 1.0)) + kernel_sum(b, b, true) / (n * (n - 1.0))
        - 2.0 * kernel_sum(a, b, false) / (m * n)
}

/// The squared maximum mean discrepancy, unbiased (Gretton et al. 2012, eq. 3), with the cubic kernel of
/// the "kernel inception distance" of Binkowski et al. 2018. NaN for sets of fewer than 2 vectors.
///
/// The error is that of the mean over eight disjoint blocks; NaN for fewer than 16 vectors.
pub fn kernel(a: &Features, b: &Features) -> Kernel {
    const BLOCKS: usize = 8;
    let a: Vec<&[f32]> = a.rows().collect();
    let b: Vec<&[f32]> = b.rows().collect();
    let (m, n) = (a.len() / BLOCKS, b.len() / BLOCKS);
    let mut error = f64::NAN;
    if m >= 2 && n >= 2 {
        let parts: Vec<f64> =
            (0..BLOCKS).map(|i| discrepancy(&a[i * m..][..m], &b[i * n..][..n])).collect();
        let mean = parts.iter().sum::<f64>() / BLOCKS as f64;
        let variance = parts.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / (BLOCKS - 1) as f64;
        error = (variance / BLOCKS as f64).sqrt();
    }
    let value = if a.len() >= 2 && b.len() >= 2 { discrepancy(&a, &b) } else { f64::NAN };
    Kernel { value, error }
}
