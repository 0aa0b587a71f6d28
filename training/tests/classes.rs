//! Gray, four channels and classes: from the files to the model that the engine loads.

mod common;

use std::fs;
use std::path::Path;

use common::{folder, png_bytes, program, write_run};
use ddpm::image::Color as ModelColor;
use ddpm::model::{Classes, Denoiser};
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::config::{Config, DataConfig};
use ddpm_train::data::Dataset;
use ddpm_train::data::augment::View;
use ddpm_train::data::config::{Color, Filter, Fit, OnBadFile, Pixels};
use png::{BitDepth, ColorType};

fn png(size: (u32, u32), color: ColorType, data: &[u8]) -> Vec<u8> {
    png_bytes(size, color, BitDepth::Eight, data, |_| {})
}

fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// The bytes of an image, back from [-1, 1].
fn image(data: &Dataset, index: usize, item: usize) -> Vec<u8> {
    let mut values = vec![f32::NAN; item];
    data.copy_image(index, View::default(), &mut values);
    values.into_iter().map(ddpm::image::to_byte).collect()
}

#[track_caller]
fn refused(config: &DataConfig) -> String {
    let Err(error) = Dataset::read(config) else { panic!("read where an error was expected") };
    format!("{error:#}")
}

/// A folder of folders, each with so many 1x1 pictures; their gray counts on from 0.
fn write_classes(folder: &Path, classes: &[(&str, usize)]) {
    let mut gray = 0;
    for (class, count) in classes {
        fs::create_dir_all(folder.join(class)).unwrap();
        for i in 0..*count {
            let bytes = png((1, 1), ColorType::Grayscale, &[gray]);
            write(&folder.join(format!("{class}/{i}.png")), bytes);
            gray += 1;
        }
    }
}

fn with_classes(folder: &Path, names: &[&str]) -> DataConfig {
    DataConfig {
        classes: true,
        class_names: names.iter().map(ToString::to_string).collect(),
        ..DataConfig::folder(folder, 1, 1)
    }
}

#[test]
fn every_picture_becomes_gray_rgb_or_rgba_as_asked() {
    let folder = folder("classes_colors");
    let read = |color, background, bytes: &[u8]| {
        write(&folder.join("a.png"), bytes);
        let config = DataConfig { color, background, ..DataConfig::folder(&folder, 1, 1) };
        image(&Dataset::read(&config).unwrap(), 0, color.channels())
    };
    let rgb = |pixel: [u8; 3]| png((1, 1), ColorType::Rgb, &pixel);
    // ITU-R BT.601: 255 * 0.299 = 76.2, 255 * 0.587 = 149.7, 255 * 0.114 = 29.1.
    for (pixel, luma) in
        [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29), ([255; 3], 255), ([93; 3], 93)]
    {
        assert_eq!(read(Pixels::Gray, None, &rgb(pixel)), [luma]);
        let [r, g, b] = pixel;
        assert_eq!(read(Pixels::Rgba, None, &rgb(pixel)), [r, g, b, 255]);
    }
    let gray = |data: &[u8], depth| png_bytes((1, 1), ColorType::Grayscale, depth, data, |_| {});
    assert_eq!(read(Pixels::Gray, None, &gray(&[77], BitDepth::Eight)), [77]);
    assert_eq!(read(Pixels::Gray, None, &gray(&[77, 200], BitDepth::Sixteen)), [77]);
    assert_eq!(read(Pixels::Rgba, None, &gray(&[77], BitDepth::Eight)), [77, 77, 77, 255]);

    let half = png((1, 1), ColorType::Rgba, &[0, 100, 255, 51]);
    assert_eq!(read(Pixels::Rgba, None, &half), [0, 100, 255, 51]);
    // On white [204, 224, 255], on red [204, 20, 51].
    assert_eq!(read(Pixels::Gray, None, &half), [222]);
    assert_eq!(read(Pixels::Gray, Some(Color([255, 0, 0])), &half), [79]);
    // What cannot be seen is nothing to learn.
    assert_eq!(read(Pixels::Rgba, None, &png((1, 1), ColorType::Rgba, &[9, 8, 7, 0])), [0; 4]);
    let gray_alpha = png((1, 1), ColorType::GrayscaleAlpha, &[200, 51]);
    assert_eq!(read(Pixels::Rgba, None, &gray_alpha), [200, 200, 200, 51]);
}

#[test]
fn colors_of_transparent_pixels_do_not_bleed_when_scaled() {
    let folder = folder("classes_bleed");
    // Green that cannot be seen beside red that can, and red of half the alpha.
    let pixels = [[0, 255, 0, 0], [200, 0, 0, 255], [200, 0, 0, 128], [0, 255, 0, 0]].concat();
    write(&folder.join("a.png"), png((4, 1), ColorType::Rgba, &pixels));
    let read = |width, height, filter, fit| {
        let config = DataConfig {
            color: Pixels::Rgba,
            filter: Some(filter),
            fit: Some(fit),
            ..DataConfig::folder(&folder, width, height)
        };
        let data = Dataset::read(&config).unwrap();
        image(&data, 0, width * height * 4).as_chunks::<4>().0.to_vec()
    };
    for filter in [Filter::Triangle, Filter::Lanczos] {
        for size in [2, 3, 7] {
            for pixel in read(size, 1, filter, Fit::Stretch) {
                let [r, g, b, alpha] = pixel;
                let hidden = alpha == 0 && r == 0;
                assert!(
                    (hidden || r.abs_diff(200) <= 12) && g == 0 && b == 0,
                    "{filter:?} {size}: {pixel:?}"
                );
            }
        }
    }
    // Two pixels of alpha 128 and 0 with the tail of the next, weighed by a triangle: between.
    let alphas: Vec<u8> =
        read(2, 1, Filter::Triangle, Fit::Stretch).iter().map(|pixel| pixel[3]).collect();
    assert!(alphas[0] > alphas[1] && alphas[1] > 50, "{alphas:?}");
    let nearest = read(4, 4, Filter::Nearest, Fit::Pad);
    assert_eq!(nearest[..4], [[0; 4]; 4]);
    assert_eq!(nearest[4..][..4], [[0; 4], [200, 0, 0, 255], [200, 0, 0, 128], [0; 4]]);
    assert_eq!(nearest[8..], [[0; 4]; 8]);

    let message = refused(&DataConfig {
        color: Pixels::Rgba,
        background: Some(Color::WHITE),
        ..DataConfig::folder(&folder, 1, 1)
    });
    assert!(message.contains("data.background is for gray and rgb"), "{message}");
}

#[test]
fn sheets_are_cut_with_one_and_four_channels() {
    let folder = folder("classes_sheet");
    let path = folder.join("sheet.png");
    let pixels: Vec<u8> = (0..16).flat_map(|i| [i, i, i, 255 - i]).collect();
    write(&path, png((4, 4), ColorType::Rgba, &pixels));
    let read =
        |color| Dataset::read(&DataConfig { color, ..DataConfig::sheet(&path, 2, 2) }).unwrap();
    let rgba = image(&read(Pixels::Rgba), 1, 16);
    assert_eq!(rgba.as_chunks().0, [2, 3, 6, 7].map(|i| [i, i, i, 255 - i]));
    assert_eq!(image(&read(Pixels::Gray), 3, 4), [10, 11, 13, 14]);
}

#[test]
fn folders_are_classes_in_natural_order_and_empty_ones_are_named() {
    let folder = folder("classes_order");
    let classes = [("2", 1), ("10", 2), ("0", 3), ("1/deep", 1), ("empty", 0), ("junk", 0)];
    write_classes(&folder, &classes);
    write(&folder.join("junk/notes.txt"), "no picture");
    for name in [".DS_Store", "._A.jpg", ".hidden/a.png"] {
        write(&folder.join(name), png((1, 1), ColorType::Grayscale, &[99]));
    }
    let data = Dataset::read(&with_classes(&folder, &[])).unwrap();
    assert_eq!(data.class_names(), ["0", "1", "2", "10"]);
    assert_eq!(data.labels(), [0, 0, 0, 1, 2, 3, 3]);
    let pixels: Vec<u8> = (0..data.len()).map(|i| image(&data, i, 3)[0]).collect();
    assert_eq!(pixels, [3, 4, 5, 6, 0, 1, 2]);
    let notes = data.notes().join("\n");
    for part in [
        "2 folders without a picture that can be used, so no classes\n  empty\n  junk",
        "junk/notes.txt: not a picture",
        "4 classes, with images each: 0 (3), 1 (1), 2 (1), 10 (2)",
    ] {
        assert!(notes.contains(part), "{part:?} is not in {notes}");
    }
    // Labels are part of what the images are.
    let fingerprint =
        |folder: &Path| Dataset::read(&with_classes(folder, &[])).unwrap().fingerprint();
    let before = fingerprint(&folder);
    fs::rename(folder.join("0/2.png"), folder.join("1/0.png")).unwrap();
    assert_ne!(fingerprint(&folder), before);
}

#[test]
fn given_names_fix_classes_and_order() {
    let folder = folder("classes_given");
    write_classes(&folder, &[("cat", 2), ("dog", 1)]);
    let data = Dataset::read(&with_classes(&folder, &["dog", "cat"])).unwrap();
    assert_eq!(data.class_names(), ["dog", "cat"]);
    assert_eq!(data.labels(), [1, 1, 0]);
    for (names, part) in [
        (&["dog"][..], "the folder \"cat\" is none of data.class_names, expected dog"),
        (&["dog", "cat", "eel"], "\"eel\" of data.class_names has no folder with pictures"),
        (&["dog", "cat", "dog"], "data.class_names has \"dog\" twice"),
        (&["dog", ""], "data.class_names has an empty name"),
    ] {
        let message = refused(&with_classes(&folder, names));
        assert!(message.contains(part), "{message}");
    }
    let unasked = DataConfig { classes: false, ..with_classes(&folder, &["dog"]) };
    assert!(refused(&unasked).contains("without data.classes = true"));
}

#[test]
fn pictures_in_no_class_folder_are_bad_files() {
    let folder = folder("classes_loose");
    write_classes(&folder, &[("only", 2)]);
    write(&folder.join("loose.png"), png((1, 1), ColorType::Grayscale, &[9]));
    let config = with_classes(&folder, &[]);
    let data = Dataset::read(&config).unwrap();
    assert_eq!((data.len(), data.labels()), (2, &[0, 0][..]));
    let notes = data.notes().join("\n");
    assert!(notes.contains("loose.png: in no folder that would be its class"), "{notes}");
    assert!(notes.contains("one class only, only (2)"), "{notes}");
    let message = refused(&DataConfig { on_bad_file: Some(OnBadFile::Fail), ..config });
    assert!(message.contains("loose.png"), "{message}");
    let sheet = DataConfig { classes: true, ..DataConfig::sheet(folder.join("loose.png"), 1, 1) };
    assert!(refused(&sheet).contains("the tiles of a sheet have none"));
}

/// Trains a tiny run by the command line, exports it, and loads that with the engine.
fn trained(folder: &Path, change: impl FnOnce(&mut Config)) -> OnnxDenoiser {
    let config = write_run(folder, 1, |config| {
        config.data.sheet = None;
        config.data.folder = Some("pictures".into());
        config.train.steps = 2;
        config.report.sample_every = 2;
        change(config);
    });
    let run = |arguments: &[&Path]| {
        let output = program::program().args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
    };
    run(&["fit".as_ref(), "--config".as_ref(), &config]);
    let checkpoint = folder.join("out/checkpoint.safetensors");
    let model = folder.join("model.onnx");
    run(&["export".as_ref(), &checkpoint, "-o".as_ref(), &model]);
    let expected = Checkpoint::read(&checkpoint).unwrap().config.model_config().unwrap();
    let loaded = OnnxDenoiser::load(&ModelSource::Path(model), &OnnxOptions::default()).unwrap();
    assert_eq!(loaded.config(), &expected);
    loaded
}

#[test]
fn engine_knows_the_classes_that_were_trained() {
    let folder = folder("classes_trained");
    write_classes(&folder.join("pictures"), &[("10", 2), ("9", 1), ("x", 1)]);
    let model = trained(&folder, |config| {
        config.data.classes = true;
        config.data.color = Pixels::Gray;
    });
    assert_eq!(model.info().classes, ["9", "10", "x"]);
    let classes = Classes { count: Some(3), null: Some(3) };
    assert_eq!(model.config().classes, Some(classes));
    assert_eq!(model.config().color, ModelColor::Gray);
}

#[test]
fn engine_knows_a_model_with_alpha_and_without_classes() {
    let folder = folder("classes_alpha");
    let pixels = [[200, 10, 10, 255], [0, 0, 0, 0]].concat();
    write(&folder.join("pictures/a.png"), png((2, 1), ColorType::Rgba, &pixels));
    let clear = png((2, 1), ColorType::Rgba, &[9; 4].map(|v| [v, v, v, 0]).concat()[..8]);
    write(&folder.join("pictures/clear.png"), clear);
    let data =
        DataConfig { color: Pixels::Rgba, ..DataConfig::folder(folder.join("pictures"), 8, 8) };
    let notes = Dataset::read(&data).unwrap().notes().join("\n");
    assert!(notes.contains("1 wholly transparent\n  clear.png"), "{notes}");
    // One picture alone, for a batch of eight.
    fs::remove_file(folder.join("pictures/clear.png")).unwrap();
    let model = trained(&folder, |config| config.data.color = Pixels::Rgba);
    assert_eq!((model.config().channels, model.config().classes), (4, None));
    assert_eq!(model.config().color, ModelColor::Rgba);
}
