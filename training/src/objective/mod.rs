//! What a step of training makes small.

mod bound;
mod config;
mod weighting;

use std::f64::consts::{LN_2, PI};

use anyhow::Result;
use burn::tensor::{Tensor, TensorData};
use ddpm::sampler::VarianceType;

use crate::batches::Batch;
use crate::config::Config;
use crate::forward::forward;
use crate::network::Network;
use crate::parameters::Parameters;
use bound::{EDGE, HALF_BIN, LEAST_PROBABILITY};
pub use bound::{Posterior, discretized_gaussian_log_likelihood, normal_kl, posteriors};
pub use config::{LossConfig, LossType, Weighting};
pub use weighting::weights;

/// The loss of a run, with what it depends on at each timestep.
pub struct Objective {
    config: LossConfig,
    network: Network,
    weights: Vec<f64>,
    variance_type: VarianceType,
    /// Of all timesteps; empty where no variance is learned.
    posteriors: Vec<Posterior>,
}

/// The loss of a batch, each a single value.
pub struct Loss {
    /// What is made small, with the graph of its gradients.
    pub total: Tensor<1>,
    /// The plain mean square error of the prediction, to compare runs by.
    pub mse: Tensor<1>,
    /// The mean term of the variational bound, in bits a value, where a variance is learned.
    pub bound: Option<Tensor<1>>,
}

impl Objective {
    /// That of `config`. Errors: where a weight or a posterior is not a number.
    pub fn new(config: &Config) -> Result<Self> {
        let model = config.model_config()?;
        let schedule = model.noise_schedule()?;
        let variance_type = model.sampler.variance_type;
        let learned = variance_type.is_learned();
        Ok(Self {
            config: config.loss.clone(),
            network: config.network(),
            weights: weights(&config.loss, model.prediction_type, &schedule)?,
            variance_type,
            posteriors: if learned { posteriors(&model, &schedule)? } else { Vec::new() },
        })
    }

    /// The loss of a batch. `tracked` are the weights of the network as leaves of the graph.
    pub fn loss(&self, tracked: &Parameters, batch: &Batch) -> Loss {
        let noisy = batch.noisy.clone().autodiff();
        let out = forward(&self.network, tracked, noisy, &batch.timesteps, &batch.labels);
        self.loss_of(out, batch)
    }

    /// The loss of a batch, given the network's output for it, `[n, h, w, c]` or, where it learns a
    /// variance, `[n, h, w, 2 c]`, the second half being that.
    pub fn loss_of(&self, out: Tensor<4>, batch: &Batch) -> Loss {
        let channels = self.network.channels_in;
        let target = batch.target.clone().autodiff();
        let (prediction, variance) = match self.variance_type.is_learned() {
            true => (
                out.clone().slice_dim(3, 0..channels),
                Some(out.slice_dim(3, channels..2 * channels)),
            ),
            false => (out, None),
        };
        let error = prediction.clone() - target.clone();
        let square = error.clone().square();
        let mse = square.clone().mean();
        let cost = match self.config.kind {
            LossType::Mse => square,
            LossType::Huber => {
                let c = self.config.huber_c;
                ((square + c * c).sqrt() - c) * (2.0 * c)
            }
        };
        let cost = match self.config.weighting {
            Weighting::None => cost.mean(),
            _ => (cost * self.each(batch, |t| self.weights[t])).mean(),
        };
        let bound = variance.map(|variance| self.bound(error.detach(), variance, batch));
        let total = match &bound {
            // L_simple + lambda L_vlb (Nichol and Dhariwal 2021, eq. 16). L_vlb is a sum over T terms,
            // of which a batch has the mean. In bits a value, as in improved-diffusion, whose
            // RESCALED_MSE has T / 1000 in this place.
            Some(bound) => {
                cost + bound.clone() * (self.config.vlb_weight * self.posteriors.len() as f64)
            }
            None => cost,
        };
        Loss { total, mse, bound }
    }

    /// The mean over a batch of L_t, in bits a value: KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)), at
    /// t = 0 the decoder's negative logarithm of likelihood (Ho et al. 2020, eq. 5).
    ///
    /// `error`, of the prediction, carries no gradient: the bound moves the variance only (Nichol and
    /// Dhariwal 2021, section 3.1).
    fn bound(&self, error: Tensor<4>, variance: Tensor<4>, batch: &Batch) -> Tensor<1> {
        let at = |t: usize| &self.posteriors[t];
        let log_variance = match self.variance_type {
            // Nichol and Dhariwal 2021, eq. 15, with v from -1 to 1 as their code has it.
            VarianceType::LearnedRange => {
                variance * self.each(batch, |t| at(t).range().1)
                    + self.each(batch, |t| at(t).range().0)
            }
            _ => variance,
        };
        // The means differ by the error of the prediction, scaled: both are linear in it.
        let difference = error * self.each(batch, |t| at(t).mean_of_output);
        let truth = self.each(batch, |t| at(t).log_variance);
        let excess = log_variance.clone() - truth;
        let kl = (excess.clone() - 1.0
            + excess.neg().exp()
            + difference.clone().square() * log_variance.clone().neg().exp())
            * 0.5;
        let [n, h, w, c] = kl.dims();
        let mut bound = (kl * self.each(batch, |t| f64::from(u8::from(t > 0)))).sum();
        for (i, _) in batch.timesteps.iter().enumerate().filter(|(_, t)| **t == 0.0) {
            let item = |tensor: &Tensor<4>| tensor.clone().slice_dim(0, i..i + 1);
            let x0 = item(&batch.x0).autodiff();
            // The difference above is the network's mean less the true one, which at t = 0 is x_0.
            let away = item(&difference).neg();
            bound = bound - log_likelihood(x0, away, item(&log_variance)).sum();
        }
        bound * (1.0 / (LN_2 * (n * h * w * c) as f64))
    }

    /// A value for each item of a batch, `[n, 1, 1, 1]`.
    fn each(&self, batch: &Batch, value: impl Fn(usize) -> f64) -> Tensor<4> {
        let values: Vec<f32> = batch.timesteps.iter().map(|&t| value(t as usize) as f32).collect();
        let shape = [values.len(), 1, 1, 1];
        Tensor::from_data(TensorData::new(values, shape), &batch.noisy.device()).autodiff()
    }
}

/// [`discretized_gaussian_log_likelihood`] of tensors.
fn log_likelihood(x: Tensor<4>, difference: Tensor<4>, log_variance: Tensor<4>) -> Tensor<4> {
    let cdf = |x: Tensor<4>| {
        ((x.clone() + x.powi_scalar(3) * 0.044715) * (2.0 / PI).sqrt()).tanh() * 0.5 + 0.5
    };
    let scale = (log_variance * -0.5).exp();
    let below = cdf((difference.clone() + HALF_BIN) * scale.clone());
    let above = cdf((difference - HALF_BIN) * scale).neg() + 1.0;
    let probability = (below.clone() + above.clone() - 1.0)
        .mask_where(x.clone().lower_elem(-EDGE), below)
        .mask_where(x.greater_elem(EDGE), above);
    probability.clamp_min(LEAST_PROBABILITY).log()
}
