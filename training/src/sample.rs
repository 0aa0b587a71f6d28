//! Pictures from a network in training, through the engine's own sampler.

use anyhow::Result;
use burn::tensor::Device;
use ddpm::run::Run;
use ddpm::sampler::Sampler;

use crate::config::Config;
use crate::forward::BurnDenoiser;
use crate::parameters::Parameters;

/// `count` samples by `steps` DDIM steps (eta 0), planar `[count, 3, h, w]`; item i is that of seed + i.
pub fn sample(
    config: &Config,
    parameters: &Parameters,
    count: usize,
    steps: usize,
    seed: u64,
    device: &Device,
) -> Result<Vec<f32>> {
    let model = config.model_config()?;
    let sampler = model.sampler_config(Sampler::Ddim, steps);
    let mut run = Run::new(&model, &sampler, seed, count)?;
    let mut denoiser =
        BurnDenoiser::new(model, config.model.clone(), parameters.clone(), device.clone());
    while run.step(&mut denoiser)? {}
    Ok(run.sample().to_vec())
}
