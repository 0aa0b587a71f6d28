//! A bounds-checked face for the `gemm` crate: row-major `f32` matrices, optionally transposed.

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
