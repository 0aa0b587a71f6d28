//! Images in memory: where they come from, how they become the model's, the order a run sees them in.
//!
//! Everything is decoded once, before the first step, and kept as bytes. Nothing here knows of
//! networks or noise.

pub mod augment;
mod channels;
mod choices;
pub(crate) mod classes;
pub mod config;
pub(crate) mod decode;
pub(crate) mod folder;
mod idx;
pub mod jitter;
mod jpeg;
pub(crate) mod list;
mod order;
mod resize;
mod sheet;

use std::path::Path;

use anyhow::{Context, Result, ensure};
use image::RgbImage;
use image::imageops::{self, FilterType};

use augment::View;
use classes::Classes;
use config::{Color, DataConfig, Pixels, Source};
use jitter::Recolor;
pub use order::Order;

use crate::hash::{fnv1a, words};

/// One picture as the trainer decodes it to RGB, on white, made smaller where a side is longer than
/// `longest`.
pub fn read_picture(path: &Path, longest: u32) -> Result<RgbImage> {
    let decoder = decode::Decoder::new(Pixels::Rgb, Color::WHITE, folder::MAX_BYTES);
    let picture = decoder.read(path)?.image.into_rgb8();
    let side = picture.width().max(picture.height());
    if side <= longest {
        return Ok(picture);
    }
    let scaled =
        |length: u32| (u64::from(length) * u64::from(longest) / u64::from(side)).max(1) as u32;
    let (width, height) = (scaled(picture.width()), scaled(picture.height()));
    Ok(imageops::resize(&picture, width, height, FilterType::Triangle))
}

/// What a source gives.
#[derive(Default)]
pub(crate) struct Images {
    /// `[n, h, w, channels]`.
    pixels: Vec<u8>,
    classes: Classes,
    notes: Vec<String>,
}

/// Images of one size, as bytes.
pub struct Dataset {
    images: Images,
    channels: usize,
    width: usize,
    height: usize,
}

impl Dataset {
    /// Reads the folder, the sheet or the IDX file. Decodes every file, on all cores, and returns when
    /// all is done.
    pub fn read(config: &DataConfig) -> Result<Self> {
        config.validate()?;
        let images = match config.source()? {
            Source::Folder(path) => folder::read(path, config)?,
            Source::Sheet(path) => sheet::read(path, config)?,
            Source::Idx { images, labels } => idx::read(images, labels, config)?,
        };
        let (channels, width, height) = (config.channels(), config.width, config.height);
        Ok(Self { images, channels, width, height })
    }

    /// Values of an image.
    pub fn item(&self) -> usize {
        self.width * self.height * self.channels
    }

    /// Number of images; at least 1.
    pub fn len(&self) -> usize {
        self.images.pixels.len() / self.item()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.images.pixels.is_empty()
    }

    /// The class of each image, an index into [`class_names`](Self::class_names); empty without classes.
    pub fn labels(&self) -> &[u32] {
        &self.images.classes.labels
    }

    /// The names of the classes, in the order of their labels; empty without classes.
    pub fn class_names(&self) -> &[String] {
        &self.images.classes.names
    }

    /// What the user should know of the files: those left out, those that look wrong. Lines of text.
    pub fn notes(&self) -> &[String] {
        &self.images.notes
    }

    /// What the images are, in a few letters: others have another, as far as 64 bits can tell.
    pub fn fingerprint(&self) -> String {
        let labels = self.labels().iter().map(|&label| u64::from(label));
        let hash = fnv1a(words(&self.images.pixels).chain(labels));
        format!("{} images, {hash:016x}", self.len())
    }

    /// Writes image `index` to `out` in [-1, 1], pixel after pixel: byte b is b / 127.5 - 1.
    pub fn copy_image(&self, index: usize, view: View, out: &mut [f32]) {
        let source = &self.images.pixels[index * self.item()..][..self.item()];
        let value = |&byte: &u8| f32::from(byte) / 127.5 - 1.0;
        if (View { color: Recolor::default(), ..view }) == View::default() {
            out.iter_mut().zip(source).for_each(|(out, byte)| *out = value(byte));
            return view.color.apply(out, self.channels);
        }
        for (y, row) in out.chunks_exact_mut(self.width * self.channels).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(self.channels).enumerate() {
                let (x, y) = view.source(x, y, self.width, self.height);
                let start = (y * self.width + x) * self.channels;
                let bytes = &source[start..start + self.channels];
                pixel.iter_mut().zip(bytes).for_each(|(out, byte)| *out = value(byte));
            }
        }
        view.color.apply(out, self.channels);
    }
}

const DEFAULT_MEMORY_MIB: u64 = 4096;

/// The bytes that so many images of `item` bytes take, refused where that is too much.
fn check_memory(count: usize, item: usize, config: &DataConfig) -> Result<usize> {
    let limit = config.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB);
    let needed = count as u64 * item as u64;
    let mib = needed.div_ceil(1 << 20);
    ensure!(
        mib <= limit && u32::try_from(count).is_ok(),
        "{count} images as {}x{} pixels take {mib} MiB of memory, expected at most {limit} (data.memory_mib)",
        config.width,
        config.height
    );
    Ok(needed as usize)
}

/// Memory for so many images, all 0.
fn reserve(count: usize, item: usize, config: &DataConfig) -> Result<Vec<u8>> {
    let needed = check_memory(count, item, config)?;
    let mut pixels = Vec::new();
    pixels.try_reserve_exact(needed).with_context(|| {
        format!("{count} pictures take {} MiB of memory", needed.div_ceil(1 << 20))
    })?;
    pixels.resize(needed, 0);
    Ok(pixels)
}
