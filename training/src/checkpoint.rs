//! A run on disk: one safetensors file with weights, average, moments, step and configuration.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::Device;
use safetensors::SafeTensors;

use crate::config::Config;
use crate::hash::{fnv1a, words};
use crate::optimizer::TrainState;
use crate::output::write_atomically;
use crate::parameters::{ParameterSpec, Parameters, specs};

const VERSION: &str = "ddpm-train.version";
/// The first had no checksum.
const VERSIONS: [&str; 2] = ["1", "2"];

const CHECKSUM: &str = "ddpm-train.checksum";

/// No header is longer, as of the safetensors crate.
const LONGEST_HEADER: u64 = 100_000_000;

/// What precedes the names of the weights, of their average and of the two moments.
const PREFIXES: [&str; 4] = ["parameters.", "ema.", "moment1.", "moment2."];

/// Writes the state, if all of it is finite. The file at `path` is the old one or the new one whatever
/// happens meanwhile. Returns what is in it.
pub fn save(path: &Path, config: &Config, images: &str, state: &TrainState) -> Result<Vec<u8>> {
    let mut tensors = Vec::new();
    for (prefix, parameters) in
        PREFIXES.iter().zip([&state.parameters, &state.ema, &state.moment1, &state.moment2])
    {
        parameters.append_safetensors(prefix, &mut tensors).with_context(|| {
            format!(
                "after step {}; {} is left as it was. Try a lower train.learning_rate",
                state.step,
                path.display()
            )
        })?;
    }
    let mut metadata = HashMap::from([
        (VERSION.to_string(), VERSIONS[1].to_string()),
        ("ddpm-train.step".to_string(), state.step.to_string()),
        ("ddpm-train.images".to_string(), images.to_string()),
        ("ddpm-train.config".to_string(), serde_json::to_string(config)?),
    ]);
    let sum =
        checksum(&metadata, tensors.iter().map(|(name, tensor)| (&name[..], &tensor.bytes[..])));
    metadata.insert(CHECKSUM.to_string(), sum);
    let views = tensors.iter().map(|(name, tensor)| (name, tensor));
    let bytes = safetensors::serialize(views, Some(metadata))?;
    write_atomically(path, &bytes)?;
    Ok(bytes)
}

/// Of metadata and tensors, in whatever order they come: a change of any of them changes it.
fn checksum<'a>(
    metadata: &'a HashMap<String, String>,
    tensors: impl Iterator<Item = (&'a str, &'a [u8])>,
) -> String {
    let entries = metadata.iter().filter(|(name, _)| *name != CHECKSUM);
    let entries = entries.map(|(name, value)| (&name[..], value.as_bytes()));
    let hash = |(name, values): (&str, &[u8])| fnv1a(words(name.as_bytes()).chain(words(values)));
    let sum = entries.chain(tensors).map(hash).fold(0, u64::wrapping_add);
    format!("{sum:016x}")
}

/// Whether a file is a checkpoint, damaged or not, as far as its header tells.
pub fn is_checkpoint(path: &Path) -> bool {
    let header = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let mut header = Vec::new();
        file.take(u64::from_le_bytes(length).min(LONGEST_HEADER)).read_to_end(&mut header)?;
        Ok(header)
    };
    let is_file = fs::metadata(path).is_ok_and(|found| found.is_file());
    let entry = format!("\"{VERSION}\"");
    let has_entry =
        |header: Vec<u8>| header.windows(entry.len()).any(|part| part == entry.as_bytes());
    is_file && header().is_ok_and(has_entry)
}

/// A checkpoint's bytes with its configuration read.
pub struct Checkpoint {
    bytes: Vec<u8>,
    /// The configuration the run was started with.
    pub config: Config,
    /// The fingerprint of the images of the run, where the file has one.
    pub images: Option<String>,
    /// Steps taken.
    pub step: usize,
}

impl Checkpoint {
    /// Reads a file and checks that it is a checkpoint.
    pub fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let bytes = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        Self::parse(bytes).with_context(|| format!("{shown}"))
    }

    fn parse(bytes: Vec<u8>) -> Result<Self> {
        let (_, header) =
            SafeTensors::read_metadata(&bytes).context("not a safetensors file, or cut short")?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |name: &str| {
            let name = format!("ddpm-train.{name}");
            metadata.get(&name).cloned().with_context(|| {
                format!("no metadata \"{name}\": not a checkpoint written by ddpm-train fit")
            })
        };
        let version = entry("version")?;
        let [old, new] = VERSIONS;
        ensure!(
            [old, new].contains(&&version[..]),
            "checkpoint version is {version}, expected {old} or {new}"
        );
        let tensors =
            SafeTensors::deserialize(&bytes).context("the checkpoint is damaged")?.tensors();
        if version == new {
            let expected = metadata.get(CHECKSUM).map_or("none", String::as_str);
            let values = tensors.iter().map(|(name, view)| (&name[..], view.data()));
            let found = checksum(&metadata, values);
            ensure!(
                found == expected,
                "the checkpoint is damaged: its checksum is {found}, expected {expected}"
            );
        }
        let step = entry("step")?;
        let step = step.parse().with_context(|| format!("ddpm-train.step is {step:?}"))?;
        let config: Config =
            serde_json::from_str(&entry("config")?).context("ddpm-train.config")?;
        config.validate().context("ddpm-train.config")?;
        let images = metadata.get("ddpm-train.images").cloned();
        Ok(Self { bytes, config, images, step })
    }

    fn load(&self, prefix: &str, device: &Device) -> Result<Parameters> {
        let file = SafeTensors::deserialize(&self.bytes)?;
        let specs = specs(&self.config.network());
        Parameters::from_safetensors(specs, &file, prefix, device)
    }

    /// The averaged weights: those to sample with and to export.
    pub fn ema(&self, device: &Device) -> Result<Parameters> {
        self.load(PREFIXES[1], device)
    }

    /// The averaged weights as those of another run's network, which must have weights of the same names
    /// and shapes; what has no weights, such as the padding, may differ.
    pub fn ema_for(&self, config: &Config, device: &Device) -> Result<Parameters> {
        let parameters = self.ema(device)?;
        let expected = specs(&config.network());
        let shapes = |specs: &[ParameterSpec]| -> BTreeMap<String, Vec<usize>> {
            specs.iter().map(|spec| (spec.name.clone(), spec.shape.clone())).collect()
        };
        let (found, expected) = (shapes(parameters.specs()), shapes(&expected));
        for (name, shape) in &expected {
            match found.get(name) {
                None => bail!("it has no weight {name}, which the configuration's network has"),
                Some(other) => ensure!(
                    other == shape,
                    "its weight {name} has the shape {other:?}, expected {shape:?} as the \
                     configuration's network has it"
                ),
            }
        }
        if let Some(name) = found.keys().find(|name| !expected.contains_key(*name)) {
            bail!("it has the weight {name}, which the configuration's network has not");
        }
        Ok(parameters)
    }

    /// Everything, to go on training.
    pub fn state(&self, device: &Device) -> Result<TrainState> {
        let [parameters, ema, moment1, moment2] = PREFIXES.map(|prefix| self.load(prefix, device));
        Ok(TrainState {
            step: self.step,
            parameters: parameters?,
            ema: ema?,
            moment1: moment1?,
            moment2: moment2?,
        })
    }
}
