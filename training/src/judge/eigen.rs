//! Eigenvalues and eigenvectors of a small symmetric matrix, in f64.

/// Sweeps after which the rotations stop whatever is left; five to ten are enough for any matrix.
const MAX_SWEEPS: usize = 40;

/// A symmetric matrix as `sum_i values[i] v_i v_i^T`.
#[derive(Clone, Debug)]
pub struct Eigen {
    /// The eigenvalues, in no order.
    pub values: Vec<f64>,
    /// The eigenvectors, one after the other, each of length 1.
    pub vectors: Vec<f64>,
}

impl Eigen {
    /// Of `matrix`, `[n, n]`, of which only the symmetric part is looked at: Jacobi's cyclic rotations
    /// (Golub and Van Loan, Matrix Computations, 4th edition, algorithm 8.5.3). Takes n^3 time.
    ///
    /// # Panics
    /// When `matrix` is not `n` x `n` values.
    pub fn of(matrix: &[f64], n: usize) -> Self {
        assert_eq!(matrix.len(), n * n, "a matrix of {n} x {n}");
        let mut a: Vec<f64> =
            (0..n * n).map(|i| 0.5 * (matrix[i] + matrix[(i % n) * n + i / n])).collect();
        let mut vectors = vec![0.0; n * n];
        (0..n).for_each(|i| vectors[i * n + i] = 1.0);
        let norm = a.iter().map(|v| v * v).sum::<f64>();
        for _ in 0..MAX_SWEEPS {
            let off: f64 = (0..n)
                .flat_map(|p| (0..p).map(move |q| (p, q)))
                .map(|(p, q)| a[p * n + q].powi(2))
                .sum();
            // Not "greater than", so that NaN ends it too.
            if !(off > 1e-30 * norm) {
                break;
            }
            for p in 1..n {
                for q in 0..p {
                    rotate(&mut a, &mut vectors, n, p, q);
                }
            }
        }
        Self { values: (0..n).map(|i| a[i * n + i]).collect(), vectors }
    }

    /// The matrix with the same vectors and `change` of each value.
    pub fn map(&self, change: impl Fn(f64) -> f64) -> Vec<f64> {
        let n = self.values.len();
        let mut out = vec![0.0; n * n];
        for (value, vector) in self.values.iter().zip(self.vectors.chunks_exact(n.max(1))) {
            let value = change(*value);
            for (row, a) in out.chunks_exact_mut(n).zip(vector) {
                row.iter_mut().zip(vector).for_each(|(out, b)| *out += value * a * b);
            }
        }
        out
    }
}

/// Makes a[p][q] zero by a rotation of rows and columns p and q.
fn rotate(a: &mut [f64], vectors: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let tau = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        a[k * n + p] = c * x - s * y;
        a[k * n + q] = s * x + c * y;
    }
    for matrix in [a, vectors] {
        for k in 0..n {
            let (x, y) = (matrix[p * n + k], matrix[q * n + k]);
            matrix[p * n + k] = c * x - s * y;
            matrix[q * n + k] = s * x + c * y;
        }
    }
}

/// `a b` of `[n, n]` each.
pub fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for (row, out) in a.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        for (factor, b) in row.iter().zip(b.chunks_exact(n)) {
            out.iter_mut().zip(b).for_each(|(out, b)| *out += factor * b);
        }
    }
    out
}
