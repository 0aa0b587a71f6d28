//! Images in memory: where they come from, how they become the model's, the order a run sees them in.
//!
//! Everything is decoded once, before the first step, and kept as bytes. Nothing here knows of
//! networks or noise.

pub mod augment;
pub mod config;
mod decode;
mod folder;
mod jpeg;
mod list;
mod order;
mod resize;
mod sheet;

use anyhow::Result;

use augment::View;
use config::{DataConfig, Source};
pub use order::Order;

/// Images of one size, `[n, h, w, channels]`, as bytes.
pub struct Dataset {
    pixels: Vec<u8>,
    labels: Vec<u32>,
    class_names: Vec<String>,
    channels: usize,
    width: usize,
    height: usize,
    notes: Vec<String>,
}

impl Dataset {
    /// Reads the folder or the sheet. Decodes every file, on all cores, and returns when all is done.
    pub fn read(config: &DataConfig) -> Result<Self> {
        config.validate()?;
        let (pixels, notes) = match config.source()? {
            Source::Folder(path) => folder::read(path, config)?,
            Source::Sheet(path) => (sheet::read(path, config)?, Vec::new()),
        };
        let (labels, class_names) = (Vec::new(), Vec::new());
        let channels = config.channels();
        Ok(Self {
            pixels,
            labels,
            class_names,
            channels,
            width: config.width,
            height: config.height,
            notes,
        })
    }

    /// Values of an image.
    pub fn item(&self) -> usize {
        self.width * self.height * self.channels
    }

    /// Number of images; at least 1.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.item()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// The class of each image, an index into [`class_names`](Self::class_names); empty without classes.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The names of the classes, in the order of their labels; empty without classes.
    pub fn class_names(&self) -> &[String] {
        &self.class_names
    }

    /// What the user should know of the files: those left out, those that look wrong. Lines of text.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What the images are, in a few letters: others have another, as far as 64 bits can tell.
    pub fn fingerprint(&self) -> String {
        // FNV-1a (Fowler, Noll, Vo), of words instead of bytes.
        let (words, rest) = self.pixels.as_chunks::<8>();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        let hash = words.iter().chain([&last]).fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| {
            (hash ^ u64::from_le_bytes(*word)).wrapping_mul(0x0100_0000_01b3)
        });
        format!("{} images, {hash:016x}", self.len())
    }

    /// Writes image `index` to `out` in [-1, 1], pixel after pixel: byte b is b / 127.5 - 1.
    pub fn copy_image(&self, index: usize, view: View, out: &mut [f32]) {
        let source = &self.pixels[index * self.item()..][..self.item()];
        let value = |&byte: &u8| f32::from(byte) / 127.5 - 1.0;
        if view == View::default() {
            out.iter_mut().zip(source).for_each(|(out, byte)| *out = value(byte));
            return;
        }
        for (y, row) in out.chunks_exact_mut(self.width * self.channels).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(self.channels).enumerate() {
                let (x, y) = view.source(x, y, self.width, self.height);
                let start = (y * self.width + x) * self.channels;
                let bytes = &source[start..start + self.channels];
                pixel.iter_mut().zip(bytes).for_each(|(out, byte)| *out = value(byte));
            }
        }
    }
}
