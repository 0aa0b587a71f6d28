//! Group normalisation with an optional SiLU, on NHWC slices: forward pass and gradients.
//!
//! Statistics run over lanes (channels), so that every loop is a vector loop over contiguous
//! values; the vector width is chosen at run time. The mean is taken before the squares are
//! summed: a nearly constant image has a variance far below its mean square.

use pulp::{Arch, NullaryFnOnce};

use super::pieces::{build, build_even};

/// Added to the variance; PyTorch's default for GroupNorm.
pub const EPSILON: f32 = 1e-5;

/// Sizes of one normalisation.
#[derive(Clone, Copy, Debug)]
pub struct NormGeometry {
    /// Images in the batch.
    pub batch: usize,
    /// Pixels of one image.
    pub pixels: usize,
    /// Channels, a multiple of `groups`.
    pub channels: usize,
    /// Groups the channels fall into.
    pub groups: usize,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// Gradients of one normalisation.
pub struct NormGradients {
    pub input: Vec<f32>,
    pub gamma: Vec<f32>,
    pub beta: Vec<f32>,
}

/// `exp(x)` to a relative error of 2e-7 for |x| <= 87, clamped beyond: a polynomial that
/// vectorises, where the library function does not.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to an integer and leaves it in the low bits of the mantissa.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 87.0);
    let rounded = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = rounded - ROUND;
    let r = n.mul_add(-LN2_LOW, n.mul_add(-LN2_HIGH, x));
    // Taylor series of exp on [-ln(2)/2, ln(2)/2]; the first term left out is r^8/8! < 6e-9.
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = r.mul_add(p, c);
    }
    let power = f32::from_bits(rounded.to_bits().wrapping_add(127) << 23);
    p * power
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Scratch of one thread: a value a channel.
struct Lanes {
    mean: Vec<f32>,
    rstd: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Lanes {
    fn new(channels: usize) -> Self {
        let lane = || vec![0.0; channels];
        Self { mean: lane(), rstd: lane(), first: lane(), second: lane() }
    }
}

/// Replaces each value of `lanes` by the mean over its group, times `scale`.
#[inline(always)]
fn share_in_group(lanes: &mut [f32], groups: usize, scale: f32) {
    let size = lanes.len() / groups;
    for group in lanes.chunks_exact_mut(size) {
        let sum: f32 = group.iter().sum();
        group.fill(sum * scale);
    }
}

#[inline(always)]
fn statistics(image: &[f32], g: &NormGeometry, lanes: &mut Lanes) {
    let c = g.channels;
    let scale = 1.0 / (g.pixels * c / g.groups) as f32;
    let (mean, rstd) = (&mut lanes.mean[..c], &mut lanes.rstd[..c]);
    mean.fill(0.0);
    for pixel in image.chunks_exact(c) {
        for i in 0..c {
            mean[i] += pixel[i];
        }
    }
    share_in_group(mean, g.groups, scale);
    rstd.fill(0.0);
    for pixel in image.chunks_exact(c) {
        for i in 0..c {
            let d = pixel[i] - mean[i];
            rstd[i] = d.mul_add(d, rstd[i]);
        }
    }
    share_in_group(rstd, g.groups, scale);
    for value in rstd {
        *value = 1.0 / (*value + EPSILON).sqrt();
    }
}

/// The forward pass of one image. A struct, not a closure: only its `call` is sure to be compiled
/// for the vector unit that was found (a closure may reach it through a call of plain code).
struct ForwardImage<'a> {
    image: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    g: &'a NormGeometry,
    lanes: &'a mut Lanes,
    out: &'a mut [f32],
}

impl NullaryFnOnce for ForwardImage<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { image, gamma, beta, g, lanes, out } = self;
        statistics(image, g, lanes);
        let c = g.channels;
        let (mean, scale, beta) = (&lanes.mean[..c], &mut lanes.first[..c], &beta[..c]);
        for i in 0..c {
            scale[i] = gamma[i] * lanes.rstd[i];
        }
        for (pixel, out) in image.chunks_exact(c).zip(out.chunks_exact_mut(c)) {
            for i in 0..c {
                let z = (pixel[i] - mean[i]).mul_add(scale[i], beta[i]);
                out[i] = if g.silu { z * sigmoid(z) } else { z };
            }
        }
    }
}

/// The gradients of one image: writes the input gradient; adds to `gamma_grad` and `beta_grad`.
struct BackwardImage<'a> {
    image: &'a [f32],
    gamma: &'a [f32],
    beta: &'a [f32],
    output_grad: &'a [f32],
    g: &'a NormGeometry,
    lanes: &'a mut Lanes,
    input_grad: &'a mut [f32],
    gamma_grad: &'a mut [f32],
    beta_grad: &'a mut [f32],
}

impl NullaryFnOnce for BackwardImage<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { image, gamma, beta, output_grad, g, lanes, input_grad, gamma_grad, beta_grad } =
            self;
        statistics(image, g, lanes);
        let c = g.channels;
        let (mean, rstd) = (&lanes.mean[..c], &lanes.rstd[..c]);
        let (sum, dot) = (&mut lanes.first[..c], &mut lanes.second[..c]);
        let (gamma, beta) = (&gamma[..c], &beta[..c]);
        sum.fill(0.0);
        dot.fill(0.0);
        let pixels = image.chunks_exact(c).zip(output_grad.chunks_exact(c));
        for ((pixel, grad), out) in pixels.zip(input_grad.chunks_exact_mut(c)) {
            for i in 0..c {
                let normal = (pixel[i] - mean[i]) * rstd[i];
                let z = normal.mul_add(gamma[i], beta[i]);
                let mut d = grad[i];
                if g.silu {
                    let s = sigmoid(z);
                    d *= s * (1.0 - s).mul_add(z, 1.0);
                }
                sum[i] += d;
                dot[i] = d.mul_add(normal, dot[i]);
                out[i] = d;
            }
        }
        for i in 0..c {
            gamma_grad[i] += dot[i];
            beta_grad[i] += sum[i];
            sum[i] *= gamma[i];
            dot[i] *= gamma[i];
        }
        // d normal / d input of a group: remove the parts along the constant and along itself.
        let scale = 1.0 / (g.pixels * c / g.groups) as f32;
        share_in_group(sum, g.groups, scale);
        share_in_group(dot, g.groups, scale);
        for (pixel, out) in image.chunks_exact(c).zip(input_grad.chunks_exact_mut(c)) {
            for i in 0..c {
                let normal = (pixel[i] - mean[i]) * rstd[i];
                let d = gamma[i].mul_add(out[i], -sum[i]);
                out[i] = rstd[i] * (-normal).mul_add(dot[i], d);
            }
        }
    }
}

fn check(g: &NormGeometry, input: &[f32], gamma: &[f32], beta: &[f32]) {
    assert!(
        g.groups > 0 && g.channels.is_multiple_of(g.groups),
        "group norm: {} channels do not divide into {} groups",
        g.channels,
        g.groups
    );
    assert_eq!(input.len(), g.batch * g.pixels * g.channels, "group norm input size");
    assert!(gamma.len() == g.channels && beta.len() == g.channels, "group norm parameter size");
}

/// Normalises each group of each image to mean 0 and variance 1, scales by `gamma`, adds `beta`.
pub fn forward(input: &[f32], gamma: &[f32], beta: &[f32], g: &NormGeometry) -> Vec<f32> {
    check(g, input, gamma, beta);
    let arch = Arch::new();
    let image = g.pixels * g.channels;
    build_even(input.len(), image, |_, index, out| {
        let image = &input[index * image..][..image];
        let lanes = &mut Lanes::new(g.channels);
        arch.dispatch(ForwardImage { image, gamma, beta, g, lanes, out });
    })
}

/// Gradients of [`forward`] for the gradient `output_grad` of its output.
pub fn backward(
    input: &[f32],
    gamma: &[f32],
    beta: &[f32],
    output_grad: &[f32],
    g: &NormGeometry,
) -> NormGradients {
    check(g, input, gamma, beta);
    assert_eq!(output_grad.len(), input.len(), "group norm gradient size");
    let arch = Arch::new();
    let (image, c) = (g.pixels * g.channels, g.channels);
    // Fixed shares, summed in order: the result does not depend on which thread was first.
    let share = g.batch.div_ceil(rayon::current_num_threads()).max(1) * image;
    let pieces = input.chunks(share).zip(output_grad.chunks(share));
    let pieces = pieces.map(|(input, output_grad)| (input.len(), (input, output_grad)));
    let (input_grad, partial) = build(pieces.collect(), |_, share, input_grad| {
        let (input, output_grad) = share;
        let mut lanes = Lanes::new(c);
        let (mut gamma_grad, mut beta_grad) = (vec![0.0; c], vec![0.0; c]);
        let items = input_grad
            .chunks_exact_mut(image)
            .zip(input.chunks_exact(image))
            .zip(output_grad.chunks_exact(image));
        for ((input_grad, input), output_grad) in items {
            arch.dispatch(BackwardImage {
                image: input,
                gamma,
                beta,
                output_grad,
                g,
                lanes: &mut lanes,
                input_grad,
                gamma_grad: &mut gamma_grad,
                beta_grad: &mut beta_grad,
            });
        }
        (gamma_grad, beta_grad)
    });
    let (mut gamma_grad, mut beta_grad) = (vec![0.0; c], vec![0.0; c]);
    for (gammas, betas) in partial {
        for i in 0..c {
            gamma_grad[i] += gammas[i];
            beta_grad[i] += betas[i];
        }
    }
    NormGradients { input: input_grad, gamma: gamma_grad, beta: beta_grad }
}

#[cfg(test)]
mod tests {
    #[test]
    fn exp_agrees_with_the_library_function() {
        for i in -8700..=8700 {
            let x = i as f32 * 0.01;
            let (found, expected) = (super::exp(x) as f64, (x as f64).exp());
            assert!((found / expected - 1.0).abs() < 3e-7, "exp({x}) = {found}, not {expected}");
        }
        assert!(super::exp(-1e30) > 0.0 && super::exp(1e30).is_finite());
    }
}
