//! Pictures of a run: a grid of samples as PNG, a loss curve as SVG.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use ddpm::image::to_byte;

use crate::checkpoint::write_atomically;
use crate::data::config::Color;

/// How often a sample's pixel is repeated each way.
const ENLARGE: usize = 4;

/// Writes images, planar `[n, channels, h, w]` in [-1, 1], gray, rgb or rgba (then on white), as a grid
/// of enlarged tiles with so many columns; near-square for 0.
pub fn write_grid(
    path: &Path,
    images: &[f32],
    channels: usize,
    width: usize,
    height: usize,
    columns: usize,
) -> Result<()> {
    let (plane, item) = (width * height, channels * width * height);
    let count = images.len() / item;
    let square = (count as f64).sqrt().ceil().max(1.0) as usize;
    let columns = if columns > 0 { columns } else { square };
    let rows = count.div_ceil(columns).max(1);
    let (cell_w, cell_h) = (width * ENLARGE + ENLARGE, height * ENLARGE + ENLARGE);
    let (grid_w, grid_h) = (columns * cell_w + ENLARGE, rows * cell_h + ENLARGE);
    let mut rgb = vec![255u8; grid_w * grid_h * 3];
    for (index, image) in images.chunks_exact(item).enumerate() {
        let left = (index % columns) * cell_w + ENLARGE;
        let top = (index / columns) * cell_h + ENLARGE;
        for y in 0..height * ENLARGE {
            for x in 0..width * ENLARGE {
                let source = (y / ENLARGE) * width + x / ENLARGE;
                let target = ((top + y) * grid_w + left + x) * 3;
                let at = |c: usize| to_byte(image[c * plane + source]);
                let pixel = match channels {
                    1 => [at(0); 3],
                    4 => Color::WHITE.under([0, 1, 2, 3].map(at)),
                    _ => [0, 1, 2].map(at),
                };
                rgb[target..target + 3].copy_from_slice(&pixel);
            }
        }
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, grid_w as u32, grid_h as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().context("cannot encode a PNG")?;
    writer.write_image_data(&rgb).context("cannot encode a PNG")?;
    writer.finish().context("cannot encode a PNG")?;
    write_atomically(path, &bytes)
}

/// Writes the loss of every step, averaged over windows, on a logarithmic axis.
pub fn write_loss_curve(path: &Path, losses: &[f64]) -> Result<()> {
    const WIDTH: f64 = 640.0;
    const HEIGHT: f64 = 320.0;
    const MARGIN: f64 = 48.0;
    let window = losses.len().div_ceil(200).max(1);
    let means: Vec<f64> =
        losses.chunks(window).map(|c| c.iter().sum::<f64>() / c.len() as f64).collect();
    let logs: Vec<f64> = means.iter().map(|m| m.max(1e-12).log10()).collect();
    let low = logs.iter().copied().fold(f64::INFINITY, f64::min).min(0.0);
    let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).max(low + 0.1);
    let x = |i: f64| MARGIN + i * (WIDTH - 2.0 * MARGIN) / (means.len().max(2) - 1) as f64;
    let y = |log: f64| HEIGHT - MARGIN - (log - low) / (high - low) * (HEIGHT - 2.0 * MARGIN);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n"
    );
    for mantissa in [1.0, 2.0, 5.0] {
        for exponent in -6..=1 {
            let value = mantissa * 10f64.powi(exponent);
            let log = value.log10();
            if (low..=high).contains(&log) {
                let (y, right) = (y(log), WIDTH - MARGIN);
                let _ = writeln!(
                    svg,
                    "<line x1=\"{MARGIN}\" x2=\"{right}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#ddd\"/>\
                     <text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                    MARGIN - 6.0,
                    y + 4.0
                );
            }
        }
    }
    let points: Vec<String> = logs
        .iter()
        .enumerate()
        .map(|(i, &log)| format!("{:.1},{:.1}", x(i as f64), y(log)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline fill=\"none\" stroke=\"#06c\" stroke-width=\"1.5\" points=\"{}\"/>",
        points.join(" ")
    );
    let _ = writeln!(
        svg,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"middle\">steps, 0 to {}; loss, mean of {window}</text>\n</svg>",
        WIDTH / 2.0,
        HEIGHT - 14.0,
        losses.len()
    );
    write_atomically(path, svg.as_bytes())
}
