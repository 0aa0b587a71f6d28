//! What the tool says of models, samplers and speed, in words and as JSON.

use std::path::Path;

use ddpm::sampler::Sampler;
use serde_json::json;

use crate::common::{Folder, model};
use crate::trajectory::golden_path;
use crate::{command, ddpm, text, words};

#[test]
fn info_says_what_the_file_says_and_nothing_is_a_default_then() {
    let portraits = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits.onnx");
    let info = command("info", &portraits, "--json", None).json();
    let expected = json!({
        "channels": 3, "height": 16, "width": 16, "color": "rgb", "prediction_type": "v_prediction",
        "output_channels": 3, "gives_variance": false, "classes": null, "clipped_epsilon": true,
        "noise_schedule": {
            "beta_schedule": "squaredcos_cap_v2", "beta_start": null, "beta_end": null,
            "num_train_timesteps": 1000, "rescale_betas_zero_snr": false,
        },
    });
    assert_eq!(info["model"], expected);
    assert_eq!((&info["fixed_batch"], &info["class_names"]), (&json!(null), &json!([])));
    assert_eq!((&info["defaults_taken"], &info["messages"]), (&json!([]), &json!([])));
    assert_eq!(info["sampler"]["name"], "ddpm");
    assert_eq!(info["sampler"]["thresholding"], json!({ "clip_sample_range": 1.0 }));
    let runtime = &info["runtime"];
    assert_eq!((&runtime["provider"], &runtime["threads"]), (&json!("cpu"), &json!(1)));
    assert!(runtime["runtime_version"].as_str().unwrap().starts_with("1."), "{runtime}");
    assert!(Path::new(runtime["runtime_library"].as_str().unwrap()).is_file(), "{runtime}");
}

#[test]
fn info_names_every_default_taken() {
    let info = command("info", &model("lin"), "--prediction-type sample --json", None).json();
    let defaults: Vec<&str> = info["defaults_taken"]
        .as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect();
    for key in ["beta_schedule", "beta_end", "num_train_timesteps", "color", "clip_sample_range"] {
        let of = |text: &&&str| text.starts_with(&format!("no ddpm.{key}, taking "));
        assert_eq!(defaults.iter().filter(of).count(), 1, "{key}: {defaults:?}");
    }
    // The caller said this one.
    assert!(!defaults.iter().any(|text| text.contains("prediction_type")), "{defaults:?}");
    assert_eq!(info["model"]["prediction_type"], "sample");
}

/// One process after the other, and what is in the way of the cache is a message and no failure.
#[test]
fn info_says_which_model_it_is_and_what_the_cache_did() {
    let folder = Folder::new("cli-cache");
    let cache = |folder: &Path| {
        let options = format!("--json --cache {}", folder.display());
        command("info", &model("lin"), &options, None).json()
    };
    let (first, second) = (cache(&folder.0), cache(&folder.0));
    assert_eq!(
        (&first["runtime"]["cache"], &second["runtime"]["cache"]),
        (&json!("written"), &json!("hit"))
    );
    assert_eq!(first["fingerprint"], second["fingerprint"]);
    let fingerprint = first["fingerprint"].as_str().unwrap();
    let words = command("info", &model("lin"), "", None).ok().stdout;
    assert!(words.contains(fingerprint) && !words.contains("optimised graph"), "{words}");
    let blocked = cache(&model("lin"));
    let messages = blocked["messages"].to_string();
    assert!(messages.contains("the optimised graph is not cached"), "{messages}");
}

#[test]
fn info_tells_fixed_batches_classes_and_variances() {
    let info = |name: &str| command("info", &model(name), "--json", None).json();
    assert_eq!(info("fixed_batch_2")["fixed_batch"], 2);
    let classes = info("class_labels");
    assert_eq!(classes["class_names"], json!(["cat", "dog", "owl"]));
    assert_eq!(classes["model"]["classes"], json!({ "count": 3, "null": 3 }));
    let contract = json!({
        "sample": "\"sample\" float32 [?, 3, 8, 8]", "timestep": "\"timestep\" int64 [?]",
        "labels": "\"class_labels\" int64 [?]", "output": "\"out_sample\" float32 [?, 3, 8, 8]",
    });
    assert_eq!(classes["contract"], contract);
    let learned = golden_path("models/eps_cosine_learned_range.onnx");
    let learned = command("info", &learned, "--json", None).json();
    assert_eq!(learned["model"]["gives_variance"], true);
    assert_eq!(learned["model"]["output_channels"], 6);

    let words = command("info", &model("class_labels"), "", None).ok().stdout;
    for part in [
        "\"sample\" float32 [?, 3, 8, 8]",
        "\"class_labels\" int64 [?]",
        "cat, dog, owl",
        "3 is no class",
        "linear betas 0.0001 to 0.02",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
}

#[test]
fn a_scheduler_config_gives_schedule_prediction_and_sampler() {
    let folder = Folder::new("cli-scheduler");
    let file = folder.0.join("other_name.json");
    let config = json!({
        "_class_name": "DPMSolverMultistepScheduler", "beta_schedule": "scaled_linear",
        "beta_start": 0.00085, "beta_end": 0.012, "prediction_type": "v_prediction",
        "solver_order": 3, "use_karras_sigmas": true,
    });
    std::fs::write(&file, config.to_string()).unwrap();
    let options = format!("--scheduler {} --json", text(&file));
    let info = command("info", &model("lin"), &options, None).json();
    assert_eq!(info["model"]["prediction_type"], "v_prediction");
    assert_eq!(info["model"]["noise_schedule"]["beta_schedule"], "scaled_linear");
    let sampler = &info["sampler"];
    assert_eq!((&sampler["name"], &sampler["order"]), (&json!("dpmpp"), &json!(3)));
    assert_eq!((&sampler["sigmas"], &sampler["thresholding"]), (&json!("karras"), &json!("off")));
    // A flag comes before the file.
    let options = format!("{options} --prediction-type epsilon");
    let info = command("info", &model("lin"), &options, None).json();
    assert_eq!(info["model"]["prediction_type"], "epsilon");
}

#[test]
fn a_scheduler_config_says_the_same_by_flag_as_beside_the_model() {
    let folder = Folder::new("cli-beside");
    let learned = golden_path("models/eps_cosine_learned_range.onnx");
    let copy = folder.0.join("model.onnx");
    std::fs::copy(&learned, &copy).unwrap();
    // No variance type: the model's own second half decides.
    let config = r#"{"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"}"#;
    let file = folder.0.join("scheduler_config.json");
    std::fs::write(&file, config).unwrap();
    let beside = command("info", &copy, "--json", None).json();
    let flag = format!("--scheduler {} --json", text(&file));
    let by_flag = command("info", &learned, &flag, None).json();
    assert_eq!(beside["sampler"], by_flag["sampler"]);
    assert_eq!(beside["model"], by_flag["model"]);
    assert_eq!(by_flag["sampler"]["variance_type"], "learned_range");
}

#[test]
fn samplers_lists_every_name_and_summary() {
    let words_said = ddpm(["samplers"]).ok().stdout;
    let document = ddpm(["samplers", "--json"]).json();
    let all = document["samplers"].as_array().unwrap();
    assert_eq!(all.len(), Sampler::ALL.len());
    for (sampler, entry) in Sampler::ALL.into_iter().zip(all) {
        assert_eq!(entry["name"], sampler.name());
        assert_eq!(entry["names"], json!(sampler.names().collect::<Vec<_>>()));
        assert_eq!(entry["summary"], sampler.summary());
        assert_eq!(entry["is_inverse"], sampler.is_inverse());
        assert!(sampler.names().all(|name| words_said.contains(name)), "{words_said}");
        assert!(words_said.contains(sampler.summary()), "{words_said}");
    }
}

#[test]
fn bench_measures_each_batch_size() {
    let options = "--batch 1,3 --steps 7 --sampler ddim --json";
    let document = command("bench", &model("lin"), options, None).json();
    assert_eq!(document["runtime"]["provider"], "cpu");
    assert_eq!(document["sampler"]["name"], "ddim");
    let batches = document["batches"].as_array().unwrap();
    assert_eq!(batches.len(), 2);
    for (figures, batch) in batches.iter().zip([1.0, 3.0]) {
        let number = |name: &str| figures[name].as_f64().unwrap();
        assert_eq!((number("batch"), number("steps")), (batch, 7.0));
        // A run of 7 steps makes `batch` pictures.
        let expected = number("steps_per_second") * batch / 7.0;
        assert!((number("pictures_per_second") / expected - 1.0).abs() < 1e-9, "{figures}");
        assert!((0.0..1.0).contains(&number("kernel_share")), "{figures}");
        for part in ["step_ms", "model_ms", "kernel_ms"] {
            let quantile = |name: &str| figures[part][name].as_f64().unwrap();
            assert!(quantile("median") > 0.0 && quantile("p90") >= quantile("median"), "{figures}");
        }
    }
    let fixed = command("bench", &model("fixed_batch_2"), "--steps 2 --json", None).json();
    assert_eq!(fixed["batches"].as_array().unwrap().len(), 1);
    assert_eq!(fixed["batches"][0]["batch"], 2);
    let table = command("bench", &model("lin"), "--batch 2 --steps 3", None).ok().stdout;
    assert!(table.contains("on cpu, 1 threads") && table.contains("pictures"), "{table}");
}

#[test]
fn help_is_a_manual_with_examples_and_exit_codes() {
    let help = ddpm(["--help"]).ok().stdout;
    for part in ["Exit codes:", "2  wrong usage", "3  the model", "4  ONNX Runtime"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    for command in ["run", "trace", "plot", "bench"] {
        let help = ddpm(words(&format!("{command} --help"))).ok().stdout;
        assert!(help.contains(&format!("\n  ddpm {command} ")), "{help}");
    }
}
