//! The 3x3 convolution by minimal filtering, F(4x4, 3x3): forward pass and both gradients.
//!
//! Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", section 4. A tile of
//! 4x4 outputs takes 36 products a pair of channels instead of 144: input tiles of 6x6 and kernels
//! are transformed, multiplied place by place as 36 matrices, and the products transformed back.
//! Between these steps everything stays in the second-level cache: a block of tiles at a time.
//! The three matrices of the transformation are those of the paper; in float32 the outcome differs
//! from a plain sum by a few millionths of the largest value.

#![allow(clippy::needless_range_loop)] // see `super::simd`

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::conv::{ConvGeometry, ConvGradients};
use super::pieces::{build, build_even};
use super::simd::{self, Left, load, multiply, padded, scaled, store};

/// Outputs of a tile, each way.
const TILE: usize = 4;
/// Inputs of a tile, each way.
const SIDE: usize = 6;
/// Places of a transformed tile: as many matrix products.
const PLACES: usize = SIDE * SIDE;
/// Upper bound for the transformed tiles of a block, in values: half a megabyte.
const BLOCK_VALUES: usize = 128 * 1024;

/// G: from kernels to places, one way.
const KERNEL: [[f32; 3]; SIDE] = [
    [1.0 / 4.0, 0.0, 0.0],
    [-1.0 / 6.0, -1.0 / 6.0, -1.0 / 6.0],
    [-1.0 / 6.0, 1.0 / 6.0, -1.0 / 6.0],
    [1.0 / 24.0, 1.0 / 12.0, 1.0 / 6.0],
    [1.0 / 24.0, -1.0 / 12.0, 1.0 / 6.0],
    [0.0, 0.0, 1.0],
];

/// What the kernel value of `tap` counts at `place`.
fn kernel_factor(place: usize, tap: usize) -> f32 {
    KERNEL[place / SIDE][tap / 3] * KERNEL[place % SIDE][tap % 3]
}

/// Whether the convolution is worth the transformations: not with a few channels or tiles.
pub fn suits(g: &ConvGeometry) -> bool {
    let tiles = g.batch * g.out_height().div_ceil(TILE) * g.out_width().div_ceil(TILE);
    let outputs = g.batch * g.out_height() * g.out_width();
    g.kernel == 3
        && g.channels_in >= 16
        && g.channels_out >= 16
        && tiles >= 8
        && outputs >= 6 * tiles
}

/// A transformation of squares of `N` values to places, one way: lines, then columns.
///
/// A trait, not a closure: only what is inlined by force is compiled for the vector unit.
trait Spread<const N: usize> {
    /// How many values before its outputs a tile begins.
    const REACH: usize;

    fn spread<S: Simd>(simd: S, values: [S::f32s; N]) -> [S::f32s; SIDE];
}

/// B^T: of inputs.
struct Inputs;

impl Spread<SIDE> for Inputs {
    const REACH: usize = 1;

    #[inline(always)]
    fn spread<S: Simd>(simd: S, d: [S::f32s; SIDE]) -> [S::f32s; SIDE] {
        let a = scaled(simd, -4.0, d[2], d[4]);
        let b = scaled(simd, -4.0, d[1], d[3]);
        let e = simd.sub_f32s(d[4], d[2]);
        let f = simd.sub_f32s(d[3], d[1]);
        [
            scaled(simd, 4.0, d[0], scaled(simd, -5.0, d[2], d[4])),
            simd.add_f32s(a, b),
            simd.sub_f32s(a, b),
            scaled(simd, 2.0, f, e),
            scaled(simd, -2.0, f, e),
            scaled(simd, 4.0, d[1], scaled(simd, -5.0, d[3], d[5])),
        ]
    }
}

/// A: of the outputs' gradient; transposed [`gather_line`].
struct Gradients;

impl Spread<TILE> for Gradients {
    const REACH: usize = 0;

    #[inline(always)]
    fn spread<S: Simd>(simd: S, y: [S::f32s; TILE]) -> [S::f32s; SIDE] {
        let (a, b) = (simd.add_f32s(y[0], y[2]), simd.add_f32s(y[1], y[3]));
        let c = scaled(simd, 4.0, y[2], y[0]);
        let d = scaled(simd, 8.0, y[3], simd.add_f32s(y[1], y[1]));
        [
            y[0],
            simd.add_f32s(a, b),
            simd.sub_f32s(a, b),
            simd.add_f32s(c, d),
            simd.sub_f32s(c, d),
            y[3],
        ]
    }
}

/// A^T, one way: places to outputs.
#[inline(always)]
fn gather_line<S: Simd>(simd: S, m: [S::f32s; SIDE]) -> [S::f32s; TILE] {
    let (a, b) = (simd.add_f32s(m[1], m[2]), simd.sub_f32s(m[1], m[2]));
    let (c, d) = (simd.add_f32s(m[3], m[4]), simd.sub_f32s(m[3], m[4]));
    [
        simd.add_f32s(simd.add_f32s(m[0], a), c),
        scaled(simd, 2.0, d, b),
        scaled(simd, 4.0, c, a),
        simd.add_f32s(scaled(simd, 8.0, d, b), m[5]),
    ]
}

/// How the outputs of a batch fall into tiles. Rows of tiles are counted through the images.
#[derive(Clone, Copy)]
struct Tiling {
    height: usize,
    width: usize,
    down: usize,
    across: usize,
}

impl Tiling {
    fn new(height: usize, width: usize) -> Self {
        Self { height, width, down: height.div_ceil(TILE), across: width.div_ceil(TILE) }
    }

    /// Lines of pixels above a row of tiles, counted through the images.
    fn line(&self, row: usize) -> usize {
        row / self.down * self.height + row % self.down * TILE
    }

    /// Rows of tiles of a block of convolutions between so many channels.
    fn block(&self, channels: usize) -> usize {
        (BLOCK_VALUES / (PLACES * channels * self.across)).max(1)
    }
}

/// Images whose tiles are transformed.
#[derive(Clone, Copy)]
struct Images<'a> {
    values: &'a [f32],
    channels: usize,
    /// Of the enlarged images, where they are enlarged.
    tiling: Tiling,
    /// 1 where each pixel stands for 2x2, else 0.
    shrink: usize,
}

/// Transformed tiles: `[PLACES, tiles, padded channels]`, with a gap after each place. Without it
/// the writes of a tile, one to every place, would meet in a few sets of the first-level cache.
struct Places<'a> {
    values: &'a mut [f32],
    tiles: usize,
    channels: usize,
}

impl<'a> Places<'a> {
    fn size(tiles: usize, channels: usize) -> usize {
        PLACES * Self::stride(tiles, padded(channels))
    }

    fn stride(tiles: usize, padded: usize) -> usize {
        tiles * padded + simd::WIDEST
    }

    fn new(values: &'a mut [f32], tiles: usize, channels: usize) -> Self {
        let size = Self::size(tiles, channels);
        Self { values: &mut values[..size], tiles, channels: padded(channels) }
    }

    fn place(&self, place: usize) -> &[f32] {
        &self.values[place * Self::stride(self.tiles, self.channels)..]
            [..self.tiles * self.channels]
    }

    fn place_mut(&mut self, place: usize) -> &mut [f32] {
        let start = place * Self::stride(self.tiles, self.channels);
        &mut self.values[start..][..self.tiles * self.channels]
    }
}

/// Transforms the tiles of `rows`. Lanes past the last channel hold what follows in memory; nothing reads them.
#[inline(always)]
fn spread<S: Simd, T: Spread<N>, const N: usize>(
    simd: S,
    images: Images,
    rows: Range<usize>,
    out: &mut Places,
) {
    const OUTSIDE: usize = usize::MAX;
    let Images { values, channels, tiling, shrink } = images;
    let (pixels, width) =
        ((tiling.height >> shrink) * (tiling.width >> shrink), tiling.width >> shrink);
    let zero = simd.splat_f32s(0.0);
    let stride = Places::stride(out.tiles, out.channels);
    assert!(rows.len() * tiling.across <= out.tiles && out.values.len() == PLACES * stride);
    let mut tile = 0;
    for row in rows {
        let image = row / tiling.down * pixels;
        let top = row % tiling.down * TILE;
        for column in 0..tiling.across {
            let left = column * TILE;
            let mut source = [[OUTSIDE; N]; N];
            for (dy, source) in source.iter_mut().enumerate() {
                let y = (top + dy).wrapping_sub(T::REACH);
                for (dx, source) in source.iter_mut().enumerate() {
                    let x = (left + dx).wrapping_sub(T::REACH);
                    if y < tiling.height && x < tiling.width {
                        *source = (image + (y >> shrink) * width + (x >> shrink)) * channels;
                    }
                }
            }
            for c in (0..channels).step_by(S::F32_LANES) {
                let mut half = [[zero; N]; SIDE];
                for x in 0..N {
                    let mut line = [zero; N];
                    for y in 0..N {
                        if source[y][x] != OUTSIDE {
                            line[y] = load(simd, values, source[y][x] + c);
                        }
                    }
                    let line = T::spread(simd, line);
                    for y in 0..SIDE {
                        half[y][x] = line[y];
                    }
                }
                for y in 0..SIDE {
                    let line = T::spread(simd, half[y]);
                    for x in 0..SIDE {
                        let at = (y * SIDE + x) * stride + tile * out.channels + c;
                        // SAFETY: c lies below the padded channels, in steps of a vector; tile below
                        // out.tiles; the size of the buffer was checked above.
                        unsafe {
                            let target = out.values.as_mut_ptr().add(at);
                            target.cast::<S::f32s>().write_unaligned(line[x]);
                        }
                    }
                }
            }
            tile += 1;
        }
    }
}

/// Transforms one tile of products back, for the channels from `c` on.
#[inline(always)]
fn gather<S: Simd>(simd: S, products: &Places, tile: usize, c: usize) -> [[S::f32s; TILE]; TILE] {
    let zero = simd.splat_f32s(0.0);
    let mut half = [[zero; SIDE]; TILE];
    for x in 0..SIDE {
        let mut line = [zero; SIDE];
        for y in 0..SIDE {
            line[y] = load(simd, products.place(y * SIDE + x), tile * products.channels + c);
        }
        let line = gather_line(simd, line);
        for y in 0..TILE {
            half[y][x] = line[y];
        }
    }
    let mut outputs = [[zero; TILE]; TILE];
    for y in 0..TILE {
        outputs[y] = gather_line(simd, half[y]);
    }
    outputs
}

/// Multiplies the tiles of every place by the kernels there, `[PLACES, k, padded columns]`.
#[inline(always)]
fn multiply_places<S: Simd>(simd: S, tiles: &Places, k: usize, kernels: &[f32], out: &mut Places) {
    let cols = out.channels;
    for (place, kernels) in kernels.chunks_exact(k * cols).enumerate() {
        let left = Left {
            values: tiles.place(place),
            rows: tiles.tiles,
            row_stride: tiles.channels,
            k,
            k_stride: 1,
        };
        multiply(simd, left, kernels, cols, false, out.place_mut(place));
    }
}

/// A block of the forward pass. `out` begins with the outputs of the first row of tiles.
struct ForwardBlock<'a> {
    images: Images<'a>,
    kernels: &'a [f32],
    shift: &'a [f32],
    rows: Range<usize>,
    channels_out: usize,
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

impl WithSimd for ForwardBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { images, kernels, shift, rows, channels_out, scratch, out } = self;
        let tiling = images.tiling;
        let tiles = rows.len() * tiling.across;
        let (inputs, products) = scratch.split_at_mut(Places::size(tiles, images.channels));
        let mut inputs = Places::new(inputs, tiles, images.channels);
        let mut products = Places::new(products, tiles, channels_out);
        spread::<S, Inputs, SIDE>(simd, images, rows.clone(), &mut inputs);
        multiply_places(simd, &inputs, images.channels, kernels, &mut products);
        let start = tiling.line(rows.start);
        for tile in 0..tiles {
            let row = rows.start + tile / tiling.across;
            let (line, left) = (tiling.line(row) - start, tile % tiling.across * TILE);
            let lines = TILE.min(tiling.height - row % tiling.down * TILE);
            let columns = TILE.min(tiling.width - left);
            let shift = &shift[row / tiling.down * channels_out % shift.len()..][..channels_out];
            for c in (0..channels_out).step_by(S::F32_LANES) {
                let shift = load(simd, shift, c);
                let outputs = gather(simd, &products, tile, c);
                for dy in 0..lines {
                    for dx in 0..columns {
                        let pixel = (line + dy) * tiling.width + left + dx;
                        let pixel = &mut out[pixel * channels_out..][..channels_out];
                        store(simd, pixel, c, simd.add_f32s(outputs[dy][dx], shift));
                    }
                }
            }
        }
    }
}

/// As [`super::conv::forward`], for a kernel of 3.
pub fn forward(input: &[f32], weight: &[f32], shift: &[f32], g: &ConvGeometry) -> Vec<f32> {
    let arch = Arch::new();
    let tiling = Tiling::new(g.out_height(), g.out_width());
    let images =
        Images { values: input, channels: g.channels_in, tiling, shrink: usize::from(g.upsample) };
    let kernels = kernel_places(weight, g.channels_in, g.channels_out);
    let channels = padded(g.channels_in) + padded(g.channels_out);
    let rows = g.batch * tiling.down;
    // As many blocks as can be shared evenly.
    let threads = rayon::current_num_threads();
    let blocks = rows.div_ceil(tiling.block(channels)).next_multiple_of(threads).min(rows);
    let pixel = tiling.width * g.channels_out;
    let pieces = (0..blocks).map(|block| {
        let rows = block * rows / blocks..(block + 1) * rows / blocks;
        ((tiling.line(rows.end) - tiling.line(rows.start)) * pixel, rows)
    });
    build(pieces.collect(), |scratch, rows, out| {
        let tiles = rows.len() * tiling.across;
        let size = Places::size(tiles, g.channels_in) + Places::size(tiles, g.channels_out);
        scratch.resize(size.max(scratch.len()), 0.0);
        arch.dispatch(ForwardBlock {
            images,
            kernels: &kernels,
            shift,
            rows,
            channels_out: g.channels_out,
            scratch,
            out,
        });
    })
    .0
}

/// The kernels of one place, `[channels in, padded channels out]`.
struct KernelPlace<'a> {
    weight: &'a [f32],
    place: usize,
    channels_in: usize,
    channels_out: usize,
    out: &'a mut [f32],
}

impl WithSimd for KernelPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { weight, place, channels_in, channels_out, out } = self;
        let taps = weight.len() / 9;
        let mut parts = [(0.0, 0); 9];
        let mut count = 0;
        for tap in 0..9 {
            let factor = kernel_factor(place, tap);
            if factor != 0.0 {
                parts[count] = (factor, tap * taps);
                count += 1;
            }
        }
        let padded = padded(channels_out);
        for i in 0..channels_in {
            for o in (0..channels_out).step_by(S::F32_LANES) {
                let mut sum = simd.splat_f32s(0.0);
                for &(factor, tap) in &parts[..count] {
                    sum = scaled(simd, factor, load(simd, weight, tap + i * channels_out + o), sum);
                }
                store(simd, out, i * padded + o, sum);
            }
        }
    }
}

/// G g G^T of every kernel: `[PLACES, channels in, padded channels out]`.
fn kernel_places(weight: &[f32], channels_in: usize, channels_out: usize) -> Vec<f32> {
    let arch = Arch::new();
    let plane = channels_in * padded(channels_out);
    build_even(PLACES * plane, plane, |_, place, out| {
        arch.dispatch(KernelPlace { weight, place, channels_in, channels_out, out });
    })
}

/// A block of the backward pass. `input_grad` begins with the inputs of the first row of tiles.
struct BackwardBlock<'a> {
    images: Images<'a>,
    grads: Images<'a>,
    turned: &'a [f32],
    rows: Range<usize>,
    first: bool,
    scratch: &'a mut [f32],
    input_grad: &'a mut [f32],
    kernel_grad: &'a mut [f32],
}

impl WithSimd for BackwardBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { images, grads, turned, rows, first, scratch, input_grad, kernel_grad } = self;
        let tiling = grads.tiling;
        let tiles = rows.len() * tiling.across;
        let (inputs, outputs) = scratch.split_at_mut(Places::size(tiles, images.channels));
        let mut inputs = Places::new(inputs, tiles, images.channels);
        let mut outputs = Places::new(outputs, tiles, grads.channels);

        // The kernels' gradient in places, A dY A^T times B^T d B, summed over the tiles.
        spread::<S, Inputs, SIDE>(simd, images, rows.clone(), &mut inputs);
        spread::<S, Gradients, TILE>(simd, grads, rows.clone(), &mut outputs);
        let plane = images.channels * outputs.channels;
        for (place, kernel_grad) in kernel_grad.chunks_exact_mut(plane).enumerate() {
            let left = Left {
                values: inputs.place(place),
                rows: images.channels,
                row_stride: 1,
                k: tiles,
                k_stride: inputs.channels,
            };
            multiply(simd, left, outputs.place(place), outputs.channels, !first, kernel_grad);
        }

        // The inputs' gradient: the convolution of the gradient with the turned kernels.
        spread::<S, Inputs, SIDE>(simd, grads, rows.clone(), &mut outputs);
        multiply_places(simd, &outputs, grads.channels, turned, &mut inputs);
        let (c_in, shrink) = (images.channels, images.shrink);
        let start = tiling.line(rows.start);
        for tile in 0..tiles {
            let row = rows.start + tile / tiling.across;
            let (line, left) = (tiling.line(row) - start, tile % tiling.across * TILE);
            let lines = TILE.min(tiling.height - row % tiling.down * TILE) >> shrink;
            let columns = TILE.min(tiling.width - left) >> shrink;
            for c in (0..c_in).step_by(S::F32_LANES) {
                let mut values = gather(simd, &inputs, tile, c);
                if shrink == 1 {
                    // The gradient of the enlargement: sums over 2x2 blocks.
                    for y in 0..TILE / 2 {
                        for x in 0..TILE / 2 {
                            let (a, b) = (values[2 * y], values[2 * y + 1]);
                            let top = simd.add_f32s(a[2 * x], a[2 * x + 1]);
                            let bottom = simd.add_f32s(b[2 * x], b[2 * x + 1]);
                            values[y][x] = simd.add_f32s(top, bottom);
                        }
                    }
                }
                for dy in 0..lines {
                    for dx in 0..columns {
                        let line = (line >> shrink) + dy;
                        let pixel = line * (tiling.width >> shrink) + (left >> shrink) + dx;
                        store(simd, &mut input_grad[pixel * c_in..][..c_in], c, values[dy][dx]);
                    }
                }
            }
        }
    }
}

/// The values of one tap of the kernels' gradient, of some input channels: G^T dU G, summed over
/// the shares in order.
struct KernelGradient<'a> {
    /// Of each share `[PLACES, channels in, padded channels out]`.
    shares: &'a [Vec<f32>],
    tap: usize,
    channels_in: usize,
    channels_out: usize,
    first: usize,
    out: &'a mut [f32],
}

impl WithSimd for KernelGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { shares, tap, channels_in, channels_out, first, out } = self;
        let padded = padded(channels_out);
        for (i, out) in out.chunks_exact_mut(channels_out).enumerate() {
            for o in (0..channels_out).step_by(S::F32_LANES) {
                let mut sum = simd.splat_f32s(0.0);
                for place in 0..PLACES {
                    let factor = kernel_factor(place, tap);
                    if factor == 0.0 {
                        continue;
                    }
                    let at = (place * channels_in + first + i) * padded + o;
                    for share in shares {
                        sum = scaled(simd, factor, load(simd, share, at), sum);
                    }
                }
                store(simd, out, o, sum);
            }
        }
    }
}

/// As [`super::conv::backward`], for a kernel of 3; `turned` are its weights turned by half a turn,
/// with their channels exchanged.
pub fn backward(
    input: &[f32],
    turned: &[f32],
    output_grad: &[f32],
    g: &ConvGeometry,
) -> ConvGradients {
    let arch = Arch::new();
    let (c_in, c_out) = (g.channels_in, g.channels_out);
    let tiling = Tiling::new(g.out_height(), g.out_width());
    let turned = &kernel_places(turned, c_out, c_in)[..];
    let (image_in, image_out) = (g.height * g.width * c_in, tiling.height * tiling.width * c_out);
    let block = tiling.block(padded(c_in) + padded(c_out));
    let plane = c_in * padded(c_out);
    let images =
        |values| Images { values, channels: c_in, tiling, shrink: usize::from(g.upsample) };
    let grads = |values| Images { values, channels: c_out, tiling, shrink: 0 };

    // One share of the batch a thread: each sums its own gradient of the kernels.
    let share = g.batch.div_ceil(rayon::current_num_threads()).max(1);
    let mut shift_grad = vec![0.0; g.batch * c_out];
    let pieces = shift_grad
        .chunks_mut(share * c_out)
        .zip(input.chunks(share * image_in))
        .zip(output_grad.chunks(share * image_out))
        .map(|((shift_grad, input), output_grad)| (input.len(), (shift_grad, input, output_grad)));
    let (input_grad, shares) = build(pieces.collect(), |scratch, share, mut input_grad| {
        let (shift_grad, input, output_grad) = share;
        for (sums, grad) in shift_grad.chunks_exact_mut(c_out).zip(output_grad.chunks(image_out)) {
            for pixel in grad.chunks_exact(c_out) {
                super::conv::add(sums, pixel);
            }
        }
        let mut kernel_grad = vec![0.0; PLACES * plane];
        let rows = output_grad.len() / image_out * tiling.down;
        let blocks = rows.div_ceil(block);
        for index in 0..blocks {
            let rows = index * rows / blocks..(index + 1) * rows / blocks;
            let lines =
                (tiling.line(rows.end) - tiling.line(rows.start)) * g.height / tiling.height;
            let (here, rest) = input_grad.split_at_mut(lines * g.width * c_in);
            input_grad = rest;
            let tiles = rows.len() * tiling.across;
            let size = Places::size(tiles, c_in) + Places::size(tiles, c_out);
            scratch.resize(size.max(scratch.len()), 0.0);
            arch.dispatch(BackwardBlock {
                images: images(input),
                grads: grads(output_grad),
                turned,
                rows,
                first: index == 0,
                scratch,
                input_grad: here,
                kernel_grad: &mut kernel_grad,
            });
        }
        kernel_grad
    });

    let rows = c_in.div_ceil(4);
    let pieces = (0..9).flat_map(|tap| {
        (0..c_in).step_by(rows).map(move |first| (rows.min(c_in - first) * c_out, (tap, first)))
    });
    let (weight_grad, _) = build(pieces.collect(), |_, (tap, first), out| {
        arch.dispatch(KernelGradient {
            shares: &shares,
            tap,
            channels_in: c_in,
            channels_out: c_out,
            first,
            out,
        });
    });
    ConvGradients { input: input_grad, weight: weight_grad, shift: shift_grad }
}
