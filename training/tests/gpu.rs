//! Training on a GPU, in a build that can: `make test-gpu`. A software Vulkan driver (Mesa's lavapipe) will do.

#![cfg(feature = "_gpu")]

mod common;

use std::sync::LazyLock;

use burn::tensor::{Device, Distribution, Tensor, TensorData};
use common::program::{self, checkpoint, succeed};
use common::{assert_close, folder, write_run};
use ddpm_train::batches::Batches;
use ddpm_train::config::{Config, LossConfig};
use ddpm_train::device::{self, Choice};
use ddpm_train::fit::read_data;
use ddpm_train::objective::{LossType, Objective, Weighting};
use ddpm_train::optimizer::TrainState;
use ddpm_train::parameters::specs;
use ddpm_train::{ops, step};

/// Float32 sums over up to 9 * 24 products or 6 * 63 pixels, in another order, by the CPU as minimal filtering, and
/// another exponential: 4e-6 was seen.
const TOLERANCE: f32 = 3e-5;

fn gpu() -> Device {
    static OPENED: LazyLock<Device> = LazyLock::new(|| device::open(Choice::Gpu(None)).unwrap());
    OPENED.clone()
}

/// What `compute` makes of those tensors, and its gradients by them, on the device.
fn computed<const N: usize>(
    device: &Device,
    inputs: &[(Vec<f32>, Vec<usize>); N],
    compute: impl Fn([Tensor<4>; N]) -> Tensor<4>,
) -> Vec<Vec<f32>> {
    let leaves = inputs.each_ref().map(|(values, shape)| {
        let shape: [usize; 4] = shape.clone().try_into().unwrap();
        let data = TensorData::new(values.clone(), shape);
        Tensor::<4>::from_data(data, &device.clone().autodiff()).require_grad()
    });
    let out = compute(leaves.clone());
    let weights = Tensor::arange(0..out.shape().num_elements() as i64, &device.clone().autodiff());
    let weights = (weights.float() * 0.7).sin().reshape(out.dims());
    let mut gradients = (out.clone() * weights).sum().backward();
    let values = |tensor: Tensor<4>| tensor.into_data().try_to_vec::<f32>().unwrap();
    let mut all = vec![values(out.inner())];
    all.extend(leaves.iter().map(|leaf| values(leaf.grad_remove(&mut gradients).unwrap())));
    all
}

#[track_caller]
fn assert_same<const N: usize>(
    what: &str,
    shapes: [&[usize]; N],
    compute: impl Fn([Tensor<4>; N]) -> Tensor<4>,
) {
    let inputs = shapes.map(|shape| {
        let random = Distribution::Normal(0.0, 1.0);
        let values =
            Tensor::<1>::random([shape.iter().product::<usize>()], random, &Device::flex());
        (values.into_data().try_to_vec::<f32>().unwrap(), shape.to_vec())
    });
    let found = computed(&gpu(), &inputs, &compute);
    let expected = computed(&Device::flex(), &inputs, &compute);
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let part = if index == 0 { "output".into() } else { format!("gradient {index}") };
        assert_close(found, expected, TOLERANCE, &format!("{what}: {part}"));
    }
}

#[test]
fn operations_and_their_gradients_are_those_of_the_cpu() {
    for (kernel, upsample, items) in [(3, false, 1), (3, true, 5), (1, false, 5)] {
        let what = format!("convolution of {kernel}, enlarged {upsample}, {items} shifts");
        let shapes: [&[usize]; 3] = [&[5, 9, 7, 24], &[kernel, kernel, 24, 16], &[1, 1, items, 16]];
        assert_same(&what, shapes, |[x, w, shift]| {
            ops::conv2d(x, w, shift.reshape([items, 16]), upsample)
        });
    }
    for silu in [false, true] {
        let shapes: [&[usize]; 3] = [&[6, 9, 7, 24], &[1, 1, 1, 24], &[1, 1, 1, 24]];
        assert_same(&format!("normalisation, SiLU {silu}"), shapes, |[x, gamma, beta]| {
            ops::group_norm(x, gamma.reshape([24]), beta.reshape([24]), 4, silu)
        });
    }
    assert_same("attention", [&[3, 5, 7, 48]], |[qkv]| ops::attention(qkv, 2));
}

/// The losses of the first steps of a run, and its averaged weights after them.
fn trained(config: &Config, device: &Device) -> (Vec<f64>, Vec<f32>) {
    let (config, data) = &read_data(config).unwrap();
    let mut batches = Batches::new(config, data, device).unwrap();
    let objective = Objective::new(config).unwrap();
    let network = specs(&config.network());
    let mut state = TrainState::initial(network, config.seed, device).unwrap();
    let losses = (0..8).map(|_| step::take(config, &objective, &mut batches, &mut state).unwrap());
    let losses = losses.collect();
    let specs = state.ema.specs().iter();
    (losses, specs.flat_map(|spec| state.ema.values(&spec.name).unwrap()).collect())
}

#[test]
fn run_learns_what_it_learns_on_the_cpu() {
    let folder = folder("gpu_run");
    let changes: [fn(&mut Config); 2] = [
        |_| {},
        |config| {
            config.diffusion.prediction_type = "v_prediction".into();
            config.diffusion.variance_type = "learned_range".into();
            config.model.padding = ddpm_train::network::Padding::Circular;
            config.train.accumulate = 2;
            config.loss = LossConfig {
                kind: LossType::Huber,
                weighting: Weighting::MinSnr,
                ..LossConfig::default()
            };
        },
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let config = Config::read(&write_run(&folder, 5, change)).unwrap();
        let (losses, weights) = trained(&config, &gpu());
        let (expected, expected_weights) = trained(&config, &Device::flex());
        for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
            let apart = (loss - expected).abs() / expected;
            assert!(apart < 1e-3, "{index}: step {step}: {loss}, on the CPU {expected}");
        }
        // The differences of the operations, times the first steps of AdamW, which are as long for a gradient that
        // is nearly 0 as for any other: less than 1e-4 was seen.
        assert_close(&weights, &expected_weights, 1e-3, &format!("{index}: weights"));
    }
}

#[test]
fn program_trains_and_samples_on_a_gpu_and_leaves_a_checkpoint_for_the_cpu() {
    let folder = folder("gpu_program");
    let config = write_run(&folder, 5, |config| config.train.steps = 6);
    let message = succeed(&config, &["--device", "gpu"]);
    assert!(message.contains(&device::name(&gpu())), "{message}");
    assert_eq!(checkpoint(&folder).state(&Device::flex()).unwrap().step, 6);

    let picture = folder.join("samples.png");
    let mut sample = program::program();
    sample.args(["sample", "--device", "gpu", "--count", "2", "--steps", "3"]);
    sample.arg(folder.join("out/checkpoint.safetensors")).arg("-o").arg(&picture);
    let output = sample.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(picture.exists());

    // A run that is over: only its checkpoint is read.
    succeed(&config, &["--device", "cpu", "--resume"]);
}
