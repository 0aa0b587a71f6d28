//! One step of training: the loss of its batches and their gradient.

use std::time::Instant;

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor};

use crate::batches::Batches;
use crate::config::Config;
use crate::divergence;
use crate::fit::read_data;
use crate::objective::Objective;
use crate::optimizer::TrainState;
use crate::parameters::{Parameters, specs};

/// The loss of the images of a step and its gradient; all are means over the batches of the step
/// (`train.accumulate`).
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
pub fn gradient(
    config: &Config,
    objective: &Objective,
    batches: &mut Batches,
    step: usize,
    parameters: &Parameters,
) -> Result<Gradient> {
    let parts = config.train.accumulate;
    let share = 1.0 / parts as f64;
    let value = |tensor: &Tensor<1>| f64::from(tensor.clone().into_scalar::<f32>()) * share;
    let mut step_of = Gradient::default();
    for part in 0..parts {
        let batch = batches.batch(step, part)?;
        let tracked = parameters.tracked();
        let loss = objective.loss(&tracked, &batch);
        step_of.loss += value(&loss.total);
        step_of.mse += value(&loss.mse);
        step_of.bound = loss.bound.map(|bound| step_of.bound.unwrap_or(0.0) + value(&bound));
        let total = if parts > 1 { loss.total * share } else { loss.total };
        let mut gradients = total.backward();
        let list = tracked.tensors().iter().map(|t| t.grad_remove(&mut gradients));
        if part == 0 {
            step_of.by_weight = list.collect();
            continue;
        }
        for (sum, gradient) in step_of.by_weight.iter_mut().zip(list) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }
    Ok(step_of)
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
