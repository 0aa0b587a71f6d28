//! Training runs from the outside: resume, what is refused, what is kept.

mod common;

use std::process::Stdio;
use std::time::{Duration, Instant};

use burn::tensor::Device;
use common::program::{checkpoint, command, has_partial, refuse, succeed, weights};
use common::{folder, write_run};
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::config::Config;
use ddpm_train::data::config::Fit;
use ddpm_train::loss_log::{read_losses, read_rows};
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
    assert!(svg.starts_with("<svg") && svg.contains("<polyline") && svg.contains("learning rate"));
    let open = |name: &str| image::open(folder.join("out").join(name)).unwrap().into_rgb8();
    assert_eq!(open("loss.png").dimensions(), (1280, 880));
    let strip = open("progress.png");
    // The steps stand left of the pictures.
    let left = strip.width() - (3 * 36 + 4);
    assert_eq!(strip.height(), 2 * 36 + 4);
    assert!(strip.enumerate_pixels().any(|(x, _, pixel)| x < left && pixel.0 == [0; 3]));
    for (row, step) in [(0, "000006"), (1, "000012")] {
        let grid = open(&format!("samples_{step}.png"));
        // 5 pictures: 3 columns, 2 rows; 8 pixels enlarged 4 times, and a border of 4.
        assert_eq!(grid.dimensions(), (3 * 36 + 4, 2 * 36 + 4));
        for (x, y, pixel) in
            strip.enumerate_pixels().filter(|(x, y, _)| *x >= left && y / 36 == row)
        {
            assert_eq!(pixel, grid.get_pixel(x - left, y - row * 36), "step {step} at {x}, {y}");
        }
    }
}

#[test]
fn pictures_on_the_way_and_the_average_leave_the_run_as_it_is() {
    let run = |name: &str, change: fn(&mut Config)| {
        let folder = folder(name);
        succeed(&write_run(&folder, 4, change), &[]);
        let state = checkpoint(&folder).state(&Device::flex()).unwrap();
        let values = |p: &Parameters| -> Vec<Vec<f32>> {
            p.specs().iter().map(|s| p.values(&s.name).unwrap()).collect()
        };
        let losses = read_losses(&folder.join("out/loss.csv")).unwrap();
        (losses, values(&state.parameters), values(&state.ema))
    };
    let without = run("fit_no_pictures", |_| {});
    let with = run("fit_all_pictures", |c| c.report.sample_every = 1);
    assert_eq!(with, without);
    assert_ne!(without.1, without.2, "the average has weights of its own");
    let short = run("fit_short_average", |c| c.train.ema_decay = 0.1);
    assert_eq!((short.0, short.1), (without.0, without.1));
    assert_ne!(short.2, without.2);
}

#[test]
fn event_file_has_a_record_for_every_step_and_picture() {
    let folder = folder("fit_events");
    let config = write_run(&folder, 4, |c| {
        (c.report.tensorboard, c.report.sample_every) = (true, 6);
    });
    succeed(&config, &[]);
    let files: Vec<_> = std::fs::read_dir(folder.join("out"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains("events.out.tfevents."))
        .collect();
    let bytes = std::fs::read(&files[0]).unwrap();
    let mut records = Vec::new();
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
        records.push(&rest[12..12 + length]);
        rest = &rest[16 + length..];
    }
    let with =
        |part: &[u8]| records.iter().filter(|r| r.windows(part.len()).any(|w| w == part)).count();
    assert_eq!((files.len(), records.len()), (1, 1 + 12 + 2));
    assert!(records[0].ends_with(b"brain.Event:2"));
    assert_eq!((with(b"learning_rate"), with(b"\x89PNG")), (12, 2));
    // Step 12, the first field after the time, and its loss as a float.
    let losses = read_losses(&folder.join("out/loss.csv")).unwrap();
    let loss = [b"\x0a\x04loss\x15".as_slice(), &(losses[11] as f32).to_le_bytes()].concat();
    let last = records.iter().find(|r| r.windows(loss.len()).any(|w| w == loss)).unwrap();
    assert_eq!(last[9..11], [0x10, 12]);
}

#[test]
fn checkpoints_are_kept_for_later_and_a_run_goes_on_from_them() {
    let folder = folder("fit_kept");
    let config = write_run(&folder, 4, |c| {
        (c.report.checkpoint_every, c.report.keep_checkpoints) = (3, 2);
    });
    succeed(&config, &[]);
    let out = folder.join("out");
    let expected = (read_losses(&out.join("loss.csv")).unwrap(), weights(&folder));
    let kept = |step: usize| out.join(format!("checkpoint_{step:06}.safetensors"));
    assert_eq!([3, 6, 9, 12].map(|step| kept(step).exists()), [false, false, true, true]);
    std::fs::copy(kept(9), out.join("checkpoint.safetensors")).unwrap();
    assert_eq!([9, 12].map(|step| Checkpoint::read(&kept(step)).unwrap().step), [9, 12]);
    assert_eq!(checkpoint(&folder).step, 9);
    succeed(&config, &["--resume"]);
    assert_eq!((read_losses(&out.join("loss.csv")).unwrap(), weights(&folder)), expected);
}

#[test]
fn run_goes_on_without_its_log_or_with_a_damaged_one() {
    let folder = folder("fit_log");
    let config = write_run(&folder, 4, |c| c.report.keep_checkpoints = 9);
    succeed(&config, &[]);
    let log = folder.join("out/loss.csv");
    let whole = std::fs::read(&log).unwrap();
    let losses = read_losses(&log).unwrap();
    let lines: Vec<&[u8]> = whole.split_inclusive(|&byte| byte == b'\n').collect();
    let two_columns: String =
        losses.iter().enumerate().map(|(i, loss)| format!("{},{loss}\n", i + 1)).collect();
    // The log, and of the 5 steps of the checkpoint those that it has.
    let cases: [(Option<Vec<u8>>, &[usize]); 7] = [
        (None, &[]),
        (Some(Vec::new()), &[]),
        (Some(b"\xff\0\n\xff,1\n".to_vec()), &[]),
        (Some(lines[..4].concat()), &[1, 2, 3]),
        (Some([lines[..4].concat(), lines[4][..6].to_vec()].concat()), &[1, 2, 3]),
        (Some([lines[..2].concat(), lines[3..].concat()].concat()), &[1, 3, 4, 5]),
        (Some(format!("step,loss\n{two_columns}").into_bytes()), &[1, 2, 3, 4, 5]),
    ];
    for (bytes, steps) in cases {
        let out = folder.join("out");
        std::fs::copy(
            out.join("checkpoint_000005.safetensors"),
            out.join("checkpoint.safetensors"),
        )
        .unwrap();
        std::fs::remove_file(&log).unwrap();
        if let Some(bytes) = &bytes {
            std::fs::write(&log, bytes).unwrap();
        }
        let message = succeed(&config, &["--resume"]);
        let note = format!("loss.csv: has no line of {} of the 5 steps taken", 5 - steps.len());
        assert_eq!(message.contains(&note), steps.len() < 5, "{message}");
        let rows = read_rows(&log).unwrap();
        let expected: Vec<usize> = steps.iter().copied().chain(6..=12).collect();
        assert_eq!(rows.iter().map(|row| row.step).collect::<Vec<_>>(), expected);
        assert!(rows.iter().all(|row| row.loss == losses[row.step - 1]));
    }
}

#[test]
fn checkpoint_of_an_older_version_goes_on() {
    let folder = folder("fit_older");
    let config = write_run(&folder, 4, |c| c.report.keep_checkpoints = 9);
    succeed(&config, &[]);
    let out = folder.join("out");
    let expected = (read_losses(&out.join("loss.csv")).unwrap(), weights(&folder));
    let bytes = std::fs::read(out.join("checkpoint_000005.safetensors")).unwrap();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let text = &mut header["__metadata__"]["ddpm-train.config"];
    let mut value: serde_json::Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    // What a configuration had in the first version that wrote checkpoints.
    let sections: [(&str, &[&str]); 5] = [
        ("data", &["sheet", "width", "height", "flip", "shift"]),
        ("model", &["channels", "blocks", "groups", "heads", "time_dim"]),
        (
            "diffusion",
            &["prediction_type", "beta_schedule", "beta_start", "beta_end", "num_train_timesteps"],
        ),
        (
            "train",
            &[
                "steps",
                "batch",
                "learning_rate",
                "warmup_steps",
                "weight_decay",
                "max_grad_norm",
                "ema_decay",
            ],
        ),
        ("report", &["checkpoint_every", "sample_every", "samples", "sample_steps"]),
    ];
    let known = |name: &str| sections.iter().any(|(section, _)| *section == name);
    value
        .as_object_mut()
        .unwrap()
        .retain(|name, _| known(name) || ["seed", "out"].contains(&&**name));
    for (section, fields) in sections {
        let section = value[section].as_object_mut().unwrap();
        let before = section.len();
        section.retain(|name, _| fields.contains(&&**name));
        assert!(section.len() == fields.len() && section.len() <= before);
    }
    *text = serde_json::to_string(&value).unwrap().into();
    let metadata = header["__metadata__"].as_object_mut().unwrap();
    metadata.remove("ddpm-train.images");
    metadata.remove("ddpm-train.checksum");
    metadata.insert("ddpm-train.version".into(), "1".into());
    let mut header = serde_json::to_vec(&header).unwrap();
    header.resize(header.len().next_multiple_of(8), b' ');
    let older = [&(header.len() as u64).to_le_bytes(), &header[..], &bytes[8 + length..]].concat();
    std::fs::write(out.join("checkpoint.safetensors"), older).unwrap();
    succeed(&config, &["--resume"]);
    assert_eq!((read_losses(&out.join("loss.csv")).unwrap(), weights(&folder)), expected);
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
    type Change = fn(&mut Config);
    let changes: [(Change, &str); 5] = [
        (|c| c.train.learning_rate = 1e-4, "train.learning_rate was 0.002, and is 0.0001"),
        (|c| c.data.flip = true, "data.flip was false, and is true"),
        (|c| c.data.jitter.hue = 0.5, "data.jitter was not given, and is {"),
        (|c| c.model.channels = vec![8, 8], "model.channels was [8,16], and is [8,8]"),
        (|c| c.seed = 9, "seed was 3, and is 9"),
    ];
    for (change, expected) in changes {
        let other = write_run(&folder, 4, change);
        let message = refuse(&other, &["--resume"]);
        let names = message.contains("another configuration") && message.contains("--from");
        assert!(names && message.contains(expected), "{message}");
    }
    assert_eq!(std::fs::read(folder.join("out/checkpoint.safetensors")).unwrap(), before);
}

#[test]
fn what_a_run_would_write_over_is_refused_before_the_first_step() {
    let folder = folder("fit_over");
    let config = write_run(&folder, 4, |c| {
        (c.report.checkpoint_every, c.report.keep_checkpoints) = (6, 2);
    });
    succeed(&config, &[]);
    let out = folder.join("out");
    let kept = out.join("checkpoint_000012.safetensors");
    std::fs::remove_file(out.join("checkpoint.safetensors")).unwrap();
    // States of a run whose newest is gone.
    for arguments in [&[][..], &["--from", kept.to_str().unwrap()]] {
        let message = refuse(&config, arguments);
        let says = message.contains("checkpoint_000012.safetensors exists; copy it to");
        assert!(says && message.contains("--resume"), "{message}");
    }
    assert_eq!(Checkpoint::read(&kept).unwrap().step, 12);

    // A checkpoint that may not be written.
    let path = out.join("checkpoint.safetensors");
    std::fs::copy(out.join("checkpoint_000006.safetensors"), &path).unwrap();
    let mut permissions = std::fs::metadata(&path).unwrap().permissions();
    permissions.set_readonly(true);
    std::fs::set_permissions(&path, permissions).unwrap();
    let log = std::fs::read(out.join("loss.csv")).unwrap();
    let message = refuse(&config, &["--resume"]);
    assert!(message.contains("it may not be written"), "{message}");
    assert_eq!(std::fs::read(out.join("loss.csv")).unwrap(), log);

    // The sheet, and the configuration, under names that a run writes.
    for (place, name) in [("a", "samples_000006.png"), ("b", "loss.png"), ("c", "progress.png")] {
        let out = folder.join(place);
        std::fs::create_dir(&out).unwrap();
        std::fs::copy(folder.join("sheet.png"), out.join(name)).unwrap();
        let config = write_run(&folder, 4, |c| {
            c.data.sheet = Some(out.join(name));
            c.out = out.clone();
        });
        let message = refuse(&config, &[]);
        assert!(message.contains(name) && message.contains("is read, and would be"), "{message}");
        assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1);
    }
    let csv = folder.join("c/loss.csv");
    std::fs::copy(&config, &csv).unwrap();
    let message = refuse(&csv, &["--out", folder.join("c").to_str().unwrap()]);
    assert!(message.contains("loss.csv: would be written over"), "{message}");
    assert_eq!(std::fs::read(&csv).unwrap(), std::fs::read(&config).unwrap());
}

#[cfg(unix)]
#[test]
fn folder_whose_name_is_no_text_is_refused_before_the_first_step() {
    use std::os::unix::ffi::OsStrExt;

    let folder = folder("fit_no_text");
    let config = write_run(&folder, 4, |_| {});
    let out = folder.join(std::ffi::OsStr::from_bytes(b"out\xff"));
    let output = command(&config).arg("--out").arg(&out).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("the path is not UTF-8") && message.contains("out"), "{message}");
    assert!(!out.exists());
}

#[cfg(unix)]
#[test]
fn checkpoint_that_others_may_not_read_stays_so() {
    use std::os::unix::fs::PermissionsExt;

    let folder = folder("fit_mode");
    let config = write_run(&folder, 4, |c| c.train.steps = 4);
    let path = folder.join("out/checkpoint.safetensors");
    let mode = || std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
    succeed(&config, &[]);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let config = write_run(&folder, 4, |c| c.train.steps = 4);
    let saved = Checkpoint::read(&path).unwrap();
    let state = saved.state(&Device::flex()).unwrap();
    ddpm_train::checkpoint::save(&path, &saved.config, "none", &state).unwrap();
    assert_eq!(mode(), 0o600);
    assert!(succeed(&config, &["--resume"]).contains("4 steps were taken before"));
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
    // A single bit of the header: a step, a timestep, a name.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for place in (8..header).step_by(11) {
        let mut bytes = whole.clone();
        bytes[place] ^= 1 << (place % 7);
        std::fs::write(&path, &bytes).unwrap();
        let around = String::from_utf8_lossy(&bytes[place.saturating_sub(20)..place + 1]);
        assert!(Checkpoint::read(&path).is_err(), "{place} of {header}: {around}");
    }
    // A single bit of a single value.
    for place in [whole.len() - 1, whole.len() / 2, whole.len() * 3 / 4] {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let message = refuse(&config, &["--resume"]);
        assert!(message.contains("is damaged") && message.contains("checksum"), "{message}");
    }
}

#[test]
fn pictures_that_a_killed_run_did_not_draw_are_drawn_when_it_goes_on() {
    let folder = folder("fit_pictures_due");
    let config = write_run(&folder, 4, |c| {
        (c.train.steps, c.report.checkpoint_every, c.report.sample_every) = (12, 4, 4);
    });
    succeed(&config, &[]);
    let picture = |step: usize| folder.join(format!("out/samples_{step:06}.png"));
    let [due, older] = [12, 8].map(|step| std::fs::read(picture(step)).unwrap());
    for (step, left) in [(12, &older), (8, &due)] {
        std::fs::remove_file(picture(step)).unwrap();
        succeed(&config, &["--resume"]);
        assert_eq!(picture(step).exists(), step == 12, "only that of the checkpoint's step");
        let other = std::fs::read(picture(if step == 12 { 8 } else { 12 })).unwrap();
        assert_eq!(&other, left);
    }
}

#[cfg(unix)]
#[test]
fn checkpoint_that_is_a_link_stays_one_and_older_states_are_kept_as_they_were() {
    use std::os::unix::fs::symlink;

    let folder = folder("fit_links");
    let (out, store) = (folder.join("out"), folder.join("store"));
    let config = write_run(&folder, 4, |c| {
        (c.train.steps, c.report.checkpoint_every, c.report.keep_checkpoints) = (12, 4, 3);
    });
    std::fs::create_dir(&store).unwrap();
    std::fs::create_dir(&out).unwrap();
    // A link to nothing is refused at once, not at the first checkpoint.
    let link = out.join("checkpoint.safetensors");
    symlink("../store/c.safetensors", &link).unwrap();
    let message = refuse(&config, &[]);
    assert!(message.contains("checkpoint.safetensors exists"), "{message}");
    std::fs::remove_file(&link).unwrap();

    succeed(&config, &[]);
    let kept = |step: usize| out.join(format!("checkpoint_{step:06}.safetensors"));
    let whole = weights(&folder);
    std::fs::rename(kept(4), store.join("c.safetensors")).unwrap();
    std::fs::remove_file(&link).unwrap();
    symlink("../store/c.safetensors", &link).unwrap();
    assert!(succeed(&config, &["--resume"]).contains("wrote "));
    assert!(link.is_symlink());
    assert_eq!(weights(&folder), whole);
    let state = |step: usize| Checkpoint::read(&kept(step)).unwrap().step;
    assert_eq!([8, 12].map(state), [8, 12]);

    // And once more, with nothing left to do.
    let message = succeed(&config, &["--resume"]);
    let says = message.contains("all 12 steps were taken before");
    assert!(says && !message.contains("wrote"), "{message}");
}

#[test]
fn warm_up_that_outlasts_the_run_is_said() {
    let folder = folder("fit_warm_up");
    let config = write_run(&folder, 4, |c| (c.train.steps, c.train.warmup_steps) = (2, 2));
    let message = succeed(&config, &[]);
    assert!(message.contains("train.warmup_steps is 2 of 2 steps"), "{message}");
    let config = write_run(&folder, 4, |c| (c.train.steps, c.train.warmup_steps) = (3, 2));
    let message = succeed(&config, &["--out", folder.join("other").to_str().unwrap()]);
    assert!(!message.contains("warmup_steps"), "{message}");
}

#[test]
fn diverging_run_stops_with_an_error_and_its_last_good_checkpoint() {
    let folder = folder("fit_diverges");
    let config = write_run(&folder, 4, |c| {
        // A rate that rises by a third each step.
        (c.train.steps, c.train.warmup_steps, c.train.learning_rate) = (1000, 300, 100.0);
        c.report.checkpoint_every = 1;
    });
    let message = refuse(&config, &[]);
    let advises = message.contains("learning_rate") && message.contains("at step");
    assert!(advises && message.contains("does not converge"), "{message}");
    let checkpoint = checkpoint(&folder);
    let losses = read_losses(&folder.join("out/loss.csv")).unwrap();
    assert!(
        (1..losses.len()).contains(&checkpoint.step),
        "{} of {}",
        checkpoint.step,
        losses.len()
    );
    // Step n is logged with the loss of the weights of before it. All after the checkpoint was bad.
    assert!(losses[checkpoint.step] < 10.5, "{losses:?}");
    assert!(losses[checkpoint.step + 1..].iter().all(|loss| *loss > 9.5), "{losses:?}");
    assert!(!has_partial(&folder.join("out")));
    assert_eq!(refuse(&config, &["--resume"]).lines().last(), message.lines().last());
}

#[test]
fn configurations_that_cannot_work_are_refused_by_name() {
    let folder = folder("fit_config");
    type Case = (fn(&mut Config), &'static str);
    let cases: [Case; 21] = [
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
        (|c| c.report.samples = 4097, "report.samples is 4097, expected 1 to 4096"),
        (
            // Three terabytes of activations.
            |c| {
                (c.model.channels, c.model.blocks) = (vec![4096, 16], 8);
                c.train.batch = 65536;
            },
            "for a batch of 65536 images",
        ),
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

#[cfg(not(feature = "_gpu"))]
#[test]
fn program_without_gpus_says_how_one_with_them_is_built() {
    let config = write_run(&folder("fit_device"), 5, |_| {});
    let message = refuse(&config, &["--device", "gpu:1"]);
    assert!(message.contains("gpu:1") && message.contains("--features wgpu"), "{message}");
    let output = command(&config).args(["--device", "cuda"]).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && message.contains("gpu:N"), "{message}");
}
