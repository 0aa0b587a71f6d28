//! Pixels: a planar sample in [-1, 1] to rows of RGBA8.
//!
//! No gamma change: the values keep the encoding the model was trained on (sRGB for most pictures).
//! This module must not know models, frames or who shows them.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};

/// What the channels of a sample mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Color {
    /// One channel of luminance.
    Gray,
    /// Red, green, blue.
    Rgb,
    /// Red, green, blue, alpha; alpha is not premultiplied.
    Rgba,
}

impl Color {
    /// The name in `ddpm.color`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gray => "gray",
            Self::Rgb => "rgb",
            Self::Rgba => "rgba",
        }
    }

    /// How many channels it takes: 1, 3 or 4.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    /// The colour a model with so many channels has unless it says otherwise; none but for 1, 3, 4.
    pub fn from_channels(channels: usize) -> Option<Self> {
        [Self::Gray, Self::Rgb, Self::Rgba].into_iter().find(|color| color.channels() == channels)
    }
}

impl FromStr for Color {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Gray, Self::Rgb, Self::Rgba]
            .into_iter()
            .find(|color| color.name() == name)
            .ok_or_else(|| {
                Error::invalid_argument(format!(
                    "color: found \"{name}\", expected gray, rgb or rgba"
                ))
            })
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Bytes of one RGBA8 pixel.
pub const BYTES_PER_PIXEL: usize = 4;

/// The byte of a value: `floor(127.5 v + 128)`, held to 0..=255. NaN gives 0.
///
/// That is (v + 1) / 2 * 255 rounded to nearest, halves up: -1 is 0, 0 is 128, 1 is 255, and every
/// byte b comes back from b / 127.5 - 1.
pub fn to_byte(value: f32) -> u8 {
    // A cast to an integer saturates and takes NaN to 0.
    (value * 127.5 + 128.0) as u8
}

/// Writes one planar sample [C, H, W] as RGBA8, top row first, red in the lowest byte.
///
/// Gray is repeated in red, green and blue; without an alpha channel alpha is 255; an alpha channel
/// maps as the colours do. Row y begins at byte `y * row_stride` of `dst`; bytes between the rows
/// are left alone.
///
/// Errors: `InvalidArgument` where `planar` is not C x H x W values, `row_stride` is below 4 W bytes,
/// or `dst` ends before the last row does; nothing is written then. Does not allocate or block.
pub fn to_rgba8(
    planar: &[f32],
    color: Color,
    height: usize,
    width: usize,
    dst: &mut [u8],
    row_stride: usize,
) -> Result<()> {
    let plane = height.checked_mul(width).filter(|&plane| plane > 0);
    let plane = plane
        .filter(|plane| plane.checked_mul(color.channels()) == Some(planar.len()))
        .ok_or_else(|| {
            Error::invalid_argument(format!(
                "sample: found {} values, expected {color} of {width}x{height} pixels",
                planar.len()
            ))
        })?;
    let row_bytes = width.saturating_mul(BYTES_PER_PIXEL);
    if row_stride < row_bytes {
        return Err(Error::invalid_argument(format!(
            "row_stride: found {row_stride} bytes, expected at least {row_bytes} for {width} pixels"
        )));
    }
    let needed =
        (height - 1).checked_mul(row_stride).and_then(|start| start.checked_add(row_bytes));
    if needed.is_none_or(|needed| dst.len() < needed) {
        return Err(Error::invalid_argument(format!(
            "dst: found {} bytes, expected {} for {height} rows of stride {row_stride}",
            dst.len(),
            needed.map_or("more than the address space holds".to_owned(), |n| n.to_string())
        )));
    }

    let channel = |index: usize| planar.get(index * plane..(index + 1) * plane).unwrap_or_default();
    let (red, green, blue, alpha) = match color {
        Color::Gray => (channel(0), channel(0), channel(0), None),
        Color::Rgb => (channel(0), channel(1), channel(2), None),
        Color::Rgba => (channel(0), channel(1), channel(2), Some(channel(3))),
    };
    for (y, row) in dst.chunks_mut(row_stride).take(height).enumerate() {
        let span = y * width..(y + 1) * width;
        let (red, green, blue) = (&red[span.clone()], &green[span.clone()], &blue[span.clone()]);
        let (pixels, _) = row.as_chunks_mut::<BYTES_PER_PIXEL>();
        for (((pixel, &r), &g), &b) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
            *pixel = [to_byte(r), to_byte(g), to_byte(b), u8::MAX];
        }
        if let Some(alpha) = alpha {
            for (pixel, &a) in pixels.iter_mut().zip(&alpha[span]) {
                pixel[3] = to_byte(a);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value a byte stands for.
    fn value(byte: usize) -> f32 {
        byte as f32 / 127.5 - 1.0
    }

    #[test]
    fn every_byte_comes_back_and_the_rest_is_held() {
        for byte in 0..=255 {
            assert_eq!(usize::from(to_byte(value(byte))), byte);
            // A little less than half a step either way rounds to the same byte.
            assert_eq!(usize::from(to_byte(value(byte) + 0.49 / 127.5)), byte);
            assert_eq!(usize::from(to_byte(value(byte) - 0.49 / 127.5)), byte);
        }
        let cases = [(0.0, 128), (-7.0, 0), (7.0, 255), (f32::NAN, 0)];
        let limits = [(f32::INFINITY, 255), (f32::NEG_INFINITY, 0)];
        for (value, byte) in cases.into_iter().chain(limits) {
            assert_eq!(to_byte(value), byte, "{value}");
        }
    }

    #[test]
    fn ramps_keep_order_origin_and_padding() {
        for (width, height) in [(28, 28), (33, 33), (1, 1), (64, 96)] {
            for color in [Color::Gray, Color::Rgb, Color::Rgba] {
                // Channel 0 is x, channel 1 is y, channel 2 is 200, channel 3 is 255 - x.
                let byte_at = |c: usize, x: usize, y: usize| [x, y, 200, 255 - x][c];
                let mut planar = Vec::new();
                for c in 0..color.channels() {
                    for y in 0..height {
                        planar.extend((0..width).map(|x| value(byte_at(c, x, y))));
                    }
                }
                for padding in [0, 1, 12] {
                    let stride = width * 4 + padding;
                    let mut dst = vec![0xCD; stride * height];
                    to_rgba8(&planar, color, height, width, &mut dst, stride).unwrap();
                    for y in 0..height {
                        let (row, rest) = dst[y * stride..][..stride].split_at(width * 4);
                        assert!(rest.iter().all(|&b| b == 0xCD));
                        for (x, pixel) in row.chunks(4).enumerate() {
                            let expected = match color {
                                Color::Gray => [x, x, x, 255],
                                Color::Rgb => [x, y, 200, 255],
                                Color::Rgba => [x, y, 200, 255 - x],
                            };
                            assert_eq!(pixel, expected.map(|b| b as u8), "{color} {x} {y}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn last_row_needs_no_padding() {
        let mut dst = [0u8; 20 + 8];
        to_rgba8(&[1.0; 4], Color::Gray, 2, 2, &mut dst, 20).unwrap();
        assert_eq!(dst[20..], [255; 8]);
    }

    #[test]
    fn misfits_are_refused_by_name_and_write_nothing() {
        for (len, width, height, size, stride, named) in [
            (3, 2, 2, 16, 8, "sample: found 3 values, expected gray of 2x2 pixels"),
            (0, 0, 2, 16, 8, "sample: found 0 values"),
            (4, usize::MAX, 2, 16, 8, "sample: found 4 values"),
            (4, 2, 2, 16, 7, "row_stride: found 7 bytes, expected at least 8"),
            (4, 2, 2, 15, 8, "dst: found 15 bytes, expected 16"),
            (4, 2, 2, 16, usize::MAX, "dst: found 16 bytes, expected more than the address space"),
        ] {
            let mut dst = vec![7u8; size];
            let planar = vec![0.0; len];
            let error =
                to_rgba8(&planar, Color::Gray, height, width, &mut dst, stride).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
            assert!(dst.iter().all(|&b| b == 7));
        }
    }
}
