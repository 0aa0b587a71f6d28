//! The weights of a network: which there are, how they start, and their place in a safetensors file.
//!
//! A weight is kept flat; its shape is a fact of the layer that reads it. Convolutions are stored
//! `[kernel, kernel, in, out]`, linear layers `[in, out]`.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm::rng::{self, Purpose};

use crate::network::{Conv, Downsample, Layers, Network, Sinusoids, Start, unet};

/// One weight tensor of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub start: Start,
}

impl ParameterSpec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The weights of the network, in the order in which it uses them.
pub fn specs(network: &Network) -> Vec<ParameterSpec> {
    let mut list = Lister { downsample: network.unet.downsample, specs: Vec::new() };
    unet(&mut list, network, &());
    list.specs
}

/// The walker that only writes down which weights are asked for.
struct Lister {
    downsample: Downsample,
    specs: Vec<ParameterSpec>,
}

impl Lister {
    fn push(&mut self, name: String, shape: &[usize], start: Start) {
        self.specs.push(ParameterSpec { name, shape: shape.to_vec(), start });
    }

    fn affine(&mut self, name: &str, weight: &[usize], inputs: usize, zero: bool) {
        let start = if zero { Start::Zero } else { Start::Uniform { inputs } };
        self.push(format!("{name}.weight"), weight, start);
        self.push(format!("{name}.bias"), &weight[weight.len() - 1..], start);
    }
}

impl Layers for Lister {
    type Map = ();
    type Vector = ();

    fn time_sinusoids(&mut self, _: Sinusoids) {}
    fn silu(&mut self, _: &()) {}
    fn attention(&mut self, _: &(), _: usize, _: usize) {}
    fn add(&mut self, _: &(), _: &()) {}
    fn concat(&mut self, _: &(), _: &()) {}
    fn add_vectors(&mut self, _: &(), _: &()) {}

    fn label_embedding(&mut self, name: &str, rows: usize, dim: usize) {
        self.push(format!("{name}.weight"), &[rows, dim], Start::Unit);
    }

    fn linear(&mut self, name: &str, _: &(), channels_in: usize, channels_out: usize) {
        self.affine(name, &[channels_in, channels_out], channels_in, false);
    }

    fn conv(&mut self, name: &str, _: &(), c: Conv, _: Option<&()>) {
        let shape = [c.kernel, c.kernel, c.channels_in, c.channels_out];
        self.affine(name, &shape, c.kernel * c.kernel * c.channels_in, c.zero);
    }

    fn downsample(&mut self, name: &str, _: &(), channels_in: usize, channels_out: usize) {
        let k = self.downsample.kernel();
        self.affine(name, &[k, k, channels_in, channels_out], k * k * channels_in, false);
    }

    fn group_norm(&mut self, name: &str, _: &(), channels: usize, _: bool) {
        self.push(format!("{name}.gamma"), &[channels], Start::One);
        self.push(format!("{name}.beta"), &[channels], Start::Zero);
    }
}

/// Weights in memory, on one device, each flat.
#[derive(Clone)]
pub struct Parameters {
    /// Shared by all copies: a step of training makes one.
    names: Arc<Names>,
    tensors: Vec<Tensor<1>>,
}

/// What the tensors are, and where each is.
struct Names {
    specs: Vec<ParameterSpec>,
    by_name: HashMap<String, usize>,
}

impl Parameters {
    /// Weights of those specs, in their order: `values` gives each.
    pub fn from_values(
        specs: Vec<ParameterSpec>,
        device: &Device,
        mut values: impl FnMut(usize, &ParameterSpec) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let mut tensors = Vec::with_capacity(specs.len());
        for (index, spec) in specs.iter().enumerate() {
            let data = TensorData::new(values(index, spec)?, [spec.len()]);
            tensors.push(Tensor::from_data(data, device));
        }
        let by_name = specs.iter().enumerate().map(|(i, spec)| (spec.name.clone(), i)).collect();
        Ok(Self { names: Arc::new(Names { specs, by_name }), tensors })
    }

    /// Fresh weights, a function of `seed` and the specs.
    pub fn initial(specs: Vec<ParameterSpec>, seed: u64, device: &Device) -> Result<Self> {
        Self::from_values(specs, device, |index, spec| {
            let uniform = |bound: f64| {
                let unit = |i| {
                    rng::uniform_u64(seed, Purpose::Init, index as u32, i) as f64 * 2f64.powi(-64)
                };
                (0..spec.len()).map(|i| ((2.0 * unit(i as u64) - 1.0) * bound) as f32).collect()
            };
            Ok(match spec.start {
                Start::Zero => vec![0.0; spec.len()],
                Start::One => vec![1.0; spec.len()],
                Start::Unit => uniform(1.0),
                Start::Uniform { inputs } => uniform(1.0 / (inputs as f64).sqrt()),
            })
        })
    }

    /// Zeros of the same shapes: the start of an optimiser's moments.
    pub fn zeros(specs: Vec<ParameterSpec>, device: &Device) -> Result<Self> {
        Self::from_values(specs, device, |_, spec| Ok(vec![0.0; spec.len()]))
    }

    /// Reads the weights stored under `prefix` + name; each must be there, as f32, of its shape, and finite.
    pub fn from_safetensors(
        specs: Vec<ParameterSpec>,
        file: &safetensors::SafeTensors,
        prefix: &str,
        device: &Device,
    ) -> Result<Self> {
        Self::from_values(specs, device, |_, spec| {
            let name = format!("{prefix}{}", spec.name);
            let view =
                file.tensor(&name).with_context(|| format!("checkpoint: tensor \"{name}\""))?;
            ensure!(
                view.dtype() == safetensors::Dtype::F32 && view.shape() == spec.shape,
                "checkpoint: tensor \"{name}\" is {:?} {:?}, expected F32 {:?}",
                view.dtype(),
                view.shape(),
                spec.shape
            );
            let numbers = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            let values: Vec<f32> = numbers.collect();
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                bail!("checkpoint: tensor \"{name}\" has a value of {value}");
            }
            Ok(values)
        })
    }

    /// Adds the weights, named `prefix` + name, to what will be written to a safetensors file.
    ///
    /// Errors: where one is no finite number.
    pub fn append_safetensors(
        &self,
        prefix: &str,
        out: &mut Vec<(String, StoredTensor)>,
    ) -> Result<()> {
        for (spec, tensor) in self.names.specs.iter().zip(&self.tensors) {
            let values = read(tensor.clone())?;
            let name = format!("{prefix}{}", spec.name);
            if let Some(value) = values.iter().find(|value| !value.is_finite()) {
                bail!("{name} has a value of {value}: not saved");
            }
            let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            out.push((name, StoredTensor { shape: spec.shape.clone(), bytes }));
        }
        Ok(())
    }

    /// What there is, in order.
    pub fn specs(&self) -> &[ParameterSpec] {
        &self.names.specs
    }

    /// The tensors, in the order of the specs.
    pub fn tensors(&self) -> &[Tensor<1>] {
        &self.tensors
    }

    /// The tensors, to be replaced.
    pub fn tensors_mut(&mut self) -> &mut [Tensor<1>] {
        &mut self.tensors
    }

    /// The same weights as leaves of an autodiff graph.
    pub fn tracked(&self) -> Self {
        let tensors = self.tensors.iter().map(|t| t.clone().autodiff().require_grad()).collect();
        Self { names: Arc::clone(&self.names), tensors }
    }

    /// One weight, flat.
    ///
    /// # Panics
    /// When the network has no weight of that name: a mistake in a walker, not in data.
    pub fn get(&self, name: &str) -> Tensor<1> {
        match self.names.by_name.get(name) {
            Some(&index) => self.tensors[index].clone(),
            None => panic!("the network has no weight named {name}"),
        }
    }

    /// The values of one weight; panics as [`get`](Self::get) does.
    pub fn values(&self, name: &str) -> Result<Vec<f32>> {
        read(self.get(name))
    }

    /// Number of values in all weights.
    pub fn count(&self) -> usize {
        self.names.specs.iter().map(ParameterSpec::len).sum()
    }
}

fn read(tensor: Tensor<1>) -> Result<Vec<f32>> {
    tensor
        .try_into_vec_as::<f32>()
        .map_err(|error| anyhow::anyhow!("cannot read a tensor back: {error:?}"))
}

/// A float32 tensor on its way into a safetensors file.
pub struct StoredTensor {
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl safetensors::View for &StoredTensor {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> std::borrow::Cow<'_, [u8]> {
        (&self.bytes[..]).into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
