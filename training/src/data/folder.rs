//! A folder of pictures: every file decoded once, the bad ones named, the rest brought to one size.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;

use super::config::{Color, DataConfig, OnBadFile};
use super::decode::Decoder;
use super::list::Listing;
use super::resize::Resizer;

/// The largest decoded picture; 8192 x 8192 pixels with alpha.
pub const MAX_BYTES: u64 = 256 << 20;
const DEFAULT_MEMORY_MIB: u64 = 4096;
/// Names in a list; the rest is counted.
const MAX_NAMES: usize = 50;

/// What is worth saying of a picture that can be used.
#[derive(Clone, Copy, Default)]
struct Remarks {
    invisible: bool,
    enlarged: bool,
}

/// The images of a folder, and lines of text about its files.
pub fn read(folder: &Path, config: &DataConfig) -> Result<(Vec<u8>, Vec<String>)> {
    let shown = folder.display();
    let listing = Listing::read(folder).with_context(|| format!("{shown}"))?;
    let item = config.width * config.height * config.channels();
    let files = &listing.files;
    let mut pixels = reserve(files.len(), item, config).with_context(|| format!("{shown}"))?;

    let background = config.background.unwrap_or(Color::WHITE);
    let decoder = Decoder::new(background, MAX_BYTES);
    let resizer = Resizer {
        width: config.width as u32,
        height: config.height as u32,
        fit: config.fit.unwrap_or_default(),
        filter: config.filter.unwrap_or_default(),
        background,
    };
    let bar = ProgressBar::new(files.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} pictures read") {
        bar.set_style(style);
    }
    let results: Vec<Result<Remarks>> = pixels
        .par_chunks_exact_mut(item)
        .zip(files)
        .map(|(out, path)| {
            let remarks = read_picture(path, &decoder, &resizer, out);
            bar.inc(1);
            remarks
        })
        .collect();
    bar.finish_and_clear();

    let name = |path: &Path| path.strip_prefix(folder).unwrap_or(path).display().to_string();
    let mut bad: Vec<String> =
        listing.unreadable.iter().map(|(path, why)| format!("{}: {why}", name(path))).collect();
    let (mut invisible, mut enlarged, mut good) = (Vec::new(), 0, 0);
    for (i, (path, result)) in files.iter().zip(&results).enumerate() {
        match result {
            Ok(remarks) => {
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
        notes.push(format!(
            "{shown}: {} wholly transparent, so nothing but the background {background}{}",
            invisible.len(),
            list(&invisible)
        ));
    }
    if enlarged > 0 {
        notes.push(format!(
            "{shown}: {enlarged} of {good} pictures are smaller than {}x{} and were enlarged (data.filter)",
            config.width, config.height
        ));
    }
    Ok((pixels, notes))
}

/// Memory for as many images as there are files, refused where that is too much.
fn reserve(count: usize, item: usize, config: &DataConfig) -> Result<Vec<u8>> {
    let limit = config.memory_mib.unwrap_or(DEFAULT_MEMORY_MIB);
    let needed = count as u64 * item as u64;
    let mib = needed.div_ceil(1 << 20);
    ensure!(
        mib <= limit && u32::try_from(count).is_ok(),
        "{count} files as {}x{} pixels take {mib} MiB of memory, expected at most {limit} (data.memory_mib)",
        config.width,
        config.height
    );
    let mut pixels = Vec::new();
    pixels
        .try_reserve_exact(needed as usize)
        .with_context(|| format!("{count} pictures take {mib} MiB of memory"))?;
    pixels.resize(needed as usize, 0);
    Ok(pixels)
}

fn read_picture(
    path: &Path,
    decoder: &Decoder,
    resizer: &Resizer,
    out: &mut [u8],
) -> Result<Remarks> {
    let picture = decoder.read(path)?;
    let (width, height) = picture.rgb.dimensions();
    let rgb = resizer.resize(picture.rgb)?;
    out.copy_from_slice(rgb.as_raw());
    Ok(Remarks {
        invisible: picture.invisible,
        enlarged: width < resizer.width || height < resizer.height,
    })
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
