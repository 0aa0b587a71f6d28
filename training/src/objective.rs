//! What a step of training makes small.

use burn::tensor::Tensor;

use crate::batches::Batch;
use crate::config::Config;
use crate::forward::forward;
use crate::parameters::Parameters;

/// The loss of a batch, one value, with the graph of its gradients: mean square error. `tracked` are the
/// weights as leaves of that graph.
pub fn loss(config: &Config, tracked: &Parameters, batch: &Batch) -> Tensor<1> {
    let noisy = batch.noisy.clone().autodiff();
    let out = forward(&config.network(), tracked, noisy, &batch.timesteps, &batch.labels);
    (out - batch.target.clone().autodiff()).square().mean()
}
