//! The words and colours that a `[data]` section chooses from.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the channels of the images are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pixels {
    Gray,
    #[default]
    Rgb,
    /// Red, green, blue and straight alpha.
    Rgba,
}

impl Pixels {
    /// Channels of an image.
    pub fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
            Self::Rgba => 4,
        }
    }

    pub(super) fn is_rgb(&self) -> bool {
        *self == Self::Rgb
    }
}

/// How a picture of another shape comes to the model's width and height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fit {
    /// Scaled until it covers the image, and the middle taken.
    #[default]
    Crop,
    /// Scaled until it fits into the image, in the middle, with the background around it.
    Pad,
    /// Scaled each way by itself.
    Stretch,
    /// Not scaled: in the middle, with the background around it; a larger picture is a bad file.
    Center,
    /// Not scaled: a picture of another size is a bad file.
    Exact,
}

/// How pixels are scaled; on the bytes as they are, without a change of gamma.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// A weighted mean of all pixels below, bilinear when it enlarges; it never rings.
    #[default]
    Triangle,
    /// Lanczos with three lobes: sharper, with faint rings at hard edges.
    Lanczos,
    /// One source pixel each: pixel art enlarged by whole factors stays pixel art.
    Nearest,
}

/// What happens when a file is damaged or no picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnBadFile {
    /// It is listed and left out.
    #[default]
    Skip,
    /// All are listed, and nothing is trained.
    Fail,
}

/// A colour, written `#rrggbb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Color(pub [u8; 3]);

impl Color {
    pub const BLACK: Self = Self([0; 3]);
    pub const WHITE: Self = Self([255; 3]);

    /// A pixel of this colour under one with straight alpha; of bytes, rounded to nearest.
    pub fn under(self, [r, g, b, alpha]: [u8; 4]) -> [u8; 3] {
        let mix = |over: u8, under: u8| {
            let alpha = u32::from(alpha);
            ((u32::from(over) * alpha + u32::from(under) * (255 - alpha) + 127) / 255) as u8
        };
        [mix(r, self.0[0]), mix(g, self.0[1]), mix(b, self.0[2])]
    }
}

impl TryFrom<String> for Color {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6);
        let value = digits
            .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| format!("found the colour {text:?}, expected \"#rrggbb\""))?;
        let [_, r, g, b] = value.to_be_bytes();
        Ok(Self([r, g, b]))
    }
}

impl From<Color> for String {
    fn from(color: Color) -> Self {
        color.to_string()
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [r, g, b] = self.0;
        write!(f, "#{r:02x}{g:02x}{b:02x}")
    }
}
