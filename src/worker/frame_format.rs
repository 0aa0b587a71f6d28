//! How the pixels of a frame are laid out, and whether a destination has room for them.
//!
//! This module must not know who draws frames or who takes them.

use crate::error::{Error, Result};
use crate::image::{self, BYTES_PER_FLOAT_PIXEL, BYTES_PER_PIXEL};
use crate::model::{Color, ModelConfig};

/// What an allocation can be, less what aligns it.
const LARGEST: usize = isize::MAX as usize - ALIGNMENT;

/// How the pixels of a stream's frames are laid out: in what is copied and in what is acquired. Chosen
/// when the stream is made, since it is the engine's thread that converts. No format has a gamma
/// change; floats are 32-bit in this machine's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameFormat {
    /// Four bytes a pixel, red green blue alpha, top row first; alpha is 255 unless the model has
    /// its own, gray is repeated. [-1, 1] of the model becomes [0, 255], and what is outside is held.
    /// A row is 4 bytes x width, a frame has height rows. See [`to_rgba8`](crate::image::to_rgba8).
    #[default]
    Rgba8,
    /// Four floats a pixel, red green blue alpha, top row first; alpha is 1 unless the model has its
    /// own, gray is repeated. [-1, 1] of the model becomes [0, 1], and what is outside stays there.
    /// A row is 16 bytes x width, a frame has height rows. See
    /// [`to_rgba_f32`](crate::image::to_rgba_f32).
    RgbaF32,
    /// The model's own floats, [C, H, W], about -1 to 1: all of the first channel, top row first,
    /// then all of the next. A row is 4 bytes x width, a frame has channels x height rows.
    PlanarF32,
}

/// Pixels of a frame begin at a multiple of this: a cache line, which suits floats and uploads to a GPU.
pub(super) const ALIGNMENT: usize = 64;

/// A format for pictures of one size.
pub(super) struct Layout {
    format: FrameFormat,
    color: Color,
    pub(super) width: usize,
    pub(super) height: usize,
    /// Bytes a row without gaps, at least 1.
    pub(super) row: usize,
    /// Rows a frame, at least 1.
    rows: usize,
}

impl Layout {
    /// Errors: `InvalidArgument` where a frame is larger than the address space.
    pub(super) fn new(format: FrameFormat, model: &ModelConfig) -> Result<Self> {
        let ModelConfig { channels, height, width, color, .. } = *model;
        let (pixel, planes) = match format {
            FrameFormat::Rgba8 => (BYTES_PER_PIXEL, 1),
            FrameFormat::RgbaF32 => (BYTES_PER_FLOAT_PIXEL, 1),
            FrameFormat::PlanarF32 => (size_of::<f32>(), channels),
        };
        let row = width.checked_mul(pixel).filter(|&row| row > 0);
        let rows = height.checked_mul(planes).filter(|&rows| rows > 0);
        let fits =
            |&(row, rows): &(usize, usize)| row.checked_mul(rows).is_some_and(|n| n <= LARGEST);
        let (row, rows) = row.zip(rows).filter(fits).ok_or_else(|| {
            Error::invalid_argument(format!(
                "frame size: found {planes} x {height} rows of {width} x {pixel} bytes, expected a size \
                 that fits the address space"
            ))
        })?;
        Ok(Self { format, color, width, height, row, rows })
    }

    /// Bytes of a frame without gaps.
    pub(super) fn bytes(&self) -> usize {
        self.row * self.rows
    }

    /// Draws a planar sample [C, H, W] into as many bytes as a frame has.
    ///
    /// Errors: `InvalidArgument` where the sizes do not fit. Does not allocate.
    pub(super) fn draw(&self, picture: &[f32], pixels: &mut [u8]) -> Result<()> {
        let Self { color, height, width, row, .. } = *self;
        match self.format {
            FrameFormat::Rgba8 => image::to_rgba8(picture, color, height, width, pixels, row),
            FrameFormat::RgbaF32 => image::to_rgba_f32(picture, color, height, width, pixels, row),
            FrameFormat::PlanarF32 => {
                let (values, rest) = pixels.as_chunks_mut();
                if values.len() != picture.len() || !rest.is_empty() {
                    return Err(Error::invalid_argument(format!(
                        "sample: found {} values, expected {} for the frame",
                        picture.len(),
                        values.len()
                    )));
                }
                for (bytes, value) in values.iter_mut().zip(picture) {
                    *bytes = value.to_ne_bytes();
                }
                Ok(())
            }
        }
    }

    /// The stride that `row_stride` stands for, where a frame of it fits into `len` bytes; 0 stands for
    /// rows without gaps.
    ///
    /// Errors: `InvalidArgument`.
    pub(super) fn stride(&self, row_stride: usize, len: usize) -> Result<usize> {
        let stride = if row_stride == 0 { self.row } else { row_stride };
        if stride < self.row {
            return Err(Error::invalid_argument(format!(
                "row_stride: found {row_stride} bytes, expected 0 or at least {} for a row of pixels",
                self.row
            )));
        }
        // The last row needs no padding behind it.
        let above = self.rows - 1;
        let needed = stride.checked_mul(above).and_then(|rows| rows.checked_add(self.row));
        if needed.is_none_or(|needed| needed > len) {
            return Err(Error::invalid_argument(format!(
                "frame buffer: found {len} bytes, expected at least {stride} x {above} + {}",
                self.row
            )));
        }
        Ok(stride)
    }

    /// Copies a frame to rows that are `stride` apart, as checked by [`stride`](Self::stride).
    pub(super) fn copy(&self, pixels: &[u8], target: &mut [u8], stride: usize) {
        for (source, line) in pixels.chunks_exact(self.row).zip(target.chunks_mut(stride)) {
            line[..self.row].copy_from_slice(source);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_larger_than_the_address_space_are_refused() {
        let most = isize::MAX as usize;
        for (format, height, width) in [
            (FrameFormat::Rgba8, usize::MAX, 1),
            (FrameFormat::Rgba8, 1, usize::MAX),
            (FrameFormat::RgbaF32, 1, most / 8),
            (FrameFormat::PlanarF32, most / 8, 1),
            (FrameFormat::Rgba8, 0, 1),
            (FrameFormat::Rgba8, 1, 0),
        ] {
            let error = Layout::new(format, &ModelConfig::ddpm(3, height, width)).err().unwrap();
            assert!(error.message().starts_with("frame size: found "), "{error}");
        }
        assert!(Layout::new(FrameFormat::Rgba8, &ModelConfig::ddpm(3, 1, most / 8)).is_ok());
    }
}
