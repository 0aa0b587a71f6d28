//! The kernel against recorded steps of diffusers, and against the papers' formulas in float64.

#[path = "golden/trajectory.rs"]
mod trajectory;

use ddpm::prediction::PredictionType;
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, VarianceType, step_table};
use ddpm::step::{self, Row, Slots};
use trajectory::Trajectory;

/// File, and the bound on alphas_cumprod relative to the recorded float32 ones.
const CASES: [(&str, f64); 11] = [
    ("ddpm_linear_1000", 1e-6),
    ("ddpm_linear_50", 1e-6),
    ("ddpm_sample", 1e-6),
    ("ddpm_fixed_large_noclip", 1e-6),
    ("ddpm_sigmoid", 1e-6),
    // float32 loses digits in the ratio of two cosines near 0.
    ("ddpm_cosine_v", 2e-5),
    // The recorded roots are differences of float32 numbers.
    ("ddpm_trailing_zero_snr_v", 1e-4),
    ("ddim_50", 1e-6),
    ("ddim_eta1", 1e-6),
    ("ddim_noclip_scaled_offset", 1e-6),
    ("ddim_clipped_eps", 1e-6),
];

/// The reference is float32; against float64 formulas it is off by up to 8e-5 at small t, where
/// 1 - alpha_bar cancels (see tests/golden/README.md).
const REFERENCE_TOLERANCE: f64 = 1e-4;

/// The kernel rounds once to float32; samples stay below 8, where half a unit is 2.4e-7.
const FORMULA_TOLERANCE: f64 = 1e-6;

#[test]
fn timesteps_and_alphas_are_the_recorded_ones() {
    for (name, relative) in CASES {
        let golden = Trajectory::load(name);
        let table = step_table(&golden.schedule, &golden.config).unwrap();
        let timesteps: Vec<f64> = table.rows().iter().map(|row| row.timestep).collect();
        assert_eq!(timesteps, golden.f64("timesteps"), "{name}");
        let recorded = golden.f64("alphas_cumprod");
        assert_eq!(recorded.len(), golden.schedule.num_train_timesteps(), "{name}");
        for (t, (&a, &b)) in golden.schedule.alphas_cumprod().iter().zip(&recorded).enumerate() {
            assert!((a - b).abs() <= relative * b, "{name} t = {t}: {a} {b}");
        }
    }
}

#[test]
fn kernel_agrees_with_the_reference_and_with_the_papers() {
    for (name, _) in CASES {
        let golden = Trajectory::load(name);
        let table = step_table(&golden.schedule, &golden.config).unwrap();
        let alphas_cumprod = papers::alphas_cumprod(name);
        let steps = golden.recorded_steps();
        assert!(steps.len() >= 9, "{name}: {} recorded steps", steps.len());
        let mut worst = [0f64; 4];
        for k in steps {
            let recorded = Recorded::of(&golden, k);
            let (prev, x0) = recorded.apply(&table.rows()[k]);
            let (paper_prev, paper_x0) = papers::step(&golden.config, &alphas_cumprod, &recorded);
            for (slot, found, expected) in [
                (0, &prev, &widen(&golden.f32(&format!("prev.{k}")))),
                (1, &x0, &widen(&golden.f32(&format!("x0.{k}")))),
                (2, &prev, &paper_prev),
                (3, &x0, &paper_x0),
            ] {
                worst[slot] = worst[slot].max(distance(found, expected));
            }
        }
        let [prev, x0, paper_prev, paper_x0] = worst;
        println!(
            "{name:27} reference {prev:.1e} {x0:.1e}   formulas {paper_prev:.1e} {paper_x0:.1e}"
        );
        assert!(prev < REFERENCE_TOLERANCE, "{name}: prev is off by {prev}");
        assert!(x0 < REFERENCE_TOLERANCE, "{name}: x0 is off by {x0}");
        assert!(paper_prev < FORMULA_TOLERANCE, "{name}: prev is off the formulas by {paper_prev}");
        assert!(paper_x0 < FORMULA_TOLERANCE, "{name}: x0 is off the formulas by {paper_x0}");
    }
}

/// One recorded step, as the sampler met it.
struct Recorded {
    k: usize,
    timesteps: Vec<f64>,
    x: Vec<f32>,
    model_output: Vec<f32>,
    noise: Vec<f32>,
}

impl Recorded {
    fn of(golden: &Trajectory, k: usize) -> Self {
        Self {
            k,
            timesteps: golden.f64("timesteps"),
            x: golden.f32(&format!("x.{k}")),
            model_output: golden.f32(&format!("model_output.{k}")),
            noise: golden.noise(k),
        }
    }

    fn apply(&self, row: &Row) -> (Vec<f32>, Vec<f32>) {
        let (mut sample, mut x0) = (self.x.clone(), vec![0.0; self.x.len()]);
        let slots = Slots {
            sample: &mut sample,
            model_output: &self.model_output,
            noise: &self.noise,
            pred_original_sample: &mut x0,
        };
        step::apply(row, slots).unwrap();
        (sample, x0)
    }
}

fn widen(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&v| f64::from(v)).collect()
}

fn distance(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    // A NaN must not pass for a small distance, as it would with `max`.
    assert!(found.iter().all(|v| v.is_finite()));
    found.iter().zip(expected).map(|(&f, e)| (f64::from(f) - e).abs()).fold(0.0, f64::max)
}

/// The formulas as the papers print them, in float64, sharing nothing with the library but the
/// config's type.
mod papers {
    use super::*;

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

    /// (x_{t-1}, x_0) of a recorded step.
    pub fn step(
        config: &SamplerConfig,
        alphas_cumprod: &[f64],
        recorded: &Recorded,
    ) -> (Vec<f64>, Vec<f64>) {
        let timesteps = &recorded.timesteps;
        let a = alphas_cumprod[timesteps[recorded.k] as usize];
        let next = timesteps.get(recorded.k + 1);
        let a_prev = match (next, config.final_alpha) {
            (Some(&t), _) => alphas_cumprod[t as usize],
            (None, FinalAlpha::One) => 1.0,
            (None, FinalAlpha::First) => alphas_cumprod[0],
        };
        let element = |i: usize| {
            let (x, m) = (f64::from(recorded.x[i]), f64::from(recorded.model_output[i]));
            let noise = recorded.noise.get(i).copied().map_or(0.0, f64::from);
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
                    let sigma =
                        eta * ((1.0 - a_prev) / (1.0 - a)).sqrt() * (1.0 - a / a_prev).sqrt();
                    a_prev.sqrt() * x0
                        + (1.0 - a_prev - sigma * sigma).max(0.0).sqrt() * epsilon
                        + sigma * noise
                }
            };
            (prev, x0)
        };
        (0..recorded.x.len()).map(element).unzip()
    }
}
