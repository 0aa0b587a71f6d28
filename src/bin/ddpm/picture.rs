//! PNG files and samples: a planar [C, H, W] in [-1, 1] from one, a sheet of them into one.
//!
//! No gamma change in either direction: the bytes of the file are the model's own encoding.

use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use ddpm::error::{Error, ErrorKind, Result};
use ddpm::image::to_byte;
use ddpm::model::{Color, ModelConfig};

/// Reads a PNG of the model's size as one sample. Any colour type and depth is taken:
///
/// - gray is repeated in red, green and blue; a gray model gets 0.299 R + 0.587 G + 0.114 B;
/// - a model without alpha gets the picture over black; to one with alpha a picture without is opaque.
///
/// Errors: `Io` where the file cannot be read as a PNG; `InvalidArgument` for another size.
pub fn read(path: &Path, model: &ModelConfig) -> Result<Vec<f32>> {
    let png = Png::open(path)?;
    let found = png.size();
    if found != (model.width, model.height) {
        return Err(Error::invalid_argument(format!(
            "{}: found a picture of {}x{} pixels, expected {}x{} as the model makes",
            path.display(),
            found.0,
            found.1,
            model.width,
            model.height
        )));
    }
    Ok(png.pixels()?.crop(model, (0, 0)))
}

/// A PNG file of which nothing but the header was read.
pub struct Png {
    name: String,
    reader: png::Reader<BufReader<File>>,
}

impl Png {
    /// Errors: `Io` where the file cannot be read, or does not begin as a PNG.
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        if path.metadata().is_ok_and(|found| !found.is_file()) {
            return Err(refuse(&name, "not a file"));
        }
        let file = File::open(path).map_err(|error| refuse(&name, error))?;
        let mut decoder = png::Decoder::new(BufReader::new(file));
        decoder.set_transformations(png::Transformations::EXPAND);
        let reader = decoder.read_info().map_err(|error| damaged(&name, &error))?;
        Ok(Self { name, reader })
    }

    /// (width, height).
    pub fn size(&self) -> (usize, usize) {
        (self.reader.info().width as usize, self.reader.info().height as usize)
    }

    /// Errors: `Io` where the rest is not what the header says.
    pub fn pixels(self) -> Result<Pixels> {
        let (width, _) = self.size();
        let Self { name, mut reader } = self;
        let size = reader.output_buffer_size().ok_or_else(|| refuse(&name, "too large"))?;
        let mut bytes = vec![0; size];
        let frame = reader.next_frame(&mut bytes).map_err(|error| damaged(&name, &error))?;
        bytes.truncate(frame.buffer_size());
        let levels: Vec<f64> = match frame.bit_depth {
            png::BitDepth::Sixteen => {
                let (pairs, _) = bytes.as_chunks();
                pairs.iter().map(|&pair| f64::from(u16::from_be_bytes(pair)) / 65535.0).collect()
            }
            _ => bytes.iter().map(|&byte| f64::from(byte) / 255.0).collect(),
        };
        let rgba = match frame.color_type {
            png::ColorType::Grayscale => levels.iter().map(|&v| [v, v, v, 1.0]).collect(),
            png::ColorType::GrayscaleAlpha => {
                levels.as_chunks().0.iter().map(|&[v, a]| [v, v, v, a]).collect()
            }
            png::ColorType::Rgb => {
                levels.as_chunks().0.iter().map(|&[r, g, b]| [r, g, b, 1.0]).collect()
            }
            png::ColorType::Rgba => levels.as_chunks().0.to_vec(),
            other => {
                return Err(refuse(&name, format!("colour type {other:?} after it was expanded")));
            }
        };
        Ok(Pixels { width, rgba })
    }
}

/// The pixels of a picture, each channel 0 to 1.
pub struct Pixels {
    width: usize,
    rgba: Vec<[f64; 4]>,
}

impl Pixels {
    /// The part of the model's size whose first pixel is at (left, top), which must lie inside, as one
    /// sample.
    pub fn crop(&self, model: &ModelConfig, (left, top): (usize, usize)) -> Vec<f32> {
        let channel = |c: usize| {
            move |&[r, g, b, a]: &[f64; 4]| match model.color {
                // An exact gray stays what it is, which the sum need not.
                Color::Gray if r == g && g == b => r * a,
                Color::Gray => (0.299 * r + 0.587 * g + 0.114 * b) * a,
                Color::Rgb => [r, g, b][c] * a,
                Color::Rgba => [r, g, b, a][c],
            }
        };
        let rows = self.rgba.chunks_exact(self.width).skip(top).take(model.height);
        let values = (0..model.color.channels()).flat_map(|c| {
            rows.clone().flat_map(move |row| row[left..left + model.width].iter().map(channel(c)))
        });
        values.map(|level| (2.0 * level - 1.0) as f32).collect()
    }
}

fn refuse(name: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("{name}: {reason}"))
}

fn damaged(name: &str, error: &png::DecodingError) -> Error {
    refuse(name, format!("not a whole PNG file: {error}"))
}

/// How `count` tiles are laid out, row after row: (columns, rows) of the sheet that is nearest to a
/// square.
pub fn grid(count: usize, width: usize, height: usize) -> (usize, usize) {
    let layouts = (1..=count).rev().map(|columns| (columns, count.div_ceil(columns)));
    let side = |&(columns, rows): &(usize, usize)| {
        ((columns * width).max(rows * height), columns * rows - count)
    };
    layouts.min_by_key(side).unwrap_or((1, 1))
}

/// The PNG of samples of `model`, [N, C, H, W], side by side in a [`grid`]; 8 bits a channel, gray, rgb
/// or rgba as the model is. Places that are left over are 0: black, or transparent.
///
/// Errors: `InvalidArgument` where the sheet is larger than a PNG can be.
pub fn sheet(samples: &[f32], model: &ModelConfig) -> Result<Vec<u8>> {
    let ModelConfig { channels, height, width, .. } = *model;
    let plane = height * width;
    let (columns, rows) = grid(samples.len() / (plane * channels), width, height);
    let (sheet_width, sheet_height) = (columns * width, rows * height);
    let too_large = || {
        Error::invalid_argument(format!(
            "sheet: found {sheet_width}x{sheet_height} pixels, expected what a PNG can hold"
        ))
    };
    let mut bytes = vec![0; sheet_width * sheet_height * channels];
    for (index, sample) in samples.chunks_exact(plane * channels).enumerate() {
        let (left, top) = (index % columns * width, index / columns * height);
        for y in 0..height {
            let start = ((top + y) * sheet_width + left) * channels;
            let row = &mut bytes[start..start + width * channels];
            for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
                for (c, byte) in pixel.iter_mut().enumerate() {
                    *byte = to_byte(sample[c * plane + y * width + x]);
                }
            }
        }
    }
    let sides = (u32::try_from(sheet_width), u32::try_from(sheet_height));
    let (Ok(sheet_width), Ok(sheet_height)) = sides else {
        return Err(too_large());
    };
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, sheet_width, sheet_height);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_color(match model.color {
        Color::Gray => png::ColorType::Grayscale,
        Color::Rgb => png::ColorType::Rgb,
        Color::Rgba => png::ColorType::Rgba,
    });
    let encoded = encoder.write_header().and_then(|mut writer| {
        writer.write_image_data(&bytes)?;
        writer.finish()
    });
    encoded.map_err(|error| Error::new(ErrorKind::Internal, format!("sheet: {error}")))?;
    Ok(file)
}
