//! One step of training: the loss of its batches and their gradient.

use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor};

use crate::batches::{Batch, Batches};
use crate::config::Config;
use crate::device;
use crate::divergence;
use crate::fit::read_data;
use crate::objective::{Loss, Objective};
use crate::optimizer::TrainState;
use crate::parameters::{Parameters, specs};
use crate::workers;

/// The loss of the images of a step and its gradient; all are means over the images.
#[derive(Default)]
pub struct Gradient {
    pub loss: f64,
    /// The plain mean square error.
    pub mse: f64,
    /// The variational bound, in bits a value, where a variance is learned.
    pub bound: Option<f64>,
    /// By each weight, in their order; none for those that the loss does not depend on.
    pub by_weight: Vec<Option<Tensor<1>>>,
}

/// Computes it for step `step` at the weights `parameters`.
///
/// On the CPU every thread of the current rayon pool computes a share of each batch by itself: so they
/// meet once a batch, not in every operation.
pub fn gradient(
    config: &Config,
    objective: &Objective,
    batches: &mut Batches,
    step: usize,
    parameters: &Parameters,
) -> Result<Gradient> {
    let images = config.train.batch * config.train.accumulate;
    let threads = device::threads(batches.device());
    let mut sum = Gradient::default();
    for part in 0..config.train.accumulate {
        let batch = batches.batch(step, part)?;
        let shares = workers::each_share(batch.len(), threads, |items| {
            let weight = items.len() as f64 / images as f64;
            Gradient::of(objective, parameters, &batch.slice(items), weight)
        })?;
        // In the order of the images, whoever was first.
        shares.into_iter().for_each(|share| sum.add(share));
    }
    Ok(sum)
}

impl Gradient {
    /// What some of the images of a step add to it.
    fn of(objective: &Objective, parameters: &Parameters, batch: &Batch, weight: f64) -> Self {
        let tracked = parameters.tracked();
        let Loss { total, mse, bound } = objective.loss(&tracked, batch);
        let mse = value(mse) * weight;
        let bound = bound.map(|bound| value(bound) * weight);
        Self { mse, bound, ..Self::of_loss(&tracked, total * weight) }
    }

    /// `loss` alone, with its gradient by the weights it was computed with.
    pub(crate) fn of_loss(tracked: &Parameters, loss: Tensor<1>) -> Self {
        let total = value(loss.clone());
        let mut gradients = loss.backward();
        let by_weight = tracked.tensors().iter().map(|t| t.grad_remove(&mut gradients)).collect();
        Self { loss: total, by_weight, ..Self::default() }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.loss += other.loss;
        self.mse += other.mse;
        self.bound = other.bound.map(|bound| self.bound.unwrap_or(0.0) + bound);
        if self.by_weight.is_empty() {
            self.by_weight = other.by_weight;
            return;
        }
        for (sum, gradient) in self.by_weight.iter_mut().zip(other.by_weight) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }
}

fn value(tensor: Tensor<1>) -> f64 {
    f64::from(tensor.into_scalar::<f32>())
}

/// Takes the step after `state.step`; returns its loss, before the move.
///
/// Errors: where the loss or the gradient is no finite number; then `state` is unchanged.
pub fn take(
    config: &Config,
    objective: &Objective,
    batches: &mut Batches,
    state: &mut TrainState,
) -> Result<f64> {
    let Gradient { loss, by_weight, .. } =
        gradient(config, objective, batches, state.step, &state.parameters)?;
    ensure!(loss.is_finite(), "the loss is {loss}; {}", divergence::advice());
    state.update(by_weight, &config.train)?;
    Ok(loss)
}

/// Times training steps; for benchmarks. Returns seconds a step, the first left out.
pub fn time(config: &Config, steps: usize, device: &Device) -> Result<Vec<f64>> {
    let (config, data) = &read_data(config)?;
    let mut batches = Batches::new(config, data, device)?;
    let objective = Objective::new(config)?;
    let mut state = TrainState::initial(specs(&config.network()), config.seed, device)?;
    let mut times = Vec::with_capacity(steps);
    for step in 0..=steps {
        let start = Instant::now();
        take(config, &objective, &mut batches, &mut state)?;
        if step > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}
