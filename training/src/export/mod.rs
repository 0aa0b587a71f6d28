//! A trained network as an ONNX file that the engine loads, verified before it is written.

mod graph;
mod nodes;
mod weights;

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use ddpm::model::{Classes, Denoiser, ModelConfig};
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions, Provider};
use ddpm::rng::{self, Purpose};
use ddpm::sampler::Thresholding;
use ndarray::Array4;

use crate::config::Config;
use crate::forward::BurnDenoiser;
use crate::output::write_atomically;
use crate::parameters::Parameters;
use ddpm::onnx::protobuf::Message;

pub use weights::export_weights;

/// The oldest format with everything the graph uses.
const IR_VERSION: i64 = 8;

/// How far ONNX Runtime may be from the trained module, in units of the noise it predicts: both
/// round to float32, in different orders.
pub const TOLERANCE: f32 = 1e-4;

/// The same where float16 is in between: it has 11 bits, and each layer rounds.
pub const F16_TOLERANCE: f32 = 3e-2;

/// What the floats of an export are, between its input and its output, which are float32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// Stored and computed in float32.
    #[default]
    F32,
    /// Stored and computed in float16.
    F16,
    /// Matrices and kernels stored in float16, all computed in float32.
    F16Weights,
}

impl Precision {
    /// How far ONNX Runtime may be from the trained module.
    pub fn tolerance(self) -> f32 {
        match self {
            Self::F32 => TOLERANCE,
            Self::F16 | Self::F16Weights => F16_TOLERANCE,
        }
    }
}

/// What [`export`] found when it compared the two.
#[derive(Clone, Copy, Debug)]
pub struct Verified {
    /// The largest difference of any output value.
    pub worst: f32,
    /// Output values compared.
    pub values: usize,
    /// Bytes of the file.
    pub bytes: usize,
}

/// Writes the network to `path` if ONNX Runtime reproduces it to the tolerance of `precision`; else
/// writes nothing.
pub fn export(
    path: &Path,
    config: &Config,
    parameters: &Parameters,
    precision: Precision,
    device: &Device,
) -> Result<Verified> {
    let mut trained = BurnDenoiser::new(config, parameters.clone(), device.clone())?;
    let bytes = model_bytes(config, parameters, precision, &mut trained)?;
    let verified = verify(&bytes, precision, &mut trained)?;
    write_atomically(path, &bytes)?;
    Ok(verified)
}

/// The ModelProto.
pub fn model_bytes(
    config: &Config,
    parameters: &Parameters,
    precision: Precision,
    trained: &mut dyn Denoiser,
) -> Result<Vec<u8>> {
    let model = config.model_config()?;
    let graph =
        graph::build(&config.network(), parameters, [model.height, model.width], precision)?;
    let mut entries = metadata(&model, trained)?;
    if !config.data.class_names.is_empty() {
        entries.push(("classes", serde_json::to_string(&config.data.class_names)?));
    }
    let entries = entries
        .iter()
        .map(|(key, value)| Message::default().text(1, &format!("ddpm.{key}")).text(2, value));
    Ok(Message::default()
        .int(1, IR_VERSION)
        .text(2, "ddpm-train")
        .text(3, env!("CARGO_PKG_VERSION"))
        .message(7, graph)
        .message(8, Message::default().text(1, "").int(2, graph::OPSET))
        .messages(14, entries)
        .into_bytes())
}

/// The keys of the model contract, without their prefix.
fn metadata(
    model: &ModelConfig,
    trained: &mut dyn Denoiser,
) -> Result<Vec<(&'static str, String)>> {
    let mut entries = vec![
        ("version", "1".to_string()),
        ("prediction_type", model.prediction_type.name().to_string()),
        ("beta_schedule", model.beta_schedule.name().to_string()),
        ("num_train_timesteps", model.num_train_timesteps.to_string()),
        ("rescale_betas_zero_snr", model.rescale_betas_zero_snr.to_string()),
        ("variance_type", model.sampler.variance_type.name().to_string()),
        ("clip_sample_range", clip_sample_range(model)?),
        ("clipped_epsilon", model.clipped_epsilon.to_string()),
        ("width", model.width.to_string()),
        ("height", model.height.to_string()),
        ("color", model.color.name().to_string()),
    ];
    entries.extend(golden(model, trained)?.map(|golden| ("golden", golden)));
    if let Some((start, end)) = model.beta_schedule.ends() {
        entries.push(("beta_start", start.to_string()));
        entries.push(("beta_end", end.to_string()));
    }
    Ok(entries)
}

fn clip_sample_range(model: &ModelConfig) -> Result<String> {
    match model.sampler.thresholding {
        Thresholding::Off => Ok("none".to_string()),
        Thresholding::Clip(range) => Ok(range.to_string()),
        Thresholding::Dynamic { .. } => bail!("the metadata has no key for dynamic thresholding"),
    }
}

/// One forward pass, by which a load can check itself; none where the output is all 0, as that of
/// an untrained network is.
fn golden(model: &ModelConfig, trained: &mut dyn Denoiser) -> Result<Option<String>> {
    let timestep = model.num_train_timesteps / 2;
    let out = predict(trained, 0, &[timestep as f64], 0)?;
    let squares: f64 = out.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    let mean_square = squares / out.len() as f64;
    let entry = serde_json::json!({ "seed": 0, "timestep": timestep, "mean_square": mean_square });
    Ok((mean_square > 0.0).then(|| entry.to_string()))
}

/// The rows of a model's table of labels: its classes, and what stands for none of them.
fn label_rows(model: &ModelConfig) -> usize {
    match model.classes {
        Some(Classes { count: Some(count), null }) => count + usize::from(null.is_some()),
        _ => 0,
    }
}

/// The output for normal noise of `seed`, one item for each timestep; item i has label `first` + i,
/// counted round.
fn predict(
    denoiser: &mut dyn Denoiser,
    seed: u64,
    timesteps: &[f64],
    first: usize,
) -> Result<Vec<f32>> {
    let model = denoiser.config();
    let shape = (timesteps.len(), model.channels, model.height, model.width);
    let mut sample = Array4::zeros(shape);
    let mut out = Array4::zeros((shape.0, model.output_channels(), shape.2, shape.3));
    let rows = label_rows(model);
    let count = if rows > 0 { timesteps.len() } else { 0 };
    let labels: Vec<i64> = (first..first + count).map(|label| (label % rows) as i64).collect();
    if let Some(values) = sample.as_slice_mut() {
        rng::fill_standard_normal(seed, Purpose::InitialNoise, 0, values);
    }
    denoiser.predict(sample.view(), timesteps, &labels, out.view_mut())?;
    Ok(out.into_raw_vec_and_offset().0)
}

/// Compares ONNX Runtime with the trained network on noise, at several timesteps and batch sizes, and with
/// every label.
pub fn verify(bytes: &[u8], precision: Precision, trained: &mut dyn Denoiser) -> Result<Verified> {
    let tolerance = precision.tolerance();
    let options = OnnxOptions { provider: Provider::Cpu, ..OnnxOptions::default() };
    let source = ModelSource::Bytes(bytes.into());
    let mut exported =
        OnnxDenoiser::load(&source, &options).context("ONNX Runtime does not load the export")?;
    let last = (trained.config().num_train_timesteps - 1) as f64;
    let eight: Vec<f64> = (0..8).map(|i| (last * f64::from(i) / 7.0).floor()).collect();
    let mut batches = vec![(vec![last], 0), (vec![0.0, (last / 2.0).floor(), last], 0)];
    let rows = label_rows(trained.config()).max(1);
    batches.extend((0..rows).step_by(eight.len()).map(|first| (eight.clone(), first)));
    let mut verified = Verified { worst: 0.0, values: 0, bytes: bytes.len() };
    for (seed, (timesteps, first)) in batches.iter().enumerate() {
        let expected = predict(trained, seed as u64, timesteps, *first)?;
        let found = predict(&mut exported, seed as u64, timesteps, *first)?;
        let item = expected.len() / timesteps.len();
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = (found - expected).abs();
            ensure!(
                difference <= tolerance,
                "not exported: at t = {} in a batch of {} ONNX Runtime gives {found}, the trained \
                 network {expected}, expected at most {tolerance} apart",
                timesteps[index / item],
                timesteps.len()
            );
            verified.worst = verified.worst.max(difference);
        }
        verified.values += expected.len();
    }
    Ok(verified)
}
