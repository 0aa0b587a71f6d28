//! The kernels as operations of burn's CPU backend.

use burn::backend::Flex;
use burn::backend::tensor::FloatTensor;
use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};

use super::attention::{self, AttentionGeometry};
use super::conv::{self, ConvGeometry};
use super::group_norm::{self, NormGeometry};
use super::{TrainingOps, composed};

fn is_f32(tensor: &FlexTensor) -> bool {
    tensor.dtype() == DType::F32
}

fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or(&[])
}

fn tensor(values: Vec<f32>, shape: Shape) -> FlexTensor {
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(shape), DType::F32)
}

fn conv_geometry(input: &FlexTensor, weight: &FlexTensor, upsample: bool) -> ConvGeometry {
    let (input, weight) = (input.layout().shape(), weight.layout().shape());
    assert!(
        weight[0] == weight[1] && weight[2] == input[3],
        "convolution of {input:?} by weights {weight:?}"
    );
    ConvGeometry {
        batch: input[0],
        height: input[1],
        width: input[2],
        channels_in: input[3],
        channels_out: weight[3],
        kernel: weight[0],
        upsample,
    }
}

fn norm_geometry(input: &FlexTensor, groups: usize, silu: bool) -> NormGeometry {
    let shape = input.layout().shape();
    NormGeometry { batch: shape[0], pixels: shape[1] * shape[2], channels: shape[3], groups, silu }
}

fn attention_geometry(shape: &Shape, heads: usize) -> AttentionGeometry {
    let (pixels, channels) = (shape[1] * shape[2], shape[3] / 3);
    AttentionGeometry { batch: shape[0], pixels, channels, heads }
}

impl TrainingOps for Flex {
    fn nhwc_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        upsample: bool,
    ) -> FloatTensor<Self> {
        if !is_f32(&input) {
            return composed::conv2d::<Self>(input, weight, shift, upsample);
        }
        let g = conv_geometry(&input, &weight, upsample);
        let (x, w, s) = (input.to_contiguous(), weight.to_contiguous(), shift.to_contiguous());
        let out = conv::forward(values(&x), values(&w), values(&s), &g);
        tensor(out, Shape::from([g.batch, g.out_height(), g.out_width(), g.channels_out]))
    }

    fn nhwc_conv2d_backward(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        upsample: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !is_f32(&input) {
            return composed::conv2d_backward::<Self>(input, weight, shift, output_grad, upsample);
        }
        let g = conv_geometry(&input, &weight, upsample);
        let (x, w, s) = (input.to_contiguous(), weight.to_contiguous(), shift.to_contiguous());
        let grad = output_grad.to_contiguous();
        let grads = conv::backward(values(&x), values(&w), values(&s), values(&grad), &g);
        (
            tensor(grads.input, x.layout().shape().clone()),
            tensor(grads.weight, w.layout().shape().clone()),
            tensor(grads.shift, s.layout().shape().clone()),
        )
    }

    fn nhwc_group_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        groups: usize,
        silu: bool,
    ) -> FloatTensor<Self> {
        if !is_f32(&input) {
            return composed::group_norm::<Self>(input, gamma, beta, groups, silu);
        }
        let g = norm_geometry(&input, groups, silu);
        let (x, gamma, beta) = (input.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
        let out = group_norm::forward(values(&x), values(&gamma), values(&beta), &g);
        tensor(out, x.layout().shape().clone())
    }

    fn nhwc_group_norm_backward(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        groups: usize,
        silu: bool,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        if !is_f32(&input) {
            return composed::group_norm_backward::<Self>(
                input,
                gamma,
                beta,
                output_grad,
                groups,
                silu,
            );
        }
        let g = norm_geometry(&input, groups, silu);
        let (x, gamma, beta) = (input.to_contiguous(), gamma.to_contiguous(), beta.to_contiguous());
        let grad = output_grad.to_contiguous();
        let grads =
            group_norm::backward(values(&x), values(&gamma), values(&beta), values(&grad), &g);
        let lane = || Shape::from([g.channels]);
        (
            tensor(grads.input, x.layout().shape().clone()),
            tensor(grads.gamma, lane()),
            tensor(grads.beta, lane()),
        )
    }

    fn nhwc_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        if !is_f32(&qkv) {
            return composed::attention::<Self>(qkv, heads);
        }
        let x = qkv.to_contiguous();
        let s = x.layout().shape();
        let g = attention_geometry(s, heads);
        tensor(attention::forward(values(&x), &g), Shape::from([s[0], s[1], s[2], g.channels]))
    }

    fn nhwc_attention_backward(
        qkv: FloatTensor<Self>,
        output_grad: FloatTensor<Self>,
        heads: usize,
    ) -> FloatTensor<Self> {
        if !is_f32(&qkv) {
            return composed::attention_backward::<Self>(qkv, output_grad, heads);
        }
        let (x, grad) = (qkv.to_contiguous(), output_grad.to_contiguous());
        let g = attention_geometry(x.layout().shape(), heads);
        let grad = attention::backward(values(&x), values(&grad), &g);
        tensor(grad, x.layout().shape().clone())
    }
}
