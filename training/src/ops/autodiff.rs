//! How gradients flow through the operations: each saves its inputs and calls its own backward.

use burn::backend::Backend;
use burn::backend::tensor::FloatTensor;
use burn_autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind};
use burn_autodiff::{Autodiff, NodeId};

use super::TrainingOps;

/// The three inputs of an operation and its settings, kept for the backward pass.
type Saved<B, S> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>, S);

fn register<B: Backend>(
    parents: [Option<NodeId>; 3],
    values: (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
    grads: &mut Gradients,
) {
    for (parent, value) in parents.into_iter().zip([values.0, values.1, values.2]) {
        if let Some(node) = parent {
            grads.register::<B>(node, value);
        }
    }
}

#[derive(Debug)]
struct Conv2d;

impl<B: Backend + TrainingOps> Backward<B, 3> for Conv2d {
    type State = Saved<B, bool>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (input, weight, shift, upsample) = ops.state;
        let values = B::nhwc_conv2d_backward(input, weight, shift, grad, upsample);
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), values, grads);
    }
}

#[derive(Debug)]
struct GroupNorm;

impl<B: Backend + TrainingOps> Backward<B, 3> for GroupNorm {
    type State = Saved<B, (usize, bool)>;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (input, gamma, beta, (groups, silu)) = ops.state;
        let values = B::nhwc_group_norm_backward(input, gamma, beta, grad, groups, silu);
        register::<B>(ops.parents.map(|node| node.map(|node| node.id)), values, grads);
    }
}

#[derive(Debug)]
struct Attention;

impl<B: Backend + TrainingOps> Backward<B, 1> for Attention {
    type State = (FloatTensor<B>, usize);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (qkv, heads) = ops.state;
        let [parent] = ops.parents;
        if let Some(node) = parent {
            grads.register::<B>(node.id, B::nhwc_attention_backward(qkv, grad, heads));
        }
    }
}

impl<B: Backend + TrainingOps, C: CheckpointStrategy> TrainingOps for Autodiff<B, C> {
    fn nhwc_conv2d(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        upsample: bool,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), weight.node(), shift.node()];
        let (input, weight, shift) =
            (input.into_primitive(), weight.into_primitive(), shift.into_primitive());
        let out = B::nhwc_conv2d(input.clone(), weight.clone(), shift.clone(), upsample);
        match Conv2d.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, weight, shift, upsample), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn nhwc_group_norm(
        input: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: FloatTensor<Self>,
        groups: usize,
        silu: bool,
    ) -> FloatTensor<Self> {
        let nodes = [input.node(), gamma.node(), beta.node()];
        let (input, gamma, beta) =
            (input.into_primitive(), gamma.into_primitive(), beta.into_primitive());
        let out = B::nhwc_group_norm(input.clone(), gamma.clone(), beta.clone(), groups, silu);
        match GroupNorm.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((input, gamma, beta, (groups, silu)), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }

    fn nhwc_attention(qkv: FloatTensor<Self>, heads: usize) -> FloatTensor<Self> {
        let nodes = [qkv.node()];
        let qkv = qkv.into_primitive();
        let out = B::nhwc_attention(qkv.clone(), heads);
        match Attention.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish((qkv, heads), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}
