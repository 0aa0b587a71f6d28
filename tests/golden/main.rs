//! Recorded runs of diffusers, and of formulas in float64: the kernel step by step, and the closed
//! loop through ONNX Runtime. See README.md for what the files are.

mod closed_loop;
mod kernel;
mod papers;
mod trajectory;

/// A file of `trajectories`, and what to expect of it.
struct Case {
    name: &'static str,
    /// The file of `models` that gave its model outputs; none where it is not there.
    model: Option<&'static str>,
    /// The bound on alphas_cumprod relative to the recorded ones, float32 ones mostly.
    alphas: f64,
}

const fn case(name: &'static str, model: &'static str, alphas: f64) -> Case {
    Case { name, model: Some(model), alphas }
}

/// Recorded with a network made for its own schedule, which was not kept.
const fn unmodelled(name: &'static str, alphas: f64) -> Case {
    Case { name, model: None, alphas }
}

/// A product of float32 numbers near 1.
const FLOAT: f64 = 1e-6;
/// float32 loses digits in the ratio of two cosines near 0.
const COSINE: f64 = 2e-5;
/// The recorded roots are differences of float32 numbers.
const ZERO_SNR: f64 = 1e-4;
/// Recorded in float64.
const DOUBLE: f64 = 1e-12;

const CASES: [Case; 44] = [
    case("ddpm_linear_1000", "eps_linear", FLOAT),
    case("ddpm_linear_50", "eps_linear", FLOAT),
    case("ddpm_sample", "sample_linear", FLOAT),
    case("ddpm_fixed_large_noclip", "eps_linear", FLOAT),
    case("ddpm_fixed_small_log", "eps_linear", FLOAT),
    case("ddpm_fixed_large_log", "eps_linear", DOUBLE),
    case("ddpm_learned", "eps_cosine_learned_range", DOUBLE),
    case("ddpm_learned_range", "eps_cosine_learned_range", COSINE),
    case("ddpm_threshold", "eps_linear", FLOAT),
    case("ddpm_class", "eps_linear_class", FLOAT),
    unmodelled("ddpm_sigmoid", FLOAT),
    case("ddpm_laplace", "eps_linear", FLOAT),
    case("ddpm_laplace_diffusers", "eps_linear", FLOAT),
    case("ddpm_cosine_v", "v_cosine", COSINE),
    unmodelled("ddpm_trailing_zero_snr_v", ZERO_SNR),
    case("ddim_50", "eps_linear", FLOAT),
    case("ddim_eta1", "eps_linear", FLOAT),
    case("ddim_noclip_scaled_offset", "eps_scaled", FLOAT),
    case("ddim_clipped_eps", "eps_linear", FLOAT),
    case("ddim_inverse_20", "eps_linear", FLOAT),
    case("dpmpp_2m_20", "eps_linear", FLOAT),
    case("dpmpp_2m_heun", "eps_linear", FLOAT),
    case("dpmpp_2m_karras", "eps_linear", FLOAT),
    case("dpmpp_2m_exponential", "eps_linear", FLOAT),
    case("dpmpp_2m_trailing_zero", "eps_linear", FLOAT),
    case("dpmpp_3m", "eps_linear", FLOAT),
    case("dpmpp_sde_2m", "eps_linear", FLOAT),
    case("dpmpp_sde_3m", "eps_linear", DOUBLE),
    case("unipc_1", "eps_linear", FLOAT),
    case("unipc_bh1", "eps_linear", FLOAT),
    case("unipc_bh2", "eps_linear", FLOAT),
    case("unipc_bh2_o3", "eps_linear", FLOAT),
    case("deis_1", "eps_linear", FLOAT),
    case("deis_2", "eps_linear", FLOAT),
    case("deis_3", "eps_linear", FLOAT),
    case("euler_20", "eps_linear_float", FLOAT),
    case("euler_karras", "eps_linear_float", FLOAT),
    unmodelled("euler_v_trailing", FLOAT),
    case("euler_a_20", "eps_linear_float", FLOAT),
    case("heun_10", "eps_linear", FLOAT),
    case("pndm_10", "eps_scaled", FLOAT),
    case("pndm_prk_6", "eps_scaled", FLOAT),
    case("lcm_4", "eps_scaled", FLOAT),
    case("tcd_4", "eps_scaled", FLOAT),
];

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

/// The largest difference of two elements.
fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    // A NaN would pass for a small distance in `max`.
    assert!(found.iter().all(|v| v.is_finite()) && expected.iter().all(|v| v.is_finite()));
    found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max)
}
