//! The operations composed from burn's own: for backends without kernels of ours, and the
//! reference of the tests.

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata};
use burn::tensor::{Shape, ops::ConvOptions};

use super::group_norm::EPSILON;

fn same_padding(kernel: usize) -> ConvOptions<2> {
    let reach = kernel / 2;
    ConvOptions::new([1, 1], [reach, reach], [1, 1], 1)
}

fn nchw<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_permute(x, &[0, 3, 1, 2])
}

fn nhwc<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_permute(x, &[0, 2, 3, 1])
}

/// `[n, h, w, c]` to `[n, 2h, 2w, c]`, nearest neighbour.
fn enlarge<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let s = x.shape();
    let (n, h, w, c) = (s[0], s[1], s[2], s[3]);
    let x = B::float_reshape(x, Shape::from([n, h, 1, w, 1, c]));
    let x = B::float_expand(x, Shape::from([n, h, 2, w, 2, c]));
    B::float_reshape(x, Shape::from([n, 2 * h, 2 * w, c]))
}

/// The gradient of [`enlarge`]: sums over 2x2 blocks.
fn pool_sum<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    let s = x.shape();
    let (n, h, w, c) = (s[0], s[1] / 2, s[2] / 2, s[3]);
    let x = B::float_reshape(x, Shape::from([n, h, 2, w, 2, c]));
    let x = B::float_sum_dim(B::float_sum_dim(x, 2), 4);
    B::float_reshape(x, Shape::from([n, h, w, c]))
}

/// See [`super::conv2d`].
pub fn conv2d<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    shift: FloatTensor<B>,
    upsample: bool,
) -> FloatTensor<B> {
    let (kernel, c_out) = (weight.shape()[0], weight.shape()[3]);
    let input = if upsample { enlarge::<B>(input) } else { input };
    let weight = B::float_permute(weight, &[3, 2, 0, 1]);
    let out = nhwc::<B>(B::conv2d(nchw::<B>(input), weight, None, same_padding(kernel)));
    let items = shift.shape()[0];
    B::float_add(out, B::float_reshape(shift, Shape::from([items, 1, 1, c_out])))
}

/// Gradients of [`conv2d`] with respect to input, weight and shift.
pub fn conv2d_backward<B: Backend>(
    input: FloatTensor<B>,
    weight: FloatTensor<B>,
    shift: FloatTensor<B>,
    output_grad: FloatTensor<B>,
    upsample: bool,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (kernel, c_out) = (weight.shape()[0], weight.shape()[3]);
    let items = shift.shape()[0];
    let shift_grad = B::float_sum_dim(B::float_sum_dim(output_grad.clone(), 1), 2);
    let shift_grad = if items == 1 { B::float_sum_dim(shift_grad, 0) } else { shift_grad };
    let shift_grad = B::float_reshape(shift_grad, Shape::from([items, c_out]));

    let x = nchw::<B>(if upsample { enlarge::<B>(input) } else { input });
    let w = B::float_permute(weight, &[3, 2, 0, 1]);
    let grad = nchw::<B>(output_grad);
    let options = same_padding(kernel);
    let x_grad = B::conv2d_x_backward(x.clone(), w.clone(), grad.clone(), options.clone());
    let w_grad = B::conv2d_weight_backward(x, w, grad, options);
    let x_grad = nhwc::<B>(x_grad);
    let x_grad = if upsample { pool_sum::<B>(x_grad) } else { x_grad };
    (x_grad, B::float_permute(w_grad, &[2, 3, 1, 0]), shift_grad)
}

/// A normalisation taken apart: the normalised input, 1 / standard deviation, and gamma, beta as
/// `[1, 1, groups, channels / groups]`; the first two as `[n, pixels, groups, channels / groups]`.
struct Normalised<B: Backend> {
    normal: FloatTensor<B>,
    rstd: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    grouped: Shape,
}

fn group_mean<B: Backend>(x: FloatTensor<B>) -> FloatTensor<B> {
    B::float_mean_dim(B::float_mean_dim(x, 1), 3)
}

fn normalise<B: Backend>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    groups: usize,
) -> Normalised<B> {
    let s = input.shape();
    let (n, pixels, size) = (s[0], s[1] * s[2], s[3] / groups);
    let grouped = Shape::from([n, pixels, groups, size]);
    let lane = Shape::from([1, 1, groups, size]);
    let x = B::float_reshape(input, grouped.clone());
    let centred = B::float_sub(x.clone(), group_mean::<B>(x));
    let variance = group_mean::<B>(B::float_mul(centred.clone(), centred.clone()));
    let rstd = B::float_recip(B::float_sqrt(B::float_add_scalar(variance, EPSILON.into())));
    Normalised {
        normal: B::float_mul(centred, rstd.clone()),
        rstd,
        gamma: B::float_reshape(gamma, lane.clone()),
        beta: B::float_reshape(beta, lane),
        grouped,
    }
}

fn sigmoid<B: Backend>(z: FloatTensor<B>) -> FloatTensor<B> {
    B::float_recip(B::float_add_scalar(B::float_exp(B::float_neg(z)), 1.0f32.into()))
}

/// See [`super::group_norm()`].
pub fn group_norm<B: Backend>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    groups: usize,
    silu: bool,
) -> FloatTensor<B> {
    let shape = input.shape();
    let p = normalise::<B>(input, gamma, beta, groups);
    let z = B::float_add(B::float_mul(p.normal, p.gamma), p.beta);
    let out = if silu { B::float_mul(z.clone(), sigmoid::<B>(z)) } else { z };
    B::float_reshape(out, shape)
}

/// Gradients of [`group_norm()`] with respect to input, gamma and beta.
pub fn group_norm_backward<B: Backend>(
    input: FloatTensor<B>,
    gamma: FloatTensor<B>,
    beta: FloatTensor<B>,
    output_grad: FloatTensor<B>,
    groups: usize,
    silu: bool,
) -> (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>) {
    let (shape, lane) = (input.shape(), gamma.shape());
    let p = normalise::<B>(input, gamma, beta, groups);
    let mut d = B::float_reshape(output_grad, p.grouped.clone());
    if silu {
        let z = B::float_add(B::float_mul(p.normal.clone(), p.gamma.clone()), p.beta);
        let s = sigmoid::<B>(z.clone());
        // silu' = s (1 + z (1 - s))
        let rest = B::float_add_scalar(B::float_neg(s.clone()), 1.0f32.into());
        let slope = B::float_add_scalar(B::float_mul(z, rest), 1.0f32.into());
        d = B::float_mul(d, B::float_mul(s, slope));
    }
    let over_batch = |x| B::float_sum_dim(B::float_sum_dim(x, 0), 1);
    let gamma_grad = over_batch(B::float_mul(d.clone(), p.normal.clone()));
    let beta_grad = over_batch(d.clone());
    let d = B::float_mul(d, p.gamma);
    let along = B::float_mul(p.normal.clone(), group_mean::<B>(B::float_mul(d.clone(), p.normal)));
    let centred = B::float_sub(d.clone(), group_mean::<B>(d));
    let input_grad = B::float_mul(B::float_sub(centred, along), p.rstd);
    (
        B::float_reshape(input_grad, shape),
        B::float_reshape(gamma_grad, lane.clone()),
        B::float_reshape(beta_grad, lane),
    )
}

/// Queries, keys, values and the weights of each query over all pixels: `[n, heads, pixels, _]`.
struct Attended<B: Backend> {
    parts: [FloatTensor<B>; 3],
    weights: FloatTensor<B>,
    scale: f32,
}

fn attend<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> Attended<B> {
    let s = qkv.shape();
    let (n, pixels, size) = (s[0], s[1] * s[2], s[3] / (3 * heads));
    let split = B::float_reshape(qkv, Shape::from([n, pixels, 3, heads, size]));
    let split = B::float_permute(split, &[2, 0, 3, 1, 4]);
    let parts = [0, 1, 2].map(|part| {
        let slices = [part..part + 1, 0..n, 0..heads, 0..pixels, 0..size].map(|r| r.into());
        let part = B::float_slice(split.clone(), &slices);
        B::float_reshape(part, Shape::from([n, heads, pixels, size]))
    });
    let scale = 1.0 / (size as f32).sqrt();
    let keys = B::float_swap_dims(parts[1].clone(), 2, 3);
    let scores = B::float_matmul(parts[0].clone(), keys);
    let scores = B::float_mul_scalar(scores, scale.into());
    let most = B::float_max_dim(scores.clone(), 3);
    let powers = B::float_exp(B::float_sub(scores, most));
    let weights = B::float_div(powers.clone(), B::float_sum_dim(powers, 3));
    Attended { parts, weights, scale }
}

/// See [`super::attention()`].
pub fn attention<B: Backend>(qkv: FloatTensor<B>, heads: usize) -> FloatTensor<B> {
    let s = qkv.shape();
    let Attended { parts: [_, _, values], weights, .. } = attend::<B>(qkv, heads);
    let mixed = B::float_permute(B::float_matmul(weights, values), &[0, 2, 1, 3]);
    B::float_reshape(mixed, Shape::from([s[0], s[1], s[2], s[3] / 3]))
}

/// The gradient of [`attention`] with respect to its input.
pub fn attention_backward<B: Backend>(
    qkv: FloatTensor<B>,
    output_grad: FloatTensor<B>,
    heads: usize,
) -> FloatTensor<B> {
    let s = qkv.shape();
    let (n, pixels, size) = (s[0], s[1] * s[2], s[3] / (3 * heads));
    let Attended { parts: [queries, keys, values], weights, scale } = attend::<B>(qkv, heads);
    let grad = B::float_reshape(output_grad, Shape::from([n, pixels, heads, size]));
    let grad = B::float_permute(grad, &[0, 2, 1, 3]);
    let across = |x| B::float_swap_dims(x, 2, 3);
    let values_grad = B::float_matmul(across(weights.clone()), grad.clone());
    let weights_grad = B::float_matmul(grad, across(values));
    let along = B::float_sum_dim(B::float_mul(weights.clone(), weights_grad.clone()), 3);
    let scores_grad = B::float_mul(weights, B::float_sub(weights_grad, along));
    let scores_grad = B::float_mul_scalar(scores_grad, scale.into());
    let queries_grad = B::float_matmul(scores_grad.clone(), keys);
    let keys_grad = B::float_matmul(across(scores_grad), queries);
    let grads = [queries_grad, keys_grad, values_grad]
        .map(|grad| B::float_reshape(grad, Shape::from([1, n, heads, pixels, size])));
    let grads = B::float_permute(B::float_cat(grads.to_vec(), 0), &[1, 3, 0, 2, 4]);
    B::float_reshape(grads, s)
}
