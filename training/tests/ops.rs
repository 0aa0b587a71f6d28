//! The CPU kernels against the same operations composed from burn's own, forward and backward.

mod common;

use burn::tensor::{Device, Distribution, Gradients, Tensor, activation, module, ops::ConvOptions};
use ddpm_train::ops;

fn device() -> Device {
    Device::flex().autodiff()
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), &device()).require_grad()
}

/// Largest difference, relative to the largest expected magnitude.
#[track_caller]
fn assert_close<const D: usize>(found: Tensor<D>, expected: Tensor<D>, tolerance: f32, what: &str) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shape");
    let found = found.into_data().try_to_vec::<f32>().unwrap();
    let expected = expected.into_data().try_to_vec::<f32>().unwrap();
    common::assert_close(&found, &expected, tolerance, what);
}

fn plain_conv(x: Tensor<4>, w: Tensor<4>, shift: Tensor<2>, upsample: bool) -> Tensor<4> {
    let [n, h, width, c] = x.dims();
    let x = if upsample {
        x.reshape([n, h, 1, width, 1, c]).expand([n, h, 2, width, 2, c]).reshape([
            n,
            2 * h,
            2 * width,
            c,
        ])
    } else {
        x
    };
    let reach = w.dims()[0] / 2;
    let options = ConvOptions::new([1, 1], [reach, reach], [1, 1], 1);
    let [items, c_out] = shift.dims();
    let out = module::conv2d(x.permute([0, 3, 1, 2]), w.permute([3, 2, 0, 1]), None, options);
    out.permute([0, 2, 3, 1]) + shift.reshape([items, 1, 1, c_out])
}

fn plain_norm(
    x: Tensor<4>,
    gamma: Tensor<1>,
    beta: Tensor<1>,
    groups: usize,
    silu: bool,
) -> Tensor<4> {
    let [n, h, w, c] = x.dims();
    let x = x.reshape([n, h * w, groups, c / groups]);
    let mean = x.clone().mean_dim(1).mean_dim(3);
    let centred = x - mean;
    let var = (centred.clone() * centred.clone()).mean_dim(1).mean_dim(3);
    let normal = (centred / (var + 1e-5).sqrt()).reshape([n, h, w, c]);
    let out = normal * gamma.reshape([1, 1, 1, c]) + beta.reshape([1, 1, 1, c]);
    if silu { activation::silu(out) } else { out }
}

// Float32 sums over up to 9 * 40 products (or 5 * 63 pixels for the weights), taken in another
// order: 1e-5 of the largest value is ten times what was seen.
const TOLERANCE: f32 = 1e-5;

// The convolution by minimal filtering sums transformed values, up to 100 times as large as what is
// left of them in the end: 1e-5 was seen, with 9 * 160 products.
const CONV_TOLERANCE: f32 = 3e-5;

/// A gradient that must be there, as one row of values.
#[track_caller]
fn flat<const D: usize>(grad: Option<Tensor<D>>) -> Tensor<1> {
    let grad = grad.unwrap();
    let len = grad.dims().iter().product::<usize>();
    grad.reshape([len])
}

/// Compares two outputs, and the gradients that `named` reads, for the same random output gradient.
#[track_caller]
fn assert_same(
    found: Tensor<4>,
    expected: Tensor<4>,
    tolerance: f32,
    what: &str,
    named: impl Fn(&Gradients) -> Vec<(&'static str, Tensor<1>)>,
) {
    assert_close(found.clone(), expected.clone(), tolerance, what);
    let probe = random(found.dims()).detach();
    let a = named(&(found * probe.clone()).sum().backward());
    let b = named(&(expected * probe).sum().backward());
    for ((name, found), (_, expected)) in a.into_iter().zip(b) {
        assert_close(found, expected, tolerance, &format!("{what}: {name}"));
    }
}

#[test]
fn convolution_and_its_gradients_match_burn() {
    // Down to one pixel, odd sizes, strips that are part of an image, strips of many images; from 16
    // channels and 8 tiles of 4x4 on by minimal filtering, with tiles that end outside of the image,
    // channels that end within a vector, and images in blocks and shares of all kinds.
    let sizes = [
        (1, 1, 1, 3, 8),
        (2, 5, 7, 3, 8),
        (5, 9, 7, 40, 24),
        (3, 16, 16, 16, 3),
        (2, 2, 3, 64, 65),
        (2, 40, 33, 16, 4),
        (37, 4, 4, 40, 8),
        (3, 5, 3, 20, 17),
        (2, 8, 8, 16, 16),
        (9, 4, 4, 33, 50),
        (1, 9, 16, 16, 81),
        (70, 4, 4, 48, 32),
        (1, 8, 130, 40, 24),
    ];
    for (n, h, w, c_in, c_out) in sizes {
        for kernel in [1, 3] {
            for upsample in [false, true] {
                for items in [1, n] {
                    let what = format!(
                        "{n}x{h}x{w} {c_in}->{c_out} k{kernel} up {upsample} shift {items}"
                    );
                    let x = random([n, h, w, c_in]);
                    let weight = random([kernel, kernel, c_in, c_out]);
                    let shift = random([items, c_out]);
                    let found = ops::conv2d(x.clone(), weight.clone(), shift.clone(), upsample);
                    let expected = plain_conv(x.clone(), weight.clone(), shift.clone(), upsample);
                    assert_same(found, expected, CONV_TOLERANCE, &what, |grads| {
                        vec![
                            ("input", flat(x.grad(grads))),
                            ("weight", flat(weight.grad(grads))),
                            ("shift", flat(shift.grad(grads))),
                        ]
                    });
                }
            }
        }
    }
}

#[test]
fn group_norm_and_its_gradients_match_burn() {
    for (n, h, w, c, groups) in
        [(1, 1, 2, 8, 1), (2, 5, 7, 24, 8), (5, 16, 16, 40, 4), (3, 4, 4, 6, 6)]
    {
        for silu in [false, true] {
            let what = format!("{n}x{h}x{w}x{c} / {groups}, silu {silu}");
            let x = random([n, h, w, c]);
            let (gamma, beta) = (random([c]), random([c]));
            let found = ops::group_norm(x.clone(), gamma.clone(), beta.clone(), groups, silu);
            let expected = plain_norm(x.clone(), gamma.clone(), beta.clone(), groups, silu);
            assert_same(found, expected, TOLERANCE, &what, |grads| {
                vec![
                    ("input", flat(x.grad(grads))),
                    ("gamma", flat(gamma.grad(grads))),
                    ("beta", flat(beta.grad(grads))),
                ]
            });
        }
    }
}

fn plain_attention(qkv: Tensor<4>, heads: usize) -> Tensor<4> {
    let [n, h, w, c] = qkv.dims();
    let size = c / 3 / heads;
    let split = qkv.reshape([n, h * w, 3, heads, size]).permute([2, 0, 3, 1, 4]);
    let part = |index: usize| -> Tensor<4> {
        split.clone().slice_dim(0, index..index + 1).reshape([n, heads, h * w, size])
    };
    let scores = part(0).matmul(part(1).swap_dims(2, 3)) * (1.0 / (size as f64).sqrt());
    let mixed = activation::softmax(scores, 3).matmul(part(2));
    mixed.permute([0, 2, 1, 3]).reshape([n, h, w, c / 3])
}

#[test]
fn attention_and_its_gradient_match_burn() {
    // One pixel, one channel, sizes that end within a vector, more queries than a block takes.
    let sizes =
        [(1, 1, 1, 1, 1), (2, 4, 4, 80, 4), (3, 3, 5, 21, 3), (1, 9, 9, 34, 2), (2, 8, 24, 16, 1)];
    for (n, h, w, c, heads) in sizes {
        let what = format!("{n}x{h}x{w}x{c} / {heads}");
        let qkv = random([n, h, w, 3 * c]);
        let found = ops::attention(qkv.clone(), heads);
        let expected = plain_attention(qkv.clone(), heads);
        assert_same(found, expected, TOLERANCE, &what, |grads| {
            vec![("qkv", flat(qkv.grad(grads)))]
        });
    }
}

#[test]
fn attention_weighs_scores_of_any_size() {
    // Scores of thousands: the exponential of none of them is a number.
    let qkv = random([2, 3, 3, 3 * 8]) * 100.0;
    let found = ops::attention(qkv.clone(), 2);
    assert_close(found, plain_attention(qkv, 2), 1e-4, "large scores");
}

#[test]
fn composed_attention_has_the_kernels_values_and_gradient() {
    use burn::backend::Flex;
    use ddpm_train::ops::{TrainingOps, composed};
    let device = Device::flex();
    let normal = Distribution::Normal(0.0, 1.0);
    let qkv = Tensor::<4>::random([2, 3, 4, 36], normal, &device);
    let grad = Tensor::<4>::random([2, 3, 4, 12], normal, &device);
    let raw = |t: &Tensor<4>| t.clone().try_into_primitive::<Flex>().unwrap();
    let out = Tensor::<4>::from_primitive::<Flex>;
    let found = out(composed::attention::<Flex>(raw(&qkv), 3));
    assert_close(found, out(Flex::nhwc_attention(raw(&qkv), 3)), TOLERANCE, "output");
    let found = out(composed::attention_backward::<Flex>(raw(&qkv), raw(&grad), 3));
    let expected = out(Flex::nhwc_attention_backward(raw(&qkv), raw(&grad), 3));
    assert_close(found, expected, TOLERANCE, "gradient");
}

#[test]
fn optimiser_step_is_that_of_the_paper_and_leaves_shared_tensors_alone() {
    use ddpm_train::ops::adamw::{Rates, Slot, step, sum_of_squares};
    let device = Device::flex();
    let rates = Rates {
        shorten: 0.5,
        beta1: 0.9,
        beta2: 0.99,
        epsilon: 1e-8,
        rate: 0.01,
        unbias1: 1.0 - 0.9f64.powi(3),
        unbias2: 1.0 - 0.99f64.powi(3),
        weight_decay: 0.1,
        average_decay: 0.75,
    };
    // One value, an end within a vector, more than a piece.
    for (len, decays) in [(1, true), (37, false), (40_000, true)] {
        let values = |seed: usize| -> Vec<f32> {
            (0..len).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1000.0 - 1.0).collect()
        };
        let tensor = |values: &[f32]| Tensor::<1>::from_floats(values, &device);
        let (w, g, m) = (values(1), values(2), values(3));
        let v: Vec<f32> = values(4).iter().map(|v| v.abs()).collect();
        let weight = tensor(&w);
        let mut slots = [Slot {
            average: weight.clone(),
            weight: weight.clone(),
            moment1: tensor(&m),
            moment2: tensor(&v),
            gradient: tensor(&g),
            decays,
        }];
        let squares = g.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>();
        assert!((sum_of_squares(&[tensor(&g)]) - squares).abs() <= 1e-9 * squares);
        step(&mut slots, &rates);
        let read = |t: &Tensor<1>| t.clone().into_data().try_to_vec::<f32>().unwrap();
        assert_eq!(read(&weight), w, "a tensor that is also held elsewhere stays");
        let [slot] = &slots;
        let (w2, a2) = (read(&slot.weight), read(&slot.average));
        let (m2, v2) = (read(&slot.moment1), read(&slot.moment2));
        for i in 0..len {
            let [w, g, m, v] = [w[i], g[i], m[i], v[i]].map(f64::from);
            let (g, keep) = (g * 0.5, if decays { 1.0 - 0.01 * 0.1 } else { 1.0 });
            let m = 0.9 * m + 0.1 * g;
            let v = 0.99 * v + 0.01 * g * g;
            let update = m / rates.unbias1 / ((v / rates.unbias2).sqrt() + 1e-8);
            let next = w * keep - 0.01 * update;
            let average = 0.75 * w + 0.25 * next;
            for (found, expected) in [(w2[i], next), (a2[i], average), (m2[i], m), (v2[i], v)] {
                // A few roundings of values of size 1; the update is at most 1e3 times the rate.
                let off = (f64::from(found) - expected).abs();
                assert!(off <= 1e-6 * expected.abs().max(1.0), "{i}: {found}, not {expected}");
            }
        }
    }
}

#[test]
fn group_norm_of_a_nearly_constant_image_keeps_its_precision() {
    // Mean 3, standard deviation 1e-3: the mean square is ten million times the variance.
    let (n, pixels, channels, groups) = (2, 64, 16, 4);
    let size = channels / groups;
    let x: Vec<f32> = (0..n * pixels * channels)
        .map(|i| 3.0 + 1e-3 * ((i * 7919 % 1009) as f32 / 291.0 - 1.73))
        .collect();
    let tensor = Tensor::<1>::from_floats(&x[..], &device()).reshape([n, 8, 8, channels]);
    let (gamma, beta) = (Tensor::ones([channels], &device()), Tensor::zeros([channels], &device()));
    let found = ops::group_norm(tensor, gamma, beta, groups, false);
    let found = found.into_data().try_to_vec::<f32>().unwrap();
    for image in 0..n {
        for group in 0..groups {
            let places: Vec<usize> = (0..pixels)
                .flat_map(|p| {
                    (0..size).map(move |c| (image * pixels + p) * channels + group * size + c)
                })
                .collect();
            let count = places.len() as f64;
            let mean = places.iter().map(|&i| f64::from(x[i])).sum::<f64>() / count;
            let var = places.iter().map(|&i| (f64::from(x[i]) - mean).powi(2)).sum::<f64>() / count;
            for &i in &places {
                let expected = (f64::from(x[i]) - mean) / (var + 1e-5).sqrt();
                // The mean in f32 is off by up to 2^-22, which is 7e-5 of sqrt(var + epsilon).
                assert!(
                    (f64::from(found[i]) - expected).abs() < 1e-3,
                    "{} not {expected}",
                    found[i]
                );
            }
        }
    }
}
