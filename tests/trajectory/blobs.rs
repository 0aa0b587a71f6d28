//! A run written down goes on bit for bit where it is read, and what is no such thing is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use ddpm::error::{ErrorKind, Result};
use ddpm::model::{Classes, ModelConfig};
use ddpm::noise_schedule::BetaSchedule;
use ddpm::onnx::{NamedTensors, read_blob, write_blob};
use ddpm::prediction::PredictionType;
use ddpm::run::{Branch, Run, RunStart};
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, SolverType, Thresholding};

use super::cases::{Case, Shown, Wavy, cases, picture, small, step_and_compare, two_branches};
use super::samplers::Form;

const FINGERPRINT: &str = "5f3a";

/// Everything that the format has: a picture, classes, branches, history and a carried sample.
fn full() -> Case {
    let mut model = small();
    model.classes = Some(Classes { count: Some(2), null: Some(2) });
    let sampler = SamplerConfig { steps: 8, strength: 0.9, ..Form::new(Sampler::Unipc).config() };
    let start = RunStart {
        seed: u64::MAX - 1,
        label: Some(1),
        guidance: 2.0 / 3.0,
        image: Some(picture()),
        branches: two_branches(),
    };
    Case { name: "full".to_owned(), model, sampler, start, batch: 2 }
}

fn stepped(case: &Case, steps: usize) -> Run {
    let (mut run, mut denoiser) = (case.run(), case.denoiser());
    for _ in 0..steps {
        run.step(&mut denoiser).unwrap();
    }
    run
}

fn written(case: &Case, steps: usize) -> Vec<u8> {
    write_blob(&stepped(case, steps), &case.model, FINGERPRINT).unwrap()
}

fn refusal(bytes: &[u8], model: &ModelConfig) -> String {
    let error = read_blob(bytes, model, FINGERPRINT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    error.to_string()
}

#[test]
fn a_run_that_is_read_goes_on_as_the_one_that_was_written_bit_for_bit() {
    for case in cases().into_iter().chain([full()]) {
        let straight = case.straight();
        let last = straight.len() - 1;
        println!("{}", case.name);
        for step in [0, 1, 4, last] {
            let bytes = written(&case, step);
            let mut run = read_blob(&bytes, &case.model, FINGERPRINT).unwrap();
            assert_eq!((run.step_index(), Shown::of(&run)), (step, straight[step].clone()));
            assert_eq!((run.config(), run.start()), (&case.sampler, &case.start));
            assert!(run.is_straight());
            // What is read is all there is to write. (The order of the metadata is safetensors' own.)
            let again = write_blob(&run, &case.model, FINGERPRINT).unwrap();
            assert!(Parts::of(&again) == Parts::of(&bytes));
            step_and_compare(&mut run, &mut case.denoiser(), last, &straight);
            // Nor is anything left of an earlier pass.
            run.restart();
            step_and_compare(&mut run, &mut case.denoiser(), step, &straight);
            let again = write_blob(&run, &case.model, FINGERPRINT).unwrap();
            assert!(Parts::of(&again) == Parts::of(&bytes));
        }
    }
}

#[test]
fn every_field_of_a_config_and_a_start_comes_back_exactly() {
    // Two numbers whose shortest decimals a hasty reader gets wrong in the last bit, and the ends of
    // the integers.
    let (a, b) = (0.1 + 0.2, 1.0 / 3.0 - f64::EPSILON);
    let base = || Form::new(Sampler::Dpmpp).config();
    let samplers = [
        SamplerConfig {
            steps: 7,
            steps_offset: usize::MAX,
            fractional_timesteps: false,
            thresholding: Thresholding::Clip(a),
            final_alpha: FinalAlpha::First,
            order: Some(3),
            solver_type: Some(SolverType::Heun),
            lower_order_final: false,
            euler_at_final: true,
            original_steps: usize::MAX,
            ..base()
        },
        SamplerConfig {
            timesteps: Some(Arc::from([999, 500, 3])),
            thresholding: Thresholding::Dynamic { ratio: b, max: 1.0 + a },
            ..base()
        },
        SamplerConfig { eta: Some(a), clipped_epsilon: true, ..Form::new(Sampler::Ddim).config() },
    ];
    let mut model = small();
    model.classes = Some(Classes { count: None, null: Some(i64::MIN) });
    for sampler in samplers {
        let start = RunStart {
            seed: u64::MAX,
            label: Some(i64::MAX),
            guidance: -1e300 * a,
            image: None,
            branches: vec![Branch { step: 1, seed: u64::MAX - 1, variation: b }],
        };
        let run = Run::starting(&model, &sampler, start.clone(), 1).unwrap();
        let bytes = write_blob(&run, &model, FINGERPRINT).unwrap();
        let read = read_blob(&bytes, &model, FINGERPRINT).unwrap();
        assert_eq!((read.config(), read.start()), (&sampler, &start));
    }
}

#[test]
fn a_run_planned_anew_or_astray_is_read_as_that() {
    let mut case = full();
    case.start.branches.clear();
    let mut run = stepped(&case, 3);
    let mut list: Vec<usize> = run.timesteps().map(|t| t as usize).collect();
    list.remove(5);
    run.replan(&case.model, &list).unwrap();
    let bytes = write_blob(&run, &case.model, FINGERPRINT).unwrap();
    let read = read_blob(&bytes, &case.model, FINGERPRINT).unwrap();
    assert_eq!(read.config().timesteps.as_deref(), Some(&*list));
    assert!(read.is_straight() && read.can_replan());
    // From a start that no seed makes.
    let mut run = case.run();
    run.set_sample(&[0.5; 30]).unwrap();
    let mut denoiser = case.denoiser();
    run.step(&mut denoiser).unwrap();
    let bytes = write_blob(&run, &case.model, FINGERPRINT).unwrap();
    let mut read = read_blob(&bytes, &case.model, FINGERPRINT).unwrap();
    assert!(!read.is_straight());
    while run.step(&mut denoiser).unwrap() {
        read.step(&mut denoiser).unwrap();
        assert_eq!(Shown::of(&read), Shown::of(&run));
    }
}

#[test]
fn another_model_or_the_same_one_read_in_another_way_is_refused_by_name() {
    let case = full();
    let bytes = written(&case, 3);
    let error = read_blob(&bytes, &case.model, "77").unwrap_err();
    let text = "saved run: found one of the model \"5f3a\", expected of \"77\"";
    assert_eq!(error.to_string(), text);
    let change = |change: &dyn Fn(&mut ModelConfig)| {
        let mut model = case.model.clone();
        change(&mut model);
        refusal(&bytes, &model)
    };
    let used = "as the model is used here";
    for (found, expected) in [
        (
            change(&|model| (model.height, model.width) = (5, 3)),
            "found shape \"[1, 3, 5]\", expected \"[1, 5, 3]\"",
        ),
        (
            change(&|model| model.gives_variance = true),
            "found output_channels \"1\", expected \"2\"",
        ),
        (
            change(&|model| model.prediction_type = PredictionType::VPrediction),
            "found prediction_type \"epsilon\", expected \"v_prediction\"",
        ),
        (
            change(&|model| model.beta_schedule = BetaSchedule::SquaredcosCapV2),
            "found beta_schedule \"linear from 0.0001 to 0.02\", expected \"squaredcos_cap_v2\"",
        ),
        (
            change(&|model| model.num_train_timesteps = 999),
            "found num_train_timesteps \"1000\", expected \"999\"",
        ),
        (
            change(&|model| {
                model.rescale_betas_zero_snr = true;
                model.prediction_type = PredictionType::Epsilon;
            }),
            "found rescale_betas_zero_snr \"false\", expected \"true\"",
        ),
        (
            change(&|model| model.classes = Some(Classes { count: Some(2), null: Some(7) })),
            "found null_label \"2\", expected \"7\"",
        ),
        (change(&|model| model.classes = None), "found null_label \"2\", expected \"none\""),
    ] {
        assert_eq!(found, format!("saved run: {expected} {used}"));
    }
    // Betas given one by one are told apart, too.
    let mut given = case.clone();
    let betas = |first: f64| (0..1000).map(|t| if t == 0 { first } else { 0.01 }).collect();
    given.model.beta_schedule = BetaSchedule::Given(betas(0.01));
    let bytes = written(&given, 1);
    given.model.beta_schedule = BetaSchedule::Given(betas(0.0100001));
    let error = refusal(&bytes, &given.model);
    assert!(error.starts_with("saved run: found beta_schedule \"given, with the hash "), "{error}");
    // A model with fewer classes than the run's.
    let mut fewer = case.model.clone();
    fewer.classes = Some(Classes { count: Some(1), null: Some(2) });
    let error = refusal(&written(&case, 1), &fewer);
    assert_eq!(error, "saved run: class: found 1, expected 0 to 0");
}

/// Its shape and its values.
type Tensor = (Vec<usize>, Vec<f32>);

/// A blob taken apart, to be put together with one thing changed.
#[derive(Clone, PartialEq)]
struct Parts {
    metadata: BTreeMap<String, String>,
    tensors: BTreeMap<String, Tensor>,
}

impl Parts {
    fn of(bytes: &[u8]) -> Self {
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
        let data = &bytes[8 + len..];
        let mut parts = Self { metadata: BTreeMap::new(), tensors: BTreeMap::new() };
        for (name, entry) in header.as_object().unwrap() {
            if name == "__metadata__" {
                let texts = entry.as_object().unwrap().iter();
                let texts = texts.map(|(key, text)| (key.clone(), text.as_str().unwrap().into()));
                parts.metadata = texts.collect();
                continue;
            }
            let numbers = |key: &str| -> Vec<usize> {
                let list = entry[key].as_array().unwrap().iter();
                list.map(|number| number.as_u64().unwrap() as usize).collect()
            };
            let offsets = numbers("data_offsets");
            let values = data[offsets[0]..offsets[1]].as_chunks().0.iter();
            let values = values.map(|&bytes| f32::from_le_bytes(bytes)).collect();
            parts.tensors.insert(name.clone(), (numbers("shape"), values));
        }
        parts
    }

    fn bytes(&self) -> Vec<u8> {
        let mut tensors = NamedTensors::new();
        for (name, (shape, values)) in &self.tensors {
            tensors.push_f32(name, shape, values).unwrap();
        }
        self.with(tensors)
    }

    fn with(&self, tensors: NamedTensors) -> Vec<u8> {
        let pairs: Vec<(&str, &str)> = self.metadata.iter().map(|(k, v)| (&**k, &**v)).collect();
        tensors.to_bytes(&pairs).unwrap()
    }
}

#[test]
fn a_blob_is_refused_by_the_first_thing_that_is_wrong_with_it() {
    let case = full();
    let parts = Parts::of(&written(&case, 3));
    read_blob(&parts.bytes(), &case.model, FINGERPRINT).unwrap();
    let changed = |change: &dyn Fn(&mut Parts)| {
        let mut parts = parts.clone();
        change(&mut parts);
        refusal(&parts.bytes(), &case.model)
    };
    let text = |key: &str, from: &str, to: &str| {
        changed(&|parts| {
            let text = parts.metadata.get_mut(key).unwrap();
            assert!(text.contains(from), "{text}");
            *text = text.replacen(from, to, 1);
        })
    };
    let without = |key: &str| changed(&|parts| drop(parts.metadata.remove(key).unwrap()));
    let tensor = |name: &str, change: &dyn Fn(&mut Tensor)| {
        changed(&|parts| change(parts.tensors.get_mut(name).unwrap()))
    };
    let (sampler, run) = ("ddpm.blob.sampler", "ddpm.blob.run");
    for (found, expected) in [
        (
            without("ddpm.blob"),
            "found no \"ddpm.blob\" in the metadata, expected the version of a saved run",
        ),
        (text("ddpm.blob", "1", "one"), "found version \"one\", expected 1"),
        (text("ddpm.blob", "1", "0"), "found version \"0\", expected 1"),
        (without("ddpm.blob.model"), "found no \"ddpm.blob.model\" in the metadata, expected one"),
        (without(run), "found no \"ddpm.blob.run\" in the metadata, expected one"),
        (text(sampler, "{", "["), "sampler: not JSON: "),
        (text(sampler, "\"unipc\"", "\"magic\""), "sampler: \"kind\": found \"magic\", expected"),
        (text(sampler, "\"steps\":8", "\"steps\":8.5"), "sampler: \"steps\": found 8.5, expected"),
        (text(sampler, "\"steps\":8", "\"steps\":0"), "steps: found 0, expected 1 to 1000"),
        (
            text(sampler, "\"steps\":8", "\"steps\":18446744073709551615"),
            "steps: found 18446744073709551615, expected 1 to 1000",
        ),
        (text(sampler, "\"steps\":8,", ""), "sampler: found no \"steps\", expected one"),
        (
            text(sampler, "\"steps\":8,", "\"steps\":8,\"more\":1,"),
            "sampler: found \"more\", expected no such field",
        ),
        (text(sampler, "\"strength\":0.9", "\"strength\":9e9"), "strength: found 9000000000,"),
        (text(sampler, "\"one\"", "\"two\""), "sampler: \"final_alpha\": found \"two\", expected"),
        (text(run, "\"step\":3,\"straight\"", "\"step\":8,\"straight\""), "found step 8, expected"),
        (text(run, "\"label\":1", "\"label\":9"), "class: found 9, expected 0 to 1"),
        (text(run, "\"seed\":18446744073709551614", "\"seed\":-1"), "run: \"seed\": found -1,"),
        (text(run, "\"step\":4", "\"step\":1"), "branches[1].step: found 1 after 2, expected"),
        (text(run, "\"step\":4", "\"step\":4294967296"), "run: \"step\": found 4294967296,"),
        (text(run, "0.25", "1.25"), "branches[1].variation: found 1.25, expected 0 to 1"),
        (text(run, "\"branches\":[", "\"branches\":[7,"), "run: found 7, expected an object"),
        (
            changed(&|parts| drop(parts.tensors.remove("sample"))),
            "found no tensor \"sample\", expected one",
        ),
        (
            changed(&|parts| drop(parts.tensors.remove("history.0"))),
            "found no tensor \"history.0\", expected one",
        ),
        (
            changed(&|parts| drop(parts.tensors.remove("image"))),
            "strength: found 0.9 without an image",
        ),
        (
            changed(&|parts| {
                parts.tensors.insert("history.2".to_owned(), (vec![1], vec![0.0]));
            }),
            "found a tensor \"history.2\", expected among image, sample, x0, carried, history.0",
        ),
        (
            tensor("x0", &|(shape, _)| *shape = vec![2, 1, 5, 3]),
            "tensor \"x0\" has the shape [2, 1, 5, 3], expected [2, 1, 3, 5]",
        ),
        (
            tensor("sample", &|(shape, _)| *shape = vec![30]),
            "tensor \"sample\" has the shape [30], expected [N, C, H, W]",
        ),
        (
            tensor("sample", &|(shape, values)| (shape[0], *values) = (0, Vec::new())),
            "sample shape: found [0, 1, 3, 5], expected every dimension at least 1",
        ),
        (
            tensor("carried", &|(_, values)| values[4] = f32::NAN),
            "tensor \"carried\" has a value that is not finite at 4, expected none",
        ),
        (
            tensor("image", &|(_, values)| values[4] = f32::INFINITY),
            "tensor \"image\" has a value that is not finite at 4, expected none",
        ),
    ] {
        assert!(found.starts_with(&format!("saved run: {expected}")), "{found}, for {expected}");
    }

    let mut newer = parts.clone();
    newer.metadata.insert("ddpm.blob".to_owned(), "2".to_owned());
    let error = read_blob(&newer.bytes(), &case.model, FINGERPRINT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    let text = "saved run: found version 2, expected 1: update the library";
    assert_eq!(error.to_string(), text);

    // Doubles in the place of floats.
    let mut doubles = NamedTensors::new();
    for (name, (shape, values)) in &parts.tensors {
        let values: Vec<f64> = values.iter().map(|&value| value.into()).collect();
        doubles.push_f64(name, shape, &values).unwrap();
    }
    let error = refusal(&parts.with(doubles), &case.model);
    assert_eq!(error, "saved run: tensor \"sample\" is F64, expected F32");

    for bytes in [&b""[..], b"not a tensor", &[0xff; 64]] {
        let error = refusal(bytes, &case.model);
        assert!(error.starts_with("saved run: not a whole safetensors file: "), "{error}");
    }
    // Messages stay short, whatever the file says.
    let mut long = parts.clone();
    long.metadata.insert("ddpm.blob.model".to_owned(), "\u{1f600}".repeat(100_000));
    assert!(refusal(&long.bytes(), &case.model).len() < 1000);
}

/// Every byte of the header, and some of the data: an error, or a run that can be stepped.
#[test]
fn a_damaged_blob_is_an_error_or_a_run_and_never_a_crash() {
    let case = full();
    let bytes = written(&case, 3);
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let runs = std::cell::Cell::new(0);
    let look = |bytes: &[u8]| -> Result<()> {
        let mut run = read_blob(bytes, &case.model, FINGERPRINT)?;
        runs.set(runs.get() + 1);
        let mut denoiser = Wavy(case.model.clone());
        // What a flipped exponent makes of a sample need not stay finite.
        while let Ok(true) = run.step(&mut denoiser) {}
        run.restart();
        run.step(&mut denoiser).map(|_| ())
    };
    for at in 0..bytes.len() {
        let flips: &[u8] = if at < header { &[0x01, 0x02, 0x10, 0x80, 0xff] } else { &[0x40] };
        for flip in flips {
            let mut damaged = bytes.clone();
            damaged[at] ^= flip;
            let _ = look(&damaged);
        }
        if at < header || at % 7 == 0 {
            assert!(look(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
    // Digits of seeds and guidance, and the values.
    assert!(runs.get() > 100, "{} runs", runs.get());
    // Lengths that no file has.
    for len in [0, 1, u64::MAX, u64::MAX - 7, 1 << 40, 100_000_001] {
        let mut damaged = bytes.clone();
        damaged[..8].copy_from_slice(&len.to_le_bytes());
        assert!(look(&damaged).is_err(), "{len}");
    }
    let text = String::from_utf8(bytes[8..header].to_vec()).unwrap();
    for (from, to) in [
        ("\"shape\":[2,1,3,5]", "\"shape\":[4611686018427387904,1,3,5]"),
        ("\"shape\":[2,1,3,5]", "\"shape\":[18446744073709551615,1,3,5]"),
        ("\"data_offsets\":[0,", "\"data_offsets\":[18446744073709551615,"),
    ] {
        assert!(text.contains(from), "{text}");
        let changed = text.replacen(from, to, 1);
        let mut damaged = (changed.len() as u64).to_le_bytes().to_vec();
        damaged.extend(changed.as_bytes());
        damaged.extend(&bytes[header..]);
        assert!(look(&damaged).is_err(), "{to}");
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let case = full();
    let run = stepped(&case, 1);
    let error = write_blob(&run, &ModelConfig::ddpm(1, 5, 3), FINGERPRINT).unwrap_err();
    let text = "model: found samples of [1, 5, 3], expected [1, 3, 5] as in the run";
    assert_eq!(error.to_string(), text);
}
