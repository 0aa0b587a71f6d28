//! The commands that draw pictures: samples of a checkpoint, and the noise of a picture.

mod common;

use std::path::Path;
use std::process::Output;

use common::program::{message, program, succeed};
use common::{folder, write_png, write_run};
use ddpm_train::picture;

fn run(arguments: &[&str], paths: &[&Path]) -> Output {
    let mut command = program();
    command.args(arguments).args(paths).output().unwrap()
}

/// Draws samples to `out` and returns the picture.
#[track_caller]
fn sample(checkpoint: &Path, out: &Path, options: &[&str]) -> image::RgbImage {
    let arguments = [&["sample", "--count", "3", "--steps", "4"], options].concat();
    let output = run(&arguments, &[checkpoint, Path::new("-o"), out]);
    assert!(output.status.success(), "{}", message(&output));
    image::open(out).unwrap().into_rgb8()
}

#[track_caller]
fn refused(checkpoint: &Path, out: &Path, options: &[&str]) -> String {
    let arguments = [&["sample"], options].concat();
    let output = run(&arguments, &[checkpoint, Path::new("-o"), out]);
    assert_eq!(output.status.code(), Some(1), "{}", message(&output));
    assert!(!out.exists());
    message(&output)
}

#[test]
fn samples_are_of_the_class_sampler_and_guidance_asked_for() {
    let folder = folder("sample_classes");
    for (class, color) in [("cats", 40), ("dogs", 220)] {
        let pictures = folder.join("pictures").join(class);
        std::fs::create_dir_all(&pictures).unwrap();
        let data = [color; 8 * 8 * 3];
        let (rgb, depth) = (png::ColorType::Rgb, png::BitDepth::Eight);
        write_png(&pictures.join("a.png"), (8, 8), rgb, depth, &data, |_| {});
    }
    let config = write_run(&folder, 1, |c| {
        (c.data.sheet, c.data.folder) = (None, Some("pictures".into()));
        c.data.classes = true;
        c.train.steps = 30;
        c.train.learning_rate = 1e-2;
    });
    succeed(&config, &[]);
    let checkpoint = folder.join("out/checkpoint.safetensors");
    let draw = |name: &str, options: &[&str]| sample(&checkpoint, &folder.join(name), options);
    let cats = draw("cats.png", &["--class", "cats"]);
    // Three pictures of one class in a row each of two columns.
    assert_eq!(cats.dimensions(), (2 * 36 + 4, 2 * 36 + 4));
    assert_eq!(draw("again.png", &["--class", "cats"]), cats);
    let others: [&[&str]; 5] = [
        &["--class", "dogs"],
        &["--class", "cats", "--guidance", "4"],
        &["--class", "cats", "--sampler", "unipc"],
        &["--class", "cats", "--sampler", "ddpm"],
        &["--class", "cats", "--seed", "7"],
    ];
    let mut seen = vec![cats];
    for options in others {
        let picture = draw("other.png", options);
        assert!(!seen.contains(&picture), "{options:?}");
        seen.push(picture);
    }

    let refused = |options: &[&str]| refused(&checkpoint, &folder.join("none.png"), options);
    let message = refused(&["--class", "cows"]);
    assert!(message.contains("no class \"cows\", expected one of cats, dogs"), "{message}");
    let message = refused(&["--sampler", "dimm"]);
    assert!(message.contains("dimm") && message.contains("ddim"), "{message}");
    let message = refused(&["--class", "cats", "--guidance", "NaN"]);
    assert!(message.contains("guidance"), "{message}");
    for steps in ["0", "1001"] {
        let message = refused(&["--steps", steps]);
        assert!(message.contains("steps") && message.contains(steps), "{message}");
    }
}

#[test]
fn model_without_classes_refuses_class_and_guidance() {
    let folder = folder("sample_no_classes");
    succeed(&write_run(&folder, 2, |c| c.train.steps = 1), &[]);
    let checkpoint = folder.join("out/checkpoint.safetensors");
    let message = refused(&checkpoint, &folder.join("none.png"), &["--class", "cats"]);
    assert!(message.contains("no class \"cats\": the model has no classes"), "{message}");
    let message = refused(&checkpoint, &folder.join("none.png"), &["--guidance", "3"]);
    assert!(message.contains("guidance"), "{message}");
    let message = refused(&folder.join("sheet.png"), &folder.join("none.png"), &[]);
    assert!(message.contains("sheet.png: not a safetensors file"), "{message}");
}

#[test]
fn number_of_samples_is_what_a_picture_holds() {
    let folder = folder("sample_count");
    let config = write_run(&folder, 4, |c| c.train.steps = 2);
    succeed(&config, &[]);
    let checkpoint = folder.join("out/checkpoint.safetensors");
    for count in ["0", "4097", "10000000000", "18446744073709551615"] {
        let message = refused(&checkpoint, &folder.join("s.png"), &["--count", count]);
        assert!(message.contains(&format!("--count is {count}, expected 1 to 4096")), "{message}");
    }
    // A thousand pictures of a megapixel are no picture.
    let large = picture::check_count("--count", 1000, 1024, 1024).unwrap_err();
    assert!(large.to_string().contains("--count is 1000, expected at most 3"), "{large}");
    picture::check_count("--count", 64, 1024, 1024).unwrap();
    picture::check_count("--count", 4096, 32, 32).unwrap();
}

#[test]
fn noise_figure_goes_from_the_picture_to_noise() {
    let folder = folder("noise");
    let data: Vec<u8> = (0..8 * 4).flat_map(|i| [i * 8, 255 - i * 8, 100]).collect();
    let picture = folder.join("picture.png");
    write_png(&picture, (8, 4), png::ColorType::Rgb, png::BitDepth::Eight, &data, |_| {});
    let out = folder.join("noise.png");
    let output = run(&["noise"], &[&picture, Path::new("-o"), &out]);
    assert!(message(&output).contains("t = 0, 200, 400, 600, 800, 999"), "{}", message(&output));
    let figure = image::open(&out).unwrap().into_rgb8();
    // Six pictures of 8x4 pixels enlarged 16 times, 8 between them, 24 above and 8 below.
    assert_eq!(figure.dimensions(), (6 * (128 + 8) + 8, 24 + 64 + 8));
    let difference = |panel: u32| -> f64 {
        let mut sum = 0.0;
        for (i, value) in data.iter().enumerate() {
            let (x, y) = (i as u32 / 3 % 8, i as u32 / 24);
            let pixel = figure.get_pixel(8 + panel * 136 + x * 16 + 5, 24 + y * 16 + 5);
            sum += (f64::from(pixel[i % 3]) - f64::from(*value)).abs();
        }
        sum / data.len() as f64
    };
    // The noise of t = 0 has a deviation of 0.01, of 255 / 2 bytes.
    assert!(difference(0) < 3.0, "{}", difference(0));
    assert!(difference(0) < difference(1) && difference(1) < difference(3));
    assert!(difference(5) > 50.0, "{}", difference(5));

    let config = write_run(&folder, 1, |c| {
        c.diffusion.num_train_timesteps = 100;
        c.report.sample_steps = 4;
    });
    let arguments = [picture.as_path(), Path::new("-o"), &out, Path::new("--config"), &config];
    let output = run(&["noise"], &arguments);
    assert!(message(&output).contains("t = 0, 19, 39, 59, 79, 99"), "{}", message(&output));

    let output = run(&["noise"], &[&folder.join("none.png"), Path::new("-o"), &out]);
    assert_eq!(output.status.code(), Some(1));
    assert!(message(&output).contains("none.png: cannot open it"), "{}", message(&output));
}
