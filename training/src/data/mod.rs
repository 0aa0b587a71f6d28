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

use crate::config::IMAGE_CHANNELS;
use augment::View;
use config::{DataConfig, Source};
pub use order::Order;

/// Images of one size, `[n, h, w, 3]`, as bytes.
pub struct Dataset {
    pixels: Vec<u8>,
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
        Ok(Self { pixels, width: config.width, height: config.height, notes })
    }

    fn item(&self) -> usize {
        self.width * self.height * IMAGE_CHANNELS
    }

    /// Number of images; at least 1.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.item()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
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
        for (y, row) in out.chunks_exact_mut(self.width * IMAGE_CHANNELS).enumerate() {
            for (x, pixel) in row.chunks_exact_mut(IMAGE_CHANNELS).enumerate() {
                let (x, y) = view.source(x, y, self.width, self.height);
                let start = (y * self.width + x) * IMAGE_CHANNELS;
                let bytes = &source[start..start + IMAGE_CHANNELS];
                pixel.iter_mut().zip(bytes).for_each(|(out, byte)| *out = value(byte));
            }
        }
    }
}
