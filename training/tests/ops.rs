//! The CPU kernels against the same operations composed from burn's own, forward and backward.

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
    let scale = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    let worst = found.iter().zip(&expected).fold(0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(worst <= tolerance * scale, "{what}: {worst} of {scale} apart");
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
