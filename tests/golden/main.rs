//! Recorded runs of diffusers: the kernel step by step, and the closed loop through ONNX Runtime.

mod closed_loop;
mod kernel;
mod papers;
mod trajectory;

/// A file of `trajectories`, and what to expect of it.
struct Case {
    name: &'static str,
    /// The file of `models` that gave its model outputs; none where it is not there.
    model: Option<&'static str>,
    /// The bound on alphas_cumprod relative to the recorded float32 ones.
    alphas: f64,
}

const fn case(name: &'static str, model: &'static str, alphas: f64) -> Case {
    Case { name, model: Some(model), alphas }
}

/// Recorded with a network made for its own schedule, which was not kept.
const fn unmodelled(name: &'static str, alphas: f64) -> Case {
    Case { name, model: None, alphas }
}

const CASES: [Case; 11] = [
    case("ddpm_linear_1000", "eps_linear", 1e-6),
    case("ddpm_linear_50", "eps_linear", 1e-6),
    case("ddpm_sample", "sample_linear", 1e-6),
    case("ddpm_fixed_large_noclip", "eps_linear", 1e-6),
    unmodelled("ddpm_sigmoid", 1e-6),
    // float32 loses digits in the ratio of two cosines near 0.
    case("ddpm_cosine_v", "v_cosine", 2e-5),
    // The recorded roots are differences of float32 numbers.
    unmodelled("ddpm_trailing_zero_snr_v", 1e-4),
    case("ddim_50", "eps_linear", 1e-6),
    case("ddim_eta1", "eps_linear", 1e-6),
    case("ddim_noclip_scaled_offset", "eps_scaled", 1e-6),
    case("ddim_clipped_eps", "eps_linear", 1e-6),
];

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The largest difference of two elements.
fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    // A NaN would pass for a small distance in `max`.
    assert!(found.iter().all(|v| v.is_finite()));
    found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max)
}
