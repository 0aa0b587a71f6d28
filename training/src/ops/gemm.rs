//! A bounds-checked face for the `gemm` crate: row-major `f32` matrices, optionally transposed.

use pulp::{Arch, Simd, WithSimd};

use super::simd::{Left, WIDEST, multiply};

/// Values of the right matrix that a product goes through before it takes the next: they stay in the
/// first-level cache.
const RIGHT_VALUES: usize = 6 * 1024;

/// A row-major matrix in memory, seen as it is or transposed.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: isize,
    col_stride: isize,
}

impl<'a> Matrix<'a> {
    /// `rows` x `cols` values, row after row.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "matrix size");
        Self { data, rows, cols, row_stride: cols as isize, col_stride: 1 }
    }

    /// The same memory with rows and columns exchanged.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }
}

/// `out += lhs * rhs`, or `out = lhs * rhs` when `accumulate` is false; `out` is row-major. Runs on the calling thread.
pub fn matmul(out: &mut [f32], accumulate: bool, lhs: Matrix, rhs: Matrix) {
    assert_eq!(lhs.cols, rhs.rows, "inner dimensions");
    assert_eq!(out.len(), lhs.rows * rhs.cols, "output size");
    if rhs.col_stride == 1 && rhs.cols.is_multiple_of(WIDEST) && lhs.rows > 0 && lhs.cols > 0 {
        return Arch::new().dispatch(Blocks { out, accumulate, lhs, rhs });
    }
    debug_assert!(lhs.data.len() == lhs.rows * lhs.cols && rhs.data.len() == rhs.rows * rhs.cols);
    // SAFETY: `Matrix::new` checked that data holds rows * cols values, and the strides of both
    // views address exactly these; `out` was checked above and is borrowed mutably, so it does
    // not overlap the inputs.
    unsafe {
        ::gemm::gemm(
            lhs.rows,
            rhs.cols,
            lhs.cols,
            out.as_mut_ptr(),
            1,
            rhs.cols as isize,
            accumulate,
            lhs.data.as_ptr(),
            lhs.col_stride,
            lhs.row_stride,
            rhs.data.as_ptr(),
            rhs.col_stride,
            rhs.row_stride,
            1.0,
            1.0,
            false,
            false,
            false,
            ::gemm::Parallelism::None,
        );
    }
}

/// A product with whole vectors of columns, by blocks of the inner dimension.
struct Blocks<'a> {
    out: &'a mut [f32],
    accumulate: bool,
    lhs: Matrix<'a>,
    rhs: Matrix<'a>,
}

impl WithSimd for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { out, accumulate, lhs, rhs } = self;
        let (row_stride, k_stride) = (lhs.row_stride as usize, lhs.col_stride as usize);
        let block = (RIGHT_VALUES / rhs.cols).max(32);
        let mut first = 0;
        while first < lhs.cols {
            let k = block.min(lhs.cols - first);
            let values = &lhs.data[first * k_stride..];
            let left = Left { values, rows: lhs.rows, row_stride, k, k_stride };
            let right = &rhs.data[first * rhs.cols..];
            multiply(simd, left, right, rhs.cols, accumulate || first > 0, out);
            first += k;
        }
    }
}
