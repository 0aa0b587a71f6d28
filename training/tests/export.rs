//! Exported files against the trained network, through the engine's own loader.

mod common;

use std::path::Path;

use burn::tensor::{Device, Tensor};
use common::{folder, write_run};
use ddpm::model::Denoiser;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use ddpm_train::config::Config;
use ddpm_train::export::{Precision, TOLERANCE, export, export_weights};
use ddpm_train::forward::BurnDenoiser;
use ddpm_train::network::{Downsample, Padding, Start};
use ddpm_train::parameters::{Parameters, specs};
use ndarray::Array4;
use safetensors::SafeTensors;

fn config(name: &str, change: impl FnOnce(&mut Config)) -> (std::path::PathBuf, Config) {
    let folder = folder(name);
    let path = write_run(&folder, 2, change);
    (folder, Config::read(&path).unwrap())
}

/// Weights of a network that does something: none starts at zero.
fn weights(config: &Config, seed: u64) -> Parameters {
    let mut specs = specs(&config.network());
    for spec in &mut specs {
        if spec.start == Start::Zero {
            spec.start = Start::Uniform { inputs: 9 };
        }
    }
    Parameters::initial(specs, seed, &Device::flex()).unwrap()
}

fn load(path: &Path) -> OnnxDenoiser {
    OnnxDenoiser::load(&ModelSource::Path(path.to_path_buf()), &OnnxOptions::default()).unwrap()
}

#[test]
fn exports_of_every_shape_of_network_are_reproduced_and_carry_their_metadata() {
    type Case = (&'static str, fn(&mut Config));
    let shapes: [Case; 13] = [
        ("export_two_levels", |_| {}),
        ("export_one_level", |c| c.model.channels = vec![12]),
        ("export_wide", |c| {
            c.model.channels = vec![8, 8, 24];
            c.model.blocks = 2;
            c.model.heads = 3;
            (c.data.width, c.data.height) = (16, 8);
        }),
        ("export_v", |c| {
            c.diffusion.prediction_type = "v_prediction".into();
            c.diffusion.beta_schedule = "squaredcos_cap_v2".into();
            c.diffusion.num_train_timesteps = 400;
        }),
        ("export_attention_high", |c| c.model.attention = Some(vec![0])),
        ("export_attention_nowhere", |c| c.model.attention = Some(vec![])),
        ("export_attention_up", |c| {
            c.model.attention = Some(vec![1, 0]);
            c.model.attention_up = true;
            c.model.head_dim = Some(4);
        }),
        ("export_time", |c| {
            c.model.time_channels = Some(8);
            c.model.flip_sin_to_cos = false;
            c.model.freq_shift = 1;
        }),
        ("export_down_3x3", |c| c.model.downsample = Downsample::Centred),
        ("export_down_3x3_end", |c| {
            c.model.downsample = Downsample::End;
            c.model.resample_keeps_channels = true;
            c.model.norm_eps = 1e-3;
        }),
        ("export_circular", |c| c.model.padding = Padding::Circular),
        ("export_circular_3x3", |c| {
            c.model.padding = Padding::Circular;
            c.model.downsample = Downsample::Centred;
            // One pixel at the lowest level, which wraps around on itself.
            c.model.channels = vec![8, 16, 16, 16];
        }),
        ("export_circular_3x3_end", |c| {
            c.model.padding = Padding::Circular;
            c.model.downsample = Downsample::End;
            c.model.channels = vec![16, 8, 24];
        }),
    ];
    for (name, change) in shapes {
        let (folder, config) = config(name, change);
        let path = folder.join("model.onnx");
        let verified =
            export(&path, &config, &weights(&config, 5), Precision::F32, &Device::flex()).unwrap();
        assert!(verified.worst <= TOLERANCE && verified.values > 0, "{verified:?}");
        assert_eq!(load(&path).config(), &config.model_config().unwrap(), "{name}");
        // For training/pytorch/check.py, beside the model.
        export_weights(&folder.join("weights.safetensors"), &config, &weights(&config, 5)).unwrap();
    }
}

#[test]
fn shipped_configurations_are_exported() {
    let folder = folder("export_shipped");
    // cifar32.toml is too large for a test.
    for name in ["portraits", "pixels16", "sprites32", "textures64"] {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
        let mut config = Config::read(&configs.join(name).with_extension("toml")).unwrap();
        // The network is the same at every size, and faster at this one.
        (config.data.width, config.data.height) = (16, 16);
        let parameters = weights(&config, 11);
        let path = folder.join(name).with_extension("onnx");
        let verified =
            export(&path, &config, &parameters, Precision::F32, &Device::flex()).unwrap();
        assert!(verified.worst <= TOLERANCE, "{name}: {verified:?}");
    }
}

#[test]
fn weights_are_exported_in_the_layouts_of_pytorch() {
    let (folder, mut config) = config("export_weights", |_| {});
    config.data.class_names = ["a", "b"].map(String::from).to_vec();
    let parameters = weights(&config, 13);
    let path = folder.join("weights.safetensors");
    export_weights(&path, &config, &parameters).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), parameters.specs().len());
    let found = |name: &str| {
        let view = file.tensor(name).unwrap();
        let values = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        (view.shape().to_vec(), values.collect::<Vec<_>>())
    };
    let (shape, values) = found("down.1.0.conv1.weight");
    assert_eq!(shape, [16, 16, 3, 3]);
    // Row 2, column 1 of the kernel from input 5 to output 7.
    let own = parameters.values("down.1.0.conv1.weight").unwrap();
    assert_eq!(values[((7 * 16 + 5) * 3 + 2) * 3 + 1], own[((2 * 3 + 1) * 16 + 5) * 16 + 7]);
    let (shape, values) = found("down.0.0.time.weight");
    assert_eq!(shape, [8, 16]);
    assert_eq!(values[3 * 16 + 9], parameters.values("down.0.0.time.weight").unwrap()[9 * 8 + 3]);
    // Two classes and none of them.
    assert_eq!(found("label.weight").0, [3, 16]);
    assert_eq!(found("label.weight").1, parameters.values("label.weight").unwrap());
    assert_eq!(found("out.norm.weight").1, parameters.values("out.norm.gamma").unwrap());
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let network = &header.metadata().as_ref().unwrap()["network"];
    let network: serde_json::Value = serde_json::from_str(network).unwrap();
    assert_eq!((&network["labels"], &network["model"]["blocks"]), (&3.into(), &1.into()));
}

#[test]
fn half_precision_exports_are_half_the_size_and_reproduced_less_exactly() {
    let folder = folder("export_half");
    let config = Config::read(&write_run(&folder, 2, |c| {
        c.model.channels = vec![32, 64];
        c.model.padding = Padding::Circular;
        c.model.attention_up = true;
    }));
    let mut config = config.unwrap();
    config.data.class_names = ["a", "b"].map(String::from).to_vec();
    let parameters = weights(&config, 12);
    let path = folder.join("model.onnx");
    let written =
        |precision| export(&path, &config, &parameters, precision, &Device::flex()).unwrap();
    let whole = written(Precision::F32);
    for precision in [Precision::F16, Precision::F16Weights] {
        let half = written(precision);
        println!("{precision:?} {half:?}");
        assert!(half.bytes as f64 <= 0.6 * whole.bytes as f64, "{half:?}, {whole:?}");
        assert!((TOLERANCE..=precision.tolerance()).contains(&half.worst), "{half:?}");
        // The runtime's ends stay as they are.
        assert_eq!(load(&path).config(), &config.model_config().unwrap());
        assert!(load(&path).info().contract.sample.contains("float32"));
    }
}

#[test]
fn picture_of_a_network_with_circular_padding_may_be_moved_around_its_edges() {
    for downsample in [Downsample::Blocks, Downsample::Centred, Downsample::End] {
        let name = format!("export_rolled_{}", downsample.kernel() + downsample.padding()[0]);
        let (folder, config) = config(&name, |c| {
            c.model.padding = Padding::Circular;
            c.model.downsample = downsample;
            c.model.channels = vec![16, 8];
            c.model.attention = Some(vec![0]);
        });
        let parameters = weights(&config, 9);
        let path = folder.join("model.onnx");
        export(&path, &config, &parameters, Precision::F32, &Device::flex()).unwrap();
        let trained = BurnDenoiser::new(&config, parameters, Device::flex()).unwrap();
        let denoisers: [Box<dyn Denoiser>; 2] = [Box::new(trained), Box::new(load(&path))];
        for (which, mut denoiser) in denoisers.into_iter().enumerate() {
            // By a multiple of what the levels halve.
            let rolled = |a: &Array4<f32>| {
                Array4::from_shape_fn(a.dim(), |(n, c, y, x)| a[[n, c, (y + 6) % 8, (x + 4) % 8]])
            };
            let mut predict = |sample: &Array4<f32>| {
                let mut out = Array4::zeros(sample.dim());
                denoiser.predict(sample.view(), &[700.0], &[], out.view_mut()).unwrap();
                out
            };
            let sample = Array4::from_shape_fn((1, 3, 8, 8), |(_, c, y, x)| {
                ((c * 31 + y * 17 + x * 7) % 23) as f32 / 11.0 - 1.0
            });
            let (out, moved) = (predict(&sample), predict(&rolled(&sample)));
            let worst = (&rolled(&out) - &moved).iter().fold(0f32, |m, d| m.max(d.abs()));
            let size = out.iter().fold(0f32, |m, v| m.max(v.abs()));
            // The moved picture falls into other tiles of the convolution: rounded differently.
            assert!(
                worst <= 1e-5 * size.max(1.0) && size > 0.1,
                "{downsample:?}, denoiser {which}: {worst}, {size}"
            );
        }
    }
}

#[test]
fn constant_and_nearly_constant_images_are_reproduced() {
    let (folder, config) = config("export_constant", |_| {});
    let parameters = weights(&config, 6);
    let path = folder.join("model.onnx");
    export(&path, &config, &parameters, Precision::F32, &Device::flex()).unwrap();
    let mut exported = load(&path);
    let mut trained = BurnDenoiser::new(&config, parameters, Device::flex()).unwrap();
    // Variance 0, and 1e-6 around 1: where a normalisation that loses precision shows.
    for spread in [0.0, 1e-3] {
        let sample = Array4::from_shape_fn((2, 3, 8, 8), |(n, c, y, x)| {
            1.0 + spread * ((n * 7 + c * 5 + y * 3 + x * 11) % 13) as f32 / 4.0
        });
        let (mut a, mut b) = (Array4::zeros(sample.dim()), Array4::zeros(sample.dim()));
        exported.predict(sample.view(), &[10.0, 990.0], &[], a.view_mut()).unwrap();
        trained.predict(sample.view(), &[10.0, 990.0], &[], b.view_mut()).unwrap();
        let worst = (&a - &b).iter().fold(0f32, |m, d| m.max(d.abs()));
        assert!(worst <= TOLERANCE, "spread {spread}: {worst}");
    }
}

#[test]
fn network_that_the_runtime_does_not_reproduce_is_not_written() {
    let (folder, config) = config("export_refused", |_| {});
    let mut parameters = weights(&config, 7);
    let broken = parameters.tensors()[0].clone() * f32::INFINITY;
    parameters.tensors_mut()[0] = broken;
    let path = folder.join("model.onnx");
    std::fs::write(&path, "an older export").unwrap();
    assert!(export(&path, &config, &parameters, Precision::F32, &Device::flex()).is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "an older export");
}

#[test]
fn verification_sees_a_single_changed_weight() {
    let (_, config) = config("export_changed", |_| {});
    let parameters = weights(&config, 8);
    let denoiser =
        |parameters: Parameters| BurnDenoiser::new(&config, parameters, Device::flex()).unwrap();
    let mut trained = denoiser(parameters.clone());
    let bytes = ddpm_train::export::model_bytes(&config, &parameters, Precision::F32, &mut trained)
        .unwrap();
    ddpm_train::export::verify(&bytes, Precision::F32, &mut trained).unwrap();
    for index in 0..parameters.tensors().len() {
        // A beta that feeds a normalisation of single channels, say, may have no effect; the
        // weights and biases of convolutions and linear layers all have.
        let name = &parameters.specs()[index].name;
        if !name.ends_with("weight") || name.contains("qkv") {
            continue;
        }
        let mut changed = parameters.clone();
        let tensor = changed.tensors()[index].clone() * 1.05;
        changed.tensors_mut()[index] = tensor;
        let message = ddpm_train::export::verify(&bytes, Precision::F32, &mut denoiser(changed));
        assert!(message.is_err(), "a change of {name} was not seen");
    }
}

#[test]
fn verification_looks_at_every_label_and_at_none_of_them() {
    let (_, mut config) = config("export_labels", |_| {});
    config.data.class_names = (0..10).map(|class| class.to_string()).collect();
    let parameters = weights(&config, 8);
    let denoiser =
        |parameters: Parameters| BurnDenoiser::new(&config, parameters, Device::flex()).unwrap();
    let mut trained = denoiser(parameters.clone());
    let bytes = ddpm_train::export::model_bytes(&config, &parameters, Precision::F32, &mut trained)
        .unwrap();
    ddpm_train::export::verify(&bytes, Precision::F32, &mut trained).unwrap();
    let table = parameters.specs().iter().position(|spec| spec.name == "label.weight").unwrap();
    let width = parameters.specs()[table].shape[1];
    // Ten classes, and the row for none of them.
    for row in 0..11 {
        let factors: Vec<f32> =
            (0..11 * width).map(|i| if i / width == row { 1.05 } else { 1.0 }).collect();
        let factors = Tensor::<1>::from_data(factors.as_slice(), &Device::flex());
        let mut changed = parameters.clone();
        changed.tensors_mut()[table] = parameters.tensors()[table].clone() * factors;
        let message = ddpm_train::export::verify(&bytes, Precision::F32, &mut denoiser(changed));
        assert!(message.is_err(), "a change of row {row} was not seen");
    }
}
