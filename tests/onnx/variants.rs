//! A table of what exporters write, and of what they should not have: each loads, steps and gives its exact
//! answer, or is refused at load in words.
//!
//! The models are built by `models/make_variants.py`, which says what the answer is.

use ddpm::engine::{Engine, EngineConfig, StepOutcome, StreamConfig};

use super::*;

/// What comes of a variant.
enum Outcome {
    /// It loads. The batch it is fixed to, and what the answer may be off by.
    Loads { batch: Option<usize>, tolerance: f32 },
    /// The kind of the error, and what its text has.
    Refused(ErrorKind, &'static [&'static str]),
}

const EXACT: Outcome = Outcome::Loads { batch: None, tolerance: 0.0 };
/// Half an ulp of float16 at 2 is 1e-3. It is met in what goes in, in the two terms and their sum, and in
/// what comes out.
const TO_FLOAT16: Outcome = Outcome::Loads { batch: None, tolerance: 4e-3 };

const fn fixed_to(batch: usize) -> Outcome {
    Outcome::Loads { batch: Some(batch), tolerance: 0.0 }
}

const fn model_error(texts: &'static [&'static str]) -> Outcome {
    Outcome::Refused(ErrorKind::Model, texts)
}

type Change = fn(&mut ModelOverrides);
const AS_IT_IS: Change = |_| {};

/// The variant, what is said when it is loaded, and what comes of it.
const VARIANTS: &[(&str, Change, Outcome)] = &[
    // Names and roles.
    ("names_x_t", AS_IT_IS, EXACT),
    ("names_input_time", AS_IT_IS, EXACT),
    ("names_latent_timesteps", AS_IT_IS, EXACT),
    ("names_noisy_ts", AS_IT_IS, EXACT),
    ("names_tf", AS_IT_IS, EXACT),
    ("names_unknown", AS_IT_IS, EXACT),
    (
        "names_unknown",
        |over| {
            over.sample_input = Some("foo".to_owned());
            over.timestep_input = Some("bar".to_owned());
            over.output = Some("baz".to_owned());
        },
        EXACT,
    ),
    (
        "names_unknown",
        |over| over.sample_input = Some("bar".to_owned()),
        model_error(&["input \"bar\" int64 [?] does not fit the role: sample (float32 or float16"]),
    ),
    (
        "names_unknown",
        |over| over.timestep_input = Some("Foo".to_owned()),
        model_error(&["no input is named \"Foo\"; inputs: \"foo\" float32 [?, 3, 4, 4], \"bar\""]),
    ),
    ("names_label", AS_IT_IS, EXACT),
    ("label_int32_float_time", AS_IT_IS, EXACT),
    (
        "sigma",
        AS_IT_IS,
        model_error(&["input \"sigma\" float32 [?] takes a level of noise", "expected a timestep"]),
    ),
    ("sigma", |over| over.timestep_input = Some("sigma".to_owned()), EXACT),
    (
        "no_timestep",
        AS_IT_IS,
        model_error(&["no input can be the timestep (int64, int32,", "\"mask\" bool [?]"]),
    ),
    (
        "timestep_column",
        AS_IT_IS,
        model_error(&["no input can be the timestep", "of rank 0 or 1)", "int64 [?, 1]"]),
    ),
    (
        "two_samples",
        AS_IT_IS,
        model_error(&["input \"image\" float32 [?, 3, 4, 4] is required, expected a sample, a"]),
    ),
    ("no_inputs", AS_IT_IS, model_error(&["no input can be the sample", "inputs: none"])),
    // Number types.
    ("float16", AS_IT_IS, TO_FLOAT16),
    ("float16_input", AS_IT_IS, TO_FLOAT16),
    ("float16_output", AS_IT_IS, TO_FLOAT16),
    ("float16_inside", AS_IT_IS, TO_FLOAT16),
    (
        "bfloat16_sample",
        AS_IT_IS,
        model_error(&[
            "no input can be the sample (float32 or float16 of rank 4)",
            "\" bfloat16 [",
        ]),
    ),
    ("float64_sample", AS_IT_IS, model_error(&["\"sample\" float64 [?, 3, 4, 4]"])),
    ("uint8_sample", AS_IT_IS, model_error(&["\"sample\" uint8 [?, 3, 4, 4]"])),
    (
        "float64_output",
        AS_IT_IS,
        model_error(&["no output can be the output (float32 or float16", "\"out_sample\" float64"]),
    ),
    // Batch and size.
    ("batch_1_baked", AS_IT_IS, fixed_to(1)),
    ("batch_2_baked", AS_IT_IS, fixed_to(2)),
    // For 2 inside, and open in all that the graph says.
    ("batch_2_hidden", AS_IT_IS, Outcome::Refused(ErrorKind::Inference, &["Reshape", "{2,3,4,4}"])),
    ("batch_of_the_timestep", AS_IT_IS, fixed_to(2)),
    (
        "batches_differ",
        AS_IT_IS,
        model_error(&["input \"timestep\" has a batch of 2, expected 3 as input \"sample\""]),
    ),
    ("batch_0", AS_IT_IS, model_error(&["input \"sample\" has a batch of 0, expected at least 1"])),
    (
        "size_0",
        AS_IT_IS,
        Outcome::Refused(ErrorKind::InvalidArgument, &["height: found 0, expected 1 to 16384"]),
    ),
    ("size_symbolic", AS_IT_IS, model_error(&["the height is open", "metadata ddpm.height"])),
    ("size_symbolic", |over| (over.height, over.width) = (Some(5), Some(7)), EXACT),
    ("dims_of_one_name", |over| (over.height, over.width) = (Some(4), Some(4)), EXACT),
    (
        "channels_last",
        AS_IT_IS,
        model_error(&["[?, 8, 8, 3] has 8", "[N, H, W, C], expected [N, C,"]),
    ),
    ("rank_3", AS_IT_IS, model_error(&["no input can be the sample", "float32 [?, 3, 16]"])),
    // Outputs.
    ("output_undeclared", AS_IT_IS, EXACT),
    ("output_unknown", AS_IT_IS, EXACT),
    ("output_scalar", AS_IT_IS, Outcome::Refused(ErrorKind::Inference, &["mean"])),
    ("sequence_output", AS_IT_IS, EXACT),
    ("optional_output", AS_IT_IS, EXACT),
    ("float_outputs", AS_IT_IS, EXACT),
    // Graphs.
    ("opset_7", AS_IT_IS, EXACT),
    ("opset_newest", AS_IT_IS, EXACT),
    ("function", AS_IT_IS, EXACT),
    ("constant_nodes", AS_IT_IS, EXACT),
    ("custom_operator", AS_IT_IS, model_error(&["com.example:Answer", "is not a registered"])),
    ("input_twice", AS_IT_IS, model_error(&["Duplicate definition", "sample"])),
    ("value_twice", AS_IT_IS, model_error(&["Duplicate definition", "out_sample"])),
    // Metadata.
    ("metadata_width", AS_IT_IS, model_error(&["ddpm.width is \"wide\", expected an integer"])),
    ("metadata_other_width", AS_IT_IS, EXACT),
];

/// x / 2 + t / 1000 + label, in float32, as the graphs have it.
fn answer(sample: &Array4<f32>, timesteps: &[f64], labels: &[i64]) -> Array4<f32> {
    let mut expected = sample.clone();
    for (item, mut values) in expected.outer_iter_mut().enumerate() {
        let time = timesteps[item] as f32 / 1000.0;
        let label = labels.get(item).map_or(0.0, |&label| label as f32);
        values.mapv_inplace(|x| (x * 0.5 + time) + label);
    }
    expected
}

/// Why it does not give the answer; nothing where it does.
fn fault(denoiser: &mut OnnxDenoiser, fixed: Option<usize>, tolerance: f32) -> Option<String> {
    if denoiser.info().fixed_batch != fixed {
        return Some(format!("fixed to {:?}, expected {fixed:?}", denoiser.info().fixed_batch));
    }
    for batch in fixed.map_or(vec![1, 3], |fixed| vec![fixed]) {
        let timesteps: Vec<f64> = (0..batch).map(|item| 999.0 - 250.0 * item as f64).collect();
        let has_labels = denoiser.info().contract.labels.is_some();
        let labels: Vec<i64> = (0..batch as i64).take(if has_labels { batch } else { 0 }).collect();
        let (sample, output) = match predict_class(denoiser, &timesteps, &labels) {
            Ok(both) => both,
            Err(error) => return Some(format!("batch {batch}: {error}")),
        };
        let expected = answer(&sample, &timesteps, &labels);
        let is_close = |(found, expected): (&f32, &f32)| (found - expected).abs() <= tolerance;
        if !output.iter().zip(&expected).all(is_close) {
            return Some(format!("batch {batch}: found {output}, expected {expected}"));
        }
    }
    let model = denoiser.config().clone();
    let start = RunStart { label: model.classes.map(|_| 1), ..RunStart::default() };
    let sampler = model.sampler_config(Sampler::Ddim, 4);
    let mut run = Run::starting(&model, &sampler, start, fixed.unwrap_or(1)).unwrap();
    while run.step(denoiser).unwrap() {}
    let is_fine = run.step_index() == 4 && run.sample().iter().all(|value| value.is_finite());
    (!is_fine).then(|| "does not step to the end".to_owned())
}

#[test]
fn every_variant_loads_and_gives_its_answer_or_is_refused_in_words() {
    let mut faults = Vec::new();
    for (name, change, outcome) in VARIANTS {
        let mut overrides = ModelOverrides::default();
        change(&mut overrides);
        let loaded = with(&format!("variants/{name}"), overrides);
        let found = match (outcome, loaded) {
            (Outcome::Loads { batch, tolerance }, Ok(mut denoiser)) => {
                fault(&mut denoiser, *batch, *tolerance)
            }
            (Outcome::Loads { .. }, Err(error)) => Some(format!("refused: {error}")),
            (Outcome::Refused(..), Ok(_)) => Some("loads".to_owned()),
            (Outcome::Refused(kind, texts), Err(error)) => {
                let text = error.to_string();
                let file = format!("{name}.onnx");
                let is_said = texts.iter().chain([&&*file]).all(|part| text.contains(part));
                (error.kind() != *kind || !is_said).then(|| format!("{:?}: {text}", error.kind()))
            }
        };
        faults.extend(found.map(|found| format!("{name}: {found}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_variant_is_in_the_table() {
    let folder = model("variants/any").parent().unwrap().to_owned();
    for file in std::fs::read_dir(folder).unwrap() {
        let name = file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned();
        let is_listed = VARIANTS.iter().any(|(listed, ..)| *listed == name);
        assert!(is_listed || name == "batch_1_hidden", "{name}");
    }
}

#[test]
fn a_size_in_the_metadata_that_the_graph_contradicts_is_said() {
    let (log, seen) = recording();
    let source = ModelSource::from(&model("variants/metadata_other_width"));
    let loaded = OnnxDenoiser::load(&source, &OnnxOptions { log, ..cpu() }).unwrap();
    assert_eq!(loaded.config().width, 4);
    let seen = seen.lock().unwrap().join("\n");
    assert!(seen.contains("ddpm.width is 8, but input \"sample\" is fixed to 4"), "{seen}");
}

/// The graph says that it takes any batch, and has one for 1 inside.
#[test]
fn streams_of_a_model_whose_batch_is_baked_in_are_stepped_one_by_one() {
    let pictures = |max_batch: u32| {
        let mut config = EngineConfig::new(model("variants/batch_1_hidden"));
        (config.provider, config.max_batch) = (Provider::Cpu, max_batch);
        let engine = Engine::new(config).unwrap();
        assert!(engine.wait(None).unwrap());
        assert_eq!(engine.info().unwrap().fixed_batch, None);
        let of_seed = |seed| StreamConfig::new(SamplerConfig { steps: 5, ..<_>::default() }, seed);
        let streams = [1, 2, 3].map(|seed| engine.stream(&of_seed(seed)).unwrap());
        // All ask before anyone waits.
        while streams.each_ref().map(|stream| stream.step().unwrap())[0] != StepOutcome::Done {
            streams.iter().for_each(|stream| assert!(stream.wait(None).unwrap()));
        }
        streams.map(|stream| {
            let mut pixels = vec![0; 4 * 4 * 4];
            stream.copy_frame(&mut pixels, 4 * 4).unwrap().unwrap();
            pixels
        })
    };
    assert_eq!(pictures(8), pictures(1));
}
