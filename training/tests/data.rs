//! Sheets as people have them: every PNG colour type, and files that are no sheet; IDX files.

mod common;

use std::io::Write;

use common::{folder, with_png_size, write_png};
use ddpm_train::config::DataConfig;
use ddpm_train::data::Dataset;
use ddpm_train::data::augment::View;
use ddpm_train::data::config::{Color, Fit, OnBadFile, Pixels};
use ddpm_train::data::jitter::Recolor;
use png::{BitDepth, ColorType};

fn read(path: &std::path::Path) -> anyhow::Result<Dataset> {
    Dataset::read(&DataConfig::sheet(path, 1, 1))
}

/// The bytes of the first pixel, back from [-1, 1].
fn first_pixel(data: &Dataset) -> [u8; 3] {
    let mut values = [0.0; 3];
    data.copy_image(0, View::default(), &mut values);
    assert!(values.iter().all(|v| (-1.0..=1.0).contains(v)));
    values.map(ddpm::image::to_byte)
}

#[test]
fn every_png_colour_type_becomes_rgb() {
    let folder = folder("data_colours");
    let path = folder.join("a.png");
    let check = |color, depth, data: &[u8], palette: bool, expected| {
        write_png(&path, (1, 1), color, depth, data, |encoder| {
            if palette {
                encoder.set_palette(vec![9, 8, 7, 250, 100, 50]);
                encoder.set_trns(vec![255, 128]);
            }
        });
        assert_eq!(first_pixel(&read(&path).unwrap()), expected, "{color:?} {depth:?}");
    };
    check(ColorType::Grayscale, BitDepth::Eight, &[77], false, [77, 77, 77]);
    check(ColorType::Grayscale, BitDepth::One, &[0x80], false, [255, 255, 255]);
    check(ColorType::Grayscale, BitDepth::Sixteen, &[77, 200], false, [77, 77, 77]);
    check(ColorType::GrayscaleAlpha, BitDepth::Eight, &[200, 51], false, [40, 40, 40]);
    check(ColorType::Rgb, BitDepth::Eight, &[1, 2, 3], false, [1, 2, 3]);
    check(ColorType::Rgb, BitDepth::Sixteen, &[1, 0, 2, 0, 3, 255], false, [1, 2, 4]);
    check(ColorType::Rgba, BitDepth::Eight, &[100, 200, 255, 255], false, [100, 200, 255]);
    check(ColorType::Rgba, BitDepth::Eight, &[100, 200, 255, 0], false, [0, 0, 0]);
    // Palette entry 1 with alpha 128 of 255, over black.
    check(ColorType::Indexed, BitDepth::Eight, &[1], true, [125, 50, 25]);

    let on_red =
        DataConfig { background: Some(Color([255, 0, 0])), ..DataConfig::sheet(&path, 1, 1) };
    assert_eq!(first_pixel(&Dataset::read(&on_red).unwrap()), [252, 50, 25]);
}

#[test]
fn tiles_are_read_row_by_row() {
    let folder = folder("data_tiles");
    let path = folder.join("sheet.png");
    // 4x4 pixels, 2x2 tiles; the red of a pixel is its place in the sheet.
    let data: Vec<u8> = (0..16).flat_map(|i| [i, 0, 0]).collect();
    write_png(&path, (4, 4), ColorType::Rgb, BitDepth::Eight, &data, |_| {});
    let data = Dataset::read(&DataConfig::sheet(path, 2, 2)).unwrap();
    assert_eq!(data.len(), 4);
    let mut values = [0.0; 12];
    for (tile, expected) in
        [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]].iter().enumerate()
    {
        data.copy_image(tile, View::default(), &mut values);
        let reds: Vec<u8> = values.iter().step_by(3).map(|&v| ddpm::image::to_byte(v)).collect();
        assert_eq!(reds, expected);
    }
}

#[test]
fn files_that_are_no_sheet_are_refused_by_name() {
    let folder = folder("data_bad");
    let path = folder.join("bad.png");
    let refuse = |part: &str| {
        let Err(error) = read(&path) else { panic!("read a sheet where {part:?} was expected") };
        let message = format!("{error:#}");
        assert!(message.contains("bad.png") && message.contains(part), "{message}");
    };
    refuse("cannot open it");
    std::fs::write(&path, "").unwrap();
    refuse("the file is empty");
    std::fs::write(&path, "a text with another name").unwrap();
    refuse("not a picture");

    let noise: Vec<u8> =
        (0..64 * 64 * 3u32).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8).collect();
    write_png(&path, (64, 64), ColorType::Rgb, BitDepth::Eight, &noise, |_| {});
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() * 6 / 10]).unwrap();
    refuse("damaged or cut short");
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    std::fs::write(&path, &flipped).unwrap();
    refuse("damaged or cut short");

    std::fs::write(&path, with_png_size(&whole, 60000, 60000)).unwrap();
    refuse("60000x60000 pixels, expected at most 16384");
}

/// An IDX file of bytes.
fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, sizes.len() as u8];
    bytes.extend(sizes.iter().flat_map(|size| size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Three images of 3x2 pixels with the labels 0, 2 and 2, in a folder of their own.
fn idx_config(name: &str, zip: fn(&[u8]) -> Vec<u8>) -> DataConfig {
    let folder = folder(name);
    let (images, labels) = (folder.join("images"), folder.join("labels"));
    let values: Vec<u8> = (0..18).map(|i| i * 10).collect();
    std::fs::write(&images, zip(&idx(&[3, 2, 3], &values))).unwrap();
    std::fs::write(&labels, zip(&idx(&[3], &[0, 2, 2]))).unwrap();
    DataConfig {
        idx: Some(images),
        idx_labels: Some(labels),
        color: Pixels::Gray,
        width: 3,
        height: 2,
        ..DataConfig::default()
    }
}

fn pixels(data: &Dataset, index: usize, item: usize) -> Vec<u8> {
    let mut values = vec![f32::NAN; item];
    data.copy_image(index, View::default(), &mut values);
    values.into_iter().map(ddpm::image::to_byte).collect()
}

#[test]
fn idx_files_are_read_gzipped_or_not() {
    for (name, zip) in
        [("data_idx", (|bytes| bytes.to_vec()) as fn(&[u8]) -> Vec<u8>), ("data_idx_zipped", gzip)]
    {
        let config = idx_config(name, zip);
        let data = Dataset::read(&config).unwrap();
        assert_eq!((data.len(), data.labels()), (3, &[0, 2, 2][..]));
        assert_eq!(data.class_names(), ["0", "1", "2"]);
        assert_eq!(pixels(&data, 1, 6), [60, 70, 80, 90, 100, 110]);
        let notes = data.notes().join("\n");
        assert!(notes.contains("no image has the label of 1"), "{notes}");
        assert!(notes.contains("3 classes, with images each: 0 (1), 1 (0), 2 (2)"), "{notes}");

        let named = DataConfig {
            class_names: ["a", "b", "c", "d"].map(String::from).to_vec(),
            ..config.clone()
        };
        assert_eq!(Dataset::read(&named).unwrap().class_names(), ["a", "b", "c", "d"]);
        let unlabelled = DataConfig { idx_labels: None, ..config.clone() };
        assert_eq!(Dataset::read(&unlabelled).unwrap().labels(), [0u32; 0]);
        // Padded with black, a middle row of its own.
        let padded = DataConfig { fit: Some(Fit::Pad), height: 4, ..config.clone() };
        let padded = pixels(&Dataset::read(&padded).unwrap(), 0, 12);
        assert_eq!(padded, [0, 0, 0, 0, 10, 20, 30, 40, 50, 0, 0, 0]);
        let rgb = DataConfig { color: Pixels::Rgb, ..config };
        assert_eq!(pixels(&Dataset::read(&rgb).unwrap(), 0, 18)[..6], [0, 0, 0, 10, 10, 10]);
    }
}

#[test]
fn files_that_are_no_idx_are_refused_by_name() {
    let config = idx_config("data_idx_bad", |bytes| bytes.to_vec());
    let (images, labels) = (config.idx.clone().unwrap(), config.idx_labels.clone().unwrap());
    let refuse = |path: &std::path::Path, bytes: &[u8], part: &str| {
        let whole = std::fs::read(path).unwrap();
        std::fs::write(path, bytes).unwrap();
        let Err(error) = Dataset::read(&config) else { panic!("read where {part:?} was expected") };
        let (message, name) = (format!("{error:#}"), path.file_name().unwrap().to_string_lossy());
        assert!(message.contains(&*name) && message.contains(part), "{message}");
        std::fs::write(path, whole).unwrap();
    };
    let good = idx(&[3, 2, 3], &[0; 18]);
    let with = |index: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[index] = byte;
        bytes
    };
    refuse(&images, &[], "cut short in the header");
    refuse(&images, &good[..9], "cut short in the header");
    refuse(&images, b"a text", "no IDX file: the magic number is 0x61207465, expected 0x00000803");
    refuse(&images, &with(2, 0x0d), "values that are no unsigned bytes");
    refuse(&images, &idx(&[3], &[0; 3]), "values in 1 dimensions, expected 3");
    refuse(&images, &good[..33], "33 bytes, expected 34 by its header");
    refuse(&images, &[&good[..], &[0]].concat(), "35 bytes, expected 34 by its header");
    refuse(&images, &idx(&[0, 2, 3], &[]), "holds no image");
    refuse(&images, &idx(&[3, 0, 3], &[]), "images of 3x0 pixels");
    refuse(&images, &idx(&[u32::MAX; 3], &[0; 18]), "expected more than there can be");
    refuse(&images, &gzip(&good[..33]), "cut short in image 2 of 3");
    refuse(&images, &gzip(&[&good[..], &[0]].concat()), "bytes behind the last value");
    let zipped = gzip(&good);
    refuse(&images, &zipped[..zipped.len() - 2], "cannot read its end");
    refuse(&images, &zipped[..zipped.len() / 2], "cannot read");
    // A small file that claims much takes no memory for it.
    let claims = |sizes: [u32; 3]| gzip(&idx(&sizes, &[0; 18]));
    refuse(&images, &claims([u32::MAX, 2, 3]), "take 24576 MiB of memory");
    refuse(&images, &claims([3, 60000, 60000]), "images of 60000x60000 pixels");
    refuse(&images, &claims([1_000_000, 4096, 4096]), "cut short in image 0");
    refuse(&labels, &idx(&[2], &[0, 1]), "2 labels for 3 images");
    refuse(&labels, &good, "values in 3 dimensions, expected 1");
    refuse(&labels, &gzip(&idx(&[3], &[0, 1])), "cut short in the 3 labels");
    Dataset::read(&config).unwrap();

    let refused = |config: DataConfig, part: &str| {
        let Err(error) = Dataset::read(&config) else { panic!("read where {part:?} was expected") };
        assert!(format!("{error:#}").contains(part), "{error:#}");
    };
    let names = vec!["a".to_string(), "b".to_string()];
    refused(DataConfig { class_names: names, ..config.clone() }, "has the label 2, but");
    refused(
        DataConfig { classes: true, idx_labels: None, ..config.clone() },
        "data.classes is true without data.idx_labels",
    );
    let folder = Some(images.clone());
    refused(DataConfig { folder, ..config.clone() }, "both folder and idx");
    refused(DataConfig { idx: None, folder: Some(labels), ..config.clone() }, "for data.idx");
    refused(DataConfig { on_bad_file: Some(OnBadFile::Skip), ..config }, "an idx file is one file");
}

#[test]
fn images_are_turned_and_their_colours_changed() {
    let config = idx_config("data_views", |bytes| bytes.to_vec());
    let data = Dataset::read(&DataConfig { height: 3, fit: Some(Fit::Pad), ..config }).unwrap();
    let seen = |view| {
        let mut values = vec![f32::NAN; 9];
        data.copy_image(0, view, &mut values);
        values.into_iter().map(ddpm::image::to_byte).collect::<Vec<u8>>()
    };
    let view = View::default();
    assert_eq!(seen(view), [0, 10, 20, 30, 40, 50, 0, 0, 0]);
    assert_eq!(seen(View { turns: 1, ..view }), [0, 30, 0, 0, 40, 10, 0, 50, 20]);
    assert_eq!(seen(View { flip_vertical: true, ..view }), [0, 0, 0, 30, 40, 50, 0, 10, 20]);
    let color = Recolor { brightness: 0.5, ..Recolor::default() };
    assert_eq!(seen(View { color, ..view }), [0, 5, 10, 15, 20, 25, 0, 0, 0]);
    assert_eq!(seen(View { color, turns: 1, ..view }), [0, 15, 0, 0, 20, 5, 0, 25, 10]);
}

#[test]
fn augmentations_that_cannot_be_are_refused() {
    let parse = |text: &str| -> DataConfig {
        toml::from_str(&format!("folder = 'x'\nwidth = 8\nheight = 8\n{text}")).unwrap()
    };
    let good = parse("jitter = { brightness = 0.1, hue = 0.5 }\nrotate = true");
    good.validate().unwrap();
    assert_eq!((good.jitter.brightness, good.jitter.saturation), (0.1, 0.0));
    for (text, part) in [
        ("jitter = { brightness = 1.5 }", "data.jitter.brightness is 1.5, expected 0 to 1"),
        ("jitter = { hue = 0.6 }", "data.jitter.hue is 0.6, expected 0 to 0.5"),
        ("jitter = { contrast = nan }", "data.jitter.contrast is NaN"),
        ("color = 'gray'\njitter = { hue = 0.1 }", "data.jitter has saturation or hue"),
        ("color = 'gray'\njitter = { saturation = 0.1 }", "but data.color is \"gray\""),
    ] {
        let message = parse(text).validate().unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
    let wide = DataConfig { width: 16, ..good };
    assert!(wide.validate().unwrap_err().to_string().contains("data.rotate is true"));
    let unknown = "width = 8\nheight = 8\njitter = { bright = 0.1 }";
    assert!(toml::from_str::<DataConfig>(unknown).unwrap_err().to_string().contains("bright"));
}
