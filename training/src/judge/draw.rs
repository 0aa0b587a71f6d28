//! Samples to be judged, drawn with the engine's sampler: many at a time, by ONNX Runtime where it is
//! found, which is faster than burn on a CPU.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use burn::tensor::Device;
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig};

use super::images::{Images, Shape};
use crate::config::Config;
use crate::export::{Precision, model_bytes};
use crate::forward::BurnDenoiser;
use crate::parameters::Parameters;
use crate::say;

/// Pictures that are drawn together.
const BATCH: usize = 64;
const SPEAK_EVERY: Duration = Duration::from_secs(15);

/// A sampler with its order and its steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// As the user named it.
    pub name: String,
    pub sampler: Sampler,
    pub order: Option<u32>,
    pub steps: usize,
}

impl Way {
    /// That of a sampler's name, `dpmpp-2m` say; an underscore stands for a hyphen too.
    pub fn new(name: &str, steps: usize) -> Result<Self> {
        let (sampler, order) =
            Sampler::with_order(name).or_else(|_| Sampler::with_order(&name.replace('_', "-")))?;
        ensure!(!sampler.is_inverse(), "sampler {name}: goes from pictures to noise, not back");
        Ok(Self { name: name.to_string(), sampler, order, steps })
    }

    /// Whether it can be gone with a model: errors as the sampler's own check of its steps and of the
    /// model.
    pub fn check(&self, model: &ModelConfig, guidance: f64) -> Result<()> {
        let label = model.classes.is_some().then_some(0);
        let start = RunStart { label, guidance, ..RunStart::default() };
        Run::starting(model, &self.config(model), start, 1)?;
        Ok(())
    }

    fn config(&self, model: &ModelConfig) -> SamplerConfig {
        let config = model.sampler_config(self.sampler, self.steps);
        SamplerConfig { order: self.order.or(config.order), ..config }
    }
}

/// Samples, and the class that was asked for each; none for a model without classes.
pub struct Drawn {
    pub images: Images,
    pub asked: Vec<usize>,
}

/// A trained network that pictures can be drawn from.
pub struct Artist {
    model: ModelConfig,
    shape: Shape,
    classes: usize,
    denoiser: Box<dyn Denoiser>,
    runtime: &'static str,
    seed: u64,
    guidance: f64,
}

impl Artist {
    /// The network of `config` with `parameters`; its pictures start from `seed` and are drawn with
    /// this scale of classifier-free guidance. Says on stderr where ONNX Runtime is not found.
    pub fn new(
        config: &Config,
        parameters: &Parameters,
        seed: u64,
        guidance: f64,
        device: &Device,
    ) -> Result<Self> {
        let mut burn = BurnDenoiser::new(config, parameters.clone(), device.clone())?;
        let bytes = model_bytes(config, parameters, Precision::F32, &mut burn)?;
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        let options = OnnxOptions { threads, ..OnnxOptions::default() };
        let (denoiser, runtime): (Box<dyn Denoiser>, _) =
            match OnnxDenoiser::load(&ModelSource::Bytes(bytes.into()), &options) {
                Ok(denoiser) => (Box::new(denoiser), "ONNX Runtime"),
                Err(error) => {
                    say!("samples are drawn with burn, which takes longer: {error}");
                    (Box::new(burn), "burn")
                }
            };
        Ok(Self {
            model: config.model_config()?,
            shape: Shape::of(&config.data),
            classes: config.data.class_names.len(),
            denoiser,
            runtime,
            seed,
            guidance,
        })
    }

    /// What runs the network.
    pub fn runtime(&self) -> &'static str {
        self.runtime
    }

    fn start(&self, place: usize, class: usize) -> RunStart {
        RunStart {
            seed: self.seed.wrapping_add(place as u64),
            label: (self.classes > 0).then_some(class as i64),
            guidance: self.guidance,
            ..RunStart::default()
        }
    }

    /// Draws `count` pictures, the same number of each class or one more. Picture i starts from the same
    /// noise whatever the way.
    pub fn draw(&mut self, way: &Way, count: usize) -> Result<Drawn> {
        let config = way.config(&self.model);
        let classes = self.classes.max(1);
        let item = self.shape.item();
        let mut planes = Vec::with_capacity(count * item);
        let mut asked = Vec::new();
        let mut spoke = Instant::now();
        let mut done = 0;
        for class in 0..classes.min(count) {
            let wanted = (count - class).div_ceil(classes);
            for first in (0..wanted).step_by(BATCH) {
                let n = BATCH.min(wanted - first);
                let start = self.start(done, class);
                let mut run = Run::starting(&self.model, &config, start, n)?;
                while run.step(&mut *self.denoiser)? {
                    if spoke.elapsed() >= SPEAK_EVERY {
                        spoke = Instant::now();
                        say!(
                            "{}, {} steps: {done} of {count} drawn, the next {n} at step {}",
                            way.name,
                            way.steps,
                            run.step_index()
                        );
                    }
                }
                ensure!(
                    run.sample().iter().all(|v| v.is_finite()),
                    "{}, {} steps: the samples are no numbers",
                    way.name,
                    way.steps
                );
                planes.extend_from_slice(run.sample());
                asked.extend(
                    (self.classes > 0).then_some(class).into_iter().flat_map(|c| vec![c; n]),
                );
                done += n;
            }
        }
        // In class order now; dealt out in turn, so that the first few are of every class.
        let dealt = deal(&asked, classes);
        let images = Images::from_planar(self.shape, &planes);
        if asked.is_empty() {
            return Ok(Drawn { images, asked });
        }
        let asked = dealt.iter().map(|place| asked[*place]).collect();
        Ok(Drawn { images: images.select(&dealt), asked })
    }
}

/// The places of sorted labels in an order that takes each label in turn.
fn deal(labels: &[usize], classes: usize) -> Vec<usize> {
    let mut by_class: Vec<Vec<usize>> = vec![Vec::new(); classes];
    for (place, &label) in labels.iter().enumerate() {
        by_class[label].push(place);
    }
    let longest = by_class.iter().map(Vec::len).max().unwrap_or(0);
    (0..longest)
        .flat_map(|i| by_class.iter().filter_map(move |places| places.get(i).copied()))
        .collect()
}
