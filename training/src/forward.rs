//! The network computed with burn, on NHWC tensors, and as a [`Denoiser`] for the engine's sampler.

use burn::tensor::{Device, Int, Tensor, TensorData, activation};
use ddpm::error::{Error, ErrorKind};
use ddpm::model::{Denoiser, ModelConfig};
use ndarray::{ArrayView4, ArrayViewMut4};

use crate::config::Config;
use crate::network::{Conv, Layers, Network, Padding, Sinusoids, UNetConfig, unet};
use crate::ops::{self, group_norm::EPSILON};
use crate::parameters::Parameters;

/// The output of the network for `sample` `[n, h, w, c]` in [-1, 1] scale, with one timestep an item
/// and, where the network has classes, one label, below `network.labels`.
pub fn forward(
    network: &Network,
    parameters: &Parameters,
    sample: Tensor<4>,
    timesteps: &[f64],
    labels: &[i64],
) -> Tensor<4> {
    let config = &network.unet;
    let mut walker = Forward { config, parameters, timesteps, labels, device: sample.device() };
    unet(&mut walker, network, &sample)
}

/// The walker that computes.
struct Forward<'a> {
    config: &'a UNetConfig,
    parameters: &'a Parameters,
    timesteps: &'a [f64],
    labels: &'a [i64],
    device: Device,
}

impl Forward<'_> {
    fn bias(&self, name: &str) -> Tensor<2> {
        self.parameters.get(&format!("{name}.bias")).unsqueeze()
    }

    fn weight<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<D> {
        self.parameters.get(&format!("{name}.weight")).reshape(shape)
    }

    /// `before` and `after` pixels more at the edges: zeros, or those of the opposite edge.
    fn pad(&self, x: Tensor<4>, [before, after]: [usize; 2]) -> Tensor<4> {
        [1, 2].into_iter().fold(x, |x, dim| {
            let size = x.dims()[dim];
            let edge = |length: usize, from: usize| match self.config.padding {
                Padding::Circular => x.clone().slice_dim(dim, from..from + length),
                Padding::Zeros => {
                    let mut shape = x.dims();
                    shape[dim] = length;
                    Tensor::zeros(shape, &x.device())
                }
            };
            let mut parts = vec![x.clone()];
            if before > 0 {
                parts.insert(0, edge(before, size - before));
            }
            if after > 0 {
                parts.push(edge(after, 0));
            }
            Tensor::cat(parts, dim)
        })
    }
}

impl Layers for Forward<'_> {
    type Map = Tensor<4>;
    type Vector = Tensor<2>;

    fn time_sinusoids(&mut self, sinusoids: Sinusoids) -> Tensor<2> {
        let frequencies = sinusoids.frequencies();
        let mut values = Vec::with_capacity(self.timesteps.len() * sinusoids.count);
        for &t in self.timesteps {
            // The product is rounded to f32 first: what the exported graph computes.
            let angles = frequencies.iter().map(|frequency| f64::from(t as f32 * frequency));
            let cosines = angles.clone().map(|angle| angle.cos() as f32);
            let sines = angles.map(|angle| angle.sin() as f32);
            if sinusoids.cosines_first {
                values.extend(cosines.chain(sines));
            } else {
                values.extend(sines.chain(cosines));
            }
        }
        let shape = [self.timesteps.len(), sinusoids.count];
        Tensor::from_data(TensorData::new(values, shape), &self.device)
    }

    fn label_embedding(&mut self, name: &str, rows: usize, dim: usize) -> Tensor<2> {
        let labels = TensorData::new(self.labels.to_vec(), [self.labels.len()]);
        let labels = Tensor::<1, Int>::from_data(labels, &self.device);
        self.weight(name, [rows, dim]).select(0, labels)
    }

    fn add_vectors(&mut self, a: &Tensor<2>, b: &Tensor<2>) -> Tensor<2> {
        a.clone() + b.clone()
    }

    fn linear(
        &mut self,
        name: &str,
        x: &Tensor<2>,
        channels_in: usize,
        channels_out: usize,
    ) -> Tensor<2> {
        x.clone().matmul(self.weight(name, [channels_in, channels_out])) + self.bias(name)
    }

    fn silu(&mut self, x: &Tensor<2>) -> Tensor<2> {
        activation::silu(x.clone())
    }

    fn conv(&mut self, name: &str, x: &Tensor<4>, c: Conv, shift: Option<&Tensor<2>>) -> Tensor<4> {
        let weight = self.weight(name, [c.kernel, c.kernel, c.channels_in, c.channels_out]);
        let bias = self.bias(name);
        let shift = match shift {
            Some(shift) => shift.clone() + bias,
            None => bias,
        };
        if self.config.padding == Padding::Zeros || c.kernel == 1 {
            return ops::conv2d(x.clone(), weight, shift, c.upsample);
        }
        // The frame of wrapped pixels keeps the zeros beyond it away from what is cut out.
        let [_, h, w, _] = x.dims();
        let out = ops::conv2d(self.pad(x.clone(), [1, 1]), weight, shift, c.upsample);
        let scale = if c.upsample { 2 } else { 1 };
        out.slice_dim(1, scale..scale * (h + 1)).slice_dim(2, scale..scale * (w + 1))
    }

    fn downsample(
        &mut self,
        name: &str,
        x: &Tensor<4>,
        channels_in: usize,
        channels_out: usize,
    ) -> Tensor<4> {
        let [n, h, w, c] = x.dims();
        let kernel = self.config.downsample.kernel();
        // Each window becomes one pixel of a 1x1 convolution.
        let windows = if kernel == 2 {
            x.clone().reshape([n, h / 2, 2, w / 2, 2, c]).permute([0, 1, 3, 2, 4, 5]).reshape([
                n,
                h / 2,
                w / 2,
                4 * c,
            ])
        } else {
            // One row and column beyond the last window, so that they come in pairs.
            let [before, _] = self.config.downsample.padding();
            let pairs = self.pad(x.clone(), [before, 2 - before]).reshape([
                n,
                h / 2 + 1,
                2,
                w / 2 + 1,
                2,
                c,
            ]);
            let tap = |y: usize, x: usize| {
                let taps = pairs.clone().slice_dim(1, y / 2..y / 2 + h / 2);
                let taps = taps.slice_dim(2, y % 2..y % 2 + 1).slice_dim(3, x / 2..x / 2 + w / 2);
                taps.slice_dim(4, x % 2..x % 2 + 1).reshape([n, h / 2, w / 2, c])
            };
            Tensor::cat((0..9).map(|i| tap(i / 3, i % 3)).collect(), 3)
        };
        let weight = self.weight(name, [1, 1, kernel * kernel * channels_in, channels_out]);
        ops::conv2d(windows, weight, self.bias(name), false)
    }

    fn group_norm(&mut self, name: &str, x: &Tensor<4>, _: usize, silu: bool) -> Tensor<4> {
        let gamma = self.parameters.get(&format!("{name}.gamma"));
        let beta = self.parameters.get(&format!("{name}.beta"));
        // The kernels have one epsilon e: (s x - s m) / sqrt(s^2 v + e) is (x - m) / sqrt(v + e / s^2).
        let scale = (f64::from(EPSILON) / self.config.norm_eps).sqrt();
        let is_default = self.config.norm_eps as f32 == EPSILON;
        let x = if is_default { x.clone() } else { x.clone() * scale };
        ops::group_norm(x, gamma, beta, self.config.groups, silu)
    }

    fn attention(&mut self, qkv: &Tensor<4>, _: usize, heads: usize) -> Tensor<4> {
        ops::attention(qkv.clone(), heads)
    }

    fn add(&mut self, a: &Tensor<4>, b: &Tensor<4>) -> Tensor<4> {
        a.clone() + b.clone()
    }

    fn concat(&mut self, a: &Tensor<4>, b: &Tensor<4>) -> Tensor<4> {
        Tensor::cat(vec![a.clone(), b.clone()], 3)
    }
}

/// Planes `[n, c, h, w]` from pixels `[n, h, w, c]`, or back, where `to_planes` is false.
pub fn transpose_pixels(
    source: &[f32],
    target: &mut [f32],
    channels: usize,
    pixels: usize,
    to_planes: bool,
) {
    let item = channels * pixels;
    for (source, target) in source.chunks_exact(item).zip(target.chunks_exact_mut(item)) {
        for p in 0..pixels {
            for c in 0..channels {
                if to_planes {
                    target[c * pixels + p] = source[p * channels + c];
                } else {
                    target[p * channels + c] = source[c * pixels + p];
                }
            }
        }
    }
}

/// A network with its weights, as the sampler of the engine sees it.
pub struct BurnDenoiser {
    config: ModelConfig,
    network: Network,
    parameters: Parameters,
    device: Device,
}

impl BurnDenoiser {
    /// `parameters` must be those of the network of `config`, on `device`, without gradients.
    ///
    /// Errors: where the configuration does not describe a model.
    pub fn new(config: &Config, parameters: Parameters, device: Device) -> anyhow::Result<Self> {
        Ok(Self { config: config.model_config()?, network: config.network(), parameters, device })
    }
}

impl Denoiser for BurnDenoiser {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<f32>,
        timesteps: &[f64],
        labels: &[i64],
        mut output: ArrayViewMut4<f32>,
    ) -> ddpm::error::Result<()> {
        let (n, c, h, w) = sample.dim();
        let fault = |what: &str| Error::new(ErrorKind::InvalidArgument, what);
        let expected = if self.network.labels > 0 { n } else { 0 };
        if labels.len() != expected {
            let found = labels.len();
            return Err(fault(&format!("labels: found {found}, expected {expected}")));
        }
        let known = 0..self.network.labels as i64;
        if let Some(label) = labels.iter().find(|label| !known.contains(label)) {
            return Err(fault(&format!("labels: found {label}, expected less than {}", known.end)));
        }
        let planes = sample.as_slice().ok_or_else(|| fault("sample is not contiguous"))?;
        let mut pixels = vec![0.0; planes.len()];
        transpose_pixels(planes, &mut pixels, c, h * w, false);
        let x = Tensor::from_data(TensorData::new(pixels, [n, h, w, c]), &self.device);
        let out = forward(&self.network, &self.parameters, x, timesteps, labels)
            .try_into_vec_as::<f32>()
            .map_err(|error| Error::new(ErrorKind::Inference, format!("burn: {error:?}")))?;
        let target = output.as_slice_mut().ok_or_else(|| fault("output is not contiguous"))?;
        transpose_pixels(&out, target, self.network.channels_out, h * w, true);
        Ok(())
    }
}
