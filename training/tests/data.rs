//! Sheets as people have them: every PNG colour type, and files that are no sheet.

mod common;

use common::{folder, with_png_size, write_png};
use ddpm_train::config::DataConfig;
use ddpm_train::data::Dataset;
use ddpm_train::data::augment::View;
use ddpm_train::data::config::Color;
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
