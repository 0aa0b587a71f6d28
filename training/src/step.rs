//! One step of training: the loss of its batches, their gradient, and the optimiser's move along it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};

use crate::batches::Batches;
use crate::config::Config;
use crate::fit::read_data;
use crate::objective::{Loss, Objective};
use crate::optimizer::TrainState;
use crate::parameters::{Parameters, specs};

/// The losses of the images of a step: means over them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses {
    /// What is made small.
    pub loss: f64,
    /// The square error of the prediction: the same, where nothing else is asked for.
    pub mse: f64,
}

/// What a step was like.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// The losses before the move.
    pub losses: Losses,
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
    let (losses, gradients) = gradients(config, batches, step, &state.parameters)?;
    let loss = losses.loss;
    ensure!(loss.is_finite(), "the loss is {loss} at {}", advice());
    let grad_norm = state.update(gradients, &config.train).with_context(advice)?;
    Ok(Taken { losses, grad_norm })
}

/// The losses of the images of step `step` and its gradient by each weight, in their order, without those
/// that it does not depend on. Both are means over the batches of the step (`train.accumulate`).
pub fn gradients(
    config: &Config,
    batches: &mut Batches,
    step: usize,
    parameters: &Parameters,
) -> Result<(Losses, Vec<Option<Tensor<1>>>)> {
    let objective = Objective::new(config)?;
    let parts = config.train.accumulate;
    let share = 1.0 / parts as f64;
    let mut mean = Losses::default();
    let mut sums: Vec<Option<Tensor<1>>> = Vec::new();
    for part in 0..parts {
        let batch = batches.batch(step, part)?;
        let tracked = parameters.tracked();
        let Loss { total, mse, .. } = objective.loss(&tracked, &batch);
        mean.loss += f64::from(total.clone().into_scalar::<f32>()) * share;
        mean.mse += f64::from(mse.into_scalar::<f32>()) * share;
        let loss = if parts > 1 { total * share } else { total };
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
    Ok((mean, sums))
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
