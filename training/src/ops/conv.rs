//! NHWC convolution, stride 1, "same" padding: forward pass and both gradients on plain slices.
//!
//! The output is computed in strips, a few rows of one image or several small images, whose patches
//! (im2col) fit the second-level cache; a strip is one matrix product. Images are spread over the
//! threads of the current rayon pool.
//! Sums over the batch are taken in a fixed order, so that a run repeats bit for bit on the same
//! number of threads.

use rayon::prelude::*;

use super::gemm::{Matrix, matmul};
use super::winograd;

/// Upper bound for the patches of one strip, in values: half a megabyte, half a common L2 cache.
const STRIP_VALUES: usize = 128 * 1024;

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Images in the batch.
    pub batch: usize,
    /// Height of the input, before any enlargement.
    pub height: usize,
    /// Width of the input, before any enlargement.
    pub width: usize,
    /// Channels of the input.
    pub channels_in: usize,
    /// Channels of the output.
    pub channels_out: usize,
    /// 1 or 3.
    pub kernel: usize,
    /// Whether the input is enlarged twofold (nearest neighbour) before the convolution.
    pub upsample: bool,
}

impl ConvGeometry {
    fn scale(&self) -> usize {
        if self.upsample { 2 } else { 1 }
    }

    /// Height of the output.
    pub fn out_height(&self) -> usize {
        self.height * self.scale()
    }

    /// Width of the output.
    pub fn out_width(&self) -> usize {
        self.width * self.scale()
    }

    fn image_in(&self) -> usize {
        self.height * self.width * self.channels_in
    }

    fn image_out(&self) -> usize {
        self.out_height() * self.out_width() * self.channels_out
    }

    fn patch(&self) -> usize {
        self.kernel * self.kernel * self.channels_in
    }

    /// Output rows, counted through the images, of one strip: whole images or a part of one.
    fn strip_rows(&self) -> usize {
        let rows = (STRIP_VALUES / (self.out_width() * self.patch())).max(1);
        if rows < self.out_height() { rows } else { rows - rows % self.out_height() }
    }

    /// Images that a thread takes at a time in the forward pass: a strip, or its fair share.
    fn block_images(&self) -> usize {
        let strip = (self.strip_rows() / self.out_height()).max(1);
        strip.min(self.batch.div_ceil(rayon::current_num_threads())).max(1)
    }

    /// A 1x1 convolution reads each pixel once: the image is its own patch matrix.
    fn is_pointwise(&self) -> bool {
        self.kernel == 1 && !self.upsample
    }

    /// The convolution that carries the output gradient back to the (enlarged) input.
    fn transposed(&self) -> Self {
        Self {
            height: self.out_height(),
            width: self.out_width(),
            channels_in: self.channels_out,
            channels_out: self.channels_in,
            upsample: false,
            ..*self
        }
    }
}

/// Gradients of one convolution; `shift` has the shape of the shift that was added.
pub struct ConvGradients {
    pub input: Vec<f32>,
    pub weight: Vec<f32>,
    pub shift: Vec<f32>,
}

/// Writes the patches of output rows `first .. first + rows`, counted through the images.
fn gather_patches(images: &[f32], g: &ConvGeometry, first: usize, rows: usize, out: &mut [f32]) {
    let (height, width, c) = (g.out_height() as isize, g.out_width() as isize, g.channels_in);
    let reach = (g.kernel / 2) as isize;
    let shrink = if g.upsample { 1 } else { 0 };
    let run = g.kernel * c;
    let mut patches = out.chunks_exact_mut(g.patch());
    for row in first..first + rows {
        let image = &images[row / g.out_height() * g.image_in()..][..g.image_in()];
        let y = (row % g.out_height()) as isize;
        for (x, patch) in (0..width).zip(&mut patches) {
            for (ky, line) in patch.chunks_exact_mut(run).enumerate() {
                let sy = y + ky as isize - reach;
                if sy < 0 || sy >= height {
                    line.fill(0.0);
                    continue;
                }
                let source = &image[(sy >> shrink) as usize * g.width * c..][..g.width * c];
                if !g.upsample && x >= reach && x + reach < width {
                    line.copy_from_slice(&source[(x - reach) as usize * c..][..run]);
                    continue;
                }
                for (kx, tap) in line.chunks_exact_mut(c).enumerate() {
                    let sx = x + kx as isize - reach;
                    if sx < 0 || sx >= width {
                        tap.fill(0.0);
                    } else {
                        tap.copy_from_slice(&source[(sx >> shrink) as usize * c..][..c]);
                    }
                }
            }
        }
    }
}

/// Calls `each(first output pixel, pixels, patches)` for every strip of some images.
fn for_each_strip(
    images: &[f32],
    g: &ConvGeometry,
    patches: &mut Vec<f32>,
    mut each: impl FnMut(usize, usize, &[f32]),
) {
    if g.is_pointwise() {
        return each(0, images.len() / g.channels_in, images);
    }
    let total = images.len() / g.image_in() * g.out_height();
    let strip = g.strip_rows().min(total);
    patches.resize(strip * g.out_width() * g.patch(), 0.0);
    let mut first = 0;
    while first < total {
        // A strip within an image ends with it; one of whole images ends with the last.
        let left = if strip < g.out_height() {
            g.out_height() - first % g.out_height()
        } else {
            total - first
        };
        let rows = strip.min(left);
        let pixels = rows * g.out_width();
        let patches = &mut patches[..pixels * g.patch()];
        gather_patches(images, g, first, rows, patches);
        each(first * g.out_width(), pixels, patches);
        first += rows;
    }
}

/// Convolves some images into `out`, on top of what it holds where `accumulate` is set.
fn convolve(
    images: &[f32],
    weight: &[f32],
    accumulate: bool,
    g: &ConvGeometry,
    patches: &mut Vec<f32>,
    out: &mut [f32],
) {
    let c_out = g.channels_out;
    for_each_strip(images, g, patches, |first, pixels, patches| {
        matmul(
            &mut out[first * c_out..][..pixels * c_out],
            accumulate,
            Matrix::new(patches, pixels, g.patch()),
            Matrix::new(weight, g.patch(), c_out),
        );
    });
}

/// `weight` with its taps turned by half a turn and its channel axes exchanged.
fn transposed_weight(weight: &[f32], g: &ConvGeometry) -> Vec<f32> {
    let (c_in, c_out) = (g.channels_in, g.channels_out);
    let taps = g.kernel * g.kernel;
    let mut out = vec![0.0; weight.len()];
    for tap in 0..taps {
        let source = &weight[tap * c_in * c_out..][..c_in * c_out];
        let target = &mut out[(taps - 1 - tap) * c_in * c_out..][..c_in * c_out];
        for i in 0..c_in {
            for o in 0..c_out {
                target[o * c_in + i] = source[i * c_out + o];
            }
        }
    }
    out
}

fn check(g: &ConvGeometry, input: &[f32], weight: &[f32], shift: &[f32]) {
    assert!(matches!(g.kernel, 1 | 3), "convolution kernel is {}, expected 1 or 3", g.kernel);
    assert_eq!(input.len(), g.batch * g.image_in(), "convolution input size");
    assert_eq!(weight.len(), g.patch() * g.channels_out, "convolution weight size");
    assert!(
        shift.len() == g.channels_out || shift.len() == g.batch * g.channels_out,
        "convolution shift size"
    );
}

/// `output[n, y, x, :] = shift + sum over taps of input * weight`; layouts as in [`super::conv2d`].
pub fn forward(input: &[f32], weight: &[f32], shift: &[f32], g: &ConvGeometry) -> Vec<f32> {
    check(g, input, weight, shift);
    if winograd::suits(g) {
        return winograd::forward(input, weight, shift, g);
    }
    let block = g.block_images();
    let mut out = vec![0.0; g.batch * g.image_out()];
    out.par_chunks_mut(block * g.image_out())
        .zip(input.par_chunks(block * g.image_in()))
        .enumerate()
        .for_each_init(Vec::new, |patches, (index, (out, images))| {
            for (n, image) in out.chunks_exact_mut(g.image_out()).enumerate() {
                let item = (index * block + n) * g.channels_out % shift.len();
                let shift = &shift[item..][..g.channels_out];
                for pixel in image.chunks_exact_mut(g.channels_out) {
                    pixel.copy_from_slice(shift);
                }
            }
            convolve(images, weight, true, g, patches, out);
        });
    out
}

/// Adds each 2x2 block of `fine` into one value of `coarse`: the gradient of the enlargement.
fn pool_sum(fine: &[f32], g: &ConvGeometry, coarse: &mut [f32]) {
    let c = g.channels_in;
    let row = 2 * g.width * c;
    for y in 0..g.height {
        let (top, bottom) = fine[2 * y * row..][..2 * row].split_at(row);
        for x in 0..g.width {
            let out = &mut coarse[(y * g.width + x) * c..][..c];
            let (a, b) = (&top[2 * x * c..][..2 * c], &bottom[2 * x * c..][..2 * c]);
            for i in 0..c {
                out[i] = a[i] + a[i + c] + b[i] + b[i + c];
            }
        }
    }
}

/// `sums += values`.
pub fn add(sums: &mut [f32], values: &[f32]) {
    for (sum, value) in sums.iter_mut().zip(values) {
        *sum += value;
    }
}

/// Gradients of [`forward`] for the gradient `output_grad` of its output.
pub fn backward(
    input: &[f32],
    weight: &[f32],
    shift: &[f32],
    output_grad: &[f32],
    g: &ConvGeometry,
) -> ConvGradients {
    check(g, input, weight, shift);
    assert_eq!(output_grad.len(), g.batch * g.image_out(), "convolution gradient size");
    let turned = transposed_weight(weight, g);
    if winograd::suits(g) {
        let grads = winograd::backward(input, &turned, output_grad, g);
        return ConvGradients { shift: shift_gradient(grads.shift, shift.len()), ..grads };
    }
    let back = g.transposed();
    let mut input_grad = vec![0.0; input.len()];
    let mut item_shift = vec![0.0; g.batch * g.channels_out];

    // One share of the batch a thread: each sums its own weight gradient.
    let share = g.batch.div_ceil(rayon::current_num_threads()).max(1);
    let partial: Vec<Vec<f32>> = input_grad
        .par_chunks_mut(share * g.image_in())
        .zip(item_shift.par_chunks_mut(share * g.channels_out))
        .zip(input.par_chunks(share * g.image_in()))
        .zip(output_grad.par_chunks(share * g.image_out()))
        .map(|(((input_grad, item_shift), input), output_grad)| {
            let mut weight_grad = vec![0.0; weight.len()];
            let mut patches = Vec::new();
            let items =
                item_shift.chunks_exact_mut(g.channels_out).zip(output_grad.chunks(g.image_out()));
            for (sums, grad) in items {
                for pixel in grad.chunks_exact(g.channels_out) {
                    add(sums, pixel);
                }
            }
            for_each_strip(input, g, &mut patches, |first, pixels, patches| {
                let grad = &output_grad[first * g.channels_out..][..pixels * g.channels_out];
                matmul(
                    &mut weight_grad,
                    true,
                    Matrix::new(patches, pixels, g.patch()).transposed(),
                    Matrix::new(grad, pixels, g.channels_out),
                );
            });
            if g.upsample {
                let mut fine = vec![0.0; back.image_out()];
                let items = input_grad
                    .chunks_exact_mut(g.image_in())
                    .zip(output_grad.chunks_exact(g.image_out()));
                for (input_grad, grad) in items {
                    convolve(grad, &turned, false, &back, &mut patches, &mut fine);
                    pool_sum(&fine, g, input_grad);
                }
            } else {
                convolve(output_grad, &turned, false, &back, &mut patches, input_grad);
            }
            weight_grad
        })
        .collect();

    let mut partial = partial.into_iter();
    let mut weight_grad = partial.next().unwrap_or_else(|| vec![0.0; weight.len()]);
    for other in partial {
        add(&mut weight_grad, &other);
    }
    ConvGradients {
        input: input_grad,
        weight: weight_grad,
        shift: shift_gradient(item_shift, shift.len()),
    }
}

/// The gradient of a shift of `len` values from that of each item: their sum where it was shared.
fn shift_gradient(items: Vec<f32>, len: usize) -> Vec<f32> {
    if items.len() == len {
        return items;
    }
    let mut sum = vec![0.0; len];
    for item in items.chunks_exact(len) {
        add(&mut sum, item);
    }
    sum
}
