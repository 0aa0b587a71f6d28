//! The formulas as the papers print them, in float64, sharing nothing with the library but the types
//! of its config.

use ddpm::prediction::PredictionType;
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, VarianceType};

pub fn alphas_cumprod(name: &str) -> Vec<f64> {
    const T: usize = 1000;
    let between =
        |start: f64, end: f64, t: usize| start + (end - start) * t as f64 / (T - 1) as f64;
    let beta = |t: usize| match name {
        "ddim_noclip_scaled_offset" | "ddpm_trailing_zero_snr_v" => {
            between(0.00085f64.sqrt(), 0.012f64.sqrt(), t).powi(2)
        }
        "ddpm_sigmoid" => 1e-4 + (0.02 - 1e-4) / (1.0 + (-between(-6.0, 6.0, t)).exp()),
        // Nichol and Dhariwal 2021, eq. 17.
        "ddpm_cosine_v" => {
            let f = |t: usize| {
                let angle = (t as f64 / T as f64 + 0.008) / 1.008 * std::f64::consts::PI / 2.0;
                angle.cos() * angle.cos()
            };
            (1.0 - f(t + 1) / f(t)).min(0.999)
        }
        _ => between(1e-4, 0.02, t),
    };
    let plain: Vec<f64> = (0..T).map(|t| (0..=t).map(|s| 1.0 - beta(s)).product()).collect();
    if name != "ddpm_trailing_zero_snr_v" {
        return plain;
    }
    // Lin et al. 2024, algorithm 1.
    let (first, last) = (plain[0].sqrt(), plain[T - 1].sqrt());
    plain.iter().map(|a| ((a.sqrt() - last) * first / (first - last)).powi(2)).collect()
}

/// (x_{t-1}, x_0) of step k of a list of timesteps.
pub fn step(
    config: &SamplerConfig,
    alphas_cumprod: &[f64],
    timesteps: &[f64],
    k: usize,
    [x, model_output, noise]: [&[f64]; 3],
) -> (Vec<f64>, Vec<f64>) {
    let a = alphas_cumprod[timesteps[k] as usize];
    let next = timesteps.get(k + 1);
    let a_prev = match (next, config.final_alpha) {
        (Some(&t), _) => alphas_cumprod[t as usize],
        (None, FinalAlpha::One) => 1.0,
        (None, FinalAlpha::First) => alphas_cumprod[0],
    };
    let element = |i: usize| {
        let (x, m) = (x[i], model_output[i]);
        let noise = noise.get(i).copied().unwrap_or(0.0);
        let (mut x0, mut epsilon) = match config.prediction_type {
            PredictionType::Epsilon => ((x - (1.0 - a).sqrt() * m) / a.sqrt(), m),
            PredictionType::Sample => (m, (x - a.sqrt() * m) / (1.0 - a).sqrt()),
            PredictionType::VPrediction => {
                (a.sqrt() * x - (1.0 - a).sqrt() * m, a.sqrt() * m + (1.0 - a).sqrt() * x)
            }
            PredictionType::Mean => unreachable!("no golden file"),
        };
        if let Some(clip) = config.clip {
            x0 = x0.clamp(-clip, clip);
        }
        if config.clipped_epsilon {
            epsilon = (x - a.sqrt() * x0) / (1.0 - a).sqrt();
        }
        let prev = match config.kind {
            Sampler::Ddpm => {
                // Ho et al. 2020, eq. 7 and section 3.2, with alpha_t of the visited timesteps.
                let alpha = a / a_prev;
                let beta = 1.0 - alpha;
                let mean = a_prev.sqrt() * beta / (1.0 - a) * x0
                    + alpha.sqrt() * (1.0 - a_prev) / (1.0 - a) * x;
                let variance = match config.variance_type {
                    VarianceType::FixedSmall => (1.0 - a_prev) / (1.0 - a) * beta,
                    VarianceType::FixedLarge => beta,
                };
                // Algorithm 2: no noise in the last step.
                mean + if next.is_some() { variance.sqrt() * noise } else { 0.0 }
            }
            Sampler::Ddim { eta } => {
                // Song et al. 2021, eq. 16 and eq. 12.
                let sigma = eta * ((1.0 - a_prev) / (1.0 - a)).sqrt() * (1.0 - a / a_prev).sqrt();
                a_prev.sqrt() * x0
                    + (1.0 - a_prev - sigma * sigma).max(0.0).sqrt() * epsilon
                    + sigma * noise
            }
        };
        (prev, x0)
    };
    (0..x.len()).map(element).unzip()
}
