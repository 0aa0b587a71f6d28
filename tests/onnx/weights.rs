//! Weights from a file in place of the model's own: one graph, many styles.
//!
//! `styles` computes (conv.weight x + conv.bias) scale, a 1x1 convolution, whose own weights halve.

use std::fs;
use std::path::Path;

use ddpm::onnx::protobuf::Message;
use half::{bf16, f16};

use super::*;

/// A tensor in a safetensors file: name, type, shape, bytes.
type Tensor = (&'static str, &'static str, &'static [usize], Vec<u8>);

fn safetensors(tensors: &[Tensor], golden: Option<&str>) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    let mut data = Vec::new();
    for (name, dtype, shape, bytes) in tensors {
        let offsets = [data.len(), data.len() + bytes.len()];
        let entry = serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": offsets});
        header.insert((*name).to_owned(), entry);
        data.extend(bytes);
    }
    if let Some(golden) = golden {
        header.insert("__metadata__".to_owned(), serde_json::json!({"ddpm.golden": golden}));
    }
    let header = serde_json::Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length[..], header.as_bytes(), &data].concat()
}

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

const CONV: &[usize] = &[3, 3, 1, 1];

/// `factor` on the diagonal.
fn diagonal(factor: f32) -> Vec<f32> {
    (0..9).map(|at| if at % 4 == 0 { factor } else { 0.0 }).collect()
}

/// Of a convolution with `factor`, and nothing else.
fn conv(factor: f32) -> Tensor {
    ("conv.weight", "F32", CONV, f32s(&diagonal(factor)))
}

fn loaded(name: &str, weights: Vec<u8>) -> Result<OnnxDenoiser> {
    let weights = Some(ModelSource::Bytes(weights.into()));
    OnnxDenoiser::load(&ModelSource::from(&model(name)), &OnnxOptions { weights, ..cpu() })
}

/// Whether x becomes a x + b.
#[track_caller]
fn gives(denoiser: &mut OnnxDenoiser, a: f32, b: f32) {
    let (sample, output) = predict(denoiser, &[0.0, 5.0]).unwrap();
    // A model of float16 rounds three times, by up to 2e-3 below 8, which is as far as it goes here.
    let is_far = |(x, y): &(&f32, &f32)| ((*x * a + b) - **y).abs() > 6e-3 || y.is_nan();
    assert_eq!(sample.iter().zip(&output).find(is_far), None, "expected {a} x + {b}");
}

#[test]
fn tensors_take_the_place_of_initializers_of_their_names_and_the_rest_stays() {
    let bias = ("conv.bias", "F32", &[3][..], f32s(&[1.0; 3]));
    let scale = ("scale", "F32", &[3, 1, 1][..], f32s(&[4.0; 3]));
    for (tensors, a, b) in [
        (vec![conv(2.0)], 2.0, 0.0),
        (vec![bias.clone()], 0.5, 1.0),
        (vec![scale.clone()], 2.0, 0.0),
        (vec![scale, conv(2.0), bias], 8.0, 4.0),
    ] {
        let weights = safetensors(&tensors, None);
        gives(&mut loaded("styles", weights.clone()).unwrap(), a, b);
        gives(&mut loaded("styles_f16", weights).unwrap(), a, b);
    }
    gives(&mut load("styles").unwrap(), 0.5, 0.0);
}

/// A hit under another's key would show another picture and say nothing.
#[test]
fn each_style_has_its_own_fingerprint_and_its_own_place_in_the_cache() {
    let folder = Folder::new("styles");
    let files = [("two", 2.0), ("three", 3.0)].map(|(name, factor)| {
        let path = folder.0.join(format!("{name}.safetensors"));
        fs::write(&path, safetensors(&[conv(factor)], None)).unwrap();
        (Some(path), factor)
    });
    let styles = [(None, 0.5)].into_iter().chain(files).collect::<Vec<_>>();
    let load = |path: Option<&Path>| {
        let weights = path.map(ModelSource::from);
        let cache_dir = Some(folder.0.join("cache"));
        let options = OnnxOptions { weights, cache_dir, ..cpu() };
        OnnxDenoiser::load(&ModelSource::from(&model("styles")), &options).unwrap()
    };
    let mut prints = Vec::new();
    for state in [CacheUse::Written, CacheUse::Hit] {
        for (path, factor) in &styles {
            let mut denoiser = load(path.as_deref());
            assert_eq!(denoiser.info().cache, state, "{path:?}");
            gives(&mut denoiser, *factor, 0.0);
            prints.push(denoiser.info().fingerprint.clone());
        }
    }
    let (first, again) = prints.split_at(styles.len());
    assert_eq!(first, again);
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    // Another file in the place of one is another style.
    let path = styles[1].0.as_deref().unwrap();
    fs::write(path, safetensors(&[conv(7.0)], None)).unwrap();
    let mut changed = load(Some(path));
    assert_eq!(changed.info().cache, CacheUse::Written);
    gives(&mut changed, 7.0, 0.0);
}

#[test]
fn weights_in_external_data_are_replaced_too_wherever_that_is() {
    let folder = Folder::new("styles-external");
    let shape: &[usize] = &[1, 3, 8, 8];
    let quarter = safetensors(&[("half", "F32", shape, f32s(&[0.25; 192]))], None);
    gives(&mut loaded("external", quarter.clone()).unwrap(), 0.25, 0.0);
    let path = model("external");
    let weights = Some(ModelSource::Shared(Arc::new(quarter)));
    let external_data_dir = Some(path.parent().unwrap().to_owned());
    let cache_dir = Some(folder.0.clone());
    let options = OnnxOptions { weights, external_data_dir, cache_dir, ..cpu() };
    let source = ModelSource::Bytes(fs::read(&path).unwrap().into());
    for state in [CacheUse::Written, CacheUse::Hit] {
        let mut denoiser = OnnxDenoiser::load(&source, &options).unwrap();
        assert_eq!(denoiser.info().cache, state);
        gives(&mut denoiser, 0.25, 0.0);
    }
    gives(&mut load("external").unwrap(), 0.5, 0.0);
}

/// x times `one` times `two`, each of them in a file.
fn in_files(files: [&str; 2]) -> Vec<u8> {
    let new = Message::default;
    let open = || new().text(2, "N");
    let size = |&side: &i64| new().int(1, side);
    let port = |name: &str, number: i64, sides: &[i64]| {
        let shape = new().message(1, open()).messages(1, sides.iter().map(size));
        new().text(1, name).message(2, new().message(1, new().int(1, number).message(2, shape)))
    };
    let factor = |name: &str, file: &str| {
        let at = new().text(1, "location").text(2, file);
        let tensor = new().ints(1, &[1, 3, 8, 8]).int(2, 1).text(8, name);
        tensor.message(13, at).int(14, 1)
    };
    let product =
        |of: [&str; 2], to: &str| new().text(1, of[0]).text(1, of[1]).text(2, to).text(4, "Mul");
    let graph = new()
        .messages(1, [product(["sample", "one"], "half"), product(["half", "two"], "out")])
        .text(2, "two files")
        .messages(5, [factor("one", files[0]), factor("two", files[1])])
        .messages(11, [port("sample", 1, &[3, 8, 8]), port("timestep", 7, &[])])
        .messages(12, [port("out", 1, &[3, 8, 8])]);
    new().int(1, 8).message(7, graph).message(8, new().int(2, 17)).into_bytes()
}

/// The runtime takes all external data from memory, or none.
#[test]
fn weights_in_one_of_two_files_are_replaced_and_the_other_stays() {
    let folder = Folder::new("styles-two-files");
    let path = folder.0.join("m.onnx");
    fs::write(&path, in_files(["one.bin", "two.bin"])).unwrap();
    for name in ["one.bin", "two.bin"] {
        fs::write(folder.0.join(name), f32s(&[0.5; 192])).unwrap();
    }
    let load = |weights| {
        let options = OnnxOptions { weights, ..cpu() };
        OnnxDenoiser::load(&ModelSource::from(&path), &options).unwrap()
    };
    gives(&mut load(None), 0.25, 0.0);
    let one = safetensors(&[("one", "F32", &[1, 3, 8, 8], f32s(&[3.0; 192]))], None);
    gives(&mut load(Some(ModelSource::Bytes(one.into()))), 1.5, 0.0);
}

/// Tied weights, which some tools write once.
#[test]
fn two_values_for_the_same_bytes_are_refused() {
    let folder = Folder::new("styles-tied");
    let path = folder.0.join("m.onnx");
    fs::write(&path, in_files(["one.bin"; 2])).unwrap();
    fs::write(folder.0.join("one.bin"), f32s(&[0.5; 192])).unwrap();
    let load = |values: [f32; 2]| {
        let [one, two] = values.map(|value| f32s(&[value; 192]));
        let shape: &[usize] = &[1, 3, 8, 8];
        let weights = safetensors(&[("one", "F32", shape, one), ("two", "F32", shape, two)], None);
        let weights = Some(ModelSource::Bytes(weights.into()));
        OnnxDenoiser::load(&ModelSource::from(&path), &OnnxOptions { weights, ..cpu() })
    };
    gives(&mut load([3.0, 3.0]).unwrap(), 9.0, 0.0);
    let error = load([3.0, 5.0]).unwrap_err();
    assert!(error.to_string().contains("initializer \"one\" shares its bytes"), "{error}");
}

#[test]
fn floats_of_another_size_are_converted_and_rounding_is_said() {
    let shorts = |convert: fn(f32) -> u16| {
        diagonal(1.5)
            .into_iter()
            .flat_map(|value| convert(value).to_le_bytes())
            .collect::<Vec<u8>>()
    };
    let f16s = ("conv.weight", "F16", CONV, shorts(|value| f16::from_f32(value).to_bits()));
    let bf16s = ("conv.weight", "BF16", CONV, shorts(|value| bf16::from_f32(value).to_bits()));
    for (name, tensor, is_rounded) in [
        ("styles", &f16s, false),
        ("styles", &bf16s, false),
        ("styles_f16", &f16s, false),
        ("styles_f16", &bf16s, true),
        ("styles_f16", &conv(1.5), true),
    ] {
        let (log, seen) = recording();
        let weights =
            Some(ModelSource::Bytes(safetensors(std::slice::from_ref(tensor), None).into()));
        let options = OnnxOptions { weights, log, ..cpu() };
        let source = ModelSource::from(&model(name));
        gives(&mut OnnxDenoiser::load(&source, &options).unwrap(), 1.5, 0.0);
        let said = seen.lock().unwrap().join("\n");
        assert!(said.contains("1 of 3 initializers are those of weights in memory"), "{said}");
        assert_eq!(said.contains("1 of them rounded to float16"), is_rounded, "{said}");
    }
}

#[test]
fn weights_that_do_not_fit_are_refused_by_name() {
    let tensor = |name, dtype, shape, bytes| safetensors(&[(name, dtype, shape, bytes)], None);
    let good = f32s(&diagonal(1.0));
    let model_fault = ErrorKind::Model;
    for (name, weights, kind, expected) in [
        (
            "styles",
            tensor("conv.wieght", "F32", CONV, good.clone()),
            model_fault,
            &["tensor \"conv.wieght\": ", "styles.onnx has no initializer", "are \"conv.weight\","]
                [..],
        ),
        (
            "styles",
            tensor("conv.weight", "F32", &[3, 3], good.clone()),
            model_fault,
            &[
                "tensor \"conv.weight\": found shape [3, 3], expected [3, 3, 1, 1] as",
                "styles.onnx",
            ],
        ),
        (
            "styles",
            tensor("conv.bias", "I64", &[3], vec![0; 24]),
            model_fault,
            &["tensor \"conv.bias\": is I64, expected F32 (or F16 or BF16)"],
        ),
        (
            "styles_f16",
            tensor("conv.weight", "F32", CONV, f32s(&diagonal(70000.0))),
            model_fault,
            &["tensor \"conv.weight\": 70000 is beyond float16"],
        ),
        ("styles", safetensors(&[], None), model_fault, &["weights in memory: holds no tensor"]),
        (
            "styles",
            b"not a file of tensors".to_vec(),
            ErrorKind::Io,
            &["weights in memory: not a safetensors file: "],
        ),
    ] {
        let error = loaded(name, weights).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        let text = error.to_string();
        assert!(expected.iter().all(|part| text.contains(part)), "{text}");
    }
    let weights = Some(ModelSource::from(Path::new("no/such.safetensors")));
    let options = OnnxOptions { weights, ..cpu() };
    let error = OnnxDenoiser::load(&ModelSource::from(&model("styles")), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().starts_with("no/such.safetensors: "), "{error}");
}

/// `golden` gives t / 1000, and a checksum of that.
#[test]
fn weights_bring_their_own_golden_checksum_or_none() {
    let with = |golden: Option<f64>| {
        let golden = golden.map(|mean_square| {
            serde_json::json!({"seed": 7, "timestep": 500, "mean_square": mean_square}).to_string()
        });
        let tensor = ("thousand", "F32", &[][..], f32s(&[500.0]));
        loaded("golden", safetensors(&[tensor], golden.as_deref()))
    };
    for golden in [None, Some(1.0)] {
        let (_, output) = predict(&mut with(golden).unwrap(), &[250.0]).unwrap();
        assert_eq!(output[[0, 0, 0, 0]], 0.5);
    }
    let error = with(Some(0.25)).unwrap_err().to_string();
    assert!(error.contains("does not reproduce its golden checksum"), "{error}");
}
