//! Names and layouts of weights as PyTorch's modules have them.
//!
//! Here a convolution is `[k, k, in, out]` and a linear layer `[in, out]`; there they are
//! `[out, in, k, k]` and `[out, in]`. Tables and vectors are the same.

use crate::network::Start;
use crate::parameters::ParameterSpec;

/// The weight's name in a state dict: normalisations have a `weight` and a `bias` there too.
pub fn name(spec: &ParameterSpec) -> String {
    match spec.name.rsplit_once('.') {
        Some((layer, "gamma")) => format!("{layer}.weight"),
        Some((layer, "beta")) => format!("{layer}.bias"),
        _ => spec.name.clone(),
    }
}

/// Inputs, outputs and taps of a matrix or a kernel; none of a vector or a table.
fn sides(spec: &ParameterSpec) -> Option<[usize; 3]> {
    match spec.shape[..] {
        _ if spec.start == Start::Unit => None,
        [channels_in, channels_out] => Some([channels_in, channels_out, 1]),
        [k, _, channels_in, channels_out] => Some([channels_in, channels_out, k * k]),
        _ => None,
    }
}

/// The weight's shape there.
pub fn shape(spec: &ParameterSpec) -> Vec<usize> {
    match spec.shape[..] {
        _ if spec.start == Start::Unit => spec.shape.clone(),
        [channels_in, channels_out] => vec![channels_out, channels_in],
        [k, _, channels_in, channels_out] => vec![channels_out, channels_in, k, k],
        _ => spec.shape.clone(),
    }
}

/// The values there of those here; there must be as many as `spec` says.
pub fn to_torch(spec: &ParameterSpec, values: &[f32]) -> Vec<f32> {
    let Some([channels_in, channels_out, taps]) = sides(spec) else { return values.to_vec() };
    let mut out = Vec::with_capacity(values.len());
    for o in 0..channels_out {
        for i in 0..channels_in {
            out.extend((0..taps).map(|tap| values[(tap * channels_in + i) * channels_out + o]));
        }
    }
    out
}

/// The values here of those there; there must be as many as `spec` says.
pub fn from_torch(spec: &ParameterSpec, values: &[f32]) -> Vec<f32> {
    let Some([channels_in, channels_out, taps]) = sides(spec) else { return values.to_vec() };
    let mut out = Vec::with_capacity(values.len());
    for tap in 0..taps {
        for i in 0..channels_in {
            out.extend((0..channels_out).map(|o| values[(o * channels_in + i) * taps + tap]));
        }
    }
    out
}
