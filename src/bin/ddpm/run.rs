//! `ddpm run`: pictures from a model.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use ddpm::error::{Error, Result};
use ddpm::onnx::{NamedTensors, OnnxDenoiser};
use ddpm::run::RunStart;
use serde_json::json;

use crate::model_options::{ClassOptions, Console, Loaded, ModelOptions};
use crate::output::Output;
use crate::progress::Progress;
use crate::sampler_options::{SamplerName, SamplerOptions};
use crate::{describe, picture, print};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Run {
    /// The model, an .onnx file
    model: PathBuf,
    /// The picture or sheet, .png; or .safetensors for the values: tensor `sample` [N, C, H, W]
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// The sampler, by a name that `ddpm samplers` lists [default: the model's own]
    #[arg(long, value_name = "NAME")]
    sampler: Option<SamplerName>,
    /// The seed of the first picture; the next has the next
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many pictures: a sheet, row after row
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=MOST))]
    count: u64,
    /// How many are computed at once [default: 16, fewer where they are large]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST))]
    batch: Option<u64>,
    /// A PNG to start from, of the model's size; ddim-inverse needs one
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// How far the image is changed: 0 returns it, 1 keeps nothing of it
    #[arg(long, requires = "image")]
    strength: Option<f64>,
    /// Prints one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    class: ClassOptions,
    #[command(flatten)]
    options: SamplerOptions,
    #[command(flatten)]
    model_options: ModelOptions,
}

const MOST: u64 = 4096;

const AFTER_HELP: &str = "\
Examples:
  ddpm run model.onnx -o picture.png
  ddpm run model.onnx --sampler dpmpp-2m --steps 20 --seed 7 --count 16 -o sheet.png
  ddpm run model.onnx --class fox --guidance 3 -o fox.png
  ddpm run model.onnx --image in.png --strength 0.5 -o changed.png
  ddpm run model.onnx --sampler ddim-inverse --image in.png -o noise.safetensors

The PNG holds the model's own values, 8 bits a channel, gray, rgb or rgba as the model is, without a
change of gamma. An --image of any PNG colour type is converted: gray is repeated in red, green and
blue; a gray model gets 0.299 R + 0.587 G + 0.114 B; for a model without alpha the picture is put
over black; for one with alpha a picture without is opaque.

The same model, sampler, seed and batch give the same picture, bit for bit on one machine. A model
whose batch is fixed runs as often as it must, with places left empty.";

/// Values of one sample batch that are surely no burden.
const BATCH_VALUES: usize = 1 << 22;

impl Run {
    pub fn execute(self, console: Console) -> Result<()> {
        let inputs = self.model_options.inputs(&self.model, self.image.as_deref());
        let output = Output::new(&self.output, &["png", "safetensors"], &inputs)?;
        let begun = Instant::now();
        let Loaded { mut denoiser, info } =
            self.model_options.load(&self.model, console.logger())?;
        let load_time = begun.elapsed();
        let model = &info.model;
        let mut sampler = self.options.config(self.sampler, model)?;
        if let Some(strength) = self.strength {
            sampler.strength = strength;
        }
        let image = self.image.as_ref().map(|path| picture::read(path, model)).transpose()?;
        let start = RunStart {
            seed: self.seed,
            label: self.class.label(&info)?,
            guidance: self.class.guidance,
            image: image.map(Arc::from),
            ..RunStart::default()
        };
        let count = self.count as usize;
        let batch = self.batch(count, info.fixed_batch, model.sample_len(1)?)?;
        let mut run = ddpm::run::Run::starting(model, &sampler, start, batch)?;
        if sampler.kind.is_inverse() && output.ends_in("png") {
            console.note("a PNG holds the noise to [-1, 1]; -o NAME.safetensors keeps all of it");
        }
        let Drawn { samples, model_calls, run_time } =
            draw(&mut run, &mut denoiser, self.seed, count)?;
        let bytes = if output.ends_in("png") {
            picture::sheet(&samples, model)?
        } else {
            let mut tensors = NamedTensors::new();
            let shape = [count, model.channels, model.height, model.width];
            tensors.push_f32("sample", &shape, &samples)?;
            tensors.to_bytes(&[])?
        };
        output.write(&bytes)?;

        let seeds: Vec<u64> = (0..self.count).map(|i| self.seed.wrapping_add(i)).collect();
        let (columns, rows) = picture::grid(count, model.width, model.height);
        let per_call = run_time.as_secs_f64() * 1e3 / (model_calls.max(1) as f64);
        if !self.json {
            let what = match count {
                1 => format!("seed {}", self.seed),
                _ => format!("{count} pictures, {columns} by {rows}, seeds from {}", self.seed),
            };
            return print(&format!(
                "{}: {what}; {}; {:.2} s, {per_call:.2} ms a step of {batch}",
                output.path().display(),
                describe::sampler_text(&sampler),
                run_time.as_secs_f64(),
            ));
        }
        let document = json!({
            "output": describe::path(output.path()),
            "model": describe::path(&self.model),
            "seeds": seeds,
            "grid": { "columns": columns, "rows": rows },
            "tile": { "width": model.width, "height": model.height },
            "sampler": describe::sampler(&sampler),
            "steps": run.steps(),
            "timesteps": describe::timesteps(run.table()),
            "batch": batch,
            "runtime": describe::runtime(&info),
            "seconds": {
                "load": load_time.as_secs_f64(),
                "run": run_time.as_secs_f64(),
                "total": begun.elapsed().as_secs_f64(),
            },
            "milliseconds_per_step": per_call,
        });
        print(&document.to_string())
    }

    fn batch(&self, count: usize, fixed: Option<usize>, sample_len: usize) -> Result<usize> {
        match (self.batch.map(|batch| batch as usize), fixed) {
            (Some(given), Some(fixed)) if given != fixed => Err(Error::invalid_argument(format!(
                "batch: found {given}, expected {fixed} as the model is fixed to it"
            ))),
            (_, Some(fixed)) => Ok(fixed),
            (Some(given), None) => Ok(given.min(count)),
            (None, None) => Ok((BATCH_VALUES / sample_len).clamp(1, 16).min(count)),
        }
    }
}

struct Drawn {
    /// [count, C, H, W].
    samples: Vec<f32>,
    model_calls: usize,
    run_time: Duration,
}

/// Runs batch after batch until there are `count` samples.
fn draw(
    run: &mut ddpm::run::Run,
    denoiser: &mut OnnxDenoiser,
    seed: u64,
    count: usize,
) -> Result<Drawn> {
    let (batch, wanted) = (run.shape()[0], count * run.item_len());
    let batches = count.div_ceil(batch);
    let mut samples = Vec::with_capacity(batches * run.sample().len());
    let model_calls = batches * run.steps();
    let mut progress = Progress::new(model_calls as u64, "steps");
    let begun = Instant::now();
    for index in 0..batches {
        run.reset(seed.wrapping_add((index * batch) as u64));
        while run.step_index() < run.steps() {
            run.step(denoiser)?;
            progress.step();
        }
        samples.extend_from_slice(run.sample());
    }
    samples.truncate(wanted);
    Ok(Drawn { samples, model_calls, run_time: begun.elapsed() })
}
