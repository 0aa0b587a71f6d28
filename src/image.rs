//! Pixels: a planar sample in [-1, 1] to rows of RGBA, bytes or floats, and from bytes back.
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

/// Bytes of one RGBA32F pixel.
pub const BYTES_PER_FLOAT_PIXEL: usize = 4 * size_of::<f32>();

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
    let encode = |value| [to_byte(value)];
    interleave::<BYTES_PER_PIXEL, 1>(planar, color, [height, width], dst, row_stride, encode)
}

/// Writes one planar sample [C, H, W] as RGBA of 32-bit floats, top row first: red, green, blue, alpha
/// of a pixel side by side, each (v + 1) / 2 and not held to 0..1, NaN as it is.
///
/// Gray is repeated in red, green and blue; without an alpha channel alpha is 1; an alpha channel maps
/// as the colours do. `dst` gets the bytes of the floats in this machine's order and need not be
/// aligned for them. Row y begins at byte `y * row_stride`; bytes between the rows are left alone.
///
/// Errors: `InvalidArgument` where `planar` is not C x H x W values, `row_stride` is below 16 W bytes,
/// or `dst` ends before the last row does; nothing is written then. Does not allocate or block.
pub fn to_rgba_f32(
    planar: &[f32],
    color: Color,
    height: usize,
    width: usize,
    dst: &mut [u8],
    row_stride: usize,
) -> Result<()> {
    let encode = |value: f32| ((value + 1.0) / 2.0).to_ne_bytes();
    interleave::<BYTES_PER_FLOAT_PIXEL, 4>(planar, color, [height, width], dst, row_stride, encode)
}

/// Writes rows of pixels of `P` bytes, four values of `B` bytes each, as `encode` has them.
fn interleave<const P: usize, const B: usize>(
    planar: &[f32],
    color: Color,
    [height, width]: [usize; 2],
    dst: &mut [u8],
    row_stride: usize,
    encode: impl Fn(f32) -> [u8; B],
) -> Result<()> {
    let bytes = ("dst", dst.len());
    let plane = check_sizes::<P>(planar.len(), color, [height, width], bytes, row_stride)?;
    let channel = |index: usize| planar.get(index * plane..(index + 1) * plane).unwrap_or_default();
    let (red, green, blue, alpha) = match color {
        Color::Gray => (channel(0), channel(0), channel(0), None),
        Color::Rgb => (channel(0), channel(1), channel(2), None),
        Color::Rgba => (channel(0), channel(1), channel(2), Some(channel(3))),
    };
    let opaque = encode(1.0);
    for (y, row) in dst.chunks_mut(row_stride).take(height).enumerate() {
        let span = y * width..(y + 1) * width;
        let (red, green, blue) = (&red[span.clone()], &green[span.clone()], &blue[span.clone()]);
        let (pixels, _) = row.as_chunks_mut::<P>();
        for (((pixel, &r), &g), &b) in pixels.iter_mut().zip(red).zip(green).zip(blue) {
            let (values, _) = pixel.as_chunks_mut::<B>();
            values.copy_from_slice(&[encode(r), encode(g), encode(b), opaque]);
        }
        if let Some(alpha) = alpha {
            for (pixel, &a) in pixels.iter_mut().zip(&alpha[span]) {
                pixel[3 * B..].copy_from_slice(&encode(a));
            }
        }
    }
    Ok(())
}

/// The value of a byte: b / 127.5 - 1, which [`to_byte`] takes back to b.
pub fn from_byte(byte: u8) -> f32 {
    f32::from(byte) / 127.5 - 1.0
}

/// Reads rows of RGBA8, top row first, red in the lowest byte, as one planar sample [C, H, W]: the
/// inverse of [`to_rgba8`], exact for every byte.
///
/// Gray is the luma of the encoded values, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601, section 2.5.1),
/// so equal red, green and blue are kept as they are. Alpha becomes the fourth channel where `color`
/// has one; else it is not looked at, and the colours stay as they are under any alpha. Row y begins
/// at byte `y * row_stride` of `src`.
///
/// Errors: `InvalidArgument` where `planar` is not C x H x W values, `row_stride` is below 4 W bytes,
/// or `src` ends before the last row does; nothing is written then. Does not allocate or block.
pub fn from_rgba8(
    src: &[u8],
    row_stride: usize,
    color: Color,
    height: usize,
    width: usize,
    planar: &mut [f32],
) -> Result<()> {
    let bytes = ("src", src.len());
    let plane =
        check_sizes::<BYTES_PER_PIXEL>(planar.len(), color, [height, width], bytes, row_stride)?;
    for (index, values) in planar.chunks_exact_mut(plane).enumerate() {
        for (row, values) in src.chunks(row_stride).zip(values.chunks_exact_mut(width)) {
            let (pixels, _) = row.as_chunks::<BYTES_PER_PIXEL>();
            for (value, pixel) in values.iter_mut().zip(pixels) {
                *value = match color {
                    Color::Gray => luma(*pixel),
                    Color::Rgb | Color::Rgba => from_byte(pixel[index]),
                };
            }
        }
    }
    Ok(())
}

/// In whole thousandths, so that gray stays what it is to the last bit.
fn luma([red, green, blue, _]: [u8; BYTES_PER_PIXEL]) -> f32 {
    let thousandths = 299 * u32::from(red) + 587 * u32::from(green) + 114 * u32::from(blue);
    thousandths as f32 / 1000.0 / 127.5 - 1.0
}

/// The values of one plane, where `len` values and the `bytes` (name and number) of pixels of `P`
/// are right.
fn check_sizes<const P: usize>(
    len: usize,
    color: Color,
    [height, width]: [usize; 2],
    (name, bytes): (&str, usize),
    row_stride: usize,
) -> Result<usize> {
    let plane = height.checked_mul(width).filter(|&plane| plane > 0);
    let plane = plane.filter(|plane| plane.checked_mul(color.channels()) == Some(len)).ok_or_else(
        || {
            Error::invalid_argument(format!(
                "sample: found {len} values, expected {color} of {width}x{height} pixels"
            ))
        },
    )?;
    let row_bytes = width.saturating_mul(P);
    if row_stride < row_bytes {
        return Err(Error::invalid_argument(format!(
            "row_stride: found {row_stride} bytes, expected at least {row_bytes} for {width} pixels"
        )));
    }
    // The last row needs no padding behind it.
    let needed =
        (height - 1).checked_mul(row_stride).and_then(|start| start.checked_add(row_bytes));
    if needed.is_none_or(|needed| bytes < needed) {
        return Err(Error::invalid_argument(format!(
            "{name}: found {bytes} bytes, expected {} for {height} rows of stride {row_stride}",
            needed.map_or("more than the address space holds".to_owned(), |n| n.to_string())
        )));
    }
    Ok(plane)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value a byte stands for.
    fn value(byte: usize) -> f32 {
        from_byte(byte as u8)
    }

    fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
        bytes.as_chunks().0.iter().map(|&value| f32::from_ne_bytes(value))
    }

    #[test]
    fn floats_are_not_held_and_keep_what_is_no_number() {
        let planar = [-3.0, -1.0, 0.0, 1.0, 7.0, f32::NAN];
        let mut dst = [0; 6 * 16];
        to_rgba_f32(&planar, Color::Gray, 1, 6, &mut dst, 6 * 16).unwrap();
        let red: Vec<f32> = floats(&dst).step_by(4).collect();
        assert_eq!(red[..5], [-1.0, 0.0, 0.5, 1.0, 4.0]);
        assert!(red[5].is_nan());
        assert!(floats(&dst).skip(3).step_by(4).all(|alpha| alpha == 1.0));
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
                let expected = |x: usize, y: usize| match color {
                    Color::Gray => [x, x, x, 255],
                    Color::Rgb => [x, y, 200, 255],
                    Color::Rgba => [x, y, 200, 255 - x],
                };
                for padding in [0, 1, 12] {
                    let stride = width * 4 + padding;
                    let mut dst = vec![0xCD; stride * height];
                    to_rgba8(&planar, color, height, width, &mut dst, stride).unwrap();
                    for y in 0..height {
                        let (row, rest) = dst[y * stride..][..stride].split_at(width * 4);
                        assert!(rest.iter().all(|&b| b == 0xCD));
                        for (x, pixel) in row.chunks(4).enumerate() {
                            assert_eq!(pixel, expected(x, y).map(|b| b as u8), "{color} {x} {y}");
                        }
                    }

                    let stride = width * 16 + padding;
                    let mut dst = vec![0xCD; stride * height];
                    to_rgba_f32(&planar, color, height, width, &mut dst, stride).unwrap();
                    for y in 0..height {
                        let (row, rest) = dst[y * stride..][..stride].split_at(width * 16);
                        assert!(rest.iter().all(|&b| b == 0xCD));
                        for (x, pixel) in row.chunks(16).enumerate() {
                            for (found, byte) in floats(pixel).zip(expected(x, y)) {
                                // Two roundings on the way to the value of a byte and back.
                                let error = (found - byte as f32 / 255.0).abs();
                                assert!(error <= f32::EPSILON, "{color} {x} {y}: {found}");
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn pixels_come_back_from_a_sample_byte_by_byte() {
        // Each channel holds every byte, in an order of its own; rows are 16 pixels.
        let byte_of =
            |channel: usize, pixel: usize| (pixel * [1, 3, 5, 7][channel] + channel) as u8;
        for color in [Color::Gray, Color::Rgb, Color::Rgba] {
            for padding in [0, 3] {
                let stride = 16 * BYTES_PER_PIXEL + padding;
                let mut pixels = vec![0xCD; 16 * stride - padding];
                for pixel in 0..256 {
                    let bytes: [u8; 4] = std::array::from_fn(|channel| match (color, channel) {
                        (Color::Gray, 0..3) => byte_of(0, pixel),
                        (Color::Gray | Color::Rgb, 3) => 255,
                        _ => byte_of(channel, pixel),
                    });
                    let at = pixel / 16 * stride + pixel % 16 * BYTES_PER_PIXEL;
                    pixels[at..at + BYTES_PER_PIXEL].copy_from_slice(&bytes);
                }
                let mut planar = vec![9.0; 256 * color.channels()];
                from_rgba8(&pixels, stride, color, 16, 16, &mut planar).unwrap();
                assert!(planar.iter().all(|value| (-1.0..=1.0).contains(value)));
                let mut back = vec![0xCD; pixels.len()];
                to_rgba8(&planar, color, 16, 16, &mut back, stride).unwrap();
                assert_eq!(back, pixels, "{color}, padding {padding}");
            }
        }
    }

    #[test]
    fn gray_of_colours_is_their_luma_and_alpha_is_not_looked_at() {
        let pixels = [255, 0, 0, 9, 0, 255, 0, 0, 0, 0, 255, 255, 40, 80, 120, 1];
        let mut gray = [0.0; 4];
        from_rgba8(&pixels, 16, Color::Gray, 1, 4, &mut gray).unwrap();
        for (found, luma) in gray.into_iter().zip([76.245, 149.685, 29.07, 72.6]) {
            // A last bit at 1 and the rounding of the literal.
            assert!((found - (luma / 127.5 - 1.0)).abs() < 2e-7, "{found} {luma}");
        }
        let mut rgb = [0.0; 12];
        from_rgba8(&pixels, 16, Color::Rgb, 1, 4, &mut rgb).unwrap();
        assert_eq!(rgb, [255, 0, 0, 40, 0, 255, 0, 80, 0, 0, 255, 120].map(from_byte));
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
            let mut planar = planar;
            let error = from_rgba8(&dst, stride, Color::Gray, height, width, &mut planar);
            let named = named.replace("dst", "src");
            assert!(error.unwrap_err().to_string().starts_with(&named));
            assert!(planar.iter().all(|&value| value == 0.0));
        }
        for (size, stride, named) in [
            (64, 31, "row_stride: found 31 bytes, expected at least 32"),
            (63, 32, "dst: found 63 bytes, expected 64"),
        ] {
            let mut dst = vec![7u8; size];
            let error = to_rgba_f32(&[0.0; 4], Color::Gray, 2, 2, &mut dst, stride).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
            assert!(dst.iter().all(|&b| b == 7));
        }
    }
}
