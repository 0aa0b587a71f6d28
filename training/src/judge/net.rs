//! The classifier's network: which layers there are, its weights and its computation, from one list.

use anyhow::{Result, ensure};
use burn::tensor::{Tensor, activation};
use serde::{Deserialize, Serialize};

use super::faults::Fault;
use super::images::Shape;
use crate::network::Start;
use crate::ops;
use crate::parameters::{ParameterSpec, Parameters};

/// Channels at each resolution, the first being half that of the image.
const CHANNELS: [usize; 4] = [32, 64, 96, 128];
const GROUPS: usize = 8;
/// Images with a longer side are first shrunk.
const LARGEST: usize = 64;

/// A convolutional network of two answers: which class, and which [`Fault`], if any.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Net {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
    pub classes: usize,
    /// Length of the vector that both answers are made from.
    pub features: usize,
}

enum Layer {
    /// The mean of blocks of 2x2 pixels.
    Shrink,
    /// Blocks of 2x2 pixels become pixels with four times the channels.
    Fold,
    Conv {
        name: String,
        kernel: usize,
        channels_in: usize,
        channels_out: usize,
    },
    NormSilu {
        name: String,
        channels: usize,
    },
    /// Keeps the map for the next [`Add`](Layer::Add).
    Keep,
    Add,
}

/// A convolution with its normalisation.
fn conv(name: String, kernel: usize, channels_in: usize, channels_out: usize) -> [Layer; 2] {
    let norm = Layer::NormSilu { name: format!("{name}_norm"), channels: channels_out };
    [Layer::Conv { name, kernel, channels_in, channels_out }, norm]
}

/// What the network says about a batch.
pub struct Answers {
    /// `[n, features]`.
    pub features: Tensor<2>,
    /// `[n, classes]`.
    pub classes: Tensor<2>,
    /// `[n, 1 + faults]`; the first is for an intact image.
    pub faults: Tensor<2>,
}

impl Net {
    /// The shape of an image.
    pub fn shape(&self) -> Shape {
        Shape { width: self.width, height: self.height, channels: self.channels }
    }

    /// Says the first thing that cannot work.
    pub fn validate(&self) -> Result<()> {
        let sides = [self.width, self.height];
        ensure!(
            sides.iter().all(|side| (1..=1024).contains(side))
                && (1..=4).contains(&self.channels)
                && (1..=65536).contains(&self.classes)
                && (2..=1024).contains(&self.features),
            "classifier: {}x{} pixels, {} channels, {} classes, {} features; expected 1 to 1024 \
             pixels, 1 to 4, 1 to 65536 and 2 to 1024",
            self.width,
            self.height,
            self.channels,
            self.classes,
            self.features
        );
        Ok(())
    }

    /// The layers up to the map that the features are read from, and the values of that map.
    fn layers(&self) -> (Vec<Layer>, usize) {
        let (mut w, mut h, mut channels) = (self.width, self.height, self.channels);
        let even = |w: usize, h: usize| w.is_multiple_of(2) && h.is_multiple_of(2);
        let mut layers = Vec::new();
        while w.max(h) > LARGEST && even(w, h) {
            layers.push(Layer::Shrink);
            (w, h) = (w / 2, h / 2);
        }
        let mut level = 0;
        loop {
            let folds = even(w, h) && w.min(h) >= 8;
            if level > 0 && !folds {
                return (layers, w * h * channels);
            }
            if folds {
                layers.push(Layer::Fold);
                (w, h, channels) = (w / 2, h / 2, channels * 4);
            }
            let wide = CHANNELS[level.min(CHANNELS.len() - 1)];
            // The first one sees pixels; later ones see what a 3x3 has seen already.
            let kernel = if level == 0 { 3 } else { 1 };
            layers.extend(conv(format!("level{level}.fold"), kernel, channels, wide));
            layers.push(Layer::Keep);
            layers.extend(conv(format!("level{level}.conv"), 3, wide, wide));
            layers.push(Layer::Add);
            channels = wide;
            level += 1;
        }
    }

    /// The weights, in the order of their use.
    pub fn specs(&self) -> Vec<ParameterSpec> {
        let (layers, flat) = self.layers();
        let mut specs = Vec::new();
        let mut push = |name: String, shape: &[usize], start| {
            specs.push(ParameterSpec { name, shape: shape.to_vec(), start })
        };
        for layer in layers {
            match layer {
                Layer::Conv { name, kernel, channels_in, channels_out } => {
                    let start = Start::Uniform { inputs: kernel * kernel * channels_in };
                    let shape = [kernel, kernel, channels_in, channels_out];
                    push(format!("{name}.weight"), &shape, start);
                    push(format!("{name}.bias"), &[channels_out], start);
                }
                Layer::NormSilu { name, channels } => {
                    push(format!("{name}.gamma"), &[channels], Start::One);
                    push(format!("{name}.beta"), &[channels], Start::Zero);
                }
                Layer::Shrink | Layer::Fold | Layer::Keep | Layer::Add => {}
            }
        }
        let ends = [
            ("features", flat, self.features),
            ("classes", self.features, self.classes),
            ("faults", self.features, 1 + Fault::ALL.len()),
        ];
        for (name, inputs, outputs) in ends {
            push(format!("{name}.weight"), &[inputs, outputs], Start::Uniform { inputs });
            push(format!("{name}.bias"), &[outputs], Start::Uniform { inputs });
        }
        specs
    }

    /// Computes the answers for `images`, `[n, h, w, c]` in [-1, 1].
    pub fn forward(&self, parameters: &Parameters, images: Tensor<4>) -> Answers {
        let (layers, flat) = self.layers();
        let n = images.dims()[0];
        let mut x = images;
        let mut kept = None;
        for layer in layers {
            x = match layer {
                Layer::Shrink => {
                    let [n, h, w, c] = x.dims();
                    let blocks = x.reshape([n, h / 2, 2, w / 2, 2 * c]).sum_dim(2);
                    let blocks = blocks.reshape([n, h / 2, w / 2, 2, c]).sum_dim(3);
                    blocks.reshape([n, h / 2, w / 2, c]) * 0.25
                }
                Layer::Fold => {
                    let [n, h, w, c] = x.dims();
                    x.reshape([n, h / 2, 2, w / 2, 2, c]).permute([0, 1, 3, 2, 4, 5]).reshape([
                        n,
                        h / 2,
                        w / 2,
                        4 * c,
                    ])
                }
                Layer::Conv { name, kernel, channels_in, channels_out } => {
                    let weight = parameters.get(&format!("{name}.weight"));
                    let weight = weight.reshape([kernel, kernel, channels_in, channels_out]);
                    let bias = parameters.get(&format!("{name}.bias")).unsqueeze();
                    ops::conv2d(x, weight, bias, false)
                }
                Layer::NormSilu { name, .. } => {
                    let gamma = parameters.get(&format!("{name}.gamma"));
                    let beta = parameters.get(&format!("{name}.beta"));
                    ops::group_norm(x, gamma, beta, GROUPS, true)
                }
                Layer::Keep => {
                    kept = Some(x.clone());
                    x
                }
                Layer::Add => match kept.take() {
                    Some(kept) => x + kept,
                    None => x,
                },
            };
        }
        let linear = |name: &str, x: Tensor<2>, outputs: usize| {
            let inputs = x.dims()[1];
            let weight = parameters.get(&format!("{name}.weight")).reshape([inputs, outputs]);
            x.matmul(weight) + parameters.get(&format!("{name}.bias")).unsqueeze()
        };
        let features = linear("features", x.reshape([n, flat]), self.features);
        let active = activation::silu(features.clone());
        Answers {
            features,
            classes: linear("classes", active.clone(), self.classes),
            faults: linear("faults", active, 1 + Fault::ALL.len()),
        }
    }
}
