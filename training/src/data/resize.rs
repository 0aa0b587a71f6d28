//! A picture of any size to the model's.

use anyhow::{Result, ensure};
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::config::{Color, Filter, Fit};

/// How pictures come to one size.
pub struct Resizer {
    pub width: u32,
    pub height: u32,
    pub fit: Fit,
    pub filter: Filter,
    pub background: Color,
}

impl Resizer {
    /// Crops, pads or scales; a picture of the right size comes back as it is.
    pub fn resize(&self, picture: RgbImage) -> Result<RgbImage> {
        let (w, h) = (self.width, self.height);
        let (from_w, from_h) = picture.dimensions();
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
                let cut = imageops::crop_imm(&picture, left, top, cut_w, cut_h).to_image();
                self.scale(&cut, w, h)
            }
            Fit::Pad => {
                let (in_w, in_h) = if wide > high {
                    (w, scaled(h, high, wide))
                } else {
                    (scaled(w, wide, high), h)
                };
                let mut out = RgbImage::from_pixel(w, h, Rgb(self.background.0));
                let inner = self.scale(&picture, in_w, in_h);
                let (left, top) = ((w - in_w) / 2, (h - in_h) / 2);
                imageops::replace(&mut out, &inner, i64::from(left), i64::from(top));
                out
            }
        })
    }

    fn scale(&self, picture: &RgbImage, width: u32, height: u32) -> RgbImage {
        let filter = match self.filter {
            Filter::Triangle => FilterType::Triangle,
            Filter::Lanczos => FilterType::Lanczos3,
            Filter::Nearest => FilterType::Nearest,
        };
        imageops::resize(picture, width, height, filter)
    }
}
