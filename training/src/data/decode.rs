//! One file to one picture, whatever it holds: the format by content, bounded, the right way up.

use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, anyhow, bail, ensure};
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::channels;
use super::config::{Color, Pixels};
use super::jpeg;

/// The largest side of a picture, in pixels.
const MAX_SIDE: u32 = 16384;
/// The largest file.
const MAX_FILE: u64 = 512 << 20;
/// Decoded pictures larger than this are in memory one at a time, so that it does not grow with the
/// cores.
const LARGE: u64 = 128 << 20;

const EXPECTED: &str = "expected PNG, JPEG, WebP, GIF, BMP or TGA";

/// A decoded picture.
pub struct Picture<'a> {
    /// With the channels asked for, of bytes.
    pub image: DynamicImage,
    /// Whether no pixel of it can be seen.
    pub invisible: bool,
    /// Held while a large picture is in memory.
    _turn: Option<MutexGuard<'a, ()>>,
}

/// What pictures are decoded with; shared by all threads.
pub struct Decoder {
    pixels: Pixels,
    background: Color,
    /// Bytes of a decoded picture, at most.
    max_bytes: u64,
    large: Mutex<()>,
}

impl Decoder {
    /// Pictures become `pixels`; where that is without alpha, on `background`.
    pub fn new(pixels: Pixels, background: Color, max_bytes: u64) -> Self {
        Self { pixels, background, max_bytes, large: Mutex::new(()) }
    }

    /// Reads and decodes a file. Of an animation it is the first frame.
    pub fn read(&self, path: &Path) -> Result<Picture<'_>> {
        let bytes = read_file(path)?;
        let format = format_of(&bytes, path)?;
        // Decoders are other people's code and fed with other people's files.
        catch_unwind(AssertUnwindSafe(|| self.decode(&bytes, format)))
            .unwrap_or_else(|_| Err(anyhow!("the decoder gave up on this {format:?} file")))
    }

    fn decode(&self, bytes: &[u8], format: ImageFormat) -> Result<Picture<'_>> {
        let damaged = |error: ImageError| match error {
            ImageError::Unsupported(error) => anyhow!("{error}"),
            error => anyhow!("damaged or cut short ({error})"),
        };
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(2 * self.max_bytes);
        reader.limits(limits);
        // This reads the header only; the size is checked before memory is taken for it.
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        ensure!(width > 0 && height > 0, "{width}x{height} pixels, expected at least 1x1");
        ensure!(
            width <= MAX_SIDE && height <= MAX_SIDE,
            "{width}x{height} pixels, expected at most {MAX_SIDE} each way"
        );
        let size = decoder.total_bytes();
        ensure!(
            size <= self.max_bytes,
            "{width}x{height} pixels take {} MiB, expected at most {}",
            size.div_ceil(1 << 20),
            self.max_bytes >> 20
        );
        let _turn =
            (size > LARGE).then(|| self.large.lock().unwrap_or_else(PoisonError::into_inner));
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        if format == ImageFormat::Jpeg {
            ensure!(jpeg::is_whole(bytes), "damaged or cut short (a JPEG without its end)");
        }
        image.apply_orientation(orientation);
        let (image, invisible) = channels::convert(image, self.pixels, self.background);
        Ok(Picture { image, invisible, _turn })
    }
}

/// The bytes of a regular file; a pipe or a device would never end.
fn read_file(path: &Path) -> Result<Vec<u8>> {
    let metadata = fs::metadata(path).context("cannot open it")?;
    ensure!(metadata.is_file(), "not a file");
    ensure!(metadata.len() > 0, "the file is empty");
    ensure!(
        metadata.len() <= MAX_FILE,
        "the file has {} MiB, expected at most {}",
        metadata.len().div_ceil(1 << 20),
        MAX_FILE >> 20
    );
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    let file = File::open(path).context("cannot open it")?;
    // Bounded again: the file may be growing.
    file.take(MAX_FILE).read_to_end(&mut bytes).context("cannot read it")?;
    Ok(bytes)
}

/// The format by the first bytes. TGA has no signature, so there the name decides.
fn format_of(bytes: &[u8], path: &Path) -> Result<ImageFormat> {
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Tga, WebP};
    match image::guess_format(bytes) {
        Ok(format @ (Png | Jpeg | WebP | Gif | Bmp)) => return Ok(format),
        Ok(other) => bail!("a picture of the format {other:?}, {EXPECTED}"),
        Err(_) => {}
    }
    let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
    if extension == "tga" {
        return Ok(Tga);
    }
    // What people have in their folders and would ask about.
    let at = |start: usize, part: &[u8]| bytes.get(start..).is_some_and(|b| b.starts_with(part));
    let other = match () {
        () if at(4, b"ftyphei") || at(4, b"ftypmif1") => "HEIC",
        () if at(0, b"8BPS") => "Photoshop",
        () if at(0, &[0xff, 0x0a]) || at(4, b"JXL ") => "JPEG XL",
        () if at(0, b"gimp xcf") => "GIMP",
        () if extension == "svg" => "SVG",
        () => bail!("not a picture, {EXPECTED}"),
    };
    bail!("a picture of the format {other}, {EXPECTED}")
}
