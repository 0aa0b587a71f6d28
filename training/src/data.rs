//! Images in memory: a sprite sheet cut into tiles, and the order in which a run sees them.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use ddpm::rng::{self, Purpose};

use crate::config::{DataConfig, IMAGE_CHANNELS};

/// The largest side of a sheet; an RGBA sheet of this size takes 1 GiB while it is read.
const MAX_SHEET_SIDE: u32 = 16384;

/// Images of one size, `[n, h, w, 3]`, as bytes.
pub struct Dataset {
    pixels: Vec<u8>,
    item: usize,
}

impl Dataset {
    /// Reads the sheet and cuts it. Transparent pixels are composited onto black.
    pub fn read(config: &DataConfig) -> Result<Self> {
        let path = &config.sheet;
        let (width, height, rgb) = read_rgb(path).with_context(|| format!("{}", path.display()))?;
        let (w, h) = (config.width, config.height);
        ensure!(
            width.is_multiple_of(w) && height.is_multiple_of(h),
            "{}: the sheet is {width}x{height} pixels, expected multiples of the {w}x{h} of a tile",
            path.display()
        );
        let mut pixels = Vec::with_capacity(rgb.len());
        for top in (0..height).step_by(h) {
            for left in (0..width).step_by(w) {
                for y in top..top + h {
                    let start = (y * width + left) * IMAGE_CHANNELS;
                    pixels.extend_from_slice(&rgb[start..start + w * IMAGE_CHANNELS]);
                }
            }
        }
        Ok(Self { pixels, item: w * h * IMAGE_CHANNELS })
    }

    /// Number of images; at least 1.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.item
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Writes image `index` to `out` in [-1, 1], pixel after pixel: byte b is b / 127.5 - 1.
    pub fn copy_image(&self, index: usize, out: &mut [f32]) {
        let source = &self.pixels[index * self.item..][..self.item];
        for (out, &byte) in out.iter_mut().zip(source) {
            *out = f32::from(byte) / 127.5 - 1.0;
        }
    }
}

fn read_rgb(path: &Path) -> Result<(usize, usize, Vec<u8>)> {
    let file = File::open(path).context("cannot open the sheet")?;
    let mut decoder = png::Decoder::new(BufReader::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().context("not a PNG file")?;
    let (width, height) = (reader.info().width, reader.info().height);
    ensure!(
        width <= MAX_SHEET_SIDE && height <= MAX_SHEET_SIDE,
        "the sheet is {width}x{height} pixels, expected at most {MAX_SHEET_SIDE} each way"
    );
    let size = reader.output_buffer_size().context("the sheet is too large for this machine")?;
    let mut buffer = vec![0; size];
    let frame = reader.next_frame(&mut buffer).context("the PNG file is damaged")?;
    let bytes = &buffer[..frame.buffer_size()];
    let over_black = |value: u8, alpha: u8| (u16::from(value) * u16::from(alpha) / 255) as u8;
    let rgb = match frame.color_type {
        png::ColorType::Rgb => bytes.to_vec(),
        png::ColorType::Grayscale => bytes.iter().flat_map(|&v| [v; 3]).collect(),
        png::ColorType::Rgba => {
            let (pixels, _) = bytes.as_chunks::<4>();
            pixels.iter().flat_map(|p| [0, 1, 2].map(|i| over_black(p[i], p[3]))).collect()
        }
        png::ColorType::GrayscaleAlpha => {
            let (pixels, _) = bytes.as_chunks::<2>();
            pixels.iter().flat_map(|p| [over_black(p[0], p[1]); 3]).collect()
        }
        other => bail!("colour type {other:?} after normalisation"),
    };
    Ok((frame.width as usize, frame.height as usize, rgb))
}

/// The order of the images: every epoch a permutation of its own, a function of seed and epoch.
pub struct Order {
    seed: u64,
    epoch: usize,
    indices: Vec<u32>,
}

impl Order {
    /// For `len` images, at least 1.
    pub fn new(seed: u64, len: usize) -> Self {
        let mut order = Self { seed, epoch: 0, indices: (0..len as u32).collect() };
        order.shuffle();
        order
    }

    /// The image at place `position` of the run, counted over all epochs.
    pub fn image(&mut self, position: usize) -> usize {
        let epoch = position / self.indices.len();
        if epoch != self.epoch {
            self.epoch = epoch;
            self.shuffle();
        }
        self.indices[position % self.indices.len()] as usize
    }

    /// Fisher and Yates, from the identity, so that an epoch needs no history.
    fn shuffle(&mut self) {
        for (i, index) in self.indices.iter_mut().enumerate() {
            *index = i as u32;
        }
        for i in (1..self.indices.len()).rev() {
            let row = self.epoch as u32;
            let j = rng::uniform_below(self.seed, Purpose::Shuffle, row, i as u64, i as u64 + 1);
            self.indices.swap(i, j as usize);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_sees_every_image_once_in_an_order_of_its_own() {
        let mut order = Order::new(3, 100);
        let epochs: Vec<Vec<usize>> =
            (0..3).map(|e| (0..100).map(|i| order.image(e * 100 + i)).collect()).collect();
        for epoch in &epochs {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<_>>());
        }
        assert_ne!(epochs[0], epochs[1]);
        assert_ne!(epochs[1], epochs[2]);
        // Entering in the middle gives the same order.
        let mut late = Order::new(3, 100);
        assert_eq!((200..300).map(|i| late.image(i)).collect::<Vec<_>>(), epochs[2]);
    }
}
