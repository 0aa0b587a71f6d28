//! Vectors of `f32` for the kernels that are written for the vector unit, and the matrix product of
//! small matrices that lie in a cache.
//!
//! Generic over [`pulp::Simd`]: the caller dispatches once at run time, and everything here is
//! inlined into the code compiled for the unit that was found. Closures and iterators that pass
//! vectors on are not, so that the loops here count.

#![allow(clippy::needless_range_loop)]

use pulp::Simd;

/// The widest vector of any unit, in values: rows padded to it never end within a vector.
pub const WIDEST: usize = 16;

/// `count` rounded up to whole vectors.
pub fn padded(count: usize) -> usize {
    count.next_multiple_of(WIDEST)
}

/// The vector that starts at `values[at]`; where the slice ends earlier, zeros follow.
#[inline(always)]
pub fn load<S: Simd>(simd: S, values: &[f32], at: usize) -> S::f32s {
    let rest = &values[at..];
    if rest.len() >= S::F32_LANES {
        // SAFETY: the slice holds a vector's values; any alignment is allowed.
        unsafe { rest.as_ptr().cast::<S::f32s>().read_unaligned() }
    } else {
        simd.partial_load_f32s(rest)
    }
}

/// Writes `vector` from `values[at]` on, up to the end of the slice.
#[inline(always)]
pub fn store<S: Simd>(simd: S, values: &mut [f32], at: usize, vector: S::f32s) {
    let rest = &mut values[at..];
    if rest.len() >= S::F32_LANES {
        // SAFETY: the slice has room for a vector's values; any alignment is allowed.
        unsafe { rest.as_mut_ptr().cast::<S::f32s>().write_unaligned(vector) }
    } else {
        simd.partial_store_f32s(rest, vector);
    }
}

/// `a * b + c` with `a` the same for all lanes.
#[inline(always)]
pub fn scaled<S: Simd>(simd: S, a: f32, b: S::f32s, c: S::f32s) -> S::f32s {
    simd.mul_add_f32s(simd.splat_f32s(a), b, c)
}

/// The left matrix of a product: value (row, k) lies at `row * row_stride + k * k_stride`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub row_stride: usize,
    pub k: usize,
    pub k_stride: usize,
}

/// `out = left * right`, or `out += left * right`; `right` is `[k, cols]`, `out` `[rows, cols]`, both
/// row-major, with `cols` a multiple of [`WIDEST`].
///
/// Every value is summed over k in order, whatever the number of rows.
#[inline(always)]
pub fn multiply<S: Simd>(
    simd: S,
    left: Left,
    right: &[f32],
    cols: usize,
    accumulate: bool,
    out: &mut [f32],
) {
    assert!(cols.is_multiple_of(WIDEST) && left.rows > 0 && left.k > 0, "matrix product");
    let last = (left.rows - 1) * left.row_stride + (left.k - 1) * left.k_stride;
    assert!(last < left.values.len(), "left matrix size");
    assert!(right.len() >= left.k * cols, "right matrix size");
    assert!(out.len() >= left.rows * cols, "product size");
    let vectors = cols / S::F32_LANES;
    let most = if S::REGISTER_COUNT >= 32 { 5 } else { 3 };
    let strips = vectors.div_ceil(most);
    let mut first = 0;
    for strip in 0..strips {
        let count = vectors / strips + usize::from(strip < vectors % strips);
        let product = Product {
            left: left.values.as_ptr(),
            row_stride: left.row_stride,
            k: left.k,
            k_stride: left.k_stride,
            right: right[first..].as_ptr(),
            cols,
            accumulate,
            out: out[first..].as_mut_ptr(),
        };
        // SAFETY: checked above: every row and every column of the strip lies in the slices.
        // Sums and one row of `right` fill the registers, with one left over.
        unsafe {
            if S::REGISTER_COUNT >= 32 {
                match count {
                    1 => product.strip::<S, 1, 14>(simd, left.rows),
                    2 => product.strip::<S, 2, 12>(simd, left.rows),
                    3 => product.strip::<S, 3, 8>(simd, left.rows),
                    4 => product.strip::<S, 4, 6>(simd, left.rows),
                    _ => product.strip::<S, 5, 5>(simd, left.rows),
                }
            } else {
                match count {
                    1 => product.strip::<S, 1, 8>(simd, left.rows),
                    2 => product.strip::<S, 2, 6>(simd, left.rows),
                    _ => product.strip::<S, 3, 4>(simd, left.rows),
                }
            }
        }
        first += count * S::F32_LANES;
    }
}

/// A strip of columns of a product.
#[derive(Clone, Copy)]
struct Product {
    left: *const f32,
    row_stride: usize,
    k: usize,
    k_stride: usize,
    right: *const f32,
    cols: usize,
    accumulate: bool,
    out: *mut f32,
}

impl Product {
    /// `rows` rows, `ROWS` at a time.
    ///
    /// # Safety
    /// `left` must hold `rows` rows of `k` values at the strides, `right` `k` rows and `out` `rows`
    /// rows of `VECTORS` vectors at the stride `cols`.
    #[inline(always)]
    unsafe fn strip<S: Simd, const VECTORS: usize, const ROWS: usize>(self, simd: S, rows: usize) {
        let mut row = 0;
        // SAFETY: each call gets rows that are left.
        unsafe {
            while row + ROWS <= rows {
                self.tile::<S, VECTORS, ROWS>(simd, row);
                row += ROWS;
            }
            if ROWS > 4 && row + 4 <= rows {
                self.tile::<S, VECTORS, 4>(simd, row);
                row += 4;
            }
            if ROWS > 8 && row + 4 <= rows {
                self.tile::<S, VECTORS, 4>(simd, row);
                row += 4;
            }
            while row + 2 <= rows {
                self.tile::<S, VECTORS, 2>(simd, row);
                row += 2;
            }
            if row < rows {
                self.tile::<S, VECTORS, 1>(simd, row);
            }
        }
    }

    /// `ROWS` rows from `first` on, summed in registers.
    ///
    /// # Safety
    /// As [`strip`](Self::strip), for these rows.
    #[inline(always)]
    unsafe fn tile<S: Simd, const VECTORS: usize, const ROWS: usize>(self, simd: S, first: usize) {
        let zero = simd.splat_f32s(0.0);
        let mut sums = [[zero; VECTORS]; ROWS];
        // SAFETY: the rows and columns lie within the matrices, says the caller.
        unsafe {
            let mut left = self.left.add(first * self.row_stride);
            let mut right = self.right;
            for _ in 0..self.k {
                let mut line = [zero; VECTORS];
                for j in 0..VECTORS {
                    line[j] = right.add(j * S::F32_LANES).cast::<S::f32s>().read_unaligned();
                }
                for i in 0..ROWS {
                    let value = simd.splat_f32s(*left.add(i * self.row_stride));
                    for j in 0..VECTORS {
                        sums[i][j] = simd.mul_add_f32s(value, line[j], sums[i][j]);
                    }
                }
                left = left.wrapping_add(self.k_stride);
                right = right.wrapping_add(self.cols);
            }
            let out = self.out.add(first * self.cols);
            for i in 0..ROWS {
                for j in 0..VECTORS {
                    let target = out.add(i * self.cols + j * S::F32_LANES).cast::<S::f32s>();
                    let sum = if self.accumulate {
                        simd.add_f32s(target.read_unaligned(), sums[i][j])
                    } else {
                        sums[i][j]
                    };
                    target.write_unaligned(sum);
                }
            }
        }
    }
}
