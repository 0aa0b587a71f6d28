//! A tiny run, small enough to train in a test.

// Each test file uses its own part of this.
#![allow(dead_code)]

pub mod jpeg;
pub mod program;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ddpm_train::config::Config;

/// A folder of this test's own, empty.
pub fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// Copies the files of a folder to another.
pub fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

/// Every file below a folder with what is in it.
pub fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap_or_default());
        }
    }
    found
}

/// Compares values; the tolerance is a share of the largest expected magnitude.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1e-6f32, |most, value| most.max(value.abs()));
    let worst = found.iter().zip(expected).fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{what}: {worst} of {scale} apart");
}

/// Writes a PNG.
pub fn write_png(
    path: &Path,
    size: (u32, u32),
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
    prepare: impl FnOnce(&mut png::Encoder<&mut Vec<u8>>),
) {
    std::fs::write(path, png_bytes(size, color, depth, data, prepare)).unwrap();
}

/// A PNG file.
pub fn png_bytes(
    (width, height): (u32, u32),
    color: png::ColorType,
    depth: png::BitDepth,
    data: &[u8],
    prepare: impl FnOnce(&mut png::Encoder<&mut Vec<u8>>),
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(depth);
    prepare(&mut encoder);
    encoder.write_header().unwrap().write_image_data(data).unwrap();
    bytes
}

/// Changes the sides in a PNG's header, and its checksum with them.
pub fn with_png_size(png: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut png = png.to_vec();
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = png[12..29].iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 },
        )
    });
    png[29..33].copy_from_slice(&(!crc).to_be_bytes());
    png
}

/// Writes a sheet of `tiles` 8x8 tiles side by side, each a plain colour with a darker lower half.
pub fn write_sheet(path: &Path, tiles: u32) {
    let mut data = Vec::new();
    for y in 0..8 {
        for x in 0..tiles * 8 {
            let tile = x / 8;
            let shade = if y < 4 { 255 } else { 120 };
            data.extend([tile * 37 % 256, tile * 91 % 256, 200].map(|v| (v * shade / 255) as u8));
        }
    }
    write_png(path, (tiles * 8, 8), png::ColorType::Rgb, png::BitDepth::Eight, &data, |_| {});
}

/// Writes `config.toml` and its sheet of `tiles` images to `folder`; returns the path of the former.
pub fn write_run(folder: &Path, tiles: u32, change: impl FnOnce(&mut Config)) -> PathBuf {
    write_sheet(&folder.join("sheet.png"), tiles);
    let mut config: Config = toml::from_str(
        r#"
        seed = 3
        out = "unset"
        [data]
        sheet = "sheet.png"
        width = 8
        height = 8
        [model]
        channels = [8, 16]
        blocks = 1
        groups = 4
        heads = 2
        time_dim = 16
        [diffusion]
        prediction_type = "epsilon"
        beta_schedule = "linear"
        beta_start = 1e-4
        beta_end = 0.02
        num_train_timesteps = 1000
        [train]
        steps = 12
        batch = 8
        learning_rate = 2e-3
        warmup_steps = 3
        weight_decay = 0.01
        max_grad_norm = 1.0
        ema_decay = 0.99
        [report]
        checkpoint_every = 5
        sample_every = 0
        samples = 2
        sample_steps = 4
        "#,
    )
    .unwrap();
    config.out = folder.join("out");
    change(&mut config);
    let path = folder.join("config.toml");
    std::fs::write(&path, toml::to_string(&config).unwrap()).unwrap();
    path
}
