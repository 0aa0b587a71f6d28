//! NHWC convolution, stride 1, "same" padding: forward pass and both gradients on plain slices.
//!
//! Each image is cut into strips of rows whose patches (im2col) fit the second-level cache; a
//! strip is one matrix product. Images are spread over the threads of the current rayon pool.
//! Sums over the batch are taken in a fixed order, so that a run repeats bit for bit on the same
//! number of threads.

use rayon::prelude::*;

use super::gemm::{Matrix, matmul};

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

    fn strip_rows(&self) -> usize {
        (STRIP_VALUES / (self.out_width() * self.patch())).clamp(1, self.out_height())
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

/// Writes the patches of output rows `first .. first + rows` of one image, one patch a line.
fn gather_patches(image: &[f32], g: &ConvGeometry, first: usize, rows: usize, out: &mut [f32]) {
    let (height, width, c) = (g.out_height() as isize, g.out_width() as isize, g.channels_in);
    let reach = (g.kernel / 2) as isize;
    let shrink = if g.upsample { 1 } else { 0 };
    let run = g.kernel * c;
    let mut patches = out.chunks_exact_mut(g.patch());
    for y in first as isize..(first + rows) as isize {
        for x in 0..width {
            let Some(patch) = patches.next() else { return };
            for (ky, line) in patch.chunks_exact_mut(run).enumerate() {
                let sy = y + ky as isize - reach;
                if sy < 0 || sy >= height {
                    line.fill(0.0);
                    continue;
                }
                let row = &image[(sy >> shrink) as usize * g.width * c..][..g.width * c];
                if !g.upsample && x >= reach && x + reach < width {
                    line.copy_from_slice(&row[(x - reach) as usize * c..][..run]);
                    continue;
                }
                for (kx, tap) in line.chunks_exact_mut(c).enumerate() {
                    let sx = x + kx as isize - reach;
                    if sx < 0 || sx >= width {
                        tap.fill(0.0);
                    } else {
                        tap.copy_from_slice(&row[(sx >> shrink) as usize * c..][..c]);
                    }
                }
            }
        }
    }
}

/// Calls `each(first output pixel, pixels, patches)` for every strip of one image.
fn for_each_strip(
    image: &[f32],
    g: &ConvGeometry,
    patches: &mut Vec<f32>,
    mut each: impl FnMut(usize, usize, &[f32]),
) {
    if g.is_pointwise() {
        return each(0, g.height * g.width, image);
    }
    let strip = g.strip_rows();
    patches.resize(strip * g.out_width() * g.patch(), 0.0);
    for first in (0..g.out_height()).step_by(strip) {
        let rows = strip.min(g.out_height() - first);
        let pixels = rows * g.out_width();
        let patches = &mut patches[..pixels * g.patch()];
        gather_patches(image, g, first, rows, patches);
        each(first * g.out_width(), pixels, patches);
    }
}

fn convolve_image(
    image: &[f32],
    weight: &[f32],
    shift: Option<&[f32]>,
    g: &ConvGeometry,
    patches: &mut Vec<f32>,
    out: &mut [f32],
) {
    let c_out = g.channels_out;
    if let Some(shift) = shift {
        for pixel in out.chunks_exact_mut(c_out) {
            pixel.copy_from_slice(shift);
        }
    }
    for_each_strip(image, g, patches, |first, pixels, patches| {
        matmul(
            &mut out[first * c_out..][..pixels * c_out],
            shift.is_some(),
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
    let mut out = vec![0.0; g.batch * g.image_out()];
    out.par_chunks_mut(g.image_out())
        .zip(input.par_chunks(g.image_in()))
        .enumerate()
        .for_each_init(Vec::new, |patches, (n, (out, image))| {
            let shift = shift.chunks_exact(g.channels_out).cycle().nth(n);
            convolve_image(image, weight, shift, g, patches, out);
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
            let mut fine = vec![0.0; if g.upsample { back.image_out() } else { 0 }];
            let items = input_grad
                .chunks_exact_mut(g.image_in())
                .zip(item_shift.chunks_exact_mut(g.channels_out))
                .zip(input.chunks_exact(g.image_in()))
                .zip(output_grad.chunks_exact(g.image_out()));
            for (((input_grad, shift_grad), image), grad) in items {
                for pixel in grad.chunks_exact(g.channels_out) {
                    for (sum, value) in shift_grad.iter_mut().zip(pixel) {
                        *sum += value;
                    }
                }
                for_each_strip(image, g, &mut patches, |first, pixels, patches| {
                    let grad = &grad[first * g.channels_out..][..pixels * g.channels_out];
                    matmul(
                        &mut weight_grad,
                        true,
                        Matrix::new(patches, pixels, g.patch()).transposed(),
                        Matrix::new(grad, pixels, g.channels_out),
                    );
                });
                if g.upsample {
                    convolve_image(grad, &turned, None, &back, &mut patches, &mut fine);
                    pool_sum(&fine, g, input_grad);
                } else {
                    convolve_image(grad, &turned, None, &back, &mut patches, input_grad);
                }
            }
            weight_grad
        })
        .collect();

    let mut partial = partial.into_iter();
    let mut weight_grad = partial.next().unwrap_or_else(|| vec![0.0; weight.len()]);
    for other in partial {
        for (sum, value) in weight_grad.iter_mut().zip(other) {
            *sum += value;
        }
    }
    let shift_grad = if shift.len() == item_shift.len() {
        item_shift
    } else {
        let mut sum = vec![0.0; g.channels_out];
        for item in item_shift.chunks_exact(g.channels_out) {
            for (sum, value) in sum.iter_mut().zip(item) {
                *sum += value;
            }
        }
        sum
    };
    ConvGradients { input: input_grad, weight: weight_grad, shift: shift_grad }
}
