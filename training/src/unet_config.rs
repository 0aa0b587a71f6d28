//! The sizes and choices that make a U-Net, as the table `[model]` of a configuration.
//!
//! What may be left out stands for the network of the first versions of this crate, so that an old
//! file or checkpoint describes the network that it always did.

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// Sizes of a U-Net.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of each resolution, highest resolution first; each next one has half the size.
    pub channels: Vec<usize>,
    /// Residual blocks at each resolution, on the way down and again on the way up.
    pub blocks: usize,
    /// Groups of the group normalisations; divides every entry of `channels`.
    pub groups: usize,
    /// Heads of the self-attention; divides the channels wherever there is attention.
    pub heads: usize,
    /// Channels of a head, in place of `heads`: the number of heads then grows with the channels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Levels with self-attention after each residual block, 0 for the highest resolution; the lowest
    /// alone where left out. Between the way down and the way up there always is attention.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention: Option<Vec<usize>>,
    /// Whether those levels have attention on the way up too, as in the DDPM paper.
    #[serde(default)]
    pub attention_up: bool,
    /// Width of the time embedding: the two layers of its MLP. Even.
    pub time_dim: usize,
    /// Sinusoids of the timestep that the MLP sees, even; `time_dim` where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_channels: Option<usize>,
    /// Whether the cosines come before the sines; false in the DDPM paper's code.
    #[serde(default = "yes")]
    pub flip_sin_to_cos: bool,
    /// Sinusoid i of n has the frequency 10000^(-i / (n - freq_shift)); 1 in the DDPM paper's code.
    #[serde(default)]
    pub freq_shift: usize,
    /// How a resolution is halved.
    #[serde(default)]
    pub downsample: Downsample,
    /// Whether halving and doubling keep the channels, and the residual block after them changes
    /// these, as in the DDPM paper's code; else halving and doubling change them.
    #[serde(default)]
    pub resample_keeps_channels: bool,
    /// What lies beyond the edges of an image.
    #[serde(default)]
    pub padding: Padding,
    /// Added to the variance in the group normalisations.
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
}

pub(crate) fn yes() -> bool {
    true
}

fn norm_eps() -> f64 {
    1e-5
}

/// How a resolution is halved: a convolution of stride 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Downsample {
    /// Blocks of 2x2, which do not overlap.
    #[default]
    #[serde(rename = "2x2")]
    Blocks,
    /// 3x3, one pixel of padding at every edge: diffusers with `downsample_padding` 1.
    #[serde(rename = "3x3")]
    Centred,
    /// 3x3, padded at the right and the bottom alone: the DDPM paper's code, and diffusers with
    /// `downsample_padding` 0.
    #[serde(rename = "3x3_end")]
    End,
}

impl Downsample {
    /// Side of the kernel.
    pub fn kernel(self) -> usize {
        match self {
            Self::Blocks => 2,
            Self::Centred | Self::End => 3,
        }
    }

    /// Pixels added before the first and after the last of a row or a column.
    pub fn padding(self) -> [usize; 2] {
        match self {
            Self::Blocks => [0, 0],
            Self::Centred => [1, 1],
            Self::End => [0, 1],
        }
    }
}

/// What the convolutions see beyond the edges of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Padding {
    #[default]
    Zeros,
    /// The opposite edge: the images tile without a seam.
    Circular,
}

impl UNetConfig {
    /// The image's width and height must be multiples of this.
    pub fn size_multiple(&self) -> usize {
        1 << (self.channels.len() - 1)
    }

    /// Sinusoids of the timestep.
    pub fn time_channels(&self) -> usize {
        self.time_channels.unwrap_or(self.time_dim)
    }

    /// Whether there is attention at a level on the way down.
    pub fn attends(&self, level: usize) -> bool {
        match &self.attention {
            Some(levels) => levels.contains(&level),
            None => level + 1 == self.channels.len(),
        }
    }

    /// Heads of attention over so many channels.
    pub fn heads(&self, channels: usize) -> usize {
        self.head_dim.map_or(self.heads, |dim| channels / dim)
    }

    /// Says what does not fit together, for images of `width` x `height` pixels.
    pub fn validate(&self, width: usize, height: usize) -> Result<()> {
        ensure!(
            !self.channels.is_empty(),
            "model.channels is empty, expected one entry a resolution"
        );
        ensure!(
            self.channels.len() <= 8,
            "model.channels has {} entries, expected at most 8",
            self.channels.len()
        );
        ensure!((1..=8).contains(&self.blocks), "model.blocks is {}, expected 1 to 8", self.blocks);
        ensure!(self.groups > 0, "model.groups is 0, expected at least 1");
        for &channels in &self.channels {
            ensure!(
                (1..=4096).contains(&channels) && channels.is_multiple_of(self.groups),
                "model.channels has {channels}, expected 1 to 4096 and a multiple of model.groups = {}",
                self.groups
            );
        }
        self.validate_attention()?;
        self.validate_time()?;
        ensure!(
            self.norm_eps > 0.0 && self.norm_eps <= 0.1,
            "model.norm_eps is {}, expected more than 0 and at most 0.1",
            self.norm_eps
        );
        let multiple = self.size_multiple();
        ensure!(
            width > 0
                && height > 0
                && width.is_multiple_of(multiple)
                && height.is_multiple_of(multiple),
            "the images are {width}x{height}, expected multiples of {multiple}, which model.channels halves {} times",
            self.channels.len() - 1
        );
        Ok(())
    }

    fn validate_attention(&self) -> Result<()> {
        let levels = self.channels.len();
        for (place, level) in self.attention.iter().flatten().enumerate() {
            ensure!(
                *level < levels,
                "model.attention has level {level}, expected less than {levels}, the entries of model.channels"
            );
            let before = self.attention.iter().flatten().take(place);
            ensure!(!before.into_iter().any(|b| b == level), "model.attention has {level} twice");
        }
        let (name, size) = match self.head_dim {
            Some(dim) => ("head_dim", dim),
            None => ("heads", self.heads),
        };
        for (level, &channels) in self.channels.iter().enumerate() {
            // The lowest level is that of the attention in the middle.
            ensure!(
                (level + 1 < levels && !self.attends(level))
                    || (size > 0 && channels.is_multiple_of(size)),
                "model.{name} is {size}, expected a divisor of {channels}, the channels of level {level}, which has attention"
            );
        }
        Ok(())
    }

    fn validate_time(&self) -> Result<()> {
        for (name, size) in [("time_dim", self.time_dim), ("time_channels", self.time_channels())] {
            ensure!(
                (2..=4096).contains(&size) && size.is_multiple_of(2),
                "model.{name} is {size}, expected an even number from 2 to 4096"
            );
        }
        ensure!(
            self.freq_shift < self.time_channels() / 2,
            "model.freq_shift is {}, expected less than half of model.time_channels = {}",
            self.freq_shift,
            self.time_channels()
        );
        Ok(())
    }
}
