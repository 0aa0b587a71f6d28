//! Colours changed a little, at random, so that few pictures are not learned by heart.
//!
//! The four changes are those of torchvision's `ColorJitter`, in a fixed order: brightness, contrast,
//! saturation, hue; each is followed by a cut to the range.

use serde::{Deserialize, Serialize};

/// How far colours are changed, at most; 0 for not at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jitter {
    /// The values are multiplied by 1 - brightness to 1 + brightness; 0 to 1.
    pub brightness: f64,
    /// Distances from the picture's mean gray, as above.
    pub contrast: f64,
    /// Distances from the pixel's own gray, as above; not for gray images.
    pub saturation: f64,
    /// Turns of the colour circle, either way; 0 to 0.5; not for gray images.
    pub hue: f64,
}

impl Jitter {
    /// The limits by name, with the largest that can be given.
    pub fn limits(&self) -> [(&'static str, f64, f64); 4] {
        [
            ("brightness", self.brightness, 1.0),
            ("contrast", self.contrast, 1.0),
            ("saturation", self.saturation, 1.0),
            ("hue", self.hue, 0.5),
        ]
    }

    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The change that `uniform` numbers in [0, 1), in the order of the fields, choose.
    pub fn change(&self, uniform: [f64; 4]) -> Recolor {
        let signed = |limit: f64, uniform: f64| (limit * (2.0 * uniform - 1.0)) as f32;
        let [brightness, contrast, saturation, hue] = uniform;
        Recolor {
            brightness: 1.0 + signed(self.brightness, brightness),
            contrast: 1.0 + signed(self.contrast, contrast),
            saturation: 1.0 + signed(self.saturation, saturation),
            hue: signed(self.hue, hue),
        }
    }
}

/// One change of colours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Recolor {
    pub brightness: f32,
    pub contrast: f32,
    pub saturation: f32,
    /// In turns of the colour circle.
    pub hue: f32,
}

impl Default for Recolor {
    fn default() -> Self {
        Self { brightness: 1.0, contrast: 1.0, saturation: 1.0, hue: 0.0 }
    }
}

impl Recolor {
    /// Changes an image of `channels` 1, 3 or 4 in [-1, 1], pixel after pixel. Alpha stays as it is, and
    /// wholly transparent pixels do.
    pub fn apply(self, image: &mut [f32], channels: usize) {
        if self == Self::default() {
            return;
        }
        let colors = channels.min(3);
        let unit = |value: f32| value * 0.5 + 0.5;
        let alpha = |pixel: &[f32]| pixel.get(3).map_or(1.0, |&alpha| unit(alpha));
        let cut = |value: f32| value.clamp(0.0, 1.0);
        let (mut sum, mut weight) = (0f64, 0f64);
        for pixel in image.chunks_exact_mut(channels) {
            for value in &mut pixel[..colors] {
                *value = cut(unit(*value) * self.brightness);
            }
            let alpha = f64::from(alpha(pixel));
            sum += alpha * f64::from(gray(&pixel[..colors]));
            weight += alpha;
        }
        let mean = if weight > 0.0 { (sum / weight) as f32 } else { 0.0 };
        for pixel in image.chunks_exact_mut(channels) {
            let visible = alpha(pixel) > 0.0;
            let pixel = &mut pixel[..colors];
            if visible {
                pixel.iter_mut().for_each(|v| *v = cut(mean + (*v - mean) * self.contrast));
                let own = gray(pixel);
                pixel.iter_mut().for_each(|v| *v = cut(own + (*v - own) * self.saturation));
                if let [r, g, b] = pixel {
                    [*r, *g, *b] = turn_hue([*r, *g, *b], self.hue);
                }
            }
            pixel.iter_mut().for_each(|value| *value = *value * 2.0 - 1.0);
        }
    }
}

/// The luma of ITU-R BT.601 of one or three values.
fn gray(pixel: &[f32]) -> f32 {
    match *pixel {
        [r, g, b] => 0.299 * r + 0.587 * g + 0.114 * b,
        _ => pixel[0],
    }
}

/// The colour with its hue turned by so much of the circle; value and saturation of HSV stay (Smith
/// 1978, "Color gamut transform pairs").
fn turn_hue(rgb @ [r, g, b]: [f32; 3], turns: f32) -> [f32; 3] {
    let value = r.max(g).max(b);
    let chroma = value - r.min(g).min(b);
    if turns == 0.0 || chroma <= 0.0 {
        return rgb;
    }
    let hue = if value == r {
        (g - b) / chroma
    } else if value == g {
        2.0 + (b - r) / chroma
    } else {
        4.0 + (r - g) / chroma
    };
    let hue = hue + 6.0 * turns;
    // Of red, green and blue: full within a sixth of the circle on both sides of their own hue.
    [5.0, 3.0, 1.0].map(|offset: f32| {
        let k = (offset + hue).rem_euclid(6.0);
        value - chroma * k.min(4.0 - k).clamp(0.0, 1.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(change: Recolor, image: &[f32], channels: usize) -> Vec<f32> {
        let mut values: Vec<f32> = image.iter().map(|v| v * 2.0 - 1.0).collect();
        change.apply(&mut values, channels);
        values.iter().map(|v| v * 0.5 + 0.5).collect()
    }

    #[track_caller]
    fn close(found: &[f32], expected: &[f32]) {
        let same = found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(found.len() == expected.len() && same, "{found:?}, expected {expected:?}");
    }

    #[test]
    fn each_change_does_what_its_name_says() {
        let none = Recolor::default();
        let image = [0.2, 0.4, 0.6, 0.9, 0.1, 0.5];
        close(&applied(none, &image, 3), &image);
        let bright = Recolor { brightness: 1.5, ..none };
        close(&applied(bright, &image, 3), &[0.3, 0.6, 0.9, 1.0, 0.15, 0.75]);
        close(&applied(Recolor { contrast: 0.5, ..none }, &[0.2, 0.6], 1), &[0.3, 0.5]);
        let gray = applied(Recolor { saturation: 0.0, ..none }, &[0.2, 0.4, 0.6], 3);
        close(&gray, &[0.363; 3]);
        // A third of a turn leads from red to green, to blue, and back.
        let third = Recolor { hue: 1.0 / 3.0, ..none };
        close(&applied(third, &[0.9, 0.3, 0.1], 3), &[0.1, 0.9, 0.3]);
        close(&applied(third, &[0.1, 0.9, 0.3], 3), &[0.3, 0.1, 0.9]);
        let sixth = Recolor { hue: -1.0 / 6.0, ..none };
        close(&applied(sixth, &[1.0, 0.0, 0.0], 3), &[1.0, 0.0, 1.0]);
    }

    #[test]
    fn alpha_and_what_cannot_be_seen_stay() {
        let change = Recolor { brightness: 1.2, contrast: 0.5, saturation: 0.5, hue: 0.1 };
        let found = applied(change, &[0.5, 0.5, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0], 4);
        // The mean is that of the one pixel, which contrast then leaves alone.
        close(&found, &[0.6, 0.6, 0.6, 1.0, 0.0, 0.0, 0.0, 0.0]);
    }
}
