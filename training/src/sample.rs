//! Pictures from a network, through the engine's own sampler.

use std::path::Path;

use anyhow::{Result, ensure};
use burn::tensor::Device;
use ddpm::run::{Run, RunStart};
use ddpm::sampler::Sampler;

use crate::config::Config;
use crate::forward::BurnDenoiser;
use crate::parameters::Parameters;
use crate::picture;

/// Which pictures are wanted.
#[derive(Clone, Debug)]
pub struct Request {
    pub count: usize,
    pub sampler: Sampler,
    pub steps: usize,
    /// Of the first picture; the others count on from it.
    pub seed: u64,
    /// The class of all pictures. Without one picture i is of class i, counted round.
    pub class: Option<usize>,
    /// The scale of classifier-free guidance; 1 for none.
    pub guidance: f64,
}

impl Request {
    /// Pictures by so many DDIM steps (eta 0), of every class in turn, not guided.
    pub fn ddim(count: usize, steps: usize) -> Self {
        Self { count, sampler: Sampler::Ddim, steps, seed: 0, class: None, guidance: 1.0 }
    }

    /// The class of picture `index` of a model with so many classes; none where there are none.
    pub fn class_of(&self, index: usize, classes: usize) -> Option<usize> {
        (classes > 0).then(|| self.class.unwrap_or(index % classes))
    }
}

/// The pictures, planar `[count, channels, h, w]` in [-1, 1]. Without classes, and of one class, picture
/// i is that of seed + i.
pub fn sample(
    config: &Config,
    parameters: &Parameters,
    request: &Request,
    device: &Device,
) -> Result<Vec<f32>> {
    let model = config.model_config()?;
    let names = &config.data.class_names;
    let classes = names.len();
    if let Some(class) = request.class {
        ensure!(class < classes, "class {class} is not there, the model has {classes}");
    }
    let sampler = model.sampler_config(request.sampler, request.steps);
    let mut denoiser = BurnDenoiser::new(config, parameters.clone(), device.clone())?;
    let item = model.sample_len(1)?;
    let mut images = vec![0.0; request.count * item];
    // All pictures of a class are one run; item i of a run has the run's seed + i.
    let labels = if classes > 0 && request.class.is_none() { classes } else { 1 };
    for first in 0..labels.min(request.count) {
        let count = (request.count - first).div_ceil(labels);
        let start = RunStart {
            seed: request.seed.wrapping_add(first as u64),
            label: request.class_of(first, classes).map(|class| class as i64),
            guidance: request.guidance,
            ..RunStart::default()
        };
        let mut run = Run::starting(&model, &sampler, start, count)?;
        while run.step(&mut denoiser)? {}
        for (i, picture) in run.sample().chunks_exact(item).enumerate() {
            images[(first + i * labels) * item..][..item].copy_from_slice(picture);
        }
    }
    Ok(images)
}

/// Writes pictures as a grid; of a model with classes, a column for each.
pub fn write_grid(path: &Path, config: &Config, images: &[f32]) -> Result<()> {
    let data = &config.data;
    let columns = data.class_names.len();
    picture::write_grid(path, images, data.channels(), data.width, data.height, columns)
}
