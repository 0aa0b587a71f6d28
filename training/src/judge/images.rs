//! Sets of images as the classifier takes them, and pictures of them for a report.

use anyhow::{Context, Result};
use burn::tensor::{Device, Tensor, TensorData};
use ddpm::image::to_byte;

use crate::data::Dataset;
use crate::data::augment::View;
use crate::data::config::{Color, DataConfig};
use crate::forward::transpose_pixels;

/// Width, height and channels of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    pub width: usize,
    pub height: usize,
    pub channels: usize,
}

impl Shape {
    /// That of the images of a data section.
    pub fn of(config: &DataConfig) -> Self {
        Self { width: config.width, height: config.height, channels: config.channels() }
    }

    /// Values of an image.
    pub fn item(self) -> usize {
        self.width * self.height * self.channels
    }
}

/// Images in memory, `[n, h, w, c]` in [-1, 1].
#[derive(Clone, Debug, PartialEq)]
pub struct Images {
    pub shape: Shape,
    pub pixels: Vec<f32>,
}

impl Images {
    /// The images of `data` at `indices`, each as `view` of its place in the list shows it.
    pub fn from_data(
        data: &Dataset,
        shape: Shape,
        indices: &[usize],
        view: impl Fn(usize) -> View,
    ) -> Self {
        let item = shape.item();
        let mut pixels = vec![0.0; indices.len() * item];
        for (place, (index, out)) in indices.iter().zip(pixels.chunks_exact_mut(item)).enumerate() {
            data.copy_image(*index, view(place), out);
        }
        Self { shape, pixels }
    }

    /// From samples, planar `[n, c, h, w]`; held to [-1, 1] and to what bytes can hold, as pictures are.
    pub fn from_planar(shape: Shape, planes: &[f32]) -> Self {
        let mut pixels = vec![0.0; planes.len()];
        transpose_pixels(planes, &mut pixels, shape.channels, shape.width * shape.height, false);
        // The real images were bytes: the classifier must not tell samples by finer steps.
        pixels.iter_mut().for_each(|v| *v = f32::from(to_byte(*v)) / 127.5 - 1.0);
        Self { shape, pixels }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.pixels.len() / self.shape.item()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pixels.is_empty()
    }

    /// Image `index`, `[h, w, c]`.
    pub fn image(&self, index: usize) -> &[f32] {
        &self.pixels[index * self.shape.item()..][..self.shape.item()]
    }

    /// All images, in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f32> {
        self.pixels.chunks_exact(self.shape.item())
    }

    /// Those at `indices`.
    pub fn select(&self, indices: &[usize]) -> Self {
        let pixels = indices.iter().flat_map(|index| self.image(*index)).copied().collect();
        Self { shape: self.shape, pixels }
    }

    /// A batch, `[n, h, w, c]`, of `count` images from `first` on, or as many as are left.
    pub fn batch(&self, first: usize, count: usize, device: &Device) -> Tensor<4> {
        let item = self.shape.item();
        let values = &self.pixels[first * item..(first + count).min(self.len()) * item];
        let shape = [values.len() / item, self.shape.height, self.shape.width, self.shape.channels];
        Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
    }

    /// A grid of the images as a PNG file, with so many columns, a white line between two; alpha is
    /// shown on white.
    pub fn png(&self, columns: usize) -> Result<Vec<u8>> {
        let Shape { width, height, channels } = self.shape;
        let columns = columns.clamp(1, self.len().max(1));
        let rows = self.len().div_ceil(columns).max(1);
        let (grid_w, grid_h) = (columns * (width + 1) - 1, rows * (height + 1) - 1);
        let mut rgb = vec![255u8; grid_w * grid_h * 3];
        for (index, image) in self.iter().enumerate() {
            let (left, top) = ((index % columns) * (width + 1), (index / columns) * (height + 1));
            for (place, pixel) in image.chunks_exact(channels).enumerate() {
                let at = |c: usize| to_byte(pixel[c]);
                let pixel = match channels {
                    1 => [at(0); 3],
                    4 => Color::WHITE.under([0, 1, 2, 3].map(at)),
                    _ => [0, 1, 2].map(at),
                };
                let target = (top + place / width) * grid_w + left + place % width;
                rgb[target * 3..][..3].copy_from_slice(&pixel);
            }
        }
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, grid_w as u32, grid_h as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header().context("cannot encode a PNG")?;
        writer.write_image_data(&rgb).context("cannot encode a PNG")?;
        writer.finish().context("cannot encode a PNG")?;
        Ok(bytes)
    }
}
