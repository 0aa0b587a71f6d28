//! The `[data]` section of a configuration: where the images are and how they become the model's.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};

pub use super::choices::{Color, Filter, Fit, OnBadFile, Pixels};
use super::jitter::Jitter;

/// Where the images are: exactly one of `folder`, `sheet` and `idx`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// A folder of pictures, with all folders in it; relative to the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub folder: Option<PathBuf>,
    /// A picture of tiles, row after row; relative to the configuration file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sheet: Option<PathBuf>,
    /// A file of gray images in MNIST's format, gzipped or not; relative to the configuration file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idx: Option<PathBuf>,
    /// The labels of the images of `idx`, which then have classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idx_labels: Option<PathBuf>,
    /// Width of the model's images, and of a tile, in pixels.
    pub width: usize,
    /// Height of the model's images, and of a tile, in pixels.
    pub height: usize,
    /// What the channels of the images are; rgb if not given.
    #[serde(default, skip_serializing_if = "Pixels::is_rgb")]
    pub color: Pixels,
    /// Whether the images have classes: the folders directly in `folder`, or the file of labels.
    #[serde(default)]
    pub classes: bool,
    /// The names of the classes, in the order of their labels. Read from the data if not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub class_names: Vec<String>,
    /// What transparent pixels lie on, and what pads: white in a folder, black else, if not given. Not for
    /// rgba, whose padding is transparent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Color>,
    /// How the pictures of a folder or of `idx` come to the model's size; crop if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<Fit>,
    /// How their pixels are scaled; triangle if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// What happens when a file of a folder is no picture; skip if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_bad_file: Option<OnBadFile>,
    /// Most memory that the images of a folder or of `idx` may take, in MiB; 4096 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Whether every other image, at random, is shown mirrored left to right.
    #[serde(default)]
    pub flip: bool,
    /// Images are moved by up to this many pixels each way, at random; the edges are repeated.
    #[serde(default)]
    pub shift: usize,
    /// Whether every other image, at random, is shown upside down: for textures.
    #[serde(default, skip_serializing_if = "is_false")]
    pub flip_vertical: bool,
    /// Whether images are turned by a random number of quarter turns: for square textures.
    #[serde(default, skip_serializing_if = "is_false")]
    pub rotate: bool,
    /// How far the colours of an image are changed, at random.
    #[serde(default, skip_serializing_if = "Jitter::is_none")]
    pub jitter: Jitter,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Where the images come from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Source<'a> {
    Folder(&'a Path),
    Sheet(&'a Path),
    Idx { images: &'a Path, labels: Option<&'a Path> },
}

impl DataConfig {
    /// Images of `width` x `height` from a folder, all else as if not given.
    pub fn folder(path: impl Into<PathBuf>, width: usize, height: usize) -> Self {
        Self { folder: Some(path.into()), width, height, ..Self::default() }
    }

    /// Tiles of `width` x `height` from a sheet, all else as if not given.
    pub fn sheet(path: impl Into<PathBuf>, width: usize, height: usize) -> Self {
        Self { sheet: Some(path.into()), width, height, ..Self::default() }
    }

    /// Channels of an image.
    pub fn channels(&self) -> usize {
        self.color.channels()
    }

    /// Whether the images have classes.
    pub fn has_classes(&self) -> bool {
        self.classes || self.idx_labels.is_some()
    }

    pub fn source(&self) -> Result<Source<'_>> {
        match (&self.folder, &self.sheet, &self.idx) {
            (Some(folder), None, None) => Ok(Source::Folder(folder)),
            (None, Some(sheet), None) => Ok(Source::Sheet(sheet)),
            (None, None, Some(images)) => {
                Ok(Source::Idx { images, labels: self.idx_labels.as_deref() })
            }
            (None, None, None) => bail!(
                "data: neither folder nor sheet, expected folder = \"my_pictures\", or a sheet of tiles"
            ),
            (_, Some(_), Some(_)) => bail!("data: both sheet and idx, expected one of them"),
            (Some(_), Some(_), _) => bail!("data: both folder and sheet, expected one of them"),
            (Some(_), _, Some(_)) => bail!("data: both folder and idx, expected one of them"),
        }
    }

    /// Makes paths relative to `base` relative to the current folder.
    pub fn resolve(&mut self, base: &Path) {
        let paths = [&mut self.folder, &mut self.sheet, &mut self.idx, &mut self.idx_labels];
        for path in paths.into_iter().flatten() {
            *path = base.join(&*path);
        }
    }

    /// Says the first thing that cannot work; opens no file.
    pub fn validate(&self) -> Result<()> {
        let (w, h) = (self.width, self.height);
        ensure!(
            (1..=1024).contains(&w) && (1..=1024).contains(&h),
            "data: images of {w}x{h} pixels, expected 1 to 1024 each way"
        );
        self.validate_for_source()?;
        self.validate_classes()?;
        ensure!(
            self.color != Pixels::Rgba || self.background.is_none(),
            "data.background is for gray and rgb; the transparent pixels of rgba stay transparent"
        );
        ensure!(
            self.shift <= w.min(h) / 2,
            "data.shift is {}, expected at most half of the {w}x{h} pixels of an image",
            self.shift
        );
        ensure!(
            !self.rotate || w == h,
            "data.rotate is true for images of {w}x{h} pixels, expected square ones"
        );
        for (name, value, limit) in self.jitter.limits() {
            ensure!(
                (0.0..=limit).contains(&value),
                "data.jitter.{name} is {value}, expected 0 to {limit}"
            );
        }
        let colorful = self.jitter.saturation > 0.0 || self.jitter.hue > 0.0;
        ensure!(
            !colorful || self.color != Pixels::Gray,
            "data.jitter has saturation or hue, but data.color is \"gray\""
        );
        ensure!(self.memory_mib != Some(0), "data.memory_mib is 0, expected at least 1");
        Ok(())
    }

    /// Refuses what another source takes.
    fn validate_for_source(&self) -> Result<()> {
        let sized = [("fit", self.fit.is_some()), ("filter", self.filter.is_some())];
        let memory = ("memory_mib", self.memory_mib.is_some());
        let bad_file = ("on_bad_file", self.on_bad_file.is_some());
        let refuse =
            |given: &[(&str, bool)], why: &str| match given.iter().find(|(_, given)| *given) {
                Some((name, _)) => bail!("data.{name} is for {why}"),
                None => Ok(()),
            };
        match self.source()? {
            Source::Folder(_) => {}
            Source::Sheet(_) => refuse(
                &[sized[0], sized[1], bad_file, memory],
                "a folder; the tiles of a sheet are taken as they are",
            )?,
            Source::Idx { .. } => refuse(&[bad_file], "a folder; an idx file is one file")?,
        }
        match self.source()? {
            Source::Idx { .. } => Ok(()),
            _ => refuse(&[("idx_labels", self.idx_labels.is_some())], "data.idx"),
        }
    }

    fn validate_classes(&self) -> Result<()> {
        match self.source()? {
            Source::Sheet(_) => ensure!(
                !self.classes,
                "data.classes is for a folder of folders, or idx; the tiles of a sheet have none"
            ),
            Source::Idx { labels: None, .. } => ensure!(
                !self.classes,
                "data.classes is true without data.idx_labels, the file of the labels"
            ),
            _ => {}
        }
        let names = &self.class_names;
        ensure!(
            names.is_empty() || self.has_classes(),
            "data.class_names is given without data.classes = true"
        );
        for (i, name) in names.iter().enumerate() {
            ensure!(!name.is_empty(), "data.class_names has an empty name");
            ensure!(!names[..i].contains(name), "data.class_names has {name:?} twice");
        }
        Ok(())
    }

    /// What decides which images are made of the same files; where these lie does not.
    pub fn of_images(&self) -> Self {
        let place = |path: &Option<PathBuf>| path.as_ref().map(|_| PathBuf::from("somewhere"));
        Self {
            folder: place(&self.folder),
            sheet: place(&self.sheet),
            idx: place(&self.idx),
            idx_labels: place(&self.idx_labels),
            memory_mib: None,
            ..self.clone()
        }
    }
}
