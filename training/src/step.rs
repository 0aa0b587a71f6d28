//! One step of training: the loss of its batches, their gradient, and the optimiser's move along it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};

use crate::batches::{Batch, Batches};
use crate::config::Config;
use crate::fit::read_data;
use crate::objective::Objective;
use crate::optimizer::TrainState;
use crate::parameters::{Parameters, specs};
use crate::workers;

/// What a step was like.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The mean loss of its images, before the move.
    pub loss: f64,
    /// The length of the gradient, before it was shortened to `train.max_grad_norm`.
    pub grad_norm: f64,
}

/// Takes the step after `state.step`.
///
/// Errors: where the loss or the gradient is no finite number; then `state` is unchanged.
pub fn take(config: &Config, batches: &mut Batches, state: &mut TrainState) -> Result<Taken> {
    let step = state.step;
    let advice = || {
        format!(
            "step {}: training does not converge; the last checkpoint is kept. Try a lower \
             train.learning_rate, more train.warmup_steps or a lower train.max_grad_norm",
            step + 1
        )
    };
    let (loss, gradients) = gradients(config, batches, step, &state.parameters)?;
    ensure!(loss.is_finite(), "the loss is {loss} at {}", advice());
    let grad_norm = state.update(gradients, &config.train).with_context(advice)?;
    Ok(Taken { loss, grad_norm })
}

/// The loss of the images of step `step` and its gradient by each weight, in their order, without those
/// that it does not depend on. Both are means over the images of the step.
///
/// Every thread of the current rayon pool computes a share of each batch by itself: so they meet once
/// a batch, not in every operation.
pub fn gradients(
    config: &Config,
    batches: &mut Batches,
    step: usize,
    parameters: &Parameters,
) -> Result<(f64, Vec<Option<Tensor<1>>>)> {
    let objective = Objective::new(config)?;
    let images = config.train.batch * config.train.accumulate;
    let mut sum = Share::default();
    for part in 0..config.train.accumulate {
        let batch = batches.batch(step, part)?;
        let shares = workers::each_share(batch.len(), |items| {
            let weight = items.len() as f64 / images as f64;
            Share::of(&objective, parameters, &batch.slice(items), weight)
        })?;
        // In the order of the images, whoever was first.
        shares.into_iter().for_each(|share| sum.add(share));
    }
    Ok((sum.loss, sum.gradients))
}

/// What some of the images of a step add to its loss and gradient.
#[derive(Default)]
struct Share {
    loss: f64,
    gradients: Vec<Option<Tensor<1>>>,
}

impl Share {
    fn of(objective: &Objective, parameters: &Parameters, batch: &Batch, weight: f64) -> Self {
        let tracked = parameters.tracked();
        let loss = objective.loss(&tracked, batch).total * weight;
        let value = f64::from(loss.clone().into_scalar::<f32>());
        let mut gradients = loss.backward();
        let gradients = tracked.tensors().iter().map(|t| t.grad_remove(&mut gradients)).collect();
        Self { loss: value, gradients }
    }

    fn add(&mut self, other: Self) {
        self.loss += other.loss;
        if self.gradients.is_empty() {
            self.gradients = other.gradients;
            return;
        }
        for (sum, gradient) in self.gradients.iter_mut().zip(other.gradients) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }
}

/// Times training steps; for benchmarks. Returns seconds a step, the first left out.
pub fn time(config: &Config, steps: usize, device: &Device) -> Result<Vec<f64>> {
    let (config, data) = &read_data(config)?;
    let mut batches = Batches::new(config, data, device)?;
    let mut state = TrainState::initial(specs(&config.network()), config.seed, device)?;
    let mut times = Vec::with_capacity(steps);
    for step in 0..=steps {
        let start = Instant::now();
        take(config, &mut batches, &mut state)?;
        if step > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}
