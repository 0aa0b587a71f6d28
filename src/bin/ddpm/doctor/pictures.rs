//! The pictures that a model is tried on: of a folder, or the tiles of a sheet.

use std::path::{Path, PathBuf};

use ddpm::error::{Error, ErrorKind, Result};
use ddpm::model::ModelConfig;

use crate::picture::Png;

/// The most pixels of one file.
const MOST_PIXELS: usize = 1 << 23;

/// Pictures of the model's size as samples, one after the other, and what was left out.
pub struct Pictures {
    pub samples: Vec<f32>,
    pub count: usize,
    pub remarks: Vec<String>,
}

/// Reads the PNGs of a folder, by name, or the tiles of a sheet; where there are more than `most`, so many
/// evenly spread over all. A larger picture gives its middle, a smaller one is left out.
///
/// Errors: `Io` where nothing can be read; `InvalidArgument` where no picture is large enough.
pub fn read(path: &Path, most: usize, model: &ModelConfig) -> Result<Pictures> {
    if !path.is_dir() {
        return read_sheet(path, most, model);
    }
    let refuse = |error| Error::new(ErrorKind::Io, format!("{}: {error}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(refuse)? {
        let file = entry.map_err(refuse)?.path();
        let is_hidden = |file: &PathBuf| {
            file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        };
        if file.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"))
            && !is_hidden(&file)
        {
            files.push(file);
        }
    }
    // Folders have no order of their own.
    files.sort();
    let mut pictures = Pictures { samples: Vec::new(), count: 0, remarks: Vec::new() };
    for index in spread(files.len(), most) {
        let file = &files[index];
        match middle_of(file, model) {
            Ok(sample) => {
                pictures.samples.extend(sample);
                pictures.count += 1;
            }
            Err(error) => pictures.remarks.push(error.to_string()),
        }
    }
    if pictures.count == 0 {
        let why = pictures.remarks.first().cloned().unwrap_or("there is none".to_owned());
        return Err(Error::invalid_argument(format!(
            "{}: found no PNG to use, expected pictures of {}x{} pixels or more: {why}",
            path.display(),
            model.width,
            model.height
        )));
    }
    Ok(pictures)
}

fn open(path: &Path, model: &ModelConfig) -> Result<Png> {
    let png = Png::open(path)?;
    let (width, height) = png.size();
    let refuse = |expected: String| {
        Error::invalid_argument(format!(
            "{}: found {width}x{height} pixels, expected {expected}",
            path.display()
        ))
    };
    if width < model.width || height < model.height {
        return Err(refuse(format!(
            "at least {}x{} as the model makes",
            model.width, model.height
        )));
    }
    if width * height > MOST_PIXELS {
        return Err(refuse(format!("at most {MOST_PIXELS} in all")));
    }
    Ok(png)
}

fn middle_of(path: &Path, model: &ModelConfig) -> Result<Vec<f32>> {
    let png = open(path, model)?;
    let (width, height) = png.size();
    let at = ((width - model.width) / 2, (height - model.height) / 2);
    Ok(png.pixels()?.crop(model, at))
}

/// The tiles of a file whose sides are multiples of the model's, else its middle.
fn read_sheet(path: &Path, most: usize, model: &ModelConfig) -> Result<Pictures> {
    let png = open(path, model)?;
    let (width, height) = png.size();
    if width % model.width != 0 || height % model.height != 0 {
        let remark = format!(
            "{}: {width}x{height} pixels are no tiles of {}x{}; its middle is used",
            path.display(),
            model.width,
            model.height
        );
        let samples = middle_of(path, model)?;
        return Ok(Pictures { samples, count: 1, remarks: vec![remark] });
    }
    let (columns, rows) = (width / model.width, height / model.height);
    let pixels = png.pixels()?;
    let tiles: Vec<usize> = spread(columns * rows, most).collect();
    let corner = |tile: &usize| (tile % columns * model.width, tile / columns * model.height);
    let samples = tiles.iter().flat_map(|tile| pixels.crop(model, corner(tile))).collect();
    Ok(Pictures { samples, count: tiles.len(), remarks: Vec::new() })
}

/// At most `most` indices below `len`, evenly spread.
fn spread(len: usize, most: usize) -> impl Iterator<Item = usize> {
    let count = len.min(most);
    (0..count).map(move |index| index * len / count)
}
