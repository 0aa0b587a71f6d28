//! What the pictures of a folder are like: how many, how large, of which colours, in which folders.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Result, ensure};
use image::{DynamicImage, RgbaImage};
use indicatif::ProgressBar;
use rayon::prelude::*;

use crate::data::classes::class_of;
use crate::data::config::{Color, Pixels};
use crate::data::decode::Decoder;
use crate::data::folder::MAX_BYTES;
use crate::data::list::Listing;

/// Files that are decoded, at most: of more, so many evenly spread ones say what all are like.
const MAX_LOOKS: usize = 2000;
/// Pixel art has at most so many colours.
const MAX_COLORS: usize = 64;
/// Sides of pixel art, as it was drawn, at most.
const MAX_ART_SIDE: u32 = 128;
/// Channels may differ by so much in what is gray: what JPEG leaves.
const GRAY_SPREAD: u8 = 6;

/// One picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// As it was drawn: pixel art that was enlarged counts its own pixels.
    pub width: u32,
    pub height: u32,
    /// How many times pixel art was enlarged.
    pub enlarged: u32,
    pub pixel_art: bool,
    pub gray: bool,
    /// Whether a hundredth of its pixels can be seen through.
    pub transparent: bool,
}

/// All of them.
#[derive(Debug)]
pub struct Survey {
    /// Files that are taken for pictures.
    pub pictures: usize,
    /// Of those looked at; at least one.
    pub looks: Vec<Look>,
    /// Files looked at that cannot be used.
    pub bad: usize,
    /// The folders directly in it and how many files each has, in natural order.
    pub classes: Vec<(String, usize)>,
    /// Files in no such folder.
    pub loose: usize,
}

impl Survey {
    /// Lists the folder as the trainer does, and decodes its pictures, on all cores.
    pub fn of(folder: &Path) -> Result<Self> {
        let listing = Listing::read(folder)?;
        let files = &listing.files;
        let step = files.len().div_ceil(MAX_LOOKS).max(1);
        let chosen: Vec<_> = files.iter().step_by(step).collect();
        let decoder = Decoder::new(Pixels::Rgba, Color::WHITE, MAX_BYTES);
        let bar = ProgressBar::new(chosen.len() as u64);
        let look = |path| {
            bar.inc(1);
            decoder.read(path).ok().map(|picture| Look::at(picture.image))
        };
        let found: Vec<Option<Look>> = chosen.par_iter().map(|path| look(path.as_path())).collect();
        bar.finish_and_clear();
        let looks: Vec<Look> = found.iter().flatten().copied().collect();
        let bad = found.len() - looks.len();
        ensure!(
            !looks.is_empty(),
            "no picture among {} files, expected PNG, JPEG, WebP, GIF, BMP or TGA files",
            files.len()
        );
        let mut classes: Vec<(String, usize)> = Vec::new();
        let mut loose = 0;
        // What is known to be no picture is in no class.
        let usable = |i: usize| !i.is_multiple_of(step) || found[i / step].is_some();
        let pictures = (0..files.len()).filter(|&i| usable(i)).collect::<Vec<_>>();
        for &i in &pictures {
            match (class_of(&files[i], folder), classes.last_mut()) {
                (Ok(name), Some((last, count))) if name == *last => *count += 1,
                (Ok(name), _) => classes.push((name, 1)),
                (Err(_), _) => loose += 1,
            }
        }
        Ok(Self { pictures: pictures.len(), looks, bad, classes, loose })
    }

    /// Whether at least half of the pictures are so.
    pub fn mostly(&self, is: impl Fn(&Look) -> bool) -> bool {
        2 * self.looks.iter().filter(|look| is(look)).count() >= self.looks.len()
    }

    /// How many times most of the pixel art was enlarged.
    pub fn enlarged(&self) -> u32 {
        most_common(self.looks.iter().filter(|look| look.pixel_art).map(|look| look.enlarged))
            .unwrap_or(1)
    }

    /// The size of all pictures, as they were drawn, where they have one.
    pub fn common_size(&self) -> Option<(u32, u32)> {
        let size = |look: &Look| (look.width, look.height);
        let first = size(self.looks.first()?);
        self.looks.iter().all(|look| size(look) == first).then_some(first)
    }

    /// The `percent`th percentile of a number of the pictures.
    pub fn percentile(&self, percent: usize, of: impl Fn(&Look) -> u32) -> u32 {
        let mut values: Vec<u32> = self.looks.iter().map(of).collect();
        values.sort_unstable();
        values.get((values.len() - 1) * percent / 100).copied().unwrap_or(1)
    }

    /// What was found, in words.
    pub fn summary(&self) -> String {
        let mut text = format!("{} pictures", self.pictures);
        let sides = |look: &Look| format!("{}x{}", look.width, look.height);
        let kind = match (self.mostly(|look| look.pixel_art), self.mostly(|look| look.gray)) {
            (true, _) => "pixel art",
            (false, true) => "gray",
            (false, false) => "photos or paintings",
        };
        text += &match self.common_size() {
            Some((w, h)) => format!(", {kind} of {w}x{h} pixels"),
            None => {
                let smallest = self.looks.iter().min_by_key(|look| look.width * look.height);
                let largest = self.looks.iter().max_by_key(|look| look.width * look.height);
                let [smallest, largest] =
                    [smallest, largest].map(|look| look.map(sides).unwrap_or_default());
                format!(", {kind} of {smallest} to {largest} pixels")
            }
        };
        if self.enlarged() > 1 {
            text += &format!(", enlarged {} times", self.enlarged());
        }
        if self.mostly(|look| look.transparent) {
            text += ", with transparency";
        }
        if self.bad > 0 {
            let files = if self.bad == 1 { "file" } else { "files" };
            text += &format!("; {} {files} cannot be used, `fit` names what is wrong", self.bad);
        }
        text
    }

    /// The folders, in words; none where there are none.
    pub fn classes_summary(&self) -> Option<String> {
        const MAX_NAMES: usize = 12;
        let names = self.classes.iter().take(MAX_NAMES).map(|(name, n)| format!("{name} ({n})"));
        let mut text = format!("folders: {}", names.collect::<Vec<_>>().join(", "));
        if self.classes.len() > MAX_NAMES {
            text += &format!(" and {} more", self.classes.len() - MAX_NAMES);
        }
        (!self.classes.is_empty()).then_some(text)
    }
}

impl Look {
    fn at(image: DynamicImage) -> Self {
        let rgba = image.into_rgba8();
        let (width, height) = rgba.dimensions();
        let total = rgba.pixels().len();
        let mut colors = HashSet::new();
        let (mut gray, mut clear) = (true, 0);
        for pixel in rgba.pixels() {
            let [r, g, b, alpha] = pixel.0;
            clear += usize::from(alpha < 255);
            gray &= r.max(g).max(b) - r.min(g).min(b) <= GRAY_SPREAD;
            if colors.len() <= MAX_COLORS {
                colors.insert(pixel.0);
            }
        }
        let few = colors.len() <= MAX_COLORS;
        let enlarged = if few { enlarged(&rgba) } else { 1 };
        let (width, height) = (width / enlarged, height / enlarged);
        // A small photo has nearly as many colours as pixels.
        let pixels = width as usize * height as usize;
        let pixel_art = few && width.max(height) <= MAX_ART_SIDE && 4 * colors.len() <= pixels;
        let enlarged = if pixel_art { enlarged } else { 1 };
        let (width, height) = if pixel_art { (width, height) } else { rgba.dimensions() };
        Self { width, height, enlarged, pixel_art, gray, transparent: 100 * clear > total }
    }
}

/// The largest square that the picture is made of, each of one colour; 1 where fewer than 4 make a side.
fn enlarged(rgba: &RgbaImage) -> u32 {
    let (width, height) = rgba.dimensions();
    let column_changes = |x: u32| (0..height).any(|y| rgba[(x, y)] != rgba[(x - 1, y)]);
    let row_changes = |y: u32| (0..width).any(|x| rgba[(x, y)] != rgba[(x, y - 1)]);
    let mut side = greatest_divisor(width, height);
    for at in (1..width).filter(|&x| column_changes(x)) {
        side = greatest_divisor(side, at);
    }
    for at in (1..height).filter(|&y| row_changes(y)) {
        side = greatest_divisor(side, at);
    }
    if 4 * side <= width.min(height) { side } else { 1 }
}

fn greatest_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}

fn most_common(values: impl Iterator<Item = u32>) -> Option<u32> {
    let mut counts = BTreeMap::new();
    values.for_each(|value| *counts.entry(value).or_insert(0usize) += 1);
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(value, _)| value)
}
