//! A picture of any size to the model's.

use anyhow::{Result, ensure};
use image::imageops::{self, FilterType};
use image::{DynamicImage, GrayImage, ImageBuffer, Luma, Rgb, RgbImage, Rgba, RgbaImage};

use super::channels::luma;
use super::config::{Color, DataConfig, Filter, Fit};

/// How pictures come to one size.
pub struct Resizer {
    pub width: u32,
    pub height: u32,
    pub fit: Fit,
    pub filter: Filter,
    /// What pads a picture without alpha; one with alpha is padded with transparent pixels.
    pub background: Color,
}

impl Resizer {
    /// As `config` says; what pads is `background`.
    pub fn new(config: &DataConfig, background: Color) -> Self {
        Self {
            width: config.width as u32,
            height: config.height as u32,
            fit: config.fit.unwrap_or_default(),
            filter: config.filter.unwrap_or_default(),
            background,
        }
    }

    /// Whether a picture of this size has fewer pixels than are made of it.
    pub fn enlarges(&self, width: u32, height: u32) -> bool {
        self.fit != Fit::Center && (width < self.width || height < self.height)
    }

    /// Crops, pads or scales; a picture of the right size comes back as it is.
    pub fn resize(&self, picture: DynamicImage) -> Result<DynamicImage> {
        let (w, h) = (self.width, self.height);
        let (from_w, from_h) = (picture.width(), picture.height());
        if (from_w, from_h) == (w, h) {
            return Ok(picture);
        }
        // The sides compared as fractions: from_w / from_h against w / h.
        let (wide, high) = (u64::from(from_w) * u64::from(h), u64::from(from_h) * u64::from(w));
        // `side` scaled by the ratio of two numbers, to the nearest pixel, at least one.
        let scaled =
            |side: u32, by: u64, of: u64| ((u64::from(side) * by + of / 2) / of).max(1) as u32;
        Ok(match self.fit {
            Fit::Exact => {
                ensure!(
                    false,
                    "{from_w}x{from_h} pixels, expected {w}x{h} (data.fit is \"exact\")"
                );
                picture
            }
            Fit::Stretch => self.scale(&picture, w, h),
            Fit::Crop => {
                // Cut first, then scaled: the same picture, and less work.
                let (cut_w, cut_h) = if wide > high {
                    (scaled(from_w, high, wide), from_h)
                } else {
                    (from_w, scaled(from_h, wide, high))
                };
                let (left, top) = ((from_w - cut_w) / 2, (from_h - cut_h) / 2);
                let cut = picture.crop_imm(left, top, cut_w, cut_h);
                self.scale(&cut, w, h)
            }
            Fit::Pad => {
                let (in_w, in_h) = if wide > high {
                    (w, scaled(h, high, wide))
                } else {
                    (scaled(w, wide, high), h)
                };
                self.padded(&self.scale(&picture, in_w, in_h))
            }
            Fit::Center => {
                ensure!(
                    from_w <= w && from_h <= h,
                    "{from_w}x{from_h} pixels, expected at most {w}x{h} (data.fit is \"center\")"
                );
                self.padded(&picture)
            }
        })
    }

    /// The picture in the middle; where it cannot be, nearer the left and the top.
    fn padded(&self, picture: &DynamicImage) -> DynamicImage {
        let (w, h, Color(rgb)) = (self.width, self.height, self.background);
        let mut out: DynamicImage = match picture {
            DynamicImage::ImageLuma8(_) => GrayImage::from_pixel(w, h, Luma([luma(rgb)])).into(),
            DynamicImage::ImageRgba8(_) => RgbaImage::new(w, h).into(),
            _ => RgbImage::from_pixel(w, h, Rgb(rgb)).into(),
        };
        let (left, top) = ((w - picture.width()) / 2, (h - picture.height()) / 2);
        imageops::replace(&mut out, picture, i64::from(left), i64::from(top));
        out
    }

    fn scale(&self, picture: &DynamicImage, width: u32, height: u32) -> DynamicImage {
        let filter = match self.filter {
            Filter::Triangle => FilterType::Triangle,
            Filter::Lanczos => FilterType::Lanczos3,
            Filter::Nearest => FilterType::Nearest,
        };
        match picture {
            DynamicImage::ImageRgba8(rgba) if filter != FilterType::Nearest => {
                straight(&imageops::resize(&premultiplied(rgba), width, height, filter)).into()
            }
            _ => picture.resize_exact(width, height, filter),
        }
    }
}

/// Colours times alpha, and alpha times 255: a mean of these weighs a pixel's colour by how much of it
/// can be seen (Porter and Duff 1984, section 4.1).
fn premultiplied(rgba: &RgbaImage) -> ImageBuffer<Rgba<u16>, Vec<u16>> {
    let mut out = ImageBuffer::new(rgba.width(), rgba.height());
    for (from, to) in rgba.pixels().zip(out.pixels_mut()) {
        let [r, g, b, a] = from.0.map(u16::from);
        *to = Rgba([r * a, g * a, b * a, 255 * a]);
    }
    out
}

/// Back to straight alpha, rounded to nearest; black where nothing can be seen.
fn straight(premultiplied: &ImageBuffer<Rgba<u16>, Vec<u16>>) -> RgbaImage {
    let mut out = RgbaImage::new(premultiplied.width(), premultiplied.height());
    for (from, to) in premultiplied.pixels().zip(out.pixels_mut()) {
        let [r, g, b, a] = from.0.map(u32::from);
        let alpha = (a + 127) / 255;
        if alpha > 0 {
            // A filter that rings may leave more colour than alpha.
            let [r, g, b] = [r, g, b].map(|c| ((c * 255 + a / 2) / a).min(255) as u8);
            *to = Rgba([r, g, b, alpha.min(255) as u8]);
        }
    }
    out
}
