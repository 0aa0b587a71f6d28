//! Keeps the frames of a reveal and writes them as pictures.

use std::error::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

const COLUMNS: usize = 10;
const MOST_CELLS: usize = 50;
const GAP: usize = 4;
const BACKGROUND: [u8; 4] = [24, 24, 28, 255];
const FRAME_MS: u16 = 40;
const LAST_FRAME_MS: u16 = 2000;

/// RGBA8 frames of one size, one after the other.
pub struct Film {
    width: usize,
    height: usize,
    frames: Vec<u8>,
    count: usize,
}

impl Film {
    /// Has room for so many frames, so that keeping them allocates nothing.
    pub fn new(width: usize, height: usize, frames: usize) -> Self {
        Self { width, height, frames: vec![0; width * height * 4 * frames], count: 0 }
    }

    pub fn row_bytes(&self) -> usize {
        self.width * 4
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// Where the next frame goes, while there is room.
    pub fn next_frame(&mut self) -> Option<&mut [u8]> {
        let size = self.row_bytes() * self.height;
        self.frames.chunks_exact_mut(size).nth(self.count)
    }

    /// The next frame is there now.
    pub fn keep(&mut self) {
        self.count += 1;
    }

    /// The frames in a grid, from the first to the last, at most 50 of them.
    pub fn write_sheet(&self, path: &Path, scale: usize) -> Result<(), Box<dyn Error>> {
        let cells = self.count.min(MOST_CELLS);
        let columns = cells.clamp(1, COLUMNS);
        let (cell_width, cell_height) = (self.width * scale + GAP, self.height * scale + GAP);
        let (width, height) =
            (columns * cell_width + GAP, cells.div_ceil(columns) * cell_height + GAP);
        let mut canvas = BACKGROUND.repeat(width * height);
        for cell in 0..cells {
            let index = cell * (self.count - 1) / (cells - 1).max(1);
            let (x, y) = (GAP + cell % columns * cell_width, GAP + cell / columns * cell_height);
            self.draw(index, scale, &mut canvas[(y * width + x) * 4..], width * 4);
        }
        encoder(path, width, height)?.write_header()?.write_image_data(&canvas)?;
        Ok(())
    }

    /// All frames as an APNG that plays for ever and rests on the last.
    pub fn write_animation(&self, path: &Path, scale: usize) -> Result<(), Box<dyn Error>> {
        let (width, height) = (self.width * scale, self.height * scale);
        let mut canvas = vec![0; width * height * 4];
        let mut encoder = encoder(path, width, height)?;
        encoder.set_animated(u32::try_from(self.count)?, 0)?;
        encoder.set_frame_delay(FRAME_MS, 1000)?;
        let mut writer = encoder.write_header()?;
        for index in 0..self.count {
            if index + 1 == self.count {
                writer.set_frame_delay(LAST_FRAME_MS, 1000)?;
            }
            self.draw(index, scale, &mut canvas, width * 4);
            writer.write_image_data(&canvas)?;
        }
        writer.finish()?;
        Ok(())
    }

    /// Draws one frame, each of its pixels `scale` by `scale`.
    fn draw(&self, index: usize, scale: usize, canvas: &mut [u8], stride: usize) {
        let frame = &self.frames[index * self.row_bytes() * self.height..];
        for y in 0..self.height * scale {
            let row = &frame[y / scale * self.row_bytes()..];
            for x in 0..self.width * scale {
                let at = y * stride + x * 4;
                canvas[at..at + 4].copy_from_slice(&row[x / scale * 4..][..4]);
            }
        }
    }
}

fn encoder(
    path: &Path,
    width: usize,
    height: usize,
) -> Result<png::Encoder<'static, BufWriter<File>>, Box<dyn Error>> {
    let file = BufWriter::new(File::create(path)?);
    let mut encoder = png::Encoder::new(file, u32::try_from(width)?, u32::try_from(height)?);
    encoder.set_color(png::ColorType::Rgba);
    encoder.set_depth(png::BitDepth::Eight);
    Ok(encoder)
}
