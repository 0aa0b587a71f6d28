//! Whether a run has gone wrong though its numbers are still finite.

use anyhow::{Result, bail, ensure};
use burn::tensor::Tensor;

use crate::batches::Batches;
use crate::config::Config;
use crate::objective::Objective;

/// A network this many times worse than one that knows nothing is on its way out.
const WORSE: f64 = 10.0;
/// So many steps in a row end the run.
const PATIENCE: usize = 10;
/// Images by which the network that knows nothing is judged, at least.
const IMAGES: usize = 64;

/// What is known of the losses of a run.
pub struct Divergence {
    /// The loss of a network that gives nothing but 0.
    ignorant: f64,
    /// Steps in a row above the limit.
    above: usize,
}

impl Divergence {
    /// Measures the loss of the output 0, which is that of the untrained network, on the run's first
    /// images.
    pub fn new(config: &Config, objective: &Objective, batches: &mut Batches) -> Result<Self> {
        let channels = config.network().channels_out;
        let steps = IMAGES.div_ceil(config.train.batch * config.train.accumulate);
        let mut sum = 0.0;
        for step in 0..steps {
            let batch = batches.batch(step, 0)?;
            let [n, h, w, _] = batch.noisy.dims();
            let zeros = Tensor::zeros([n, h, w, channels], &batch.noisy.device()).autodiff();
            sum += f64::from(objective.loss_of(zeros, &batch).total.into_scalar::<f32>());
        }
        Ok(Self { ignorant: sum / steps as f64, above: 0 })
    }

    /// Judges the weights after `step` steps by their loss on the next images. Returns whether they
    /// are worth keeping.
    ///
    /// Errors: where the loss is no finite number, or too large for too long.
    pub fn judge(&mut self, step: usize, loss: f64) -> Result<bool> {
        ensure!(loss.is_finite(), "the loss is {loss} at step {}; {}", step + 1, advice());
        let limit = WORSE * self.ignorant;
        if loss <= limit {
            self.above = 0;
            return Ok(true);
        }
        self.above += 1;
        if self.above >= PATIENCE {
            bail!(
                "the loss is {loss:.3e} at step {}, and was above {limit:.3e} for {PATIENCE} steps, \
                 {WORSE} times that of an untrained network; {}",
                step + 1,
                advice()
            );
        }
        Ok(false)
    }

    /// Whether losses are, on the mean, no lower than that of the untrained network.
    pub fn taught_nothing(&self, losses: &[f64]) -> bool {
        losses.iter().sum::<f64>() >= self.ignorant * losses.len() as f64
    }
}

/// What to say of a run that came to nothing.
pub fn advice() -> &'static str {
    "training does not converge. A checkpoint of before, if there is one, is kept. Try a lower \
     train.learning_rate, more train.warmup_steps or a lower train.max_grad_norm"
}
