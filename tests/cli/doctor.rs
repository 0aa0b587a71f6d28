//! `ddpm doctor`: names each fault, and no other.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use ddpm::image::to_byte;
use ddpm::rng::{Purpose, fill_standard_normal};
use serde_json::Value;

use crate::common::{Folder, model};
use crate::{Done, command, text};

/// What the models of `make_doctor_models.py` are exact for.
const MEANS: [f32; 3] = [0.5, 0.0, -0.4];
const DEVIATION: f32 = 0.25;
const SIDE: usize = 8;

/// Writes a PNG of `width` x `height` such pixels.
fn write_png(path: &Path, width: usize, height: usize, seed: u64) {
    write_png_of(path, (width, height), seed, MEANS, DEVIATION);
}

fn write_png_of(
    path: &Path,
    (width, height): (usize, usize),
    seed: u64,
    means: [f32; 3],
    deviation: f32,
) {
    let mut values = vec![0.0; width * height * 3];
    fill_standard_normal(seed, Purpose::TrainNoise, 0, &mut values);
    let means = means.iter().cycle();
    let bytes: Vec<u8> =
        values.iter().zip(means).map(|(value, mean)| to_byte(mean + deviation * value)).collect();
    let mut encoder = png::Encoder::new(File::create(path).unwrap(), width as u32, height as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.write_header().unwrap().write_image_data(&bytes).unwrap();
}

/// 16 pictures in one.
fn sheet(folder: &Folder) -> PathBuf {
    let path = folder.0.join("sheet.png");
    write_png(&path, 4 * SIDE, 4 * SIDE, 1);
    path
}

fn doctor(model: &Path, options: &str) -> Done {
    command("doctor", model, options, None)
}

fn report(done: &Done) -> Value {
    assert!([0, 1].contains(&done.code), "{done:?}");
    let report: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(done.code == 0, report["faults"] == 0, "{report}");
    report
}

/// The checks with a finding of this severity.
fn checks(report: &Value, severity: &str) -> BTreeSet<String> {
    let findings = report["checks"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["severity"] == severity);
    of.map(|finding| finding["check"].as_str().unwrap().to_owned()).collect()
}

/// All that a check says, with what to do.
fn words(report: &Value, check: &str) -> String {
    let findings = report["checks"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["check"] == check);
    of.map(|finding| format!("{} {}\n", finding["finding"], finding["advice"])).collect()
}

/// (model, options, the check with the fault, what it says).
type Case<'a> = (&'a str, &'a str, &'a str, &'a [&'a str]);

/// Each has this one fault, or none. What follows from a fault is a warning.
fn check_all(cases: &[Case<'_>], images: Option<&Path>) {
    for &(name, options, check, parts) in cases {
        let images = images.map_or(String::new(), |path| format!(" --images {}", text(path)));
        let report = report(&doctor(&model(name), &format!("{options} --json{images}")));
        let faults = if check.is_empty() { vec![] } else { vec![check.to_owned()] };
        assert_eq!(
            checks(&report, "fault").into_iter().collect::<Vec<_>>(),
            faults,
            "{name} {options}: {report:#}"
        );
        for part in parts {
            let words = words(&report, check);
            assert!(words.contains(part), "{name} {options}: {part} in {words}");
        }
    }
}

#[test]
fn sound_models_have_no_faults_whatever_they_predict() {
    let folder = Folder::new("doctor-sound");
    let sheet = sheet(&folder);
    for kind in ["epsilon", "sample", "v_prediction", "mean"] {
        let report = report(&doctor(
            &model(&format!("doctor_{kind}")),
            &format!("--json --images {}", text(&sheet)),
        ));
        assert_eq!(checks(&report, "fault"), BTreeSet::new(), "{kind}: {report:#}");
        assert_eq!(checks(&report, "warning"), BTreeSet::new(), "{kind}: {report:#}");
        let prediction = words(&report, "prediction");
        assert!(prediction.contains(&format!("the output is {kind}; ")), "{prediction}");
        assert!(prediction.contains(&format!("{kind} ")), "{prediction}");
    }
}

#[test]
fn the_shipped_model_is_sound() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let images = text(&root.join("tests/cli/portraits.png"));
    let done = doctor(&root.join("assets/portraits.onnx"), &format!("--images {images}"));
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("\n  no faults, no warnings; "), "{}", done.stdout);
    for part in
        ["opset 17 by ddpm-train", "the output is v_prediction; ", "none of the common schedules"]
    {
        assert!(done.stdout.contains(part), "{part}: {}", done.stdout);
    }
    assert_eq!(done.stderr, "");
}

#[test]
fn what_an_export_breaks_is_named() {
    let cases: [Case<'_>; 15] = [
        (
            "doctor_constant_timestep",
            "",
            "timestep",
            &["does not depend", "\\\"timestep\\\" int64"],
        ),
        ("doctor_baked_batch", "", "batch", &["output is of 1 whatever comes in", "baked"]),
        (
            "doctor_hidden_batch",
            "",
            "batch",
            &["declared open, but of 2, 3, 4 the model does not run: Non-zero", "baked"],
        ),
        ("doctor_leaking_batch", "", "batch", &["leak into each other"]),
        ("doctor_first_timestep", "", "batch", &["do not take their own timestep"]),
        (
            "doctor_size_of_8",
            "--width 12 --height 12",
            "size",
            &["not run at 12x12, but does at 16x16", "multiples of 8"],
        ),
        ("doctor_size_of_8", "", "", &[]),
        ("needs_width_8", "--width 7 --height 7", "size", &["8x8 is baked"]),
        ("doctor_unused_labels", "", "classes", &["does not depend on the class label"]),
        ("doctor_too_many_names", "", "classes", &["does not run with label 2"]),
        ("extra_input", "", "load", &["\\\"context\\\" float32", "change the export"]),
        ("open_size", "", "load", &["the height is open", "--height"]),
        ("variants/size_0", "", "load", &["height: found 0"]),
        ("two_outputs", "", "load", &["more than one output", "--model-output"]),
        ("opset_99", "", "load", &["opset 26", "export it for an opset"]),
    ];
    check_all(&cases, None);
    let report = report(&doctor(&model("doctor_half_overflow"), "--json"));
    assert!(checks(&report, "fault").contains("finite"), "{report:#}");
    assert!(words(&report, "finite").contains("not finite at t = 0, 99, 199 "), "{report:#}");
    let size = words(&self::report(&doctor(&model("doctor_size_of_8"), "--json")), "size");
    assert!(size.contains("multiples of 8 run"), "{size}");
}

#[test]
fn how_a_model_wants_its_pictures_is_told_from_them() {
    let folder = Folder::new("doctor-fed");
    let sheet = sheet(&folder);
    let said = "the output is v_prediction, but the model is said to predict epsilon";
    let cases: [Case<'_>; 10] = [
        (
            "doctor_v_prediction",
            "--prediction-type epsilon",
            "prediction",
            &[said, "--prediction-type v_prediction"],
        ),
        (
            "doctor_epsilon",
            "--prediction-type v_prediction",
            "prediction",
            &["the output is epsilon, but"],
        ),
        ("doctor_epsilon", "--prediction-type mean", "prediction", &["the output is epsilon, but"]),
        ("doctor_mean", "--prediction-type epsilon", "prediction", &["the output is mean, but"]),
        ("doctor_zero_to_one", "", "range", &["0 to 1, not -1 to 1"]),
        ("doctor_bgr", "", "order", &["blue, green, red"]),
        ("doctor_unit_time", "", "time-unit", &["0 to 1, not 0 to T"]),
        (
            "doctor_cosine_unsaid",
            "",
            "schedule",
            &["betas squaredcos_cap_v2 fit better", "by default"],
        ),
        (
            "doctor_epsilon",
            "--beta-schedule scaled_linear --beta-start 0.00085 --beta-end 0.012",
            "schedule",
            &["betas linear 0.0001 to 0.02 fit better", "--beta-start 0.0001"],
        ),
        (
            "doctor_epsilon",
            "--num-train-timesteps 500",
            "schedule",
            &[
                "betas linear 0.0001 to 0.02 over 1000 timesteps fit better",
                "--num-train-timesteps 1000",
            ],
        ),
    ];
    check_all(&cases, Some(&sheet));
}

/// As 0 to 1 they would have half the contrast, so that less of the same noise were hidden: what is compared
/// must be of the same ratio of signal to noise.
#[test]
fn bright_pictures_do_not_pass_for_values_from_0() {
    let folder = Folder::new("doctor-bright");
    let sheet = folder.0.join("sheet.png");
    write_png_of(&sheet, (4 * SIDE, 4 * SIDE), 1, [0.8; 3], 0.2);
    check_all(&[("doctor_bright", "", "", &[])], Some(&sheet));
}

#[test]
fn without_pictures_the_evidence_is_weak_and_called_so() {
    let verdict = |name: &str, options: &str| {
        let report = report(&doctor(&model(name), &format!("{options} --json")));
        assert!(words(&report, "prediction").contains("weak evidence"), "{report:#}");
        checks(&report, "warning").contains("prediction")
    };
    for kind in ["epsilon", "sample", "v_prediction", "mean"] {
        assert!(!verdict(&format!("doctor_{kind}"), ""), "{kind}");
    }
    assert!(verdict("doctor_epsilon", "--prediction-type sample"));
    assert!(verdict("doctor_v_prediction", "--prediction-type epsilon"));
    let loud = report(&doctor(&model("doctor_loud"), "--json"));
    assert!(words(&loud, "scale").contains("deviates by 5."), "{loud:#}");
    assert!(checks(&loud, "warning").contains("scale"), "{loud:#}");
}

#[test]
fn everything_a_model_says_wrongly_is_named_and_the_rest_examined() {
    let keys = report(&doctor(&model("doctor_wrong_keys"), "--json"));
    let said = words(&keys, "metadata");
    for part in [
        "ddpm.color is \\\"cmyk\\\"",
        "ddpm.beta_end is \\\"2\\\"",
        "ddpm.num_train_timesteps is \\\"many\\\"",
        "ddpm.classes is \\\"cat\\\"",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(keys["faults"], 4, "{keys:#}");
    assert!(said.contains("by default: ") && !said.contains("in memory"), "{said}");
    assert!(words(&keys, "load").contains("without what is refused"), "{keys:#}");
    assert!(words(&keys, "batch").contains("1, 2, 3 and 4 run"), "{keys:#}");
    check_all(
        &[
            ("doctor_wrong_color", "", "metadata", &["found 3 with color gray", "fit the graph"]),
            ("golden_wrong", "", "metadata", &["golden checksum"]),
        ],
        None,
    );
    let width = report(&doctor(&model("doctor_wrong_width"), "--json"));
    assert_eq!(checks(&width, "warning"), BTreeSet::from(["metadata".to_owned()]), "{width:#}");
    assert!(words(&width, "metadata").contains("ddpm.width is 24, but"), "{width:#}");
    // A scheduler config beside it.
    let folder = Folder::new("doctor-scheduler");
    let copy = folder.0.join("model.onnx");
    std::fs::copy(model("doctor_epsilon"), &copy).unwrap();
    let config = folder.0.join("scheduler_config.json");
    std::fs::write(
        &config,
        r#"{"_class_name": "DDIMScheduler", "prediction_type": "v_prediction"}"#,
    )
    .unwrap();
    let images = text(&sheet(&folder));
    let at_odds = report(&doctor(&copy, &format!("--json --images {images}")));
    assert!(words(&at_odds, "metadata").contains("says v_prediction"), "{at_odds:#}");
    assert_eq!(checks(&at_odds, "fault"), BTreeSet::from(["prediction".to_owned()]), "{at_odds:#}");
    std::fs::write(&config, r#"{"_class_name": "NoScheduler"}"#).unwrap();
    let refused = report(&doctor(&copy, "--json"));
    assert_eq!(checks(&refused, "fault"), BTreeSet::from(["scheduler".to_owned()]), "{refused:#}");
    assert!(words(&refused, "batch").contains("run"), "{refused:#}");
}

#[test]
fn a_file_that_is_no_model_is_a_fault_and_one_that_is_not_there_an_error() {
    let folder = Folder::new("doctor-files");
    let cut = folder.0.join("cut.onnx");
    let whole = std::fs::read(model("doctor_epsilon")).unwrap();
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let found = report(&doctor(&cut, "--json"));
    assert!(words(&found, "file").contains("only its beginning"), "{found:#}");
    let moved = folder.0.join("external.onnx");
    std::fs::copy(model("external"), &moved).unwrap();
    let found = report(&doctor(&moved, "--json"));
    assert!(words(&found, "external").contains("not beside the model"), "{found:#}");

    let missing = doctor(&folder.0.join("none.onnx"), "");
    assert_eq!((missing.code, missing.stdout.as_str()), (3, ""), "{missing:?}");
    let epsilon = model("doctor_epsilon");
    let images = |path: &Path| doctor(&epsilon, &format!("--images {}", text(path)));
    let missing = images(&folder.0.join("none.png"));
    assert_eq!((missing.code, missing.stdout.as_str()), (3, ""), "{missing:?}");
    let small = folder.0.join("small.png");
    write_png(&small, SIDE, SIDE - 1, 1);
    let small = images(&small);
    assert!(small.code == 2 && small.stderr.contains("at least 8x8"), "{small:?}");
}

#[test]
fn pictures_come_from_a_folder_and_larger_ones_give_their_middle() {
    let folder = Folder::new("doctor-folder");
    for seed in 0..12 {
        write_png(&folder.0.join(format!("{seed}.png")), SIDE + 3, SIDE + 2, seed);
    }
    write_png(&folder.0.join("small.png"), SIDE - 1, SIDE, 1);
    std::fs::write(folder.0.join("notes.txt"), "no picture").unwrap();
    std::fs::write(folder.0.join(".hidden.png"), "no picture").unwrap();
    let options = format!("--json --images {}", text(&folder.0));
    let found = report(&doctor(&model("doctor_epsilon"), &options));
    assert!(words(&found, "prediction").contains("on 12 pictures"), "{found:#}");
    assert_eq!(checks(&found, "fault"), BTreeSet::new(), "{found:#}");
    let few = report(&doctor(&model("doctor_epsilon"), &format!("{options} --image-count 3")));
    assert!(words(&few, "prediction").contains("on 3 pictures"), "{few:#}");
    let left_out = words(&found, "images");
    assert!(left_out.contains("small.png") && left_out.lines().count() == 1, "{left_out}");
}

#[test]
fn the_same_seed_gives_the_same_report() {
    let folder = Folder::new("doctor-seed");
    let sheet = text(&sheet(&folder));
    let run = |seed: u64| {
        let options = format!("--json --images {sheet} --seed {seed}");
        let mut report = report(&doctor(&model("doctor_epsilon"), &options));
        // How long a run takes is nobody's to say.
        report["speed"] = Value::Null;
        report
    };
    assert_eq!(run(3), run(3));
    assert_ne!(run(3)["checks"], run(4)["checks"]);
}
