//! Pictures of a run: a grid of samples, and the same samples over time, as PNG.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ddpm::image::to_byte;

use crate::canvas::{BLACK, Canvas, Rgb};
use crate::data::config::Color;
use crate::run_files::RunFiles;

/// Width of the border around a sample.
const BORDER: usize = 4;
/// Samples are enlarged by a whole factor, of at most this, to at most about so many pixels.
const MOST_ENLARGED: usize = 4;
const SHOWN: usize = 256;
/// Pixels of the largest grid: a gigabyte of memory.
const LARGEST_GRID: usize = (1 << 30) / 3;

/// Pictures in a row of the film strip, and its rows, at most.
const STRIP_COLUMNS: usize = 8;
const STRIP_ROWS: usize = 24;

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
    let scale = enlarge(width, height);
    let (cell_w, cell_h) = (cell(width, scale), cell(height, scale));
    let mut canvas = Canvas::new(columns * cell_w + BORDER, rows * cell_h + BORDER);
    for (index, image) in images.chunks_exact(item).enumerate() {
        let pixel = |i: usize| -> Rgb {
            let at = |c: usize| to_byte(image[c * plane + i]);
            match channels {
                1 => [at(0); 3],
                4 => Color::WHITE.under([0, 1, 2, 3].map(at)),
                _ => [0, 1, 2].map(at),
            }
        };
        let pixels: Vec<Rgb> = (0..plane).map(pixel).collect();
        let (column, row) = (index % columns, index / columns);
        let (left, top) = (column * cell_w + BORDER, row * cell_h + BORDER);
        canvas.picture(left, top, &pixels, width, scale);
    }
    canvas.write(path)
}

/// Refuses a number of pictures in a grid that is 0, more than 4096, or too much for the memory; `name` is
/// what the user calls it.
pub fn check_count(name: &str, count: usize, width: usize, height: usize) -> Result<()> {
    ensure!((1..=4096).contains(&count), "{name} is {count}, expected 1 to 4096");
    let scale = enlarge(width, height);
    let most = LARGEST_GRID / (cell(width, scale) * cell(height, scale));
    ensure!(
        count <= most,
        "{name} is {count}, expected at most {most}: more pictures of {width}x{height} make too large a grid"
    );
    Ok(())
}

/// How often a sample's pixel is repeated each way.
fn enlarge(width: usize, height: usize) -> usize {
    (SHOWN / width.max(height)).clamp(1, MOST_ENLARGED)
}

/// A side of a sample in a grid, with one border.
fn cell(side: usize, scale: usize) -> usize {
    side * scale + BORDER
}

/// Writes the first samples of each grid of a run up to `step`, of images of `width` x `height`: a row for
/// each grid, the oldest above, its step beside it. Of many grids it takes some, evenly, and the last.
pub fn write_film_strip(files: &RunFiles, step: usize, width: usize, height: usize) -> Result<()> {
    let mut steps = files.sample_steps()?;
    steps.retain(|&other| other <= step);
    let all = steps.len();
    let rows = all.min(STRIP_ROWS);
    let chosen: Vec<usize> = (1..=rows).map(|row| steps[row * all / rows - 1]).collect();
    let scale = enlarge(width, height);
    let (cell_w, cell_h) = (cell(width, scale), cell(height, scale));
    let letters = 2;
    let digits = chosen.iter().map(|step| step.to_string().len()).max().unwrap_or(1);
    let left = (digits * 4 + 4) * letters;
    let mut canvas: Option<Canvas> = None;
    for (row, step) in chosen.iter().enumerate() {
        // A grid that was damaged since leaves its row empty.
        let Ok((pixels, grid_width)) = read_png(&files.samples(*step)) else { continue };
        let columns = (grid_width / cell_w).min(STRIP_COLUMNS);
        let canvas = canvas.get_or_insert_with(|| {
            Canvas::new(left + columns * cell_w + BORDER, rows * cell_h + BORDER)
        });
        let text_top = row * cell_h + BORDER + (height * scale).saturating_sub(5 * letters) / 2;
        canvas.text(letters as i64 * 2, text_top as i64, &step.to_string(), letters as i64, BLACK);
        let width = columns * cell_w + BORDER;
        let strip: Vec<Rgb> = pixels
            .chunks_exact(grid_width)
            .take(cell_h)
            .flat_map(|line| line.iter().take(width).copied())
            .collect();
        canvas.picture(left, row * cell_h, &strip, width, 1);
    }
    canvas.map_or(Ok(()), |canvas| canvas.write(&files.film_strip()))
}

/// The pixels of a grid and its width.
fn read_png(path: &Path) -> Result<(Vec<Rgb>, usize)> {
    let image = image::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let image = image.into_rgb8();
    let width = image.width() as usize;
    ensure!(width > 0, "{}: an empty picture", path.display());
    Ok((image.as_raw().as_chunks::<3>().0.to_vec(), width))
}
