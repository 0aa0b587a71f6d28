//! A trained classifier: what it sees in images, and its file.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use burn::tensor::{Device, Tensor};
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::distance::Features;
use super::images::Images;
use super::net::Net;
use super::teach::Lessons;
use crate::network::Start;
use crate::output::write_atomically;
use crate::parameters::{ParameterSpec, Parameters};

const VERSION: &str = "1";
/// Images a batch.
const BATCH: usize = 128;

/// What a classifier is and how good it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    pub net: Net,
    pub lessons: Lessons,
    /// Whether it tells the classes of the data; else groups of alike images.
    pub knows_classes: bool,
    /// What it tells apart.
    pub names: Vec<String>,
    /// The fingerprint of the images it learned from.
    pub images: String,
    /// Images it learned from, and others it was measured with.
    pub train_images: usize,
    pub held_out_images: usize,
    /// Share of the held-out images whose class it told.
    pub accuracy: f64,
    /// Mean of two shares: intact held-out images taken as such, and those with a fault of half
    /// strength taken as faulty.
    pub fault_accuracy: f64,
}

/// A network with its weights, and the scale of its features.
pub struct Classifier {
    about: About,
    parameters: Parameters,
    /// Mean and standard deviation of each feature over the images it learned from.
    scale: Parameters,
    device: Device,
}

/// What it says about images.
pub struct Seen {
    /// Scaled to mean 0 and variance 1 over the images learned from.
    pub features: Features,
    /// The class of each.
    pub classes: Vec<usize>,
    /// Whether each looks faulty.
    pub faulty: Vec<bool>,
}

fn scale_specs(features: usize) -> Vec<ParameterSpec> {
    let spec =
        |name: &str, start| ParameterSpec { name: name.to_string(), shape: vec![features], start };
    vec![spec("mean", Start::Zero), spec("deviation", Start::One)]
}

impl Classifier {
    /// One whose features are not scaled yet.
    pub(super) fn new(about: About, parameters: Parameters, device: &Device) -> Result<Self> {
        let scale = Parameters::initial(scale_specs(about.net.features), 0, device)?;
        Ok(Self { about, parameters, scale, device: device.clone() })
    }

    pub fn about(&self) -> &About {
        &self.about
    }

    pub(super) fn about_mut(&mut self) -> &mut About {
        &mut self.about
    }

    /// Sets the scale, so that the features of `images` get mean 0 and variance 1.
    pub(super) fn scale_to(&mut self, images: &Images) -> Result<()> {
        let features = self.see(images)?.features;
        let (n, d) = (features.len().max(1) as f64, features.dims);
        let mut mean = vec![0f64; d];
        for row in features.rows() {
            mean.iter_mut().zip(row).for_each(|(m, v)| *m += f64::from(*v) / n);
        }
        let mut square = vec![0f64; d];
        for row in features.rows() {
            let centred = row.iter().zip(&mean).map(|(v, m)| f64::from(*v) - m);
            square.iter_mut().zip(centred).for_each(|(s, v)| *s += v * v / n);
        }
        let largest = square.iter().copied().fold(0.0, f64::max).sqrt();
        // A feature that hardly changes must not be blown up to the size of the others.
        let floor = (1e-2 * largest).max(1e-12);
        let tensor = |values: Vec<f32>| Tensor::from_data(values.as_slice(), &self.device);
        let mean = tensor(mean.iter().map(|m| *m as f32).collect());
        let deviation = tensor(square.iter().map(|s| s.sqrt().max(floor) as f32).collect());
        self.scale.tensors_mut()[0] = mean;
        self.scale.tensors_mut()[1] = deviation;
        Ok(())
    }

    /// Looks at images. Errors: where they are of another shape.
    pub fn see(&self, images: &Images) -> Result<Seen> {
        let net = &self.about.net;
        ensure!(
            images.shape == net.shape(),
            "images of {:?}, expected {:?} as the classifier learned from",
            images.shape,
            net.shape()
        );
        let mut seen = Seen {
            features: Features { values: Vec::new(), dims: net.features },
            classes: Vec::new(),
            faulty: Vec::new(),
        };
        let (mean, deviation) = (self.scale.get("mean"), self.scale.get("deviation"));
        for first in (0..images.len()).step_by(BATCH) {
            let answers = net.forward(&self.parameters, images.batch(first, BATCH, &self.device));
            let scaled =
                (answers.features - mean.clone().unsqueeze()) / deviation.clone().unsqueeze();
            seen.features.values.extend(values(scaled)?);
            seen.classes.extend(largest(&values(answers.classes)?, net.classes));
            let faults = values(answers.faults)?;
            let kinds = faults.len() / seen.classes[first..].len().max(1);
            seen.faulty.extend(largest(&faults, kinds).map(|kind| kind > 0));
        }
        Ok(seen)
    }

    /// Writes it. The file at `path` is the old one or the new one whatever happens meanwhile.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        self.parameters.append_safetensors("parameters.", &mut tensors)?;
        self.scale.append_safetensors("features.", &mut tensors)?;
        let metadata = HashMap::from([
            ("ddpm-train.classifier".to_string(), VERSION.to_string()),
            ("ddpm-train.about".to_string(), serde_json::to_string(&self.about)?),
        ]);
        let views = tensors.iter().map(|(name, tensor)| (name, tensor));
        write_atomically(path, &safetensors::serialize(views, Some(metadata))?)
    }

    /// Reads one that [`save`](Self::save) wrote.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let shown = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        Self::parse(&bytes, device).with_context(|| format!("{shown}"))
    }

    fn parse(bytes: &[u8], device: &Device) -> Result<Self> {
        let (_, header) =
            SafeTensors::read_metadata(bytes).context("not a safetensors file, or cut short")?;
        let metadata = header.metadata().clone().unwrap_or_default();
        let entry = |name: &str| {
            metadata.get(name).with_context(|| {
                format!("no metadata \"{name}\": not a classifier written by ddpm-train")
            })
        };
        let version = entry("ddpm-train.classifier")?;
        ensure!(version == VERSION, "classifier version is {version}, expected {VERSION}");
        let about: About =
            serde_json::from_str(entry("ddpm-train.about")?).context("ddpm-train.about")?;
        about.net.validate()?;
        ensure!(
            about.names.len() == about.net.classes,
            "the classifier has {} names, expected one for each of its {} classes",
            about.names.len(),
            about.net.classes
        );
        let file = SafeTensors::deserialize(bytes).context("the classifier is damaged")?;
        let specs = about.net.specs();
        let parameters = Parameters::from_safetensors(specs, &file, "parameters.", device)?;
        let specs = scale_specs(about.net.features);
        let scale = Parameters::from_safetensors(specs, &file, "features.", device)?;
        Ok(Self { about, parameters, scale, device: device.clone() })
    }
}

fn values(tensor: Tensor<2>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| anyhow::anyhow!("cannot read a tensor back: {error:?}"))
}

/// The place of the largest value of each row.
fn largest(values: &[f32], columns: usize) -> impl Iterator<Item = usize> {
    values.chunks_exact(columns.max(1)).map(|row| {
        let values = row.iter().enumerate();
        values.max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(place, _)| place)
    })
}
