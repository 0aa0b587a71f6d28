//! What a command writes is never what it reads, nor what cannot be made again.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::program::{has_partial, message, program, succeed};
use common::{contents, copy_files, folder, write_run};

/// A folder with a trained run, its pictures and a model to import.
fn trained(name: &str) -> PathBuf {
    let folder = folder(name);
    let config = write_run(&folder, 60, |config| {
        // Fewer than the commands draw with where nothing is said.
        (config.train.steps, config.diffusion.num_train_timesteps) = (2, 20);
    });
    succeed(&config, &[]);
    fs::rename(folder.join("out/checkpoint.safetensors"), folder.join("c.safetensors")).unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import/paper");
    fs::create_dir(folder.join("model")).unwrap();
    copy_files(&model, &folder.join("model"));
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    program().current_dir(folder).args(arguments).output().unwrap()
}

#[test]
fn output_that_is_an_input_or_a_checkpoint_is_refused_and_nothing_is_lost() {
    let folder = trained("outputs_inputs");
    fs::copy(folder.join("c.safetensors"), folder.join("other.safetensors")).unwrap();
    fs::copy(folder.join("sheet.png"), folder.join("copy.png")).unwrap();
    fs::hard_link(folder.join("sheet.png"), folder.join("same.png")).unwrap();
    fs::hard_link(folder.join("c.safetensors"), folder.join("same.onnx")).unwrap();
    fs::write(folder.join("beside.toml"), "edited by hand").unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("sheet.png", folder.join("link.png")).unwrap();
        std::os::unix::fs::symlink("c.safetensors", folder.join("c.png")).unwrap();
        std::os::unix::fs::symlink("nothing.png", folder.join("nowhere.png")).unwrap();
    }
    fs::create_dir(folder.join("folder.png")).unwrap();
    let before = contents(&folder);
    let c = "c.safetensors";
    let mut cases = vec![
        (vec!["export", c, "-o", c], "expected a name that ends in .onnx"),
        (vec!["export", c, "-o", "same.onnx"], "which is read"),
        (vec!["export", c, "--weights", c], "which is read"),
        (vec!["export", c, "--weights", "other.safetensors"], "is a checkpoint"),
        (vec!["export", c, "-o", "x.onnx", "--weights", "x.onnx"], "ends in .safetensors"),
        (vec!["export", c, "-o", "nowhere/x.onnx"], "cannot write nowhere/x.onnx"),
        (vec!["export", c, "-o", "model"], "expected a name that ends in .onnx"),
        (vec!["sample", c, "-o", c], "expected a name that ends in .png"),
        (vec!["sample", c, "-o", "s.jpg"], "expected a name that ends in .png"),
        (vec!["sample", c, "-o", "folder.png"], "not a file"),
        (vec!["noise", "sheet.png", "-o", "sheet.png"], "which is read"),
        (vec!["noise", "sheet.png", "-o", "./folder.png/../sheet.png"], "which is read"),
        (vec!["noise", "sheet.png", "-o", "same.png"], "which is read"),
        (vec!["noise", "sheet.png", "--config", "copy.png", "-o", "copy.png"], "which is read"),
        (vec!["classifier", "--config", "config.toml", "-o", c], "is a checkpoint"),
        (vec!["classifier", "--config", "config.toml", "-o", "config.toml"], "ends in"),
        (vec!["import", "model", "-o", c], "exists"),
        (vec!["import", "model", "-o", "beside.safetensors"], "beside.toml exists"),
        (vec!["import", "model", "-o", "x.toml"], "ends in .safetensors"),
        (vec!["new", "model", "-o", "beside.toml"], "exists"),
        (vec!["eval", c, "-o", "sheet.png"], "cannot make sheet.png"),
    ];
    if cfg!(unix) {
        cases.extend([
            (vec!["noise", "sheet.png", "-o", "link.png"], "which is read"),
            (vec!["sample", c, "-o", "c.png"], "which is read"),
            (vec!["sample", "other.safetensors", "-o", "c.png"], "is a checkpoint"),
            (vec!["sample", c, "-o", "nowhere.png"], "cannot write nowhere.png"),
        ]);
    }
    for (arguments, expected) in cases {
        let output = run(&folder, &arguments);
        let message = message(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
        assert!(message.contains(expected), "{arguments:?}: {message}");
        assert_eq!(contents(&folder), before, "{arguments:?}");
    }
}

#[cfg(unix)]
#[test]
fn link_leads_the_output_to_its_file_and_a_device_is_left_as_it_is() {
    let folder = trained("outputs_links");
    fs::create_dir(folder.join("elsewhere")).unwrap();
    fs::write(folder.join("elsewhere/picture.png"), "old").unwrap();
    std::os::unix::fs::symlink("elsewhere/picture.png", folder.join("link.png")).unwrap();
    let sample = |out| run(&folder, &["sample", "c.safetensors", "-o", out]);
    let output = sample("link.png");
    assert!(output.status.success(), "{}", message(&output));
    assert!(message(&output).contains("wrote link.png"), "{}", message(&output));
    assert!(folder.join("link.png").is_symlink());
    image::open(folder.join("elsewhere/picture.png")).unwrap();

    // A pipe stands for all that is no file.
    let pipe = folder.join("pipe.png");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let output = sample("pipe.png");
    assert_eq!(output.status.code(), Some(1), "{}", message(&output));
    assert!(message(&output).contains("pipe.png: not a file"), "{}", message(&output));
    assert!(!fs::symlink_metadata(&pipe).unwrap().is_file());
    assert!(!has_partial(&folder));
}

#[test]
fn classifier_that_does_not_fit_is_neither_used_nor_replaced() {
    let folder = trained("outputs_classifier");
    let few = ["--classifier-steps", "4", "--groups", "3"];
    let teach = |steps| {
        let output = run(
            &folder,
            &[
                "classifier",
                "--config",
                "config.toml",
                "-o",
                "classifier.safetensors",
                "--classifier-steps",
                steps,
                "--groups",
                "3",
            ],
        );
        assert!(output.status.success(), "{}", message(&output));
    };
    let eval = || {
        let arguments = [
            "eval",
            "c.safetensors",
            "-o",
            "report",
            "--count",
            "10",
            "--curve-count",
            "0",
            "--full-steps",
            "0",
        ];
        let output = run(&folder, &[&arguments[..], &few].concat());
        assert!(output.status.success(), "{}", message(&output));
        message(&output)
    };
    let path = folder.join("classifier.safetensors");
    teach("6");
    let others = fs::read(&path).unwrap();
    let said = eval();
    let says = said.contains("learned from other images or in another way");
    assert!(says && said.contains("not kept") && said.contains("--classifier"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), others);
    fs::copy(folder.join("c.safetensors"), &path).unwrap();
    assert!(eval().contains("not a classifier written by ddpm-train. Another is trained"));
    assert_eq!(fs::read(&path).unwrap(), fs::read(folder.join("c.safetensors")).unwrap());
    fs::remove_file(&path).unwrap();
    teach("4");
    assert!(eval().contains("classifier: classifier.safetensors"), "{}", eval());
    fs::remove_file(&path).unwrap();
    assert!(eval().contains("classifier: wrote classifier.safetensors"));
}

/// A command with its words going to a full disk, or to nobody.
#[cfg(target_os = "linux")]
fn unheard(folder: &Path, arguments: &[&str], full: bool, stderr: bool) -> Output {
    let nobody = || -> Stdio {
        if full {
            return fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into();
        }
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        writer.into()
    };
    let mut command = program();
    command.current_dir(folder).args(arguments).stdout(nobody());
    if stderr {
        command.stderr(nobody());
    }
    command.output().unwrap()
}

#[cfg(target_os = "linux")]
#[test]
fn work_goes_on_where_nobody_hears_of_it() {
    let folder = trained("outputs_unheard");
    let config = folder.join("config.toml");
    let config = config.to_str().unwrap();
    let few = ["--classifier-steps", "4", "--groups", "3"];
    let eval = ["eval", "c.safetensors", "-o", "report", "--count", "10", "--full-steps", "0"];
    let eval = [&eval[..], &["--curve-count", "0"], &few].concat();
    let likelihood = ["likelihood", "c.safetensors", "--count", "2", "--every", "500"];
    let classifier = ["classifier", "--config", config, "-o", "k.safetensors"];
    let classifier = [&classifier[..], &few].concat();
    let results: [(&str, Vec<&str>, &str); 3] = [
        ("eval", eval, "report/report.html"),
        ("likelihood", likelihood.to_vec(), "c.safetensors"),
        ("classifier", classifier, "k.safetensors"),
    ];
    for (name, arguments, file) in &results {
        let output = unheard(&folder, arguments, false, true);
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(folder.join(file).exists(), "{name}");
        // A result that is lost is an error, but of the disk, not of the program.
        let output = unheard(&folder, arguments, true, false);
        let message = message(&output);
        assert_eq!(output.status.code(), Some(1), "{name}: {message}");
        let names = message.contains("cannot write the standard output: No space left");
        assert!(names && !message.contains("panicked"), "{name}: {message}");
    }

    let whole = fs::read(folder.join("out/loss.csv")).unwrap();
    for full in [true, false] {
        let arguments = ["fit", "--config", config, "--out", if full { "full" } else { "closed" }];
        let output = unheard(&folder, &arguments, full, true);
        assert_eq!(output.status.code(), Some(0));
        let log = fs::read(folder.join(arguments[4]).join("loss.csv")).unwrap();
        assert_eq!(log.iter().filter(|byte| **byte == b'\n').count(), 3);
        assert_eq!(log[..40], whole[..40]);
    }
}
