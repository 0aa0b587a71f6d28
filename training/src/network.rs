//! The U-Net, defined once, as a function over [`Layers`].
//!
//! Three walkers run this definition: [`crate::parameters`] lists the weights it needs,
//! [`crate::forward`] computes it with burn, [`crate::export`] writes it as an ONNX graph. None of
//! them knows the others, and this file knows no framework.
//!
//! The architecture is that of the DDPM paper (Ho et al. 2020, appendix B): residual blocks of
//! GroupNorm, SiLU and 3x3 convolution, the time embedding added in the middle of each, self-attention
//! at low resolutions, and skip connections by concatenation. Where that paper's code and the first
//! networks of this crate part ways, [`UNetConfig`] says which way is taken.

pub use crate::unet_config::{Downsample, Padding, UNetConfig};

/// A network: the sizes of its U-Net, and what goes in and comes out.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub unet: UNetConfig,
    /// Channels of the images.
    pub channels_in: usize,
    /// Channels of the output: those of the images, or twice as many with a learned variance.
    pub channels_out: usize,
    /// Rows of the table of labels: the classes and, with label dropout, one more for none of them;
    /// 0 for a network without classes.
    pub labels: usize,
}

/// How the weights of a layer start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Start {
    /// Uniform within 1 / sqrt(inputs), PyTorch's default for convolutions and linear layers.
    Uniform { inputs: usize },
    /// Uniform within 1: the rows of a table of labels.
    Unit,
    /// Zero: the last layer of a residual branch, which then starts as the identity (DDPM's code).
    Zero,
    /// One.
    One,
}

/// Sinusoids of a timestep.
#[derive(Clone, Copy, Debug)]
pub struct Sinusoids {
    /// Cosines and sines together, half each.
    pub count: usize,
    /// Whether the cosines come first.
    pub cosines_first: bool,
    /// See [`UNetConfig::freq_shift`].
    pub freq_shift: usize,
}

impl Sinusoids {
    /// Frequency i, in f32: Vaswani et al. 2017, section 3.5.
    pub fn frequency(&self, i: usize) -> f32 {
        let steps = (self.count / 2 - self.freq_shift) as f64;
        10000f64.powf(-(i as f64) / steps) as f32
    }

    /// All frequencies.
    pub fn frequencies(&self) -> Vec<f32> {
        (0..self.count / 2).map(|i| self.frequency(i)).collect()
    }
}

/// A convolution: stride 1, padding that keeps the size.
#[derive(Clone, Copy, Debug)]
pub struct Conv {
    pub channels_in: usize,
    pub channels_out: usize,
    /// 1 or 3.
    pub kernel: usize,
    /// Enlarge the input twofold first, nearest neighbour.
    pub upsample: bool,
    /// Start at zero.
    pub zero: bool,
}

impl Conv {
    fn new(channels_in: usize, channels_out: usize, kernel: usize) -> Self {
        Self { channels_in, channels_out, kernel, upsample: false, zero: false }
    }

    fn zero(self) -> Self {
        Self { zero: true, ..self }
    }

    fn upsample(self) -> Self {
        Self { upsample: true, ..self }
    }
}

/// What the network is made of. `name` is the prefix of a layer's weights.
pub trait Layers {
    /// An image of features: batch, height, width, channels.
    type Map: Clone;
    /// A vector of features: batch, channels.
    type Vector: Clone;

    /// Cosine and sine of the timestep at every frequency.
    fn time_sinusoids(&mut self, sinusoids: Sinusoids) -> Self::Vector;
    /// `x * weight + bias`.
    fn linear(
        &mut self,
        name: &str,
        x: &Self::Vector,
        channels_in: usize,
        channels_out: usize,
    ) -> Self::Vector;
    /// The row of each item's label, of a table of `rows` rows of `dim` values.
    fn label_embedding(&mut self, name: &str, rows: usize, dim: usize) -> Self::Vector;
    /// `a + b`, of vectors.
    fn add_vectors(&mut self, a: &Self::Vector, b: &Self::Vector) -> Self::Vector;
    /// What the time embedding adds in a residual block: a linear layer. The shifts of all blocks
    /// depend on the timestep alone, so a walker may compute them together.
    fn shift(
        &mut self,
        name: &str,
        time: &Self::Vector,
        channels_in: usize,
        channels_out: usize,
    ) -> Self::Vector {
        self.linear(name, time, channels_in, channels_out)
    }
    /// `x * sigmoid(x)`.
    fn silu(&mut self, x: &Self::Vector) -> Self::Vector;
    /// A convolution plus its bias, plus `shift` (a value a channel of each item) where given.
    fn conv(
        &mut self,
        name: &str,
        x: &Self::Map,
        conv: Conv,
        shift: Option<&Self::Vector>,
    ) -> Self::Map;
    /// A convolution of stride 2, as [`UNetConfig::downsample`] says, plus its bias.
    fn downsample(
        &mut self,
        name: &str,
        x: &Self::Map,
        channels_in: usize,
        channels_out: usize,
    ) -> Self::Map;
    /// Group normalisation with scale and offset, then SiLU where `silu`.
    fn group_norm(&mut self, name: &str, x: &Self::Map, channels: usize, silu: bool) -> Self::Map;
    /// Scaled dot-product attention over all pixels; `qkv` holds queries, keys and values in turn,
    /// `channels` each, cut into `heads`.
    fn attention(&mut self, qkv: &Self::Map, channels: usize, heads: usize) -> Self::Map;
    /// `a + b`.
    fn add(&mut self, a: &Self::Map, b: &Self::Map) -> Self::Map;
    /// Channels of `a`, then channels of `b`.
    fn concat(&mut self, a: &Self::Map, b: &Self::Map) -> Self::Map;
}

fn residual_block<L: Layers>(
    l: &mut L,
    name: &str,
    x: &L::Map,
    time: &L::Vector,
    time_dim: usize,
    channels_in: usize,
    channels_out: usize,
) -> L::Map {
    let shift = l.shift(&format!("{name}.time"), time, time_dim, channels_out);
    let h = l.group_norm(&format!("{name}.norm1"), x, channels_in, true);
    let h =
        l.conv(&format!("{name}.conv1"), &h, Conv::new(channels_in, channels_out, 3), Some(&shift));
    let h = l.group_norm(&format!("{name}.norm2"), &h, channels_out, true);
    let h =
        l.conv(&format!("{name}.conv2"), &h, Conv::new(channels_out, channels_out, 3).zero(), None);
    if channels_in == channels_out {
        l.add(&h, x)
    } else {
        let x = l.conv(&format!("{name}.skip"), x, Conv::new(channels_in, channels_out, 1), None);
        l.add(&h, &x)
    }
}

fn attention_block<L: Layers>(
    l: &mut L,
    name: &str,
    x: &L::Map,
    channels: usize,
    heads: usize,
) -> L::Map {
    let name = format!("{name}.attention");
    let h = l.group_norm(&format!("{name}.norm"), x, channels, false);
    let qkv = l.conv(&format!("{name}.qkv"), &h, Conv::new(channels, 3 * channels, 1), None);
    let h = l.attention(&qkv, channels, heads);
    let h = l.conv(&format!("{name}.out"), &h, Conv::new(channels, channels, 1).zero(), None);
    l.add(&h, x)
}

/// The network's output for `sample`.
pub fn unet<L: Layers>(l: &mut L, network: &Network, sample: &L::Map) -> L::Map {
    let config = &network.unet;
    let UNetConfig { channels, blocks, time_dim, resample_keeps_channels: keeps, .. } = config;
    let (blocks, time_dim, keeps) = (*blocks, *time_dim, *keeps);

    let sinusoids = Sinusoids {
        count: config.time_channels(),
        cosines_first: config.flip_sin_to_cos,
        freq_shift: config.freq_shift,
    };
    let time = l.time_sinusoids(sinusoids);
    let time = l.linear("time.0", &time, sinusoids.count, time_dim);
    let time = l.silu(&time);
    let mut time = l.linear("time.1", &time, time_dim, time_dim);
    if network.labels > 0 {
        // As in improved-diffusion: a class moves the time embedding.
        let label = l.label_embedding("label", network.labels, time_dim);
        time = l.add_vectors(&time, &label);
    }
    let time = l.silu(&time);

    let mut width = channels[0];
    let mut h = l.conv("in", sample, Conv::new(network.channels_in, width, 3), None);
    let mut skips = vec![(h.clone(), width)];
    for (level, &out) in channels.iter().enumerate() {
        if level > 0 {
            let reduced = if keeps { width } else { out };
            h = l.downsample(&format!("down.{level}.reduce"), &h, width, reduced);
            width = reduced;
            skips.push((h.clone(), width));
        }
        for block in 0..blocks {
            let name = format!("down.{level}.{block}");
            h = residual_block(l, &name, &h, &time, time_dim, width, out);
            width = out;
            if config.attends(level) {
                h = attention_block(l, &name, &h, width, config.heads(width));
            }
            skips.push((h.clone(), width));
        }
    }

    h = residual_block(l, "middle.0", &h, &time, time_dim, width, width);
    h = attention_block(l, "middle", &h, width, config.heads(width));
    h = residual_block(l, "middle.1", &h, &time, time_dim, width, width);

    for (level, &out) in channels.iter().enumerate().rev() {
        // One block more than on the way down: each meets one of the features kept there.
        for block in 0..=blocks {
            if let Some((skip, skip_width)) = skips.pop() {
                h = l.concat(&h, &skip);
                width += skip_width;
            }
            let name = format!("up.{level}.{block}");
            h = residual_block(l, &name, &h, &time, time_dim, width, out);
            width = out;
            if config.attention_up && config.attends(level) {
                h = attention_block(l, &name, &h, width, config.heads(width));
            }
        }
        if level > 0 {
            let next = if keeps { width } else { channels[level - 1] };
            h = l.conv(
                &format!("up.{level}.enlarge"),
                &h,
                Conv::new(width, next, 3).upsample(),
                None,
            );
            width = next;
        }
    }

    let h = l.group_norm("out.norm", &h, width, true);
    l.conv("out.conv", &h, Conv::new(width, network.channels_out, 3).zero(), None)
}
