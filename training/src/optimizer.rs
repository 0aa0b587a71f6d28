//! AdamW (Loshchilov and Hutter 2019, algorithm 2) and the running average of the weights.

use anyhow::{Result, ensure};
use burn::tensor::{Device, Tensor};

use crate::config::TrainConfig;
use crate::ops::adamw::{self, Rates, Slot};
use crate::parameters::{ParameterSpec, Parameters};

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The weights of a run and everything that goes on between its steps.
pub struct TrainState {
    /// Optimiser steps taken.
    pub step: usize,
    pub parameters: Parameters,
    /// The running average of `parameters`.
    pub ema: Parameters,
    /// Running averages of the gradient and of its square.
    pub moment1: Parameters,
    pub moment2: Parameters,
}

impl TrainState {
    /// A run at its start.
    pub fn initial(specs: Vec<ParameterSpec>, seed: u64, device: &Device) -> Result<Self> {
        Self::starting_with(Parameters::initial(specs, seed, device)?, device)
    }

    /// A run at its start, with these weights.
    pub fn starting_with(parameters: Parameters, device: &Device) -> Result<Self> {
        let specs = parameters.specs().to_vec();
        Ok(Self {
            step: 0,
            ema: parameters.clone(),
            parameters,
            moment1: Parameters::zeros(specs.clone(), device)?,
            moment2: Parameters::zeros(specs, device)?,
        })
    }

    /// Takes one step along the gradients of the loss by the weights, in their order; none for a weight
    /// that the loss does not depend on. Returns the length of the gradient, before it is shortened.
    ///
    /// Errors: where that length is no finite number; then nothing has changed.
    pub fn update(&mut self, grads: Vec<Option<Tensor<1>>>, config: &TrainConfig) -> Result<f64> {
        let norm = norm(&grads);
        ensure!(norm.is_finite(), "the length of the gradient is {norm}");
        let shorten = (config.max_grad_norm / (norm + 1e-6)).min(1.0);
        let rate = learning_rate(config, self.step);
        self.step += 1;
        let unbias1 = 1.0 - BETA1.powi(self.step.min(i32::MAX as usize) as i32);
        let unbias2 = 1.0 - BETA2.powi(self.step.min(i32::MAX as usize) as i32);
        // The average starts fast: the first weights are noise. As in TensorFlow's moving average.
        let decay = config.ema_decay.min((1 + self.step) as f64 / (10 + self.step) as f64);

        let rates = Rates {
            shorten,
            beta1: BETA1,
            beta2: BETA2,
            epsilon: EPSILON,
            rate,
            unbias1,
            unbias2,
            weight_decay: config.weight_decay,
            average_decay: decay,
        };
        let (places, mut slots): (Vec<usize>, Vec<Slot>) = grads
            .into_iter()
            .enumerate()
            .filter_map(|(index, gradient)| {
                let gradient = gradient?;
                let slot = Slot {
                    decays: self.parameters.specs()[index].shape.len() > 1,
                    weight: taken(&mut self.parameters, index),
                    average: taken(&mut self.ema, index),
                    moment1: taken(&mut self.moment1, index),
                    moment2: taken(&mut self.moment2, index),
                    gradient,
                };
                Some((index, slot))
            })
            .unzip();
        adamw::step(&mut slots, &rates);
        for (index, slot) in places.into_iter().zip(slots) {
            self.parameters.tensors_mut()[index] = slot.weight;
            self.ema.tensors_mut()[index] = slot.average;
            self.moment1.tensors_mut()[index] = slot.moment1;
            self.moment2.tensors_mut()[index] = slot.moment2;
        }
        Ok(norm)
    }
}

/// The rate of step `step`, counted from 0: a linear rise, then half a cosine down to 0.
pub fn learning_rate(config: &TrainConfig, step: usize) -> f64 {
    if step < config.warmup_steps {
        return config.learning_rate * (step + 1) as f64 / config.warmup_steps as f64;
    }
    let length = config.steps.saturating_sub(config.warmup_steps).max(1);
    let progress = ((step - config.warmup_steps) as f64 / length as f64).min(1.0);
    config.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// A tensor out of its place, so that it is not shared and may change in place.
fn taken(parameters: &mut Parameters, index: usize) -> Tensor<1> {
    let tensor = &mut parameters.tensors_mut()[index];
    let empty = Tensor::empty([0], &tensor.device());
    std::mem::replace(tensor, empty)
}

/// The length of all gradients together.
fn norm(grads: &[Option<Tensor<1>>]) -> f64 {
    let grads: Vec<Tensor<1>> = grads.iter().flatten().cloned().collect();
    adamw::sum_of_squares(&grads).sqrt()
}
