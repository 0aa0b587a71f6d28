//! The training operations the library owns: convolution, group normalisation and attention on NHWC
//! tensors, and the optimiser's step.
//!
//! They are a burn backend extension. On the CPU (burn's flex backend) they run the kernels of
//! [`conv`], [`group_norm()`] and [`mod@attention`], with hand-written gradients; every other backend keeps burn's own
//! operations, composed in [`composed`], which the tests also use as the reference.
//!
//! This module knows tensors, not networks: it must not name a layer, a parameter or a file.

pub mod adamw;
pub mod attention;
mod autodiff;
pub mod composed;
pub mod conv;
mod flex;
mod gemm;
pub mod group_norm;
pub mod memory;
mod pieces;
mod simd;
mod winograd;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

#[cfg(feature = "_gpu")]
impl TrainingOps for burn::backend::Cube {}

/// Backend operations behind [`conv2d`] and [`group_norm()`]. Shapes are as documented there.
#[backend_extension(Cube: cfg(feature = "_gpu"), Flex, Autodiff, Fusion: cfg(feature = "_gpu"))]
pub trait TrainingOps: Backend {
    /// Forward pass of [`conv2d`].
    #[fusion(default)]
    fn nhwc_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        upsample: bool,
    ) -> FloatTensor<Self> {
        composed::conv2d::<Self>(input, weight, shift, upsample)
    }

    /// Gradients of [`conv2d`] with respect to input, weight and shift.
    #[fusion(default)]
    fn nhwc_conv2d_backward(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        upsample: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::conv2d_backward::<Self>(input, weight, shift, output_grad, upsample)
    }

    /// Forward pass of [`group_norm()`].
    #[fusion(default)]
    fn nhwc_group_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        groups: usize,
        silu: bool,
    ) -> FloatTensor<Self> {
        composed::group_norm::<Self>(input, gamma, beta, groups, silu)
    }

    /// Gradients of [`group_norm()`] with respect to input, gamma and beta.
    #[fusion(default)]
    fn nhwc_group_norm_backward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        groups: usize,
        silu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        composed::group_norm_backward::<Self>(input, gamma, beta, output_grad, groups, silu)
    }

    /// Forward pass of [`attention()`].
    #[fusion(default)]
    fn nhwc_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        composed::attention::<Self>(qkv, heads)
    }

    /// The gradient of [`attention()`] with respect to its input.
    #[fusion(default)]
    fn nhwc_attention_backward(
        qkv: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        composed::attention_backward::<Self>(qkv, output_grad, heads)
    }
}

/// Convolution with "same" zero padding and stride 1 on an NHWC tensor, plus a per-channel shift.
///
/// * `input`: `[n, h, w, c_in]`
/// * `weight`: `[kernel, kernel, c_in, c_out]`, `kernel` 1 or 3
/// * `shift`: `[1, c_out]` (a bias) or `[n, c_out]` (bias and time embedding of each item)
/// * `upsample`: convolve the nearest-neighbour 2x enlargement of `input`, which is never stored
///
/// Returns `[n, h, w, c_out]`, or `[n, 2h, 2w, c_out]` with `upsample`.
///
/// # Panics
/// When the shapes do not fit together, as burn's own operations do.
pub fn conv2d(input: Tensor<4>, weight: Tensor<4>, shift: Tensor<2>, upsample: bool) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as TrainingOps>::nhwc_conv2d(
        input.into_dispatch(),
        weight.into_dispatch(),
        shift.into_dispatch(),
        upsample,
    ))
}

/// Group normalisation (Wu and He 2018, eq. 1 to 6; epsilon [`group_norm::EPSILON`]) of an NHWC
/// tensor, followed by SiLU where `silu` is set.
///
/// * `input`: `[n, h, w, c]`, `c` a multiple of `groups`
/// * `gamma`, `beta`: `[c]`
///
/// # Panics
/// When the shapes do not fit together, as burn's own operations do.
pub fn group_norm(
    input: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    groups: usize,
    silu: bool,
) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as TrainingOps>::nhwc_group_norm(
        input.into_dispatch(),
        gamma.into_dispatch(),
        beta.into_dispatch(),
        groups,
        silu,
    ))
}

/// Scaled dot-product attention (Vaswani et al. 2017, equation 1) over the pixels of each image.
///
/// * `qkv`: `[n, h, w, 3 c]`: queries, keys and values in turn, each cut into `heads` of `c / heads`
///   channels
///
/// Returns `[n, h, w, c]`.
///
/// # Panics
/// When the shapes do not fit together, as burn's own operations do.
pub fn attention(qkv: Tensor<4>, heads: usize) -> Tensor<4> {
    Tensor::from_dispatch(<Dispatch as TrainingOps>::nhwc_attention(qkv.into_dispatch(), heads))
}
