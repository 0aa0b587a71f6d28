//! One step of training: the loss of its batches and their gradient.

use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor};

use crate::batches::{Batch, Batches};
use crate::config::Config;
use crate::divergence;
use crate::fit::read_data;
use crate::objective::Objective;
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
/// Every thread of the current rayon pool computes a share of each batch by itself: so they meet once
/// a batch, not in every operation.
pub fn gradient(
    config: &Config,
    objective: &Objective,
    batches: &mut Batches,
    step: usize,
    parameters: &Parameters,
) -> Result<Gradient> {
    let images = config.train.batch * config.train.accumulate;
    let mut sum = Gradient::default();
    for part in 0..config.train.accumulate {
        let batch = batches.batch(step, part)?;
        let shares = workers::each_share(batch.len(), |items| {
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
        let loss = objective.loss(&tracked, batch);
        let value = |tensor: Tensor<1>| f64::from(tensor.into_scalar::<f32>());
        let total = loss.total * weight;
        let mse = value(loss.mse) * weight;
        let bound = loss.bound.map(|bound| value(bound) * weight);
        let loss = value(total.clone());
        let mut gradients = total.backward();
        let by_weight = tracked.tensors().iter().map(|t| t.grad_remove(&mut gradients)).collect();
        Self { loss, mse, bound, by_weight }
    }

    fn add(&mut self, other: Self) {
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

/// Times training steps; for benchmarks. Returns seconds a step, the first left out.
pub fn time(config: &Config, steps: usize, device: &Device) -> Result<Vec<f64>> {
    let (config, data) = &read_data(config)?;
    let mut batches = Batches::new(config, data, device)?;
    let objective = Objective::new(config)?;
    let mut state = TrainState::initial(specs(&config.network()), config.seed, device)?;
    let mut times = Vec::with_capacity(steps);
    for step in 0..=steps {
        let start = Instant::now();
        let gradient = gradient(config, &objective, &mut batches, step, &state.parameters)?;
        ensure!(
            gradient.loss.is_finite(),
            "the loss is {}; {}",
            gradient.loss,
            divergence::advice()
        );
        state.update(gradient.by_weight, &config.train)?;
        if step > 0 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(times)
}
