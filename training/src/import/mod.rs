//! A `UNet2DModel` of diffusers as a checkpoint: to sample from, to export, to train on.
//!
//! What the network here cannot express is refused by its name in `config.json`; nothing is left out
//! silently that would change the output.

mod keys;
mod names;
mod network;
mod schedule;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use crate::checkpoint;
use crate::config::Config;
use crate::console::quoted;
use crate::optimizer::TrainState;
use crate::output::{self, write_atomically};
use crate::parameters::{ParameterSpec, Parameters, specs};
use crate::say;
use crate::torch_layout;
use keys::Keys;

const WEIGHTS: &str = "diffusion_pytorch_model.safetensors";

/// A network read from a folder of diffusers.
pub struct Imported {
    /// What it is, with settings to train it on; its pictures are still to be named.
    pub config: Config,
    pub parameters: Parameters,
    /// What was assumed or left aside, for the user.
    pub notes: Vec<String>,
}

/// Reads a folder with `config.json` and `diffusion_pytorch_model.safetensors`, and
/// `scheduler_config.json` where there is one; or the folder of a pipeline, with the former in `unet`
/// and the latter in `scheduler`.
///
/// Errors: where a file is missing or damaged, or the network is one that cannot be expressed.
pub fn import(folder: &Path, device: &Device) -> Result<Imported> {
    let pipeline = folder.join("unet");
    let unet = if pipeline.join("config.json").exists() { pipeline } else { folder.to_path_buf() };
    let mut notes = Vec::new();
    let mut keys = Keys::read(&unet.join("config.json"))?;
    let description = network::read(&mut keys, &mut notes)?;
    let schedule =
        [folder.join("scheduler_config.json"), folder.join("scheduler/scheduler_config.json")]
            .into_iter()
            .find(|path| path.exists());
    let diffusion = match &schedule {
        Some(path) => schedule::read(Keys::read(path)?, &mut notes)?,
        None => {
            notes.push(
                "no scheduler_config.json: taken to predict the noise of the DDPM paper's linear schedule"
                    .to_string(),
            );
            schedule::paper()
        }
    };
    let of = schedule.as_deref().unwrap_or(&unet);
    let config = config(&description, diffusion).with_context(|| format!("{}", of.display()))?;
    let found = config.network().channels_out;
    ensure!(
        found == description.channels_out,
        "{}: out_channels is {}, expected {found} with in_channels {} and variance_type {}",
        keys.file(),
        description.channels_out,
        description.channels_in,
        config.diffusion.variance_type
    );
    let parameters = weights(&unet, &config, device)?;
    Ok(Imported { config, parameters, notes })
}

/// A configuration with the network and the process, and modest settings of the rest.
fn config(description: &network::Description, diffusion: serde_json::Value) -> Result<Config> {
    let classes: Vec<String> = (0..description.classes).map(|class| class.to_string()).collect();
    let color = match description.channels_in {
        1 => "gray",
        4 => "rgba",
        _ => "rgb",
    };
    let timesteps = diffusion["num_train_timesteps"].as_u64().unwrap_or(50);
    let config: Config = serde_json::from_value(serde_json::json!({
        "seed": 1,
        "out": "out/imported",
        "data": {
            "folder": "my_pictures",
            "width": description.width,
            "height": description.height,
            "color": color,
            "classes": description.classes > 0,
            "class_names": classes,
        },
        "model": description.unet,
        "diffusion": diffusion,
        "train": {
            "steps": 10000,
            "batch": 16,
            "learning_rate": 5e-5,
            "warmup_steps": 500,
            "weight_decay": 0.0,
            "max_grad_norm": 1.0,
            "ema_decay": 0.9995,
            // A table of diffusers has no row for no class.
            "label_dropout": 0.0,
        },
        "report": { "checkpoint_every": 500, "sample_every": 1000, "samples": 16,
            "sample_steps": timesteps.min(50) },
    }))?;
    config.validate()?;
    Ok(config)
}

/// The weights, all of them and no other.
fn weights(folder: &Path, config: &Config, device: &Device) -> Result<Parameters> {
    let path = folder.join(WEIGHTS);
    let shown = path.display();
    if !path.exists() && folder.join("diffusion_pytorch_model.bin").exists() {
        bail!(
            "{shown}: not there, only diffusion_pytorch_model.bin, which is code as much as data. Save the \
             model again with safe_serialization"
        );
    }
    let bytes = fs::read(&path).with_context(|| format!("cannot read {shown}"))?;
    let file = SafeTensors::deserialize(&bytes)
        .with_context(|| format!("{shown}: not a safetensors file, or cut short"))?;
    let levels = config.model.channels.len();
    let mut used = Vec::new();
    let specs = specs(&config.network());
    let parameters = Parameters::from_values(specs, device, |_, spec| {
        let mut values = Vec::with_capacity(spec.len());
        let sources = names::sources(&spec.name, levels);
        let parts = sources.len();
        for names in sources {
            let known = names.iter().find(|name| file.tensor(name).is_ok());
            let name = known.with_context(|| format!("{shown}: no tensor \"{}\"", names[0]))?;
            let part = read(&file.tensor(name)?, spec, parts)
                .with_context(|| format!("{shown}: tensor \"{name}\""))?;
            values.extend(part);
            used.push(name.clone());
        }
        Ok(torch_layout::from_torch(spec, &values))
    })?;
    if let Some(other) = file.names().into_iter().find(|name| !used.iter().any(|u| u == name)) {
        bail!("{shown}: tensor \"{other}\" has no place in the network that config.json describes");
    }
    Ok(parameters)
}

/// The values of a tensor that is one of `parts` of a weight, of PyTorch's layout, put together along
/// the first dimension.
fn read(tensor: &TensorView<'_>, spec: &ParameterSpec, parts: usize) -> Result<Vec<f32>> {
    let mut expected = torch_layout::shape(spec);
    expected[0] /= parts;
    // A 1x1 convolution is a linear layer, and stored as either.
    fn matrix(shape: &[usize]) -> &[usize] {
        match shape {
            [rest @ .., 1, 1] if rest.len() == 2 => rest,
            _ => shape,
        }
    }
    ensure!(
        matrix(tensor.shape()) == matrix(&expected),
        "found shape {:?}, expected {expected:?}",
        tensor.shape()
    );
    let data = tensor.data();
    let pairs = || data.as_chunks::<2>().0.iter().copied();
    let values: Vec<f32> = match tensor.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Dtype::F16 => pairs().map(|b| f16::from_le_bytes(b).to_f32()).collect(),
        Dtype::BF16 => pairs().map(|b| bf16::from_le_bytes(b).to_f32()).collect(),
        other => bail!("found {other:?}, expected F32, F16 or BF16"),
    };
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        bail!("found a value of {value}, expected finite numbers");
    }
    Ok(values)
}

/// Refuses a place of a checkpoint where it, or the configuration beside it, cannot be written or is
/// there already.
pub fn check(path: &Path) -> Result<()> {
    output::check_new(path, "safetensors")?;
    output::check_new(&beside(path), "toml")
}

fn beside(path: &Path) -> PathBuf {
    path.with_extension("toml")
}

/// Writes a checkpoint to `path`, and beside it, as TOML, a configuration to train it with. Returns
/// where that is.
pub fn write(path: &Path, imported: &Imported, device: &Device) -> Result<PathBuf> {
    check(path)?;
    for note in &imported.notes {
        say!("{note}");
    }
    let toml = beside(path);
    let state = TrainState::starting_with(imported.parameters.clone(), device)?;
    checkpoint::save(path, &imported.config, "imported", &state)?;
    let text = format!(
        "# Of {}, to go on from it: name your pictures under [data], then\n\
         #   ddpm-train fit --config {} --from {}\n\n{}",
        file_name(path),
        file_name(&toml),
        file_name(path),
        toml::to_string(&imported.config)?
    );
    write_atomically(&toml, text.as_bytes())?;
    Ok(toml)
}

fn file_name(path: &Path) -> String {
    let name = quoted(Path::new(path.file_name().unwrap_or_default()));
    // In a comment, a line break would end it.
    name.replace(char::is_control, " ")
}
