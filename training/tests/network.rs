//! The networks that the options describe: their weights, what is refused, and the shipped ones.

mod common;

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor, TensorData};
use common::{folder, write_run};
use ddpm_train::config::Config;
use ddpm_train::forward::forward;
use ddpm_train::network::{Downsample, Padding, Start};
use ddpm_train::parameters::{ParameterSpec, Parameters, specs};

fn shipped(name: &str) -> Config {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    Config::read(&folder.join(name)).unwrap()
}

fn count(config: &Config) -> usize {
    specs(&config.network()).iter().map(ParameterSpec::len).sum()
}

#[test]
fn shipped_configurations_have_the_weights_that_they_say() {
    for (name, weights) in [
        ("portraits.toml", 1_430_000),
        ("mnist.toml", 916_000),
        ("pixels16.toml", 5_300_000),
        ("sprites32.toml", 9_900_000),
        ("textures64.toml", 5_200_000),
        // The DDPM paper, appendix B: 35.7 million.
        ("cifar32.toml", 35_700_000),
    ] {
        let found = count(&shipped(name));
        let off = (found as f64 / f64::from(weights) - 1.0).abs();
        assert!(off < 0.01, "{name}: {found}, expected {weights} to 1 %");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let all: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    for path in &all {
        Config::read(path).unwrap();
    }
    assert_eq!(all.len(), 6, "a configuration that is not in this test: {all:?}");
}

#[test]
fn gradient_reaches_every_weight_whatever_the_options() {
    type Case = fn(&mut Config);
    let cases: [Case; 2] = [
        |c| {
            c.model.padding = Padding::Circular;
            c.model.downsample = Downsample::Centred;
            c.model.attention = Some(vec![0]);
            c.model.attention_up = true;
            c.model.norm_eps = 1e-3;
        },
        |c| {
            c.model.downsample = Downsample::End;
            c.model.resample_keeps_channels = true;
            c.model.time_channels = Some(8);
            c.model.head_dim = Some(4);
        },
    ];
    for (index, change) in cases.into_iter().enumerate() {
        let folder = folder(&format!("network_gradient_{index}"));
        let config = Config::read(&write_run(&folder, 2, change)).unwrap();
        let network = config.network();
        let mut specs = specs(&network);
        for spec in specs.iter_mut().filter(|spec| spec.start == Start::Zero) {
            spec.start = Start::Uniform { inputs: 9 };
        }
        let parameters = Parameters::initial(specs, 4, &Device::flex()).unwrap();
        let values: Vec<f32> =
            (0..2 * 8 * 8 * 3).map(|i| (i * 7 % 23) as f32 / 11.0 - 1.0).collect();
        let data = TensorData::new(values, [2, 8, 8, 3]);
        let loss = |parameters: &Parameters, sample| {
            forward(&network, parameters, sample, &[3.0, 800.0], &[]).square().mean()
        };
        let plain = |parameters: &Parameters| {
            loss(parameters, Tensor::from_data(data.clone(), &Device::flex())).into_scalar::<f32>()
        };
        let tracked = parameters.tracked();
        let sample: Tensor<4> = Tensor::from_data(data.clone(), &Device::flex());
        let mut gradients = loss(&tracked, sample.autodiff()).backward();
        for (index, spec) in parameters.specs().iter().enumerate() {
            let gradient = tracked.tensors()[index].grad_remove(&mut gradients);
            let gradient = gradient.unwrap_or_else(|| panic!("no gradient of {}", spec.name));
            let norm = gradient.clone().square().sum().sqrt().into_scalar::<f32>();
            // Along the gradient, the loss rises by its length times the way.
            let way = 2e-2;
            let moved = |sign: f32| {
                let mut moved = parameters.clone();
                moved.tensors_mut()[index] =
                    parameters.tensors()[index].clone() + gradient.clone() * (sign * way / norm);
                plain(&moved)
            };
            let slope = (moved(0.5) - moved(-0.5)) / way;
            let off = (slope - norm).abs();
            assert!(off <= 0.02 * norm + 2e-4, "{}: slope {slope}, gradient {norm}", spec.name);
        }
    }
}

#[test]
fn option_that_does_not_fit_is_refused_by_name() {
    type Case = (&'static str, fn(&mut Config));
    let cases: [Case; 10] = [
        ("model.attention has level 2", |c| c.model.attention = Some(vec![2])),
        ("model.attention has 1 twice", |c| c.model.attention = Some(vec![1, 1])),
        ("model.heads is 3, expected a divisor of 8", |c| {
            c.model.channels = vec![8, 12];
            c.model.heads = 3;
            c.model.attention = Some(vec![0]);
        }),
        ("model.heads is 3, expected a divisor of 16", |c| {
            c.model.heads = 3;
            c.model.attention = Some(vec![]);
        }),
        ("model.head_dim is 0", |c| c.model.head_dim = Some(0)),
        ("model.time_channels is 7", |c| c.model.time_channels = Some(7)),
        ("model.time_dim is 1", |c| c.model.time_dim = 1),
        ("model.freq_shift is 4", |c| {
            c.model.time_channels = Some(8);
            c.model.freq_shift = 4;
        }),
        ("model.norm_eps is 0", |c| c.model.norm_eps = 0.0),
        ("model.norm_eps is NaN", |c| c.model.norm_eps = f64::NAN),
    ];
    let config = Config::read(&write_run(&folder("network_refused"), 2, |_| {})).unwrap();
    for (expected, change) in cases {
        let mut config = config.clone();
        change(&mut config);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.starts_with(expected), "{message:?}, expected {expected:?}");
    }
    for (key, value) in [("downsample", "4x4"), ("padding", "reflect")] {
        let mut text = toml::Value::try_from(&config).unwrap();
        text["model"][key] = value.into();
        let message = text.try_into::<Config>().unwrap_err().to_string();
        assert!(message.contains(value), "{message}");
    }
}
