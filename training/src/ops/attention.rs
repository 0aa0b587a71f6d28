//! Scaled dot-product attention over the pixels of NHWC images: forward pass and gradients.
//!
//! Vaswani et al. 2017, equation 1. Queries are taken in blocks, whose weights over all pixels are
//! computed again for the gradients instead of being kept.

#![allow(clippy::needless_range_loop)] // see `super::simd`

use pulp::{Arch, Simd, WithSimd};

use super::group_norm::exp;
use super::pieces::build_even;
use super::simd::{Left, load, multiply, padded, store};

/// Queries of a block.
const BLOCK: usize = 64;

/// Sizes of one attention.
#[derive(Clone, Copy, Debug)]
pub struct AttentionGeometry {
    /// Images in the batch.
    pub batch: usize,
    /// Pixels of one image.
    pub pixels: usize,
    /// Channels of the output, a multiple of `heads`; the input has three times as many.
    pub channels: usize,
    /// Heads the channels are cut into.
    pub heads: usize,
}

impl AttentionGeometry {
    fn size(&self) -> usize {
        self.channels / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.size() as f32).sqrt()
    }
}

/// Matrices of one head: `[pixels, size]` and `[size, pixels]`, rows padded.
struct Scratch<'a> {
    keys: &'a mut [f32],
    keys_across: &'a mut [f32],
    values: &'a mut [f32],
    values_across: &'a mut [f32],
    keys_grad: &'a mut [f32],
    values_grad: &'a mut [f32],
    /// `[BLOCK, pixels]`.
    weights: &'a mut [f32],
    weights_grad: &'a mut [f32],
    /// `[BLOCK, size]`.
    queries: &'a mut [f32],
    rows: &'a mut [f32],
}

impl<'a> Scratch<'a> {
    fn new(memory: &'a mut Vec<f32>, g: &AttentionGeometry) -> Self {
        let (tall, wide) = (g.pixels * padded(g.size()), g.size() * padded(g.pixels));
        let (block, rows) = (BLOCK * padded(g.pixels), BLOCK * padded(g.size()));
        memory.resize(4 * tall + 2 * wide + 2 * block + 2 * rows, 0.0);
        let mut rest = &mut memory[..];
        let mut take = |len| {
            let (part, left) = std::mem::take(&mut rest).split_at_mut(len);
            rest = left;
            part
        };
        Self {
            keys: take(tall),
            keys_across: take(wide),
            values: take(tall),
            values_across: take(wide),
            keys_grad: take(tall),
            values_grad: take(tall),
            weights: take(block),
            weights_grad: take(block),
            queries: take(rows),
            rows: take(rows),
        }
    }
}

/// Copies `rows` rows of `size` values at the stride `stride`, times `scale`, to padded rows.
fn pack(source: &[f32], stride: usize, rows: usize, size: usize, scale: f32, out: &mut [f32]) {
    for (source, out) in source.chunks(stride).zip(out.chunks_exact_mut(padded(size))).take(rows) {
        for i in 0..size {
            out[i] = source[i] * scale;
        }
    }
}

/// As [`pack`], with rows and columns exchanged.
fn pack_across(source: &[f32], stride: usize, rows: usize, size: usize, out: &mut [f32]) {
    let width = padded(rows);
    for (row, source) in source.chunks(stride).enumerate().take(rows) {
        for i in 0..size {
            out[i * width + row] = source[i];
        }
    }
}

/// Copies padded rows back.
fn unpack(source: &[f32], rows: usize, size: usize, out: &mut [f32], stride: usize) {
    for (source, out) in source.chunks_exact(padded(size)).zip(out.chunks_mut(stride)).take(rows) {
        out[..size].copy_from_slice(&source[..size]);
    }
}

fn across(values: &[f32], rows: usize, stride: usize, k: usize) -> Left<'_> {
    Left { values, rows, row_stride: 1, k, k_stride: stride }
}

fn along(values: &[f32], rows: usize, stride: usize, k: usize) -> Left<'_> {
    Left { values, rows, row_stride: stride, k, k_stride: 1 }
}

/// Softmax of `rows` padded rows of `count` values.
#[inline(always)]
fn softmax<S: Simd>(simd: S, values: &mut [f32], rows: usize, count: usize) {
    for row in values.chunks_exact_mut(padded(count)).take(rows) {
        row[count..].fill(-1e30);
        let mut most = simd.splat_f32s(-1e30);
        for i in (0..row.len()).step_by(S::F32_LANES) {
            most = simd.max_f32s(most, load(simd, row, i));
        }
        let most = simd.reduce_max_f32s(most);
        for value in row.iter_mut() {
            *value = exp(*value - most);
        }
        row[count..].fill(0.0);
        let mut sum = simd.splat_f32s(0.0);
        for i in (0..row.len()).step_by(S::F32_LANES) {
            sum = simd.add_f32s(sum, load(simd, row, i));
        }
        let share = simd.splat_f32s(1.0 / simd.reduce_sum_f32s(sum));
        for i in (0..row.len()).step_by(S::F32_LANES) {
            let value = simd.mul_f32s(load(simd, row, i), share);
            store(simd, row, i, value);
        }
    }
}

/// The gradient before a softmax of `weights`: w (d - sum of w d), written over `grads`.
#[inline(always)]
fn softmax_backward<S: Simd>(
    simd: S,
    weights: &[f32],
    grads: &mut [f32],
    rows: usize,
    width: usize,
) {
    let rows = weights.chunks_exact(width).zip(grads.chunks_exact_mut(width)).take(rows);
    for (weights, grads) in rows {
        let mut sum = simd.splat_f32s(0.0);
        for i in (0..width).step_by(S::F32_LANES) {
            sum = simd.mul_add_f32s(load(simd, weights, i), load(simd, grads, i), sum);
        }
        let sum = simd.splat_f32s(simd.reduce_sum_f32s(sum));
        for i in (0..width).step_by(S::F32_LANES) {
            let grad = simd.sub_f32s(load(simd, grads, i), sum);
            store(simd, grads, i, simd.mul_f32s(load(simd, weights, i), grad));
        }
    }
}

/// The attention of one image.
struct ForwardImage<'a> {
    qkv: &'a [f32],
    g: &'a AttentionGeometry,
    scratch: Scratch<'a>,
    out: &'a mut [f32],
}

impl WithSimd for ForwardImage<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { qkv, g, scratch: s, out } = self;
        let (pixels, c, size, stride) = (g.pixels, g.channels, g.size(), 3 * g.channels);
        let (wide, tall) = (padded(pixels), padded(size));
        for first in (0..c).step_by(size) {
            pack_across(&qkv[c + first..], stride, pixels, size, s.keys_across);
            pack(&qkv[2 * c + first..], stride, pixels, size, 1.0, s.values);
            for start in (0..pixels).step_by(BLOCK) {
                let rows = BLOCK.min(pixels - start);
                let queries = &qkv[start * stride + first..];
                pack(queries, stride, rows, size, g.scale(), s.queries);
                let queries = along(s.queries, rows, tall, size);
                multiply(simd, queries, s.keys_across, wide, false, s.weights);
                softmax(simd, s.weights, rows, pixels);
                let weights = along(s.weights, rows, wide, pixels);
                multiply(simd, weights, s.values, tall, false, s.rows);
                unpack(s.rows, rows, size, &mut out[start * c + first..], c);
            }
        }
    }
}

/// The gradient of the attention of one image.
struct BackwardImage<'a> {
    qkv: &'a [f32],
    output_grad: &'a [f32],
    g: &'a AttentionGeometry,
    scratch: Scratch<'a>,
    qkv_grad: &'a mut [f32],
}

impl WithSimd for BackwardImage<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { qkv, output_grad, g, scratch: s, qkv_grad } = self;
        let (pixels, c, size, stride) = (g.pixels, g.channels, g.size(), 3 * g.channels);
        let (wide, tall) = (padded(pixels), padded(size));
        for first in (0..c).step_by(size) {
            // The scale goes with the queries, so that the keys' gradient has it too.
            pack(&qkv[c + first..], stride, pixels, size, g.scale(), s.keys);
            pack_across(&qkv[c + first..], stride, pixels, size, s.keys_across);
            pack_across(&qkv[2 * c + first..], stride, pixels, size, s.values_across);
            for start in (0..pixels).step_by(BLOCK) {
                let rows = BLOCK.min(pixels - start);
                let more = start > 0;
                pack(&qkv[start * stride + first..], stride, rows, size, g.scale(), s.queries);
                pack(&output_grad[start * c + first..], c, rows, size, 1.0, s.rows);
                let queries = along(s.queries, rows, tall, size);
                multiply(simd, queries, s.keys_across, wide, false, s.weights);
                softmax(simd, s.weights, rows, pixels);
                let weights = across(s.weights, pixels, wide, rows);
                multiply(simd, weights, s.rows, tall, more, s.values_grad);
                let grad = along(s.rows, rows, tall, size);
                multiply(simd, grad, s.values_across, wide, false, s.weights_grad);
                softmax_backward(simd, s.weights, s.weights_grad, rows, wide);
                let grad = across(s.weights_grad, pixels, wide, rows);
                multiply(simd, grad, s.queries, tall, more, s.keys_grad);
                let grad = along(s.weights_grad, rows, wide, pixels);
                multiply(simd, grad, s.keys, tall, false, s.rows);
                unpack(s.rows, rows, size, &mut qkv_grad[start * stride + first..], stride);
            }
            unpack(s.keys_grad, pixels, size, &mut qkv_grad[c + first..], stride);
            unpack(s.values_grad, pixels, size, &mut qkv_grad[2 * c + first..], stride);
        }
    }
}

fn check(qkv: &[f32], g: &AttentionGeometry) {
    assert!(
        g.heads > 0 && g.channels.is_multiple_of(g.heads),
        "attention: {} channels do not divide into {} heads",
        g.channels,
        g.heads
    );
    assert_eq!(qkv.len(), g.batch * g.pixels * 3 * g.channels, "attention input size");
}

/// See [`super::attention()`]; an image after the other.
pub fn forward(qkv: &[f32], g: &AttentionGeometry) -> Vec<f32> {
    check(qkv, g);
    let arch = Arch::new();
    let image = g.pixels * g.channels;
    build_even(g.batch * image, image, |memory, index, out| {
        let qkv = &qkv[3 * index * image..][..3 * image];
        arch.dispatch(ForwardImage { qkv, g, scratch: Scratch::new(memory, g), out });
    })
}

/// The gradient of [`forward`] for the gradient `output_grad` of its output.
pub fn backward(qkv: &[f32], output_grad: &[f32], g: &AttentionGeometry) -> Vec<f32> {
    check(qkv, g);
    assert_eq!(3 * output_grad.len(), qkv.len(), "attention gradient size");
    let arch = Arch::new();
    let image = g.pixels * g.channels;
    build_even(qkv.len(), 3 * image, |memory, index, qkv_grad| {
        arch.dispatch(BackwardImage {
            qkv: &qkv[3 * index * image..][..3 * image],
            output_grad: &output_grad[index * image..][..image],
            g,
            scratch: Scratch::new(memory, g),
            qkv_grad,
        });
    })
}
