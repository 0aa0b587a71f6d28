//! What is chosen for pictures of a kind: the model's size, its colours, how they come to it, how long.

use crate::data::config::{Filter, Fit, Pixels};

use super::look::{Look, Survey};

/// Classes with fewer pictures each, in the mean, are not worth it.
const MIN_OF_CLASS: usize = 8;
const MAX_CLASSES: usize = 256;
/// The largest side of a model that a CPU trains in a day or two.
const MAX_SIDE: u32 = 64;

/// The configuration that the others are made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Preset {
    Pixels16,
    Sprites32,
    Textures64,
}

impl Preset {
    fn of_side(side: u32) -> Self {
        match side {
            0..=20 => Self::Pixels16,
            21..=40 => Self::Sprites32,
            _ => Self::Textures64,
        }
    }

    /// What width and height have to be multiples of.
    pub fn multiple(self) -> u32 {
        match self {
            Self::Pixels16 | Self::Sprites32 => 4,
            Self::Textures64 => 8,
        }
    }

    pub fn text(self) -> &'static str {
        match self {
            Self::Pixels16 => include_str!("../../configs/pixels16.toml"),
            Self::Sprites32 => include_str!("../../configs/sprites32.toml"),
            Self::Textures64 => include_str!("../../configs/textures64.toml"),
        }
    }
}

/// What the new configuration says.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub preset: Preset,
    pub width: u32,
    pub height: u32,
    pub color: Pixels,
    pub fit: Fit,
    pub filter: Filter,
    pub classes: bool,
    pub flip: bool,
    pub shift: u32,
    /// The preset's steps are divided by this: few pictures are seen often enough in fewer steps.
    pub fewer_steps: usize,
    /// What the user should know of the choices.
    pub remarks: Vec<String>,
}

impl Plan {
    pub fn of(survey: &Survey) -> Self {
        let (width, height, fit, filter) = size(survey);
        let side = width.max(height);
        let count = survey.pictures;
        let mut remarks = Vec::new();
        let classes = classes(survey, &mut remarks);
        let color = if survey.mostly(|look| look.transparent) {
            Pixels::Rgba
        } else if survey.looks.iter().all(|look| look.gray) {
            Pixels::Gray
        } else {
            Pixels::Rgb
        };
        // Letters and digits mirrored are others, or none.
        let writing = survey.classes.iter().any(|(name, _)| name.chars().count() == 1);
        Self {
            preset: Preset::of_side(side),
            width,
            height,
            color,
            fit,
            filter,
            classes,
            flip: count < 5000 && color != Pixels::Gray && !writing,
            shift: if count < 500 { (side / 16).max(1) } else { 0 },
            fewer_steps: match count {
                0..100 => 8,
                100..500 => 4,
                500..2000 => 2,
                _ => 1,
            },
            remarks,
        }
    }

    pub fn color_name(&self) -> &'static str {
        match self.color {
            Pixels::Gray => "gray",
            Pixels::Rgb => "rgb",
            Pixels::Rgba => "rgba",
        }
    }
}

fn size(survey: &Survey) -> (u32, u32, Fit, Filter) {
    let longer = |look: &Look| look.width.max(look.height);
    let up = |side: u32, of: u32| side.div_ceil(of).max(2) * of;
    if survey.mostly(|look| look.pixel_art) {
        let whole = survey.enlarged() == 1;
        let filter = if whole { Filter::Triangle } else { Filter::Nearest };
        // Nearly all: the one that is much larger is no reason for a larger model.
        let side = survey.percentile(95, longer).max(8);
        let multiple = Preset::of_side(side).multiple();
        if side > MAX_SIDE {
            return (MAX_SIDE, MAX_SIDE, Fit::Pad, Filter::Triangle);
        }
        return match survey.common_size() {
            Some((w, h)) if w % multiple == 0 && h % multiple == 0 && w.min(h) >= 8 => {
                (w, h, if whole { Fit::Exact } else { Fit::Crop }, filter)
            }
            Some((w, h)) => {
                let fit = if whole { Fit::Center } else { Fit::Pad };
                (up(w, multiple), up(h, multiple), fit, filter)
            }
            None => {
                let side = up(side, 8);
                (side, side, if whole { Fit::Center } else { Fit::Pad }, filter)
            }
        };
    }
    let side = match survey.percentile(50, |look| look.width.min(look.height)) {
        0..24 => 16,
        24..64 => 32,
        _ => 64,
    };
    // All of about one shape: the model has it too.
    let shape = |percent| {
        f64::from(survey.percentile(percent, |look| look.width * 1024 / look.height.max(1)))
            / 1024.0
    };
    let (low, middle, high) = (shape(5), shape(50), shape(95));
    if high <= low * 1.15 && !(0.77..=1.3).contains(&middle) {
        let multiple = Preset::of_side(side).multiple();
        let ratio = middle.min(1.0 / middle);
        let short =
            ((f64::from(side) * ratio / f64::from(multiple)).round() as u32).max(2) * multiple;
        let (w, h) = if middle > 1.0 { (side, short) } else { (short, side) };
        return (w, h, Fit::Crop, Filter::Triangle);
    }
    (side, side, Fit::Crop, Filter::Triangle)
}

/// Whether the folders are taken for classes.
fn classes(survey: &Survey, remarks: &mut Vec<String>) -> bool {
    let (count, pictures) = (survey.classes.len(), survey.pictures - survey.loose);
    if count < 2 {
        return false;
    }
    let why = if survey.loose > 0 {
        format!("{} pictures are in none of them", survey.loose)
    } else if count > MAX_CLASSES {
        format!("there are more than {MAX_CLASSES}")
    } else if pictures < MIN_OF_CLASS * count {
        format!("they have fewer than {MIN_OF_CLASS} pictures each")
    } else {
        return true;
    };
    remarks.push(format!("the folders are not taken for classes: {why}"));
    false
}
