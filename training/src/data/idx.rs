//! MNIST's files: images and labels as bytes behind a header of big-endian sizes, gzipped or not.
//!
//! Format: LeCun, Cortes and Burges, "The MNIST database of handwritten digits". Nothing is taken from
//! a header unseen: memory grows with the bytes that are there.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::bufread::MultiGzDecoder;
use image::GrayImage;

use super::classes::Classes;
use super::config::{Color, DataConfig};
use super::resize::Resizer;
use super::{Images, channels, check_memory};

/// The largest side of an image.
const MAX_SIDE: usize = 4096;
/// The type of the values: unsigned bytes.
const BYTES: u8 = 0x08;
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The images of `images`, and the classes of `labels` where it is given.
pub fn read(images: &Path, labels: Option<&Path>, config: &DataConfig) -> Result<Images> {
    let (pixels, count) =
        read_images(images, config).with_context(|| format!("{}", images.display()))?;
    let mut found = Images { pixels, ..Images::default() };
    if let Some(path) = labels {
        found.classes = read_labels(path, count, &config.class_names)
            .with_context(|| format!("{}", path.display()))?;
        let without = found.classes.without_images();
        if !without.is_empty() {
            let names = without.join(", ");
            found.notes.push(format!("{}: no image has the label of {names}", path.display()));
        }
        found.notes.push(format!("{}: {}", path.display(), found.classes.note()));
    }
    Ok(found)
}

/// The images, brought to the model's size and channels, and how many they are.
fn read_images(path: &Path, config: &DataConfig) -> Result<(Vec<u8>, usize)> {
    let mut file = IdxFile::open::<3>(path)?;
    let [count, rows, columns] = file.sizes[..] else { bail!("expected 3 sizes") };
    ensure!(count > 0, "holds no image");
    ensure!(
        (1..=MAX_SIDE).contains(&rows) && (1..=MAX_SIDE).contains(&columns),
        "images of {columns}x{rows} pixels, expected 1 to {MAX_SIDE} each way"
    );
    let item = config.width * config.height * config.channels();
    check_memory(count, item, config)?;
    let background = config.background.unwrap_or(Color::BLACK);
    let resizer = Resizer::new(config, background);
    let mut pixels = Vec::new();
    for index in 0..count {
        let bytes = file.take(rows * columns, || format!("image {index} of {count}"))?;
        let gray = GrayImage::from_raw(columns as u32, rows as u32, bytes)
            .with_context(|| format!("image {index} of {count}"))?;
        let (image, _) = channels::convert(gray.into(), config.color, background);
        let image = resizer.resize(image)?;
        pixels.extend_from_slice(image.as_bytes());
    }
    file.end()?;
    Ok((pixels, count))
}

fn read_labels(path: &Path, images: usize, names: &[String]) -> Result<Classes> {
    let mut file = IdxFile::open::<1>(path)?;
    let count = file.sizes[0];
    ensure!(count == images, "{count} labels for {images} images");
    let labels = file.take(count, || format!("the {count} labels"))?;
    file.end()?;
    let highest = labels.iter().copied().max().unwrap_or(0);
    let names = if names.is_empty() {
        (0..=highest).map(|label| label.to_string()).collect()
    } else {
        names.to_vec()
    };
    ensure!(
        usize::from(highest) < names.len(),
        "has the label {highest}, but data.class_names has {} names, for 0 to {}",
        names.len(),
        names.len() - 1
    );
    Ok(Classes { names, labels: labels.into_iter().map(u32::from).collect() })
}

/// An open file behind its header.
struct IdxFile {
    reader: Box<dyn Read>,
    sizes: Vec<usize>,
}

impl IdxFile {
    /// Opens a file of bytes in `RANK` dimensions.
    fn open<const RANK: usize>(path: &Path) -> Result<Self> {
        let metadata = fs::metadata(path).context("cannot open it")?;
        ensure!(metadata.is_file(), "not a file");
        let open = || File::open(path).context("cannot open it");
        let mut start = Vec::new();
        open()?.take(2).read_to_end(&mut start).context("cannot read it")?;
        let zipped = start == GZIP;
        let file = BufReader::new(open()?);
        let reader: Box<dyn Read> =
            if zipped { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut file = Self { reader, sizes: Vec::new() };
        let magic = file.take(4, || "the header".to_string())?;
        let expected = [0, 0, BYTES, RANK as u8];
        if magic != expected {
            let number = |bytes: &[u8]| bytes.iter().fold(0, |n, &b| n << 8 | u32::from(b));
            let why = match *magic {
                [0, 0, BYTES, rank] => format!("values in {rank} dimensions, expected {RANK}"),
                [0, 0, 0x09 | 0x0b..=0x0e, _] => "values that are no unsigned bytes".to_string(),
                _ => "no IDX file".to_string(),
            };
            bail!(
                "{why}: the magic number is {:#010x}, expected {:#010x}",
                number(&magic),
                number(&expected)
            );
        }
        let sizes = file.take(4 * RANK, || "the header".to_string())?;
        let (sizes, _) = sizes.as_chunks::<4>();
        file.sizes = sizes.iter().map(|&size| u32::from_be_bytes(size) as usize).collect();
        let data = file.sizes.iter().try_fold(1u64, |n, &size| n.checked_mul(size as u64));
        let expected = data.and_then(|data| data.checked_add(4 + 4 * RANK as u64));
        // What is gzipped tells its length at the end only.
        if !zipped && expected != Some(metadata.len()) {
            let expected = expected.map_or("more than there can be".to_string(), |n| n.to_string());
            bail!("{} bytes, expected {expected} by its header", metadata.len());
        }
        Ok(file)
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize, what: impl Fn() -> String) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.reader
            .by_ref()
            .take(count as u64)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", what()))?;
        ensure!(bytes.len() == count, "cut short in {}", what());
        Ok(bytes)
    }

    /// Refuses bytes that are left; of gzipped ones this checks the sum behind them too.
    fn end(&mut self) -> Result<()> {
        let mut rest = Vec::new();
        self.reader.by_ref().take(1).read_to_end(&mut rest).context("cannot read its end")?;
        ensure!(rest.is_empty(), "has bytes behind the last value");
        Ok(())
    }
}
