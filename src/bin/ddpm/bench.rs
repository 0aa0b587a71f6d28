//! `ddpm bench`: how long a step takes here.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use ddpm::error::{Error, Result};
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::onnx::{OnnxDenoiser, OnnxInfo};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::SamplerConfig;
use ndarray::{ArrayView4, ArrayViewMut4};
use serde_json::{Value, json};

use crate::model_options::{ClassOptions, Console, Loaded, ModelOptions};
use crate::progress::Progress;
use crate::sampler_options::{SamplerName, SamplerOptions};
use crate::{describe, print};

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
pub struct Bench {
    /// The model, an .onnx file
    model: PathBuf,
    /// Batch sizes, separated by commas [default: 1,2,4,8, or the one the model is fixed to]
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    batch: Option<Vec<usize>>,
    /// The sampler, by a name that `ddpm samplers` lists [default: the model's own]
    #[arg(long, value_name = "NAME")]
    sampler: Option<SamplerName>,
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

const AFTER_HELP: &str = "\
Example:
  ddpm bench model.onnx --batch 1,4,16 --steps 50 --provider cpu --threads 2

For each batch size one whole run is timed, step by step, after some steps that are not. A step is one
evaluation of the model, two with guidance, and the sampler's arithmetic, the kernel. What else the
machine does is in the figures.";

/// Steps before those that are timed: the first of a batch size allocate.
const WARM_UP: usize = 3;

impl Bench {
    pub fn execute(self, console: Console) -> Result<()> {
        let Loaded { mut denoiser, info } =
            self.model_options.load(&self.model, console.logger())?;
        let sampler = self.options.config(self.sampler, &info.model)?;
        let label = self.class.label(&info)?;
        let start = RunStart { label, guidance: self.class.guidance, ..RunStart::default() };
        let batches = match self.batch.clone() {
            Some(batches) => batches,
            None => info.fixed_batch.map_or(vec![1, 2, 4, 8], |fixed| vec![fixed]),
        };
        let runs = batches
            .iter()
            .map(|&batch| prepare(&info, &sampler, start.clone(), batch))
            .collect::<Result<Vec<_>>>()?;
        let steps: usize = runs.iter().map(Run::steps).sum();
        let mut progress = Progress::new(steps as u64, "steps");
        let mut measured = Vec::new();
        for mut run in runs {
            measured.push(measure(&mut run, &mut denoiser, &mut progress)?);
        }
        drop(progress);
        if self.json {
            let document = json!({
                "model": describe::path(&self.model),
                "sampler": describe::sampler(&sampler),
                "runtime": describe::runtime(&info),
                "batches": measured.iter().map(Figures::json).collect::<Vec<_>>(),
            });
            return print(&document.to_string());
        }
        let mut text = format!(
            "{}: {}, ONNX Runtime {} on {}, {} threads\n{}\n{}",
            self.model.display(),
            describe::sampler_text(&sampler),
            info.runtime_version,
            describe::provider_name(info.provider),
            info.threads,
            "             step, ms          model, ms        kernel, ms     a second",
            "batch    median      p90    median      p90    median  share    steps  pictures",
        );
        for figures in &measured {
            text += &figures.text();
        }
        print(&text)
    }
}

fn prepare(info: &OnnxInfo, sampler: &SamplerConfig, start: RunStart, batch: usize) -> Result<Run> {
    match info.fixed_batch {
        Some(fixed) if fixed != batch => Err(Error::invalid_argument(format!(
            "batch: found {batch}, expected {fixed} as the model is fixed to it"
        ))),
        _ => Run::starting(&info.model, sampler, start, batch),
    }
}

/// A denoiser whose calls are timed.
struct Timed<'a> {
    denoiser: &'a mut OnnxDenoiser,
    spent: Duration,
}

impl Denoiser for Timed<'_> {
    fn config(&self) -> &ModelConfig {
        self.denoiser.config()
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        labels: &[i64],
        output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        let begun = Instant::now();
        let done = self.denoiser.predict(sample, timesteps, labels, output);
        self.spent += begun.elapsed();
        done
    }
}

fn measure(run: &mut Run, denoiser: &mut OnnxDenoiser, progress: &mut Progress) -> Result<Figures> {
    let mut timed = Timed { denoiser, spent: Duration::ZERO };
    for _ in 0..WARM_UP {
        run.step(&mut timed)?;
    }
    run.reset(0);
    let (mut steps, mut models) = (Vec::new(), Vec::new());
    while run.step_index() < run.steps() {
        timed.spent = Duration::ZERO;
        let begun = Instant::now();
        run.step(&mut timed)?;
        steps.push(begun.elapsed().as_secs_f64() * 1e3);
        models.push(timed.spent.as_secs_f64() * 1e3);
        progress.step();
    }
    Ok(Figures { batch: run.shape()[0], steps, models })
}

/// The times of a run, one a step, in milliseconds.
struct Figures {
    batch: usize,
    steps: Vec<f64>,
    models: Vec<f64>,
}

impl Figures {
    fn kernels(&self) -> Vec<f64> {
        self.steps.iter().zip(&self.models).map(|(step, model)| step - model).collect()
    }

    fn kernel_share(&self) -> f64 {
        self.kernels().iter().sum::<f64>() / self.total()
    }

    fn total(&self) -> f64 {
        self.steps.iter().sum()
    }

    fn steps_per_second(&self) -> f64 {
        self.steps.len() as f64 / self.total() * 1e3
    }

    fn pictures_per_second(&self) -> f64 {
        self.batch as f64 / self.total() * 1e3
    }

    fn json(&self) -> Value {
        let spread =
            |times: &[f64]| json!({ "median": quantile(times, 0.5), "p90": quantile(times, 0.9) });
        json!({
            "batch": self.batch,
            "steps": self.steps.len(),
            "step_ms": spread(&self.steps),
            "model_ms": spread(&self.models),
            "kernel_ms": spread(&self.kernels()),
            "kernel_share": self.kernel_share(),
            "steps_per_second": self.steps_per_second(),
            "pictures_per_second": self.pictures_per_second(),
        })
    }

    fn text(&self) -> String {
        format!(
            "\n{:5} {:9.3} {:8.3} {:9.3} {:8.3} {:9.3} {:5.1}% {:8.1} {:9.2}",
            self.batch,
            quantile(&self.steps, 0.5),
            quantile(&self.steps, 0.9),
            quantile(&self.models, 0.5),
            quantile(&self.models, 0.9),
            quantile(&self.kernels(), 0.5),
            self.kernel_share() * 100.0,
            self.steps_per_second(),
            self.pictures_per_second(),
        )
    }
}

/// The value below which this share of the times lies, the nearest there is; 0 where there are none.
fn quantile(times: &[f64], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_by(f64::total_cmp);
    let index = (share * sorted.len().saturating_sub(1) as f64).round() as usize;
    sorted.get(index).copied().unwrap_or(0.0)
}
