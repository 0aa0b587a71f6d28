//! A folder of pictures: every file decoded once, the bad ones named, the rest brought to one size.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::classes::{self, Classes};
use super::config::{Color, DataConfig, OnBadFile, Pixels};
use super::decode::Decoder;
use super::list::Listing;
use super::resize::Resizer;
use super::{Images, reserve};

/// The largest decoded picture; 8192 x 8192 pixels with alpha.
pub const MAX_BYTES: u64 = 256 << 20;
/// Names in a list; the rest is counted.
const MAX_NAMES: usize = 50;

/// What is worth saying of a picture that can be used.
#[derive(Clone, Copy, Default)]
struct Remarks {
    invisible: bool,
    enlarged: bool,
}

/// The images of a folder, their classes, and lines of text about its files.
pub fn read(folder: &Path, config: &DataConfig) -> Result<Images> {
    let shown = folder.display();
    let listing = Listing::read(folder).with_context(|| format!("{shown}"))?;
    let item = config.width * config.height * config.channels();
    let files = &listing.files;
    let mut pixels = reserve(files.len(), item, config).with_context(|| format!("{shown}"))?;

    let background = config.background.unwrap_or(Color::WHITE);
    let decoder = Decoder::new(config.color, background, MAX_BYTES);
    let resizer = Resizer::new(config, background);
    let bar = ProgressBar::new(files.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures read") {
        bar.set_style(style);
    }
    let results: Vec<Result<(Remarks, Option<String>)>> = pixels
        .par_chunks_exact_mut(item)
        .zip(files)
        .map(|(out, path)| {
            let class = config.classes.then(|| classes::class_of(path, folder)).transpose();
            let read =
                class.and_then(|class| Ok((read_picture(path, &decoder, &resizer, out)?, class)));
            bar.inc(1);
            read
        })
        .collect();
    bar.finish_and_clear();

    let name = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    let mut bad: Vec<String> =
        listing.unreadable.iter().map(|(path, why)| format!("{}: {why}", name(path))).collect();
    let (mut invisible, mut enlarged, mut good) = (Vec::new(), 0, 0);
    let mut class_names: Vec<&str> = Vec::new();
    for (i, (path, result)) in files.iter().zip(&results).enumerate() {
        match result {
            Ok((remarks, class)) => {
                class_names.extend(class.as_deref());
                pixels.copy_within(i * item..(i + 1) * item, good * item);
                good += 1;
                enlarged += usize::from(remarks.enlarged);
                if remarks.invisible {
                    invisible.push(name(path));
                }
            }
            Err(error) => bad.push(format!("{}: {error:#}", name(path))),
        }
    }
    pixels.truncate(good * item);

    let found = found(files.len(), listing.hidden);
    ensure!(
        good > 0,
        "{shown}: no picture, expected PNG, JPEG, WebP, GIF, BMP or TGA files; found {found}{}",
        list(&bad)
    );
    let mut notes = Vec::new();
    if !bad.is_empty() {
        let count = format!("{} of {} cannot be used", bad.len(), good + bad.len());
        if config.on_bad_file.unwrap_or_default() == OnBadFile::Fail {
            bail!("{shown}: {count} (data.on_bad_file is \"fail\"){}", list(&bad));
        }
        notes.push(format!("{shown}: {count} and left out{}", list(&bad)));
    }
    if !invisible.is_empty() {
        let so = match config.color {
            Pixels::Rgba => String::new(),
            _ => format!(", so nothing but the background {background}"),
        };
        let count = invisible.len();
        notes.push(format!("{shown}: {count} wholly transparent{so}{}", list(&invisible)));
    }
    let mut classes = Classes::default();
    if config.classes {
        classes =
            Classes::of(&class_names, &config.class_names).with_context(|| format!("{shown}"))?;
        let empty: Vec<String> =
            classes::empty(&listing.folders, &classes).into_iter().map(name).collect();
        if !empty.is_empty() {
            let count = empty.len();
            notes.push(format!(
                "{shown}: {count} folders without a picture that can be used, so no classes{}",
                list(&empty)
            ));
        }
        notes.push(format!("{shown}: {}", classes.note()));
    }
    if enlarged > 0 {
        notes.push(format!(
            "{shown}: {enlarged} of {good} pictures are smaller than {}x{} and were enlarged (data.filter)",
            config.width, config.height
        ));
    }
    Ok(Images { pixels, classes, notes })
}

fn read_picture(
    path: &Path,
    decoder: &Decoder,
    resizer: &Resizer,
    out: &mut [u8],
) -> Result<Remarks> {
    let picture = decoder.read(path)?;
    let invisible = picture.invisible;
    let enlarged = resizer.enlarges(picture.image.width(), picture.image.height());
    out.copy_from_slice(resizer.resize(picture.image)?.as_bytes());
    Ok(Remarks { invisible, enlarged })
}

fn found(files: usize, hidden: usize) -> String {
    let files = match files {
        0 => "no file".to_string(),
        1 => "1 file".to_string(),
        n => format!("{n} files"),
    };
    if hidden == 0 {
        files
    } else {
        format!("{files} and {hidden} hidden, which are not looked at")
    }
}

/// The lines below a heading, indented; nothing where there are none.
///
/// Names of files and messages of decoders may hold line breaks, and codes that terminals obey.
fn list(lines: &[String]) -> String {
    let one_line = |line: &String| line.split(char::is_control).collect::<Vec<_>>().join(" ");
    let mut text: String =
        lines.iter().take(MAX_NAMES).map(|line| format!("\n  {}", one_line(line).trim())).collect();
    if lines.len() > MAX_NAMES {
        text.push_str(&format!("\n  and {} more", lines.len() - MAX_NAMES));
    }
    text
}
