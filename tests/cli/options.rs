//! Options of samplers: those listed are taken and heeded, others are refused by name.

use ddpm::onnx::NamedTensors;
use ddpm::sampler::Sampler;

use crate::common::{Folder, model};
use crate::{command, ddpm, text, words};

/// A value for each option that not every sampler has, as it comes back in JSON.
const OPTIONS: [(&str, &str, &str, &str); 13] = [
    ("--spacing", "linspace", "timestep_spacing", "\"linspace\""),
    ("--steps-offset", "1 --spacing leading", "steps_offset", "1"),
    ("--sigmas", "exponential", "sigmas", "\"exponential\""),
    ("--whole-timesteps", "", "fractional_timesteps", "false"),
    ("--eta", "0.25", "eta", "0.25"),
    ("--order", "1", "order", "1"),
    ("--solver-type", "heun", "solver_type", "\"heun\""),
    ("--no-lower-order-final", "", "lower_order_final", "false"),
    ("--euler-at-final", "", "euler_at_final", "true"),
    ("--clipped-epsilon", "", "clipped_epsilon", "true"),
    ("--variance", "fixed_large", "variance_type", "\"fixed_large\""),
    ("--final-alpha", "first", "final_alpha", "\"first\""),
    ("--original-steps", "25", "original_steps", "25"),
];

#[test]
fn a_sampler_takes_the_options_it_lists_and_refuses_the_others_by_name() {
    let folder = Folder::new("cli-options");
    let output = folder.0.join("plot.svg");
    let document = ddpm(["samplers", "--json"]).json();
    let mut taken = std::collections::BTreeSet::new();
    for entry in document["samplers"].as_array().unwrap() {
        let sampler = entry["name"].as_str().unwrap();
        let listed: Vec<&str> =
            entry["options"].as_array().unwrap().iter().map(|o| o.as_str().unwrap()).collect();
        for (flag, value, _, _) in OPTIONS {
            // UniPC has solver types of its own.
            let value = if (flag, sampler) == ("--solver-type", "unipc") { "bh1" } else { value };
            let options = format!("plot --sampler {sampler} --steps 5 {flag} {value}");
            let mut arguments = words(&options);
            arguments.extend(["-o".to_owned(), text(&output)]);
            let done = ddpm(arguments);
            let is_listed = listed.contains(&flag);
            assert_eq!(done.code, if is_listed { 0 } else { 2 }, "{options}: {done:?}");
            if is_listed {
                taken.insert(flag);
            } else {
                let name = flag.trim_start_matches('-').replace('-', "_");
                // Of two that it has no use for, the first is named.
                let is_named = done.stderr.contains(&format!("{name}: found"))
                    || done.stderr.contains("spacing: found");
                let says = format!("but {sampler} has none");
                assert!(is_named && done.stderr.contains(&says), "{options}: {done:?}");
            }
        }
    }
    assert_eq!(taken.len(), OPTIONS.len(), "{taken:?}");
}

#[test]
fn every_option_reaches_the_sampler() {
    let folder = Folder::new("cli-reach");
    let output = folder.0.join("x.png");
    let sampler = |options: &str| {
        let options = format!("{options} --json");
        command("run", &model("lin"), &options, Some(&output)).json()["sampler"].clone()
    };
    let document = ddpm(["samplers", "--json"]).json();
    for (flag, value, key, expected) in OPTIONS {
        let lists = |entry: &&serde_json::Value| {
            entry["options"].as_array().unwrap().iter().any(|option| option == flag)
                && entry["name"] != "unipc"
        };
        let entry = document["samplers"].as_array().unwrap().iter().find(lists).unwrap();
        let name = entry["name"].as_str().unwrap();
        let found = sampler(&format!("--sampler {name} --steps 4 {flag} {value}"));
        assert_eq!(found[key].to_string(), expected, "{flag} of {name}");
        assert_eq!((found["name"].as_str(), found["steps"].as_u64()), (Some(name), Some(4)));
    }
    let clipped = sampler("--clip 2.5");
    assert_eq!(clipped["thresholding"]["clip_sample_range"], 2.5);
    assert_eq!(sampler("--clip off")["thresholding"], "off");
    let dynamic = sampler("--dynamic-threshold 0.9 --sample-max-value 1.5");
    assert_eq!(dynamic["thresholding"]["dynamic_thresholding_ratio"], 0.9);
    assert_eq!(dynamic["thresholding"]["sample_max_value"], 1.5);
    let listed = sampler("--timesteps 999,500,10");
    assert_eq!(listed["timesteps"], serde_json::json!([999, 500, 10]));
    assert_eq!(sampler("--sampler dpmpp-3m --steps 4")["order"], 3);
}

#[test]
fn every_sampler_makes_a_picture_under_each_of_its_names() {
    let folder = Folder::new("cli-names");
    let output = folder.0.join("x.png");
    for sampler in Sampler::ALL.into_iter().filter(|sampler| !sampler.is_inverse()) {
        for name in sampler.names() {
            let options = format!("--sampler {name} --steps 5 --json");
            let run = command("run", &model("oracle"), &options, Some(&output)).json();
            assert_eq!(run["sampler"]["name"], sampler.name(), "{name}");
        }
    }
}

#[test]
fn a_given_scheduler_keeps_to_the_timesteps_that_the_model_takes() {
    let folder = Folder::new("cli-whole");
    let (scheduler, output) = (folder.0.join("s.json"), folder.0.join("x.png"));
    std::fs::write(&scheduler, r#"{"_class_name": "EulerDiscreteScheduler"}"#).unwrap();
    let options = format!("--scheduler {} --steps 7 --json", text(&scheduler));
    for (name, is_whole) in [("trec_i64_n", true), ("trec_f32_n", false)] {
        let done = command("run", &model(name), &options, Some(&output)).ok();
        assert_eq!(done.stderr.contains("visits fractional timesteps"), is_whole, "{done:?}");
        let second = if is_whole { 832.0 } else { 832.5 };
        assert_eq!(done.json()["timesteps"][1], second, "{name}");
    }
}

#[test]
fn weights_of_a_file_take_the_place_of_the_models() {
    let folder = Folder::new("cli-weights");
    let file = folder.0.join("style.safetensors");
    let mut tensors = NamedTensors::new();
    tensors.push_f32("half", &[], &[0.25]).unwrap();
    std::fs::write(&file, tensors.to_bytes(&[]).unwrap()).unwrap();
    let picture = |name: &str, options: &str| {
        let output = folder.0.join(name);
        let done = command("run", &model("lin"), &format!("--steps 2 {options}"), Some(&output));
        assert_eq!(done.code, 0, "{done:?}");
        std::fs::read(output).unwrap()
    };
    let styled = format!("--weights {}", text(&file));
    assert_ne!(picture("plain.png", ""), picture("styled.png", &styled));
    let absent = format!("--weights {}", text(&folder.0.join("absent")));
    let done = command("run", &model("lin"), &absent, Some(&folder.0.join("x.png")));
    assert_eq!(done.code, 3, "{done:?}");
    assert!(done.stderr.contains("absent: No such file"), "{done:?}");
    let done = ddpm(words(&format!("plot {styled} -o {}", text(&folder.0.join("x.svg")))));
    assert!(done.code == 2 && done.stderr.contains("--weights: found without"), "{done:?}");
}
