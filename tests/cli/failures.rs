//! How the tool fails: the exit code, a message one can act on, and files left as they were.

use std::path::Path;

use crate::common::{Folder, model};
use crate::{command, ddpm, ddpm_with, files_in, text, words};

/// Fails with `code`, says each of `parts` on standard error, and nothing on standard output.
fn check(done: crate::Done, code: i32, parts: &[&str]) {
    assert_eq!((done.code, done.stdout.as_str()), (code, ""), "{done:?}");
    assert!(done.stderr.starts_with("ddpm: error: "), "{done:?}");
    for part in parts {
        assert!(done.stderr.contains(part), "{part}: {}", done.stderr);
    }
}

#[test]
fn wrong_usage_and_arguments_are_2() {
    let folder = Folder::new("cli-usage");
    let output = folder.0.join("x.png");
    let run = |options: &str| command("run", &model("lin"), options, Some(&output));
    check(ddpm(["rnu"]), 2, &["unrecognized subcommand 'rnu'"]);
    check(run("--stesp 3"), 2, &["--stesp"]);
    check(run("--steps 0"), 2, &["steps: found 0, expected 1 to 1000"]);
    check(run("--steps 3 --timesteps 5,1"), 2, &["--timesteps", "cannot be used with"]);
    check(run("--timesteps 5,10"), 2, &["timesteps[1]: found 10 after 5"]);
    check(run("--sampler junk"), 2, &["found \"junk\"", "dpmpp-2m", "euler-a"]);
    check(run("--sampler dpmpp-2m --order 3"), 2, &["order: found 3"]);
    check(run("--sampler euler --eta 0.5"), 2, &["eta: found 0.5, but euler has none"]);
    check(run("--steps-offset 1"), 2, &["steps_offset: found 1 with trailing spacing"]);
    check(run("--clip 0"), 2, &["clip: found 0"]);
    check(run("--clip on"), 2, &["expected a number or off"]);
    check(run("--sample-max-value 2"), 2, &["--dynamic-threshold"]);
    check(run("--count 0"), 2, &["--count"]);
    check(run("--class 1"), 2, &["class: found 1, but the model has no classes"]);
    check(run("--strength 0.5"), 2, &["--image"]);
    check(run("--sampler ddim-inverse"), 2, &["image: found none"]);
    check(run("--beta-end 0.1"), 2, &["--beta-schedule"]);
    check(run("--beta-schedule laplace --beta-end 0.1"), 2, &["laplace has neither"]);
    let lin = text(&model("lin"));
    let threads = ["run", &lin, "--threads", "5000", "-o", &text(&output)];
    check(ddpm(threads), 2, &["threads: found 5000"]);
    let jpeg = folder.0.join("x.jpg");
    check(command("run", &model("lin"), "", Some(&jpeg)), 2, &["x.jpg", ".png or .safetensors"]);
    let label = |options: &str| command("run", &model("class_labels"), options, Some(&output));
    check(label("--class fox"), 2, &["class: found \"fox\"", "one of cat, dog, owl"]);
    check(label("--class 4"), 2, &["class: found 4, expected 0 to 2"]);
    let fixed = command("run", &model("fixed_batch_2"), "--batch 3", Some(&output));
    check(fixed, 2, &["batch: found 3, expected 2"]);
    assert_eq!(files_in(&folder.0), [""; 0]);
}

#[test]
fn models_and_files_that_cannot_be_used_are_3() {
    let folder = Folder::new("cli-files");
    let output = folder.0.join("x.png");
    let run = |name: &str| command("run", &model(name), "", Some(&output));
    check(run("no_such"), 3, &["no_such.onnx"]);
    check(run("two_channels"), 3, &["2 channels, expected 1 (gray)"]);
    check(run("junk_prediction_type"), 3, &["metadata ddpm.prediction_type is \"junk\""]);
    check(run("extra_input"), 3, &["\"context\""]);
    let lin = model("lin");
    let image =
        |path: &Path| command("run", &lin, &format!("--image {}", text(path)), Some(&output));
    check(image(&folder.0.join("no.png")), 3, &["no.png"]);
    check(image(&lin), 3, &["lin.onnx: not a whole PNG file"]);
    let trace = folder.0.join("x.safetensors");
    let noise = format!("--noise {}", text(&lin));
    check(command("trace", &lin, &noise, Some(&trace)), 3, &["not a safetensors file"]);
    let scheduler = folder.0.join("scheduler.json");
    std::fs::write(&scheduler, r#"{"_class_name": "NewScheduler"}"#).unwrap();
    let options = format!("--scheduler {}", text(&scheduler));
    check(command("info", &lin, &options, None), 3, &["scheduler.json", "NewScheduler"]);
    assert_eq!(files_in(&folder.0), ["scheduler.json"]);
    // What is no file, and may never end.
    for option in ["scheduler", "image", "noise"] {
        let (command_name, other) =
            if option == "noise" { ("trace", trace.clone()) } else { ("run", output.clone()) };
        let options = format!("--{option} {}", text(&folder.0));
        check(command(command_name, &lin, &options, Some(&other)), 3, &["not a file"]);
    }
}

#[test]
fn what_cannot_be_written_is_refused_before_the_model_is_loaded() {
    let folder = Folder::new("cli-unwritable");
    let no_folder = folder.0.join("none/x.png");
    let a_folder = folder.0.join("folder.png");
    std::fs::create_dir(&a_folder).unwrap();
    // The model is not there: whoever looked at it first would say so.
    for output in [&no_folder, &a_folder] {
        let done = command("run", &model("no_such"), "", Some(output));
        check(done, 3, &[&format!("{}: cannot be written", text(output))]);
    }
}

#[test]
fn an_output_that_is_an_input_is_refused_and_left_as_it_was() {
    let folder = Folder::new("cli-inputs");
    let [png, tensors] = ["a.png", "a.safetensors"].map(|name| folder.0.join(name));
    for path in [&png, &tensors] {
        std::fs::write(path, "precious").unwrap();
    }
    // The model is not there: whoever looked at it first would say so.
    let none = model("no_such");
    let run = |command_name: &str, option: &str, path: &Path, output: &Path| {
        let options = format!("{option} {}", text(path));
        check(command(command_name, &none, &options, Some(output)), 2, &["which is read"]);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
    };
    run("run", "--image", &png, &png);
    run("run", "--weights", &tensors, &tensors);
    run("trace", "--noise", &tensors, &tensors);
    run("trace", "--noise x --scheduler", &tensors, &tensors);
    check(command("run", &png, "", Some(&png)), 2, &["which is read"]);
    #[cfg(unix)]
    {
        let link = folder.0.join("link.png");
        std::os::unix::fs::symlink(&png, &link).unwrap();
        run("run", "--image", &png, &link);
        run("run", "--image", &link, &png);
        std::fs::remove_file(&png).unwrap();
        let done = command("run", &none, "", Some(&link));
        check(done, 3, &["link.png: cannot be written"]);
        assert!(link.is_symlink());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn messages_that_cannot_be_written_cost_the_words_alone() {
    let folder = Folder::new("cli-unheard");
    let output = folder.0.join("x.png");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let run = |model: &Path| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ddpm"));
        command.arg("run").arg(model).args(["--verbose", "--provider", "cpu", "-o"]).arg(&output);
        command.stderr(full()).output().unwrap().status.code()
    };
    assert_eq!(run(&model("no_such")), Some(3));
    assert_eq!(run(&model("lin")), Some(0));
    assert!(output.exists());
}

#[test]
fn what_a_provider_is_told_is_checked_before_it_is_asked_for() {
    let all = "device=1,memory-limit=64,search=exhaustive,tf32=on,nhwc=off,stream=high,libraries=x";
    let lin = model("lin");
    let info = |options: &str| command("info", &lin, options, None);
    info(&format!("--cuda {all} --provider-option a=b --provider-library x")).ok();
    for (options, named) in [
        ("--cuda device=x", "cuda device: found \"x\", expected a number"),
        ("--cuda device=64", "cuda.device: found 64, expected 0 to 63"),
        ("--cuda memory-limit=1", "cuda.memory_limit: found 1048576 bytes"),
        ("--cuda search=fast", "cuda search: found \"fast\", expected heuristic, exhaustive"),
        ("--cuda tf32=1", "cuda tf32: found \"1\", expected on or off"),
        ("--cuda nhwc", "cuda nhwc: found \"\", expected on or off"),
        ("--cuda stream=none", "cuda stream: found \"none\", expected low, high or runtime"),
        ("--cuda libraries=", "cuda.libraries: found an empty path"),
        ("--cuda speed=high", "cuda: found \"speed=high\", expected KEY=VALUE"),
        ("--provider-option =b", "provider-option: found \"=b\", expected KEY=VALUE"),
    ] {
        check(info(options), 2, &[named]);
    }
}

#[test]
fn a_negative_number_is_refused_as_a_value_of_its_option() {
    let folder = Folder::new("cli-negative");
    let output = folder.0.join("x.png");
    let image = format!("--image {} --strength -0.5", text(&folder.0.join("no.png")));
    for (options, named) in [
        ("--clip -1", "clip: found -1"),
        ("--sampler ddim --eta -0.5", "eta: found -0.5"),
        ("--beta-schedule linear --beta-end -1", "beta_end: found -1"),
        ("--steps -1", "invalid value '-1' for '--steps"),
        ("--seed -1", "invalid value '-1' for '--seed"),
        ("--timesteps -1", "invalid value '-1' for '--timesteps"),
        (&image, "no.png"),
    ] {
        let done = command("run", &model("lin"), options, Some(&output));
        assert!(done.code != 0 && done.stderr.contains(named), "{options}: {done:?}");
    }
}

#[test]
fn json_is_listed_with_a_commands_own_options() {
    for name in ["run", "info", "bench"] {
        let help = ddpm([name, "--help"]).ok().stdout;
        let json = help.find("--json").unwrap();
        // Each heading of the shared options comes after those of the command.
        assert!(json < help.find("Model options").unwrap(), "{help}");
    }
}

#[test]
fn runtime_and_provider_are_4_with_what_can_be_done() {
    let folder = Folder::new("cli-runtime");
    let output = text(&folder.0.join("x.png"));
    let lin = text(&model("lin"));
    let nowhere = [("DDPM_ONNXRUNTIME", "/no/such/library")];
    let run = ["run", &lin, "-o", &output];
    let hint = ["/no/such/library", "ddpm: hint: ", "make fetch", "DDPM_ONNXRUNTIME"];
    check(ddpm_with(&nowhere, run), 4, &hint);
    // The option comes before the variable.
    let given = ["run", &lin, "--runtime", &lin, "-o", &output];
    check(ddpm_with(&nowhere, given), 4, &["lin.onnx: not a library"]);
    let empty = [("CUDA_VISIBLE_DEVICES", "")];
    let cuda = ["run", &lin, "--provider", "cuda", "-o", &output];
    check(ddpm_with(&empty, cuda), 4, &["CUDA", "ddpm: hint: --provider cpu"]);
    assert_eq!(files_in(&folder.0), [""; 0]);
}

#[test]
fn a_run_that_fails_is_1_and_leaves_the_old_file() {
    let folder = Folder::new("cli-non-finite");
    let output = folder.0.join("x.png");
    std::fs::write(&output, "old").unwrap();
    let done = command("run", &model("overflow"), "", Some(&output));
    check(done, 1, &["non-finite model output at step", "ddpm: hint: "]);
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "old");
    assert_eq!(files_in(&folder.0), ["x.png"]);
}

#[test]
fn a_fall_back_to_the_cpu_is_said_on_standard_error() {
    let done = ddpm_with(
        &[("CUDA_VISIBLE_DEVICES", "")],
        words(&format!("bench {} --batch 1 --steps 1 --json", text(&model("lin")))),
    );
    assert!(done.stderr.starts_with("ddpm: warning: using the CPU: "), "{done:?}");
    let document = done.json();
    assert!(document["runtime"]["fallback_reason"].as_str().unwrap().contains("CUDA"));
}
