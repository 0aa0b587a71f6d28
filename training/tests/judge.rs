//! The judgement of a checkpoint: its distances, its classifier, its search for copies, its report.

mod common;

use std::path::Path;

use burn::tensor::Device;
use common::{folder, program, write_png, write_run};
use ddpm::rng::{Purpose, fill_standard_normal};
use ddpm_train::data::Dataset;
use ddpm_train::data::augment::View;
use ddpm_train::data::config::DataConfig;
use ddpm_train::judge::classifier::Classifier;
use ddpm_train::judge::distance::{Features, Gaussian, frechet, kernel};
use ddpm_train::judge::eigen::{Eigen, product};
use ddpm_train::judge::faults::Fault;
use ddpm_train::judge::images::{Images, Shape};
use ddpm_train::judge::neighbours::{Nearest, Nearness};
use ddpm_train::judge::results::number;
use ddpm_train::judge::teach::{Lessons, teach};

fn normal(seed: u64, count: usize, dims: usize, mean: f32) -> Features {
    let mut values = vec![0.0; count * dims];
    fill_standard_normal(seed, Purpose::InitialNoise, 0, &mut values);
    values.iter_mut().for_each(|v| *v += mean);
    Features { values, dims }
}

#[track_caller]
fn near(found: f64, expected: f64, within: f64) {
    assert!((found - expected).abs() <= within, "{found}, expected {expected}");
}

#[test]
fn eigenvalues_and_vectors_of_known_matrices_are_found() {
    let mut values = Eigen::of(&[2.0, 1.0, 1.0, 2.0], 2).values;
    values.sort_by(f64::total_cmp);
    near(values[0], 1.0, 1e-14);
    near(values[1], 3.0, 1e-14);
    // The second difference has the eigenvalues 2 - 2 cos(pi k / (n + 1)).
    let n: usize = 48;
    let difference: Vec<f64> = (0..n * n)
        .map(|i| match (i / n).abs_diff(i % n) {
            0 => 2.0,
            1 => -1.0,
            _ => 0.0,
        })
        .collect();
    let eigen = Eigen::of(&difference, n);
    let mut values = eigen.values.clone();
    values.sort_by(f64::total_cmp);
    for (k, value) in values.iter().enumerate() {
        let angle = std::f64::consts::PI * (k + 1) as f64 / (n + 1) as f64;
        near(*value, 2.0 - 2.0 * angle.cos(), 1e-12);
    }
    let root = eigen.map(f64::sqrt);
    for (found, expected) in product(&root, &root, n).iter().zip(&difference) {
        near(*found, *expected, 1e-12);
    }
    assert_eq!(Eigen::of(&[0.0; 9], 3).values, [0.0; 3]);
    assert_eq!(Eigen::of(&[f64::NAN; 4], 2).values.len(), 2);
}

#[test]
fn frechet_distance_of_known_gaussians_is_the_formula_s() {
    let gaussian = |mean: &[f64], covariance: &[f64]| Gaussian {
        mean: mean.to_vec(),
        covariance: covariance.to_vec(),
    };
    // Diagonal: |difference|^2 + sum (sqrt a - sqrt b)^2 = 25 + 1 + 4.
    let a = gaussian(&[0.0, 0.0], &[1.0, 0.0, 0.0, 9.0]);
    let b = gaussian(&[3.0, 4.0], &[4.0, 0.0, 0.0, 1.0]);
    near(a.frechet(&b), 30.0, 1e-10);
    near(a.frechet(&a), 0.0, 1e-10);
    // Such as do not commute: of a 2x2 matrix M, tr sqrt M = sqrt(tr M + 2 sqrt det M).
    let c = gaussian(&[0.0, 0.0], &[2.0, 1.0, 1.0, 3.0]);
    let m = product(&a.covariance, &c.covariance, 2);
    let root = (m[0] + m[3] + 2.0 * (m[0] * m[3] - m[1] * m[2]).sqrt()).sqrt();
    near(a.frechet(&c), 10.0 + 5.0 - 2.0 * root, 1e-10);
    near(c.frechet(&a), a.frechet(&c), 1e-10);
    // Estimated from many: a shift by 1 of each of 4 values is 4, and little beside it.
    near(frechet(&normal(1, 20_000, 4, 0.0), &normal(2, 20_000, 4, 1.0)), 4.0, 0.1);
}

#[test]
fn kernel_distance_of_sets_of_one_law_is_zero_in_the_mean() {
    let values: Vec<f64> = (0..60)
        .map(|i| kernel(&normal(2 * i, 60, 8, 0.0), &normal(2 * i + 1, 60, 8, 0.0)).value)
        .collect();
    let mean = values.iter().sum::<f64>() / 60.0;
    let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 59.0).sqrt();
    near(mean, 0.0, 3.0 * deviation / 60f64.sqrt());
    assert!(values.iter().any(|v| *v < 0.0) && values.iter().any(|v| *v > 0.0));
    // Its error is of the size of that deviation, and a shift stands out of it.
    let one = kernel(&normal(7, 400, 8, 0.0), &normal(8, 400, 8, 0.0));
    let shifted = kernel(&normal(7, 400, 8, 0.0), &normal(8, 400, 8, 0.5));
    assert!(one.value.abs() < 4.0 * one.error, "{one:?}");
    assert!(shifted.value > 10.0 * one.error, "{shifted:?}, {one:?}");
    assert!(kernel(&normal(1, 1, 8, 0.0), &normal(2, 9, 8, 0.0)).value.is_nan());
}

/// A sheet of 8x8 tiles of four kinds: two halves, upper and lower or left and right, of two colours,
/// none quite like another.
fn write_kinds(path: &Path, tiles: usize) {
    let mut data = Vec::new();
    for y in 0..8 {
        for x in 0..tiles * 8 {
            let (tile, x) = (x / 8, x % 8);
            let first = if tile % 2 == 0 { y < 4 } else { x < 4 };
            let bright = 190 + (tile * 7 % 40) as u8;
            let red = if tile % 4 < 2 { bright } else { 30 };
            data.extend(if first { [red, bright, 40] } else { [20, 30, bright] });
        }
    }
    let size = ((tiles * 8) as u32, 8);
    write_png(path, size, png::ColorType::Rgb, png::BitDepth::Eight, &data, |_| {});
}

#[test]
fn classifier_learns_a_small_set_and_its_file_sees_the_same() {
    let folder = folder("judge_classifier");
    let sheet = folder.join("kinds.png");
    write_kinds(&sheet, 80);
    let config = DataConfig::sheet(&sheet, 8, 8);
    let data = Dataset::read(&config).unwrap();
    let lessons = Lessons { steps: 60, batch: 32, clusters: 4, ..Lessons::default() };
    let (shape, device) = (Shape::of(&config), Device::flex());
    let classifier = teach(&lessons, &data, None, shape, &device).unwrap();
    let about = classifier.about();
    assert_eq!((about.accuracy, about.held_out_images, about.train_images), (1.0, 8, 72));
    assert_eq!(about.names.len(), 4);

    let path = folder.join("classifier.safetensors");
    classifier.save(&path).unwrap();
    let loaded = Classifier::load(&path, &device).unwrap();
    assert_eq!(loaded.about(), classifier.about());
    let all: Vec<usize> = (0..80).collect();
    let images = Images::from_data(&data, shape, &all, |_| View::default());
    let (a, b) = (classifier.see(&images).unwrap(), loaded.see(&images).unwrap());
    assert_eq!(a.features, b.features);
    // Tiles of one kind are of one group, and kinds of different ones.
    for tile in 0..80 {
        for other in 0..4 {
            assert_eq!(a.classes[tile] == a.classes[other], tile % 4 == other, "{tile} {other}");
        }
    }
    let other = Images { shape: Shape { width: 4, ..shape }, pixels: vec![0.0; 4 * 8 * 3] };
    assert!(loaded.see(&other).is_err());
    // Another file, and one cut short, say what they are.
    std::fs::write(&path, std::fs::read(&sheet).unwrap()).unwrap();
    let message = format!("{:#}", Classifier::load(&path, &device).err().unwrap());
    assert!(message.contains("classifier.safetensors: not a safetensors file"), "{message}");
}

fn portraits() -> (DataConfig, Dataset) {
    let sheet = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/portraits_16x16.png");
    let config = DataConfig::sheet(sheet, 16, 16);
    let data = Dataset::read(&config).unwrap();
    (config, data)
}

#[test]
fn distance_of_real_portraits_grows_with_every_fault() {
    let (config, data) = portraits();
    let lessons = Lessons { steps: 300, batch: 32, ..Lessons::default() };
    let shape = Shape::of(&config);
    let classifier = teach(&lessons, &data, None, shape, &Device::flex()).unwrap();
    let images = |first: usize| {
        let indices: Vec<usize> = (first..first + 400).collect();
        Images::from_data(&data, shape, &indices, |_| View::default())
    };
    let (training, others) = (images(0), images(400));
    let training = classifier.see(&training).unwrap().features;
    let floor = classifier.see(&others).unwrap().features;
    let floor = frechet(&floor, &training);
    for fault in Fault::ALL {
        let mut last = floor;
        // A classifier of a few seconds does not tell the weakest faults yet.
        for strength in [0.7, 0.85, 1.0] {
            let faulty = classifier.see(&fault.of(&others, strength, 5)).unwrap().features;
            let distance = frechet(&faulty, &training);
            assert!(distance > last, "{fault:?} {strength}: {distance}, before {last}");
            last = distance;
        }
        assert!(last > 2.0 * floor, "{fault:?}: {last}, intact {floor}");
    }
}

#[test]
fn copies_of_training_images_are_seen_and_held_out_images_are_not_taken_for_copies() {
    let (config, data) = portraits();
    let shape = Shape::of(&config);
    let images = |indices: &[usize]| Images::from_data(&data, shape, indices, |_| View::default());
    let range = |first: usize, count: usize| -> Vec<usize> { (first..first + count).collect() };
    let training = range(0, 2000);
    let nearest = |images: &Images, own: Option<&[usize]>| {
        let mut nearest = Nearest::none(images.len());
        for part in training.chunks(700) {
            let set = self::images(&data, shape, part);
            let (dims, device) = (shape.item(), Device::flex());
            nearest.look_in(&images.pixels, &set.pixels, dims, part[0], own, &device).unwrap();
        }
        nearest
    };
    let held_out = nearest(&images(&range(3000, 300)), None);
    let unseen = nearest(&images(&range(4000, 300)), None);
    let honest = Nearness::of(&unseen.distance, &held_out.distance);
    assert!(!honest.suspicious, "{honest:?}");

    // A tenth of the samples are training images, a little noisy.
    let mut samples = images(&range(5000, 300));
    let copied = Fault::Noise.of(&images(&range(600, 30)), 0.05, 9);
    samples.pixels[..copied.pixels.len()].copy_from_slice(&copied.pixels);
    let found = nearest(&samples, None);
    assert_eq!(found.index[..30], range(600, 30));
    let copies = Nearness::of(&found.distance, &held_out.distance);
    assert!(copies.suspicious, "{copies:?}");
    assert!(copies.share_below_real_1 >= 0.1, "{copies:?}");

    // A training image is not its own neighbour where it is left out, and is at distance 0 else.
    let own = range(0, 300);
    let left_out = nearest(&images(&own), Some(&own));
    assert!(left_out.index.iter().zip(&own).all(|(found, own)| found != own));
    let itself = nearest(&images(&own), None);
    assert!(itself.distance.iter().all(|distance| *distance == 0.0));
}

fn images(data: &Dataset, shape: Shape, indices: &[usize]) -> Images {
    Images::from_data(data, shape, indices, |_| View::default())
}

#[test]
fn report_shows_the_numbers_of_its_file() {
    let folder = folder("judge_report");
    let config = write_run(&folder, 60, |config| config.train.steps = 2);
    program::succeed(&config, &[]);
    let out = folder.join("report <&>");
    let run = |arguments: &[&str]| {
        let mut command = program::program();
        command.arg("eval").arg(folder.join("out/checkpoint.safetensors")).arg("-o").arg(&out);
        let common = ["--classifier-steps", "8", "--groups", "3", "--count", "20"];
        let output = command.args(common).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let curve = ["--samplers", "ddim,dpmpp_2m", "--steps", "2,3", "--full-steps", "4"];
    let few = ["--sample-steps", "3", "--curve-count", "10"];
    let (done, message) = run(&[&curve[..], &few].concat());
    assert!(done, "{message}");
    assert!(folder.join("out/classifier.safetensors").exists());

    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    let json = std::fs::read_to_string(out.join("results.json")).unwrap();
    let results: serde_json::Value = serde_json::from_str(&json).unwrap();
    let shown = |value: &serde_json::Value| number(value.as_f64().unwrap_or(f64::NAN));
    let cells = |distance: &serde_json::Value| {
        ["frechet", "kernel", "kernel_error"].map(|name| shown(&distance[name])).to_vec()
    };
    let has_row = |cells: Vec<String>| {
        let row = cells.join("</td><td class=\"n\">");
        assert!(html.contains(&format!("<td>{row}<")), "no row {row} in the report");
    };
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_string();
    let list = |value: &serde_json::Value| value.as_array().unwrap().clone();
    assert_eq!(list(&results["distances"]).len(), 2);
    assert_eq!(list(&results["yardsticks"]).len(), 12);
    for name in ["distances", "yardsticks"] {
        for distance in list(&results[name]) {
            assert_eq!(distance["compared"], 20);
            has_row([vec![text(&distance["what"])], cells(&distance)].concat());
        }
    }
    let points = list(&results["curve"]);
    let ways: Vec<(String, u64)> = points
        .iter()
        .map(|point| (text(&point["sampler"]), point["steps"].as_u64().unwrap()))
        .collect();
    let expected = [("ddim", 2), ("ddim", 3), ("dpmpp_2m", 2), ("dpmpp_2m", 3), ("ddpm", 4)];
    assert_eq!(ways, expected.map(|(name, steps)| (name.to_string(), steps)));
    for point in &points {
        let head = vec![text(&point["sampler"]), point["steps"].to_string()];
        has_row([head, cells(&point["distance"])].concat());
    }
    for row in list(&results["recognised"]) {
        let counts = ["samples", "real"].map(|name| row[name].to_string());
        let [samples, real] = counts;
        let cells = [text(&row["name"]), "–".to_string(), samples, "–".to_string(), real];
        has_row(cells.to_vec());
    }
    for (what, name) in [("pixels", "pixels"), ("features", "features")] {
        for (kind, key) in [("samples", "sample_percentiles"), ("real images", "real_percentiles")]
        {
            let values = list(&results[name][key]);
            let head = vec![format!("{kind}, by {what}"), "20".to_string()];
            has_row([head, values.iter().map(shown).collect()].concat());
        }
    }
    // All in one file: nothing is fetched, and what it names is text.
    assert!(!html.contains("src=\"http") && !html.contains("<link") && !html.contains("<script"));
    assert_eq!(html.matches("data:image/png;base64,iVBORw0KGgo").count(), 4);
    assert_eq!(html.matches("<svg").count(), 2);

    // The second time the classifier is there; what cannot be is refused by name.
    let (done, message) = run(&[&["--full-steps", "0", "--curve-count", "0"], &few[..2]].concat());
    assert!(done && !message.contains("wrote the classifier"), "{message}");
    for (arguments, expected) in [
        (["--sampler", "magic"], "magic"),
        (["--steps", "2000"], "2000"),
        (["--sample-steps", "1001"], "steps: found 1001"),
        (["--guidance", "3"], "guidance"),
        (["--test-images", "nowhere"], "nowhere"),
        (["--classifier", "nowhere"], "nowhere"),
    ] {
        let (done, message) = run(&arguments);
        assert!(!done && message.contains(expected), "{arguments:?}: {message}");
        // Before a classifier is looked for, or trained.
        assert!(!message.contains("classifier: /"), "{arguments:?}: {message}");
    }
}
