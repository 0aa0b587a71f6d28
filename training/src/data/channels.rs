//! What a decoded picture's channels become: gray, RGB, or RGB with straight alpha.

use image::{DynamicImage, GrayImage, Luma, Rgb, RgbImage, RgbaImage};

use super::config::{Color, Pixels};

/// The picture as `pixels` says, of bytes, and whether nothing of it can be seen.
///
/// Without alpha it lies on `background`. With alpha the colour of a wholly transparent pixel is
/// black, whatever the file keeps there: it cannot be seen, and would be learned.
pub fn convert(image: DynamicImage, pixels: Pixels, background: Color) -> (DynamicImage, bool) {
    if !image.color().has_alpha() {
        let image = match pixels {
            Pixels::Gray if !image.color().has_color() => image.into_luma8().into(),
            Pixels::Gray => gray(&image.into_rgb8()).into(),
            Pixels::Rgb => image.into_rgb8().into(),
            Pixels::Rgba => image.into_rgba8().into(),
        };
        return (image, false);
    }
    let mut rgba = image.into_rgba8();
    let invisible = rgba.pixels().all(|pixel| pixel.0[3] == 0);
    let image = match pixels {
        Pixels::Gray => gray(&composite(&rgba, background)).into(),
        Pixels::Rgb => composite(&rgba, background).into(),
        Pixels::Rgba => {
            for pixel in rgba.pixels_mut().filter(|pixel| pixel.0[3] == 0) {
                pixel.0 = [0; 4];
            }
            rgba.into()
        }
    };
    (image, invisible)
}

fn composite(rgba: &RgbaImage, background: Color) -> RgbImage {
    let mut rgb = RgbImage::new(rgba.width(), rgba.height());
    for (over, out) in rgba.pixels().zip(rgb.pixels_mut()) {
        out.0 = background.under(over.0);
    }
    rgb
}

fn gray(rgb: &RgbImage) -> GrayImage {
    let mut gray = GrayImage::new(rgb.width(), rgb.height());
    for (&Rgb(rgb), out) in rgb.pixels().zip(gray.pixels_mut()) {
        *out = Luma([luma(rgb)]);
    }
    gray
}

/// The luma of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, in the fixed point of Pillow's `convert("L")`:
/// what data sets of the field are made gray with. A gray stays what it is.
pub fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}
