//! Large vectors that are made in pieces, side by side.
//!
//! `vec![0.0; n]` writes n zeros on one thread, which costs as much as many of the operations that
//! overwrite them; here each piece is zeroed where it is filled.

use std::mem::MaybeUninit;

use rayon::prelude::*;

/// A vector of consecutive pieces: for each entry of `pieces`, its length and what it is made from,
/// `fill` gets scratch memory of the thread, the entry and the piece, all zeros. Also returns what
/// `fill` returned, in order.
pub fn build<T: Send, R: Send>(
    pieces: Vec<(usize, T)>,
    fill: impl Fn(&mut Vec<f32>, T, &mut [f32]) -> R + Sync,
) -> (Vec<f32>, Vec<R>) {
    let total = pieces.iter().map(|(len, _)| len).sum();
    let mut values = Vec::<f32>::with_capacity(total);
    let mut rest = &mut values.spare_capacity_mut()[..total];
    let mut work = Vec::with_capacity(pieces.len());
    for (len, entry) in pieces {
        let (piece, left) = rest.split_at_mut(len);
        work.push((entry, piece));
        rest = left;
    }
    let mut returned = Vec::new();
    work.into_par_iter()
        .map_init(Vec::new, |scratch, (entry, piece)| {
            piece.fill(MaybeUninit::new(0.0));
            // SAFETY: every value was written by the line above.
            let piece = unsafe { piece.assume_init_mut() };
            fill(scratch, entry, piece)
        })
        .collect_into_vec(&mut returned);
    // SAFETY: the pieces are all of the first `total` values, and each was written.
    unsafe { values.set_len(total) };
    (values, returned)
}

/// As [`build`], where nothing is returned: `total` values in pieces of `len`, the last maybe
/// shorter; `fill` gets scratch memory, the number of the piece and the piece.
pub fn build_even(
    total: usize,
    len: usize,
    fill: impl Fn(&mut Vec<f32>, usize, &mut [f32]) + Sync,
) -> Vec<f32> {
    let len = len.max(1);
    let pieces = (0..total.div_ceil(len)).map(|i| (len.min(total - i * len), i)).collect();
    build(pieces, fill).0
}
