//! `ddpm-train new`: a configuration from the pictures that are there, which then trains.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::folder;
use ddpm::model::Denoiser;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use ddpm_train::config::Config;
use ddpm_train::data::Dataset;
use ddpm_train::data::config::{Filter, Fit, Pixels};
use image::{Rgb, RgbImage, Rgba, RgbaImage};

/// Runs the program in `folder`; what it said, and whether all was well.
fn program(folder: &Path, arguments: &[&str]) -> (bool, String) {
    let output = common::program::program().current_dir(folder).args(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[track_caller]
fn run(folder: &Path, arguments: &[&str]) -> String {
    let (good, text) = program(folder, arguments);
    assert!(good, "{text}");
    text
}

/// Pixel art: few colours, with a hole, of so many pixels, each repeated.
fn sprite(width: u32, height: u32, repeat: u32) -> RgbaImage {
    RgbaImage::from_fn(width * repeat, height * repeat, |x, y| {
        let (x, y) = (x / repeat, y / repeat);
        match (x + y, x * y % 5) {
            (0..4, _) => Rgba([0, 0, 0, 0]),
            (_, 0) => Rgba([200, 40, 40, 255]),
            _ => Rgba([40, 40, 60, 255]),
        }
    })
}

/// A picture with as many colours as a photo.
fn photo(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let noise = (x * 7919 + y * 104729).wrapping_mul(2654435761) >> 27;
        Rgb([x * 7, y * 7, (x + y) * 5].map(|value| (value % 200 + noise) as u8))
    })
}

/// A test's folder with `pictures` in it: `count` of them at each of `paths`.
fn pictures(name: &str, places: &[&str], count: usize, save: impl Fn(usize, &Path)) -> PathBuf {
    let folder = folder(name);
    for place in places {
        fs::create_dir_all(folder.join("pictures").join(place)).unwrap();
        for i in 0..count {
            save(i, &folder.join("pictures").join(place).join(format!("{i}.png")));
        }
    }
    folder
}

/// The configuration that `new` writes, read as `fit` reads it.
fn written(folder: &Path) -> (Config, String) {
    let said = run(folder, &["new", "pictures"]);
    assert!(
        said.contains("wrote config.toml") && said.contains("fit --config config.toml"),
        "{said}"
    );
    let config = Config::read(&folder.join("config.toml")).unwrap();
    assert_eq!(config.data.folder, Some(folder.join("pictures")));
    (config, said)
}

#[test]
fn new_configuration_trains_and_is_exported_with_classes_and_alpha() {
    let folder = pictures("new_trains", &["cat", "dog"], 9, |_, path| {
        sprite(16, 12, 3).save(path).unwrap();
    });
    fs::write(folder.join("pictures/cat/notes.txt"), "no picture").unwrap();
    fs::create_dir(folder.join("pictures/empty")).unwrap();
    let (config, said) = written(&folder);
    for part in [
        "18 pictures, pixel art of 16x12 pixels, enlarged 3 times, with transparency",
        "1 file cannot be used",
        "folders: cat (9), dog (9)",
        "a model of 16x12 rgba",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    let data = &config.data;
    assert_eq!((data.width, data.height, data.color), (16, 12, Pixels::Rgba));
    assert_eq!((data.fit, data.filter), (Some(Fit::Crop), Some(Filter::Nearest)));
    assert!(data.classes && data.flip && data.shift == 1);
    // What was enlarged is again what was drawn.
    let images = Dataset::read(data).unwrap();
    let mut values = vec![0.0; 16 * 12 * 4];
    images.copy_image(0, Default::default(), &mut values);
    let bytes: Vec<u8> = values.into_iter().map(ddpm::image::to_byte).collect();
    assert_eq!(bytes, sprite(16, 12, 1).into_raw());

    let path = folder.join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let mut edited = String::new();
    for line in text.lines() {
        let key = line.split(" = ").next().unwrap();
        edited += match key {
            "steps" => "steps = 2",
            "batch" => "batch = 2",
            "sample_every" => "sample_every = 0",
            _ => line,
        };
        edited.push('\n');
    }
    fs::write(&path, edited).unwrap();
    run(&folder, &["fit", "--config", "config.toml"]);
    let checkpoint = "out/pictures/checkpoint.safetensors";
    run(&folder, &["export", checkpoint, "-o", "model.onnx"]);
    let source = ModelSource::Path(folder.join("model.onnx"));
    let model = OnnxDenoiser::load(&source, &OnnxOptions::default()).unwrap();
    assert_eq!(model.info().classes, ["cat", "dog"]);
    let config = model.config();
    assert_eq!((config.channels, config.height, config.width), (4, 12, 16));
}

#[test]
fn photos_become_models_of_their_shape_and_size() {
    for (name, size, expected) in [
        ("new_square", (200, 180), (64, 64)),
        ("new_wide", (96, 48), (32, 16)),
        ("new_tall", (90, 160), (40, 64)),
        ("new_small", (20, 20), (16, 16)),
    ] {
        let folder = pictures(name, &[""], 2, |_, path| photo(size.0, size.1).save(path).unwrap());
        let (config, said) = written(&folder);
        assert!(
            said.contains(&format!("2 pictures, photos or paintings of {}x{}", size.0, size.1))
        );
        let data = &config.data;
        assert_eq!((data.width as u32, data.height as u32), expected, "{name}");
        assert_eq!((data.color, data.classes, data.fit), (Pixels::Rgb, false, Some(Fit::Crop)));
        // Few pictures take fewer steps.
        assert!(config.train.steps <= 5000 && config.train.warmup_steps <= 250);
    }
}

#[test]
fn gray_pictures_and_sprites_of_many_sizes_are_seen_as_such() {
    let digits = pictures("new_gray", &["0", "1", "10"], 8, |_, path| {
        image::imageops::grayscale(&photo(28, 28)).save(path).unwrap();
    });
    let (config, said) = written(&digits);
    assert!(said.contains("gray of 28x28") && said.contains("0 (8), 1 (8), 10 (8)"), "{said}");
    assert_eq!((config.data.color, config.data.width), (Pixels::Gray, 32));
    // A mirrored digit is none.
    assert!(config.data.classes && !config.data.flip);

    let sprites = pictures("new_sizes", &["a", "b"], 5, |i, path| {
        sprite(12 + i as u32 * 3, 20, 1).save(path).unwrap();
    });
    sprite(16, 16, 1).save(sprites.join("pictures/loose.png")).unwrap();
    let (config, said) = written(&sprites);
    assert!(said.contains("pixel art of 12x20 to 24x20"), "{said}");
    assert!(said.contains("not taken for classes: 1 pictures are in none of them"), "{said}");
    let data = &config.data;
    assert_eq!((data.width, data.height, data.fit), (24, 24, Some(Fit::Center)));
    assert!(!data.classes);
    assert_eq!(Dataset::read(data).unwrap().len(), 11);
}

#[test]
fn new_refuses_what_is_there_and_folders_without_pictures() {
    let folder = pictures("new_refuses", &[""], 1, |_, path| photo(20, 20).save(path).unwrap());
    fs::create_dir_all(folder.join("none/deep")).unwrap();
    fs::write(folder.join("none/notes.txt"), "no picture").unwrap();
    fs::write(folder.join("old.toml"), "mine").unwrap();
    let refuse = |place: &Path, arguments: &[&str], part: &str| {
        let (good, text) = program(place, arguments);
        assert!(!good && text.contains(part), "expected {part:?} in: {text}");
    };
    refuse(&folder, &["new", "pictures", "-o", "old.toml"], "old.toml exists");
    refuse(&folder, &["new", "missing"], "missing: cannot open the folder");
    refuse(&folder, &["new", "old.toml"], "is a file, expected a folder");
    refuse(&folder, &["new", "none"], "no picture among 1 files");
    refuse(&folder, &["new", "pictures", "-o", "nowhere/a.toml"], "nowhere: cannot open");
    refuse(&folder, &["new", "pictures", "-o", "pictures/a.toml"], "among the pictures");
    refuse(&folder.join("pictures"), &["new", ".", "-o", "../a.toml"], "is the working folder");
    assert_eq!(fs::read_to_string(folder.join("old.toml")).unwrap(), "mine");
    assert!(!folder.join("config.toml").exists());
    // What it says to do next can be copied into a shell.
    let said = run(&folder, &["new", "pictures", "-o", "my config's.toml"]);
    assert!(said.ends_with("  ddpm-train fit --config 'my config'\\''s.toml'\n"), "{said}");
    // From elsewhere, into elsewhere: the way is in the file.
    run(&folder.join("none"), &["new", "../pictures", "-o", "deep/a.toml"]);
    let config = Config::read(&folder.join("none/deep/a.toml")).unwrap();
    assert_eq!(Dataset::read(&config.data).unwrap().len(), 1);
}
