//! Training runs from the outside: resume, what is refused, what is kept.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use common::program::{command, refuse, succeed, weights};
use common::{folder, write_run};
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::config::Config;
use ddpm_train::data::config::Fit;
use ddpm_train::loss_log::read_losses;
use ddpm_train::parameters::{Parameters, specs};

#[test]
fn run_killed_half_way_and_resumed_has_the_losses_of_an_uninterrupted_one() {
    const STEPS: usize = 200;
    let whole = folder("fit_whole");
    let change = |c: &mut Config| {
        c.train.steps = STEPS;
        (c.data.flip, c.data.shift) = (true, 2);
    };
    let config = write_run(&whole, 21, change);
    succeed(&config, &[]);
    let expected = read_losses(&whole.join("out/loss.csv")).unwrap();
    assert_eq!(expected.len(), STEPS);

    let cut = folder("fit_cut");
    let config = write_run(&cut, 21, change);
    let mut child = command(&config).stderr(Stdio::null()).spawn().unwrap();
    let log = cut.join("out/loss.csv");
    let started = Instant::now();
    // 73 lines: past the checkpoint of step 70, in the middle of an epoch of 21 images.
    while std::fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < 73 {
        assert!(started.elapsed() < Duration::from_secs(120), "the run does not get on");
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success());
    let checkpoint = Checkpoint::read(&cut.join("out/checkpoint.safetensors")).unwrap();
    assert!((70..STEPS).contains(&checkpoint.step), "killed too late, at {}", checkpoint.step);

    succeed(&config, &["--resume"]);
    assert_eq!(read_losses(&log).unwrap(), expected);
    assert_eq!(weights(&cut), weights(&whole));
}

#[test]
fn training_lowers_the_loss_and_moves_every_weight() {
    let folder = folder("fit_learns");
    let config = write_run(&folder, 16, |c| c.train.steps = 120);
    succeed(&config, &[]);
    let losses = read_losses(&folder.join("out/loss.csv")).unwrap();
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    // The network starts at output 0, so at the variance of the noise.
    assert!((0.9..1.1).contains(&losses[0]), "first loss {}", losses[0]);
    assert!(mean(&losses[100..]) < 0.6, "last losses {}", mean(&losses[100..]));

    let device = Device::flex();
    let config = Config::read(&config).unwrap();
    let specs = specs(&config.network());
    let first = Parameters::initial(specs, config.seed, &device).unwrap();
    let checkpoint = Checkpoint::read(&folder.join("out/checkpoint.safetensors")).unwrap();
    let last = checkpoint.state(&device).unwrap().parameters;
    for spec in first.specs() {
        let (a, b) = (first.values(&spec.name).unwrap(), last.values(&spec.name).unwrap());
        assert_ne!(a, b, "{} did not move", spec.name);
    }
}

#[test]
fn fewer_images_than_a_batch_train() {
    for tiles in [1, 3] {
        let folder = folder(&format!("fit_few_{tiles}"));
        succeed(&write_run(&folder, tiles, |c| c.train.batch = 8), &[]);
    }
}

#[test]
fn run_writes_loss_curve_and_sample_grids() {
    let folder = folder("fit_pictures");
    let config = write_run(&folder, 4, |c| {
        c.report.sample_every = 6;
        c.report.samples = 5;
    });
    succeed(&config, &[]);
    let svg = std::fs::read_to_string(folder.join("out/loss.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("<polyline"));
    for step in ["000006", "000012"] {
        let file = std::fs::File::open(folder.join(format!("out/samples_{step}.png"))).unwrap();
        let reader = png::Decoder::new(std::io::BufReader::new(file)).read_info().unwrap();
        // 5 pictures: 3 columns, 2 rows; 8 pixels enlarged 4 times, and a border of 4.
        assert_eq!((reader.info().width, reader.info().height), (3 * 36 + 4, 2 * 36 + 4));
    }
}

#[test]
fn existing_run_is_not_overwritten_and_another_is_not_resumed() {
    let folder = folder("fit_refuses");
    let config = write_run(&folder, 4, |_| {});
    let message = refuse(&config, &["--resume"]);
    assert!(
        message.contains("cannot read") && message.contains("checkpoint.safetensors"),
        "{message}"
    );
    succeed(&config, &[]);
    let before = std::fs::read(folder.join("out/checkpoint.safetensors")).unwrap();
    let message = refuse(&config, &[]);
    assert!(message.contains("exists") && message.contains("--resume"), "{message}");
    let changes: [fn(&mut Config); 2] = [|c| c.train.learning_rate = 1e-4, |c| c.data.flip = true];
    for change in changes {
        let other = write_run(&folder, 4, change);
        let message = refuse(&other, &["--resume"]);
        assert!(message.contains("another configuration"), "{message}");
    }
    assert_eq!(std::fs::read(folder.join("out/checkpoint.safetensors")).unwrap(), before);
}

#[test]
fn damaged_checkpoints_are_named_and_left_alone() {
    let folder = folder("fit_damaged");
    let config = write_run(&folder, 4, |_| {});
    succeed(&config, &[]);
    let path = folder.join("out/checkpoint.safetensors");
    let whole = std::fs::read(&path).unwrap();
    let text = b"not a checkpoint".to_vec();
    for (bytes, part) in [
        (whole[..whole.len() / 2].to_vec(), "checkpoint"),
        (whole[..40].to_vec(), "not a safetensors file, or cut short"),
        (text, "not a safetensors file, or cut short"),
        (Vec::new(), "not a safetensors file, or cut short"),
    ] {
        std::fs::write(&path, &bytes).unwrap();
        let message = refuse(&config, &["--resume"]);
        assert!(message.contains(part) && message.contains("checkpoint.safetensors"), "{message}");
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn diverging_run_stops_with_an_error_and_its_last_checkpoint() {
    let folder = folder("fit_diverges");
    let config = write_run(&folder, 4, |c| {
        c.train.steps = 200;
        c.train.learning_rate = 1e30;
        c.train.warmup_steps = 0;
        c.report.checkpoint_every = 1;
    });
    let message = refuse(&config, &[]);
    assert!(message.contains("the loss is") && message.contains("learning_rate"), "{message}");
    let checkpoint = Checkpoint::read(&folder.join("out/checkpoint.safetensors")).unwrap();
    assert!(checkpoint.step >= 1);
    assert!(!folder.join("out/checkpoint.safetensors.partial").exists());
}

#[test]
fn configurations_that_cannot_work_are_refused_by_name() {
    let folder = folder("fit_config");
    type Case = (fn(&mut Config), &'static str);
    let cases: [Case; 19] = [
        (|c| c.model.channels = vec![], "model.channels is empty"),
        (|c| c.model.channels = vec![8, 18], "model.channels has 18"),
        (|c| c.model.heads = 3, "model.heads is 3"),
        (|c| c.model.time_dim = 7, "model.time_dim is 7"),
        (|c| c.model.channels = vec![8; 5], "multiples of 16"),
        (|c| c.data.height = 6, "expected multiples of the 8x6 of a tile"),
        (|c| c.data.width = 0, "images of 0x8"),
        (|c| c.data.shift = 5, "data.shift is 5"),
        (|c| c.data.folder = Some("pictures".into()), "both folder and sheet"),
        (|c| c.data.sheet = None, "neither folder nor sheet"),
        (|c| c.data.fit = Some(Fit::Pad), "data.fit is for a folder"),
        (|c| c.train.batch = 0, "train.batch is 0"),
        (|c| c.train.accumulate = 0, "train.accumulate is 0"),
        (
            |c| c.train.precision = "bf16".into(),
            "train.precision is \"bf16\", expected \"f32\": on a CPU",
        ),
        (|c| c.train.precision = "f23".into(), "train.precision is \"f23\", expected \"f32\""),
        (|c| c.train.learning_rate = f64::NAN, "train.learning_rate is NaN"),
        (|c| c.diffusion.beta_end = 1.5, "beta"),
        (|c| c.diffusion.prediction_type = "noise".into(), "prediction_type: found \"noise\""),
        (|c| c.report.sample_steps = 1001, "report.sample_steps is 1001"),
    ];
    for (change, part) in cases {
        let message = refuse(&write_run(&folder, 4, change), &[]);
        assert!(message.contains(part), "expected {part:?} in: {message}");
        assert!(!folder.join("out/checkpoint.safetensors").exists());
    }
    let path = write_run(&folder, 4, |_| {});
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("warmup_steps", "warmup_stpes")).unwrap();
    assert!(refuse(&path, &[]).contains("warmup_stpes"));
}
