//! A picture that is drawn on: rectangles, lines, small letters, other pictures; written as PNG.

use std::path::Path;

use anyhow::{Context, Result};

use crate::output::write_atomically;

pub type Rgb = [u8; 3];

pub const WHITE: Rgb = [255; 3];
pub const BLACK: Rgb = [0; 3];

/// Letters of 3x5 pixels, five rows of three bits: digits, then A to Z.
const DIGITS: [u16; 10] =
    [0o75557, 0o26227, 0o61247, 0o61216, 0o55711, 0o74616, 0o34757, 0o71222, 0o75757, 0o75716];
const LETTERS: [u16; 26] = [
    0o25755, 0o65656, 0o34443, 0o65556, 0o74647, 0o74644, 0o34553, 0o55755, 0o72227, 0o11152,
    0o55655, 0o44447, 0o57755, 0o65555, 0o25552, 0o65644, 0o25563, 0o65655, 0o34216, 0o72222,
    0o55557, 0o55552, 0o55775, 0o55255, 0o55222, 0o71247,
];

fn glyph(letter: char) -> u16 {
    match letter.to_ascii_uppercase() {
        digit @ '0'..='9' => DIGITS[digit as usize - '0' as usize],
        letter @ 'A'..='Z' => LETTERS[letter as usize - 'A' as usize],
        '.' => 0o00002,
        ',' => 0o00024,
        '-' => 0o00700,
        '=' => 0o07070,
        ':' => 0o02020,
        '/' => 0o11244,
        _ => 0,
    }
}

/// Pixels of RGB, rows from the top.
pub struct Canvas {
    pub width: usize,
    pub height: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// All white.
    pub fn new(width: usize, height: usize) -> Self {
        Self { width, height, pixels: vec![WHITE; width * height] }
    }

    /// Sets a pixel; what lies outside is not drawn.
    pub fn set(&mut self, x: i64, y: i64, color: Rgb) {
        if (0..self.width as i64).contains(&x) && (0..self.height as i64).contains(&y) {
            self.pixels[y as usize * self.width + x as usize] = color;
        }
    }

    pub fn fill(&mut self, left: i64, top: i64, width: i64, height: i64, color: Rgb) {
        for y in top..top + height {
            for x in left..left + width {
                self.set(x, y, color);
            }
        }
    }

    /// A straight line of squares of `thickness` pixels.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), thickness: i64, color: Rgb) {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let length = dx.abs().max(dy.abs()).ceil().max(1.0);
        for i in 0..=length as usize {
            let part = i as f64 / length;
            let x = (from.0 + part * dx).round() as i64 - thickness / 2;
            let y = (from.1 + part * dy).round() as i64 - thickness / 2;
            self.fill(x, y, thickness, thickness, color);
        }
    }

    /// Letters, enlarged by whole factors, with their upper left corner at (x, y).
    pub fn text(&mut self, x: i64, y: i64, text: &str, scale: i64, color: Rgb) {
        for (i, letter) in text.chars().enumerate() {
            let bits = glyph(letter);
            for cell in (0..15).filter(|cell| bits >> (14 - cell) & 1 == 1) {
                let left = x + (i as i64 * 4 + cell % 3) * scale;
                self.fill(left, y + cell / 3 * scale, scale, scale, color);
            }
        }
    }

    /// The width of [`text`](Self::text).
    pub fn text_width(text: &str, scale: i64) -> i64 {
        (text.chars().count() as i64 * 4 - 1).max(0) * scale
    }

    /// Another picture, `width` pixels a row, each enlarged to a square of `scale`.
    pub fn picture(&mut self, left: usize, top: usize, pixels: &[Rgb], width: usize, scale: usize) {
        for (y, row) in pixels.chunks_exact(width).enumerate() {
            for (x, &color) in row.iter().enumerate() {
                let (x, y) = ((left + x * scale) as i64, (top + y * scale) as i64);
                self.fill(x, y, scale as i64, scale as i64, color);
            }
        }
    }

    /// Writes it as PNG.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, self.height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let encode = || -> Result<(), png::EncodingError> {
            let mut writer = encoder.write_header()?;
            writer.write_image_data(self.pixels.as_flattened())?;
            writer.finish()
        };
        encode().with_context(|| format!("{}: cannot encode a PNG", path.display()))?;
        write_atomically(path, &bytes)
    }
}
