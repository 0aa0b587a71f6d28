//! A sheet of tiles, cut.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::Images;
use super::config::{Color, DataConfig};
use super::decode::Decoder;

/// The largest decoded sheet: 16384 x 16384 pixels with alpha.
const MAX_BYTES: u64 = 1 << 30;

/// The tiles of a sheet, row after row.
pub fn read(path: &Path, config: &DataConfig) -> Result<Images> {
    let background = config.background.unwrap_or(Color::BLACK);
    let decoder = Decoder::new(config.color, background, MAX_BYTES);
    let sheet = decoder.read(path).with_context(|| format!("{}", path.display()))?.image;
    let (w, h) = (config.width, config.height);
    let (width, height) = (sheet.width() as usize, sheet.height() as usize);
    ensure!(
        width.is_multiple_of(w) && height.is_multiple_of(h),
        "{}: the sheet is {width}x{height} pixels, expected multiples of the {w}x{h} of a tile",
        path.display()
    );
    let bytes = sheet.as_bytes();
    let mut pixels = Vec::with_capacity(bytes.len());
    for top in (0..height).step_by(h) {
        for left in (0..width).step_by(w) {
            for y in top..top + h {
                let start = (y * width + left) * config.channels();
                pixels.extend_from_slice(&bytes[start..start + w * config.channels()]);
            }
        }
    }
    Ok(Images { pixels, ..Images::default() })
}
