//! One step of training: the loss of its batches and their gradient.

use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor};

use crate::batches::Batches;
use crate::config::Config;
use crate::divergence;
use crate::fit::read_data;
use crate::objective;
use crate::optimizer::TrainState;
use crate::parameters::{Parameters, specs};

/// The mean loss of the images of a step and its gradient.
pub struct Gradient {
    pub loss: f64,
    /// By each weight, in their order; none for those that the loss does not depend on.
    pub by_weight: Vec<Option<Tensor<1>>>,
}

/// The loss of the images of step `step` and its gradient; both are means over the batches of the step
/// (`train.accumulate`).
pub fn gradient(
    config: &Config,
    batches: &mut Batches,
    step: usize,
    parameters: &Parameters,
) -> Result<Gradient> {
    let parts = config.train.accumulate;
    let share = 1.0 / parts as f64;
    let mut mean = 0.0;
    let mut sums: Vec<Option<Tensor<1>>> = Vec::new();
    for part in 0..parts {
        let batch = batches.batch(step, part)?;
        let tracked = parameters.tracked();
        let loss = objective::loss(config, &tracked, &batch);
        mean += f64::from(loss.clone().into_scalar::<f32>()) * share;
        let loss = if parts > 1 { loss * share } else { loss };
        let mut gradients = loss.backward();
        let list = tracked.tensors().iter().map(|t| t.grad_remove(&mut gradients));
        if sums.is_empty() {
            sums = list.collect();
            continue;
        }
        for (sum, gradient) in sums.iter_mut().zip(list) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }
    Ok(Gradient { loss: mean, by_weight: sums })
}

/// The loss alone.
pub fn loss(
    config: &Config,
    batches: &mut Batches,
    step: usize,
    parameters: &Parameters,
) -> Result<f64> {
    let parts = config.train.accumulate;
    let mut sum = 0.0;
    for part in 0..parts {
        let batch = batches.batch(step, part)?;
        let loss = objective::loss(config, &parameters.tracked(), &batch);
        sum += f64::from(loss.into_scalar::<f32>());
    }
    Ok(sum / parts as f64)
}

/// Times training steps; for benchmarks. Returns seconds a step, the first left out.
pub fn time(config: &Config, steps: usize, device: &Device) -> Result<Vec<f64>> {
    let (config, data) = &read_data(config)?;
    let mut batches = Batches::new(config, data, device)?;
    let mut state = TrainState::initial(specs(&config.network()), config.seed, device)?;
    let mut times = Vec::with_capacity(steps);
    for step in 0..=steps {
        let start = Instant::now();
        let gradient = gradient(config, &mut batches, step, &state.parameters)?;
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
