//! `ddpm trace`: every step of one run, as tensors.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use ddpm::error::{Error, Result};
use ddpm::onnx::{NamedTensors, TensorFile};
use ddpm::rng::{Purpose, fill_standard_normal};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::SamplerConfig;
use serde_json::json;

use crate::model_options::{ClassOptions, Console, Loaded, ModelOptions};
use crate::output::Output;
use crate::progress::Progress;
use crate::sampler_options::{SamplerName, SamplerOptions};
use crate::{describe, print};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Trace {
    /// The model, an .onnx file
    model: PathBuf,
    /// What the run starts from and draws, .safetensors: `x_T`, and `noise.{k}` of step k
    #[arg(long, value_name = "FILE")]
    noise: PathBuf,
    /// The recorded steps, .safetensors
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The sampler, by a name that `ddpm samplers` lists [default: the model's own]
    #[arg(long, value_name = "NAME")]
    sampler: Option<SamplerName>,
    /// The seed of the noise that the file does not give
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The share of the steps to take, the last ones: `x_T` is then the sample that they start from
    #[arg(long, default_value_t = 1.0)]
    strength: f64,
    /// Prints one JSON document: the file, its steps and what was run
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    class: ClassOptions,
    #[command(flatten)]
    options: SamplerOptions,
    #[command(flatten)]
    model_options: ModelOptions,
}

const AFTER_HELP: &str = "\
Example:
  ddpm trace model.onnx --noise in.safetensors --sampler ddim --steps 20 -o trace.safetensors

Reads x_T, [1, C, H, W] or [C, H, W], and noise.{k} for each step k that the file has noise for; where
a step draws noise and the file has none, it is that of --seed. For ddim-inverse x_T is the picture.

Writes for each step k, from 0, one a model evaluation: t.{k} (float64 [1], the timestep given to the
model), x.{k} (the sample before), model_output.{k} (after guidance), x0.{k} (the predicted picture,
after clipping), prev.{k} (the sample after), all float32 [1, ...], and noise.{k} where noise is drawn.
Samples are in the variance-preserving scale, x = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) noise; those
of libraries in sigma scale are x sqrt(1 + sigma^2). The metadata key `config` says what was run.";

impl Trace {
    pub fn execute(self, console: Console) -> Result<()> {
        let inputs = self.model_options.inputs(&self.model, Some(&self.noise));
        let output = Output::new(&self.output, &["safetensors"], &inputs)?;
        let given = Given { file: TensorFile::read(&self.noise)?, path: &self.noise };
        let Loaded { mut denoiser, info } =
            self.model_options.load(&self.model, console.logger())?;
        let model = &info.model;
        let sampler =
            SamplerConfig { strength: self.strength, ..self.options.config(self.sampler, model)? };
        let shape = [1, model.channels, model.height, model.width];
        let x_t = given.sample("x_T", &shape)?;
        let start = RunStart {
            seed: self.seed,
            label: self.class.label(&info)?,
            guidance: self.class.guidance,
            // Of a run that starts part of the way only the noised image is known, which is set below.
            image: (sampler.kind.is_inverse() || self.strength < 1.0).then(|| Arc::from(&*x_t)),
            ..RunStart::default()
        };
        let (label, guidance) = (start.label, start.guidance);
        // A model that is fixed to more runs as many copies, of which the first is recorded.
        let batch = info.fixed_batch.unwrap_or(1);
        let mut run = Run::starting(model, &sampler, start, batch)?;
        run.set_sample(&x_t.repeat(batch))?;
        let rows = run.table().rows().to_vec();
        let given_noise = (0..rows.len())
            .map(|k| {
                let name = format!("noise.{k}");
                given.file.shape(&name).map(|_| given.sample(&name, &shape)).transpose()
            })
            .collect::<Result<Vec<_>>>()?;
        let count = |is: &dyn Fn(usize) -> bool| (0..rows.len()).filter(|&k| is(k)).count();
        let own = count(&|k| rows[k].draws_noise() && given_noise[k].is_none());
        let (all, seed) = (rows.len(), self.seed);
        if own > 0 {
            console.note(&format!(
                "noise of {own} of {all} steps is not in the file: that of seed {seed} is used"
            ));
        }
        let unused = count(&|k| !rows[k].draws_noise() && given_noise[k].is_some());
        if unused > 0 {
            console.note(&format!(
                "noise of {unused} of {all} steps in the file is not used: none is drawn there"
            ));
        }

        let item = x_t.len();
        let output_shape = [1, model.output_channels(), model.height, model.width];
        let output_item = output_shape.iter().product();
        let mut tensors = NamedTensors::new();
        let mut progress = Progress::new(rows.len() as u64, "steps");
        let mut drawn = vec![0f32; item];
        for (k, row) in rows.iter().enumerate() {
            tensors.push_f64(&format!("t.{k}"), &[1], &[row.timestep])?;
            tensors.push_f32(&format!("x.{k}"), &shape, &run.sample()[..item])?;
            run.step_with_noise(&mut denoiser, &mut |_, _, noise| {
                match &given_noise[k] {
                    Some(given) => noise.copy_from_slice(given),
                    None => fill_standard_normal(self.seed, Purpose::StepNoise, k as u32, noise),
                }
                drawn.copy_from_slice(noise);
            })?;
            if row.draws_noise() {
                tensors.push_f32(&format!("noise.{k}"), &shape, &drawn)?;
            }
            let model_output = &run.model_output()[..output_item];
            tensors.push_f32(&format!("model_output.{k}"), &output_shape, model_output)?;
            tensors.push_f32(&format!("x0.{k}"), &shape, &run.x0()[..item])?;
            tensors.push_f32(&format!("prev.{k}"), &shape, &run.sample()[..item])?;
            progress.step();
        }
        drop(progress);
        let config = json!({
            "model": describe::path(&self.model),
            "model_config": describe::model(model),
            "sampler": describe::sampler(&sampler),
            "seed": self.seed,
            "label": label,
            "guidance": guidance,
            "runtime": describe::runtime(&info),
        });
        output.write(&tensors.to_bytes(&[("config", &config.to_string())])?)?;
        if self.json {
            let path = describe::path(output.path());
            let document = json!({ "path": path, "steps": rows.len(), "config": config });
            return print(&document.to_string());
        }
        print(&format!(
            "{}: {} steps; {}",
            output.path().display(),
            rows.len(),
            describe::sampler_text(&sampler)
        ))
    }
}

/// The tensors a run is given.
struct Given<'a> {
    file: TensorFile,
    path: &'a std::path::Path,
}

impl Given<'_> {
    /// One sample, [1, C, H, W] or [C, H, W].
    fn sample(&self, name: &str, expected: &[usize; 4]) -> Result<Vec<f32>> {
        let found = self.file.shape(name);
        if found == Some(expected) || found == Some(&expected[1..]) {
            return self.file.f32(name);
        }
        let found = match found {
            Some(shape) => format!("{shape:?}"),
            None => format!("no such tensor, but {}", self.file.names().join(", ")),
        };
        Err(Error::invalid_argument(format!(
            "{}: {name}: found {found}, expected {expected:?} as the model takes",
            self.path.display()
        )))
    }
}
