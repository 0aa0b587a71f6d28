//! The formulas as the papers print them, in float64, sharing nothing with the library but the types
//! of its config: every sampler in its first-order form, Heun's and PNDM's methods whole.

use std::f64::consts::PI;

use ddpm::noise_schedule::BetaSchedule;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{
    FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, SolverType, Thresholding, VarianceType,
};
use ddpm::timesteps::TimestepSpacing;

use crate::trajectory::Trajectory;

/// The config of the first-order form.
pub fn first_order(config: &SamplerConfig) -> SamplerConfig {
    let has_orders =
        matches!(config.kind, Sampler::Dpmpp | Sampler::DpmppSde | Sampler::Unipc | Sampler::Deis);
    SamplerConfig { order: has_orders.then_some(1), ..config.clone() }
}

fn alphas_cumprod(golden: &Trajectory) -> Vec<f64> {
    const T: usize = 1000;
    let between =
        |start: f64, end: f64, t: usize| start + (end - start) * t as f64 / (T - 1) as f64;
    let ratio = |f: &dyn Fn(f64) -> f64, t: usize| {
        (1.0 - f((t + 1) as f64 / T as f64) / f(t as f64 / T as f64)).min(0.999)
    };
    let beta = |t: usize| match golden.scheduler.beta_schedule {
        BetaSchedule::Linear { beta_start, beta_end } => between(beta_start, beta_end, t),
        BetaSchedule::ScaledLinear { beta_start, beta_end } => {
            between(beta_start.sqrt(), beta_end.sqrt(), t).powi(2)
        }
        BetaSchedule::Sigmoid { beta_start, beta_end } => {
            beta_start + (beta_end - beta_start) / (1.0 + (-between(-6.0, 6.0, t)).exp())
        }
        // Nichol and Dhariwal 2021, eq. 17.
        BetaSchedule::SquaredcosCapV2 => {
            ratio(&|time| ((time + 0.008) / 1.008 * PI / 2.0).cos().powi(2), t)
        }
        BetaSchedule::Laplace => ratio(&laplace, t),
        // The one recorded by its betas is what diffusers calls laplace.
        BetaSchedule::Given(_) => ratio(&|time| laplace(time).sqrt(), t),
    };
    let mut product = 1.0;
    let plain: Vec<f64> = (0..T)
        .map(|t| {
            product *= 1.0 - beta(t);
            product
        })
        .collect();
    if !golden.schedule.has_zero_terminal_snr() {
        return plain;
    }
    // Lin et al. 2024, algorithm 1.
    let (first, last) = (plain[0].sqrt(), plain[T - 1].sqrt());
    plain.iter().map(|a| ((a.sqrt() - last) * first / (first - last)).powi(2)).collect()
}

/// Hang et al. 2024, table 1, as a signal-to-noise ratio: below the middle of time it is (2 t)^(-1/2),
/// above it (2 (1 - t))^(1/2). The 1e-6 keeps both ends finite.
fn laplace(time: f64) -> f64 {
    let snr =
        if time < 0.5 { (2.0 * time + 1e-6).powf(-0.5) } else { (2.0 - 2.0 * time + 1e-6).sqrt() };
    snr / (1.0 + snr)
}

/// alpha_bar of every noise level of the run, in the order they are visited, with the end.
fn levels(golden: &Trajectory, alphas_cumprod: &[f64]) -> Vec<f64> {
    let config = &golden.config;
    let n = config.steps;
    let sigma_of = |a: f64| ((1.0 - a) / a).sqrt();
    let alpha_bar_of = |sigma: f64| 1.0 / (1.0 + sigma * sigma);
    let (most, least) = (sigma_of(alphas_cumprod[999]), sigma_of(alphas_cumprod[0]));
    let share = |i: usize| i as f64 / (n - 1) as f64;
    let is_sigma_space =
        matches!(config.kind, Sampler::Euler | Sampler::EulerAncestral | Sampler::Heun);
    let mut levels: Vec<f64> = match config.sigmas {
        // Karras et al. 2022, eq. 5, rho 7.
        SigmaSpacing::Karras => (0..n)
            .map(|i| {
                let (high, low) = (most.powf(1.0 / 7.0), least.powf(1.0 / 7.0));
                alpha_bar_of((high + share(i) * (low - high)).powi(7))
            })
            .collect(),
        SigmaSpacing::Exponential => {
            (0..n).map(|i| alpha_bar_of(most * (least / most).powf(share(i)))).collect()
        }
        SigmaSpacing::Timesteps
            if is_sigma_space && config.spacing == TimestepSpacing::Linspace =>
        {
            (0..n)
                .map(|i| {
                    let t = 999.0 * (n - 1 - i) as f64 / (n - 1) as f64;
                    let (low, high) = (t.floor() as usize, t.ceil() as usize);
                    let (a, b) = (sigma_of(alphas_cumprod[low]), sigma_of(alphas_cumprod[high]));
                    alpha_bar_of(a + (b - a) * t.fract())
                })
                .collect()
        }
        SigmaSpacing::Timesteps => {
            let mut timesteps = golden.f64("timesteps");
            // Heun's and PNDM's methods visit some twice.
            timesteps.dedup();
            timesteps.iter().map(|&t| alphas_cumprod[t as usize]).collect()
        }
    };
    let end = match config.final_alpha {
        FinalAlpha::One => 1.0,
        FinalAlpha::First => alphas_cumprod[0],
    };
    // The inverse starts there.
    let at = if config.kind == Sampler::DdimInverse { 0 } else { levels.len() };
    levels.insert(at, end);
    levels
}

/// A run by the papers: what its rows know of the ones before.
pub struct Run {
    config: SamplerConfig,
    prediction_type: PredictionType,
    alphas_cumprod: Vec<f64>,
    timesteps: Vec<f64>,
    levels: Vec<f64>,
    /// The samples and outputs of the rows before, for each element.
    past: Vec<Vec<Past>>,
}

/// What was at an element in a row before: the step's start (UniPC: corrected), x_0 and epsilon.
#[derive(Clone, Copy, Default)]
struct Past {
    x: f64,
    x0: f64,
    epsilon: f64,
}

/// An element of a row: the sample, what the model makes of it, noise, the model's variance output,
/// and the rows before.
struct Element<'a> {
    x: f64,
    x0: f64,
    epsilon: f64,
    noise: f64,
    v: f64,
    past: &'a [Past],
}

impl Run {
    pub fn new(golden: &Trajectory) -> Self {
        let alphas_cumprod = alphas_cumprod(golden);
        Self {
            config: golden.config.clone(),
            prediction_type: golden.scheduler.prediction_type,
            timesteps: golden.f64("timesteps"),
            levels: levels(golden, &alphas_cumprod),
            alphas_cumprod,
            past: Vec::new(),
        }
    }

    /// (next x, x_0) of row k; rows come in order.
    pub fn step(&mut self, k: usize, x: &[f64], m: &[f64], noise: &[f64]) -> [Vec<f64>; 2] {
        let (m, v) = m.split_at(x.len());
        let a = self.levels[self.level(k)];
        let raw: Vec<(f64, f64)> = x.iter().zip(m).map(|(&x, &m)| self.read(a, x, m)).collect();
        let limit = self.limit(raw.iter().map(|(x0, _)| x0.abs()).collect());
        let mut next = Vec::new();
        let mut clean = Vec::new();
        self.past.resize_with(x.len(), Vec::new);
        let mut past = std::mem::take(&mut self.past);
        for (i, past) in past.iter_mut().enumerate() {
            let (mut x0, mut epsilon) = raw[i];
            x0 = x0.clamp(-limit, limit);
            if let Thresholding::Dynamic { .. } = self.config.thresholding {
                x0 /= limit;
            }
            if self.config.clipped_epsilon {
                epsilon = (x[i] - a.sqrt() * x0) / (1.0 - a).sqrt();
            }
            let at = |values: &[f64]| values.get(i).copied().unwrap_or(0.0);
            let element = Element { x: x[i], x0, epsilon, noise: at(noise), v: at(v), past };
            let (value, start) = self.next(k, &element);
            next.push(value);
            clean.push(x0);
            past.push(Past { x: start, x0, epsilon });
        }
        self.past = past;
        [next, clean]
    }

    /// The level of the sample that row k starts from.
    fn level(&self, k: usize) -> usize {
        match self.config.kind {
            Sampler::Heun => k.div_ceil(2),
            Sampler::Pndm if k > 1 => k - 1,
            // Half-way levels in between; the last row of a step ends where the next one starts.
            Sampler::PndmPrk if k < PRK_ROWS => k.div_ceil(2),
            Sampler::PndmPrk => k - PRK_ROWS / 2,
            _ => k,
        }
    }

    /// (x_0, epsilon) of the model output.
    fn read(&self, a: f64, x: f64, m: f64) -> (f64, f64) {
        match self.prediction_type {
            PredictionType::Epsilon => ((x - (1.0 - a).sqrt() * m) / a.sqrt(), m),
            PredictionType::Sample => (m, (x - a.sqrt() * m) / (1.0 - a).sqrt()),
            PredictionType::VPrediction => {
                (a.sqrt() * x - (1.0 - a).sqrt() * m, a.sqrt() * m + (1.0 - a).sqrt() * x)
            }
            PredictionType::Mean => unreachable!("no golden file"),
        }
    }

    /// What x_0 is held to.
    fn limit(&self, mut magnitudes: Vec<f64>) -> f64 {
        match self.config.thresholding {
            Thresholding::Off => f64::INFINITY,
            Thresholding::Clip(range) => range,
            // Saharia et al. 2022, section 2.3.
            Thresholding::Dynamic { ratio, max } => {
                magnitudes.sort_by(f64::total_cmp);
                let position = ratio * (magnitudes.len() - 1) as f64;
                let (low, high) = (position.floor() as usize, position.ceil() as usize);
                let quantile =
                    magnitudes[low] + (magnitudes[high] - magnitudes[low]) * position.fract();
                quantile.clamp(1.0, max)
            }
        }
    }

    /// The next x of row k, and the step's start.
    fn next(&self, k: usize, e: &Element<'_>) -> (f64, f64) {
        let level = self.level(k);
        let (a, a_next) = (self.levels[level], self.levels.get(level + 1).copied().unwrap_or(1.0));
        let is_last = level + 2 == self.levels.len();
        // The notation of Lu et al. 2022, and of Karras et al. 2022.
        let (alpha, alpha_next) = (a.sqrt(), a_next.sqrt());
        let (spread, spread_next) = ((1.0 - a).sqrt(), (1.0 - a_next).sqrt());
        let (sigma, sigma_next) = (spread / alpha, spread_next / alpha_next);
        let h = (alpha_next / spread_next).ln() - (alpha / spread).ln();
        let next = match self.config.kind {
            Sampler::Ddpm => self.ddpm(a, a_next, is_last, e),
            Sampler::Ddim => {
                // Song et al. 2021, eq. 16 and eq. 12.
                let eta = self.config.eta.unwrap_or(0.0);
                let sigma = eta * ((1.0 - a_next) / (1.0 - a)).sqrt() * (1.0 - a / a_next).sqrt();
                a_next.sqrt() * e.x0
                    + (1.0 - a_next - sigma * sigma).max(0.0).sqrt() * e.epsilon
                    + sigma * e.noise
            }
            // Eq. 12 again, to the level that the model was told of.
            Sampler::DdimInverse => a_next.sqrt() * e.x0 + (1.0 - a_next).sqrt() * e.epsilon,
            // Lu et al. 2022, eq. 9 without derivatives.
            Sampler::Dpmpp => spread_next / spread * e.x - alpha_next * (-h).exp_m1() * e.x0,
            // The same, section 5: the SDE.
            Sampler::DpmppSde => {
                spread_next / spread * (-h).exp() * e.x
                    + alpha_next * (1.0 - (-2.0 * h).exp()) * e.x0
                    + spread_next * (1.0 - (-2.0 * h).exp()).sqrt() * e.noise
            }
            Sampler::Unipc => {
                let start = self.corrected(level, e);
                let next = spread_next / spread * start - alpha_next * (-h).exp_m1() * e.x0;
                return (next, start);
            }
            // Zhang and Chen 2023, eq. 9 over rho with a constant epsilon.
            Sampler::Deis => alpha_next * (e.x / alpha + (sigma_next - sigma) * e.epsilon),
            // Karras et al. 2022, algorithm 1.
            Sampler::Euler => {
                let slope = (e.x / alpha - e.x0) / sigma;
                alpha_next * (e.x / alpha + (sigma_next - sigma) * slope)
            }
            Sampler::EulerAncestral => {
                let up = (sigma_next.powi(2) * (sigma.powi(2) - sigma_next.powi(2))
                    / sigma.powi(2))
                .sqrt();
                let down = (sigma_next.powi(2) - up.powi(2)).max(0.0).sqrt();
                let slope = (e.x / alpha - e.x0) / sigma;
                alpha_next * (e.x / alpha + (down - sigma) * slope + up * e.noise)
            }
            Sampler::Heun if k.is_multiple_of(2) => {
                let slope = (e.x / alpha - e.x0) / sigma;
                alpha_next * (e.x / alpha + (sigma_next - sigma) * slope)
            }
            Sampler::Heun => {
                let a_start = self.levels[level - 1];
                let before = e.past[k - 1];
                let (start, sigma_start) =
                    (before.x / a_start.sqrt(), ((1.0 - a_start) / a_start).sqrt());
                let slope = (start - before.x0) / sigma_start;
                let slope_at_end = (e.x / alpha - e.x0) / sigma;
                alpha * (start + (sigma - sigma_start) * (slope + slope_at_end) / 2.0)
            }
            Sampler::Pndm | Sampler::PndmPrk => self.pndm(k, e),
            Sampler::Lcm => {
                // Song et al. 2023, appendix C; Luo et al. 2023, algorithm 3.
                let time = 10.0 * self.timesteps[k];
                let c_skip = 0.25 / (time * time + 0.25);
                let c_out = time / (time * time + 0.25).sqrt();
                let denoised = c_skip * e.x + c_out * e.x0;
                if is_last { denoised } else { alpha_next * denoised + spread_next * e.noise }
            }
            Sampler::Tcd => {
                // Zheng et al. 2024, algorithm 4.
                let gamma = self.config.eta.unwrap_or(0.3);
                let a_s = match self.timesteps.get(k + 1) {
                    Some(t) => self.alphas_cumprod[((1.0 - gamma) * t).floor() as usize],
                    None => a_next,
                };
                let x_s = a_s.sqrt() * e.x0 + (1.0 - a_s).sqrt() * e.epsilon;
                (a_next / a_s).sqrt() * x_s + (1.0 - a_next / a_s).sqrt() * e.noise
            }
            // First-order solvers of the probability-flow ODE are all DDIM: a new sampler that is none
            // needs its formula here.
            _ => a_next.sqrt() * e.x0 + (1.0 - a_next).sqrt() * e.epsilon,
        };
        (next, e.x)
    }

    /// Ho et al. 2020, eq. 7 and section 3.2, with alpha_t of the visited timesteps.
    fn ddpm(&self, a: f64, a_next: f64, is_last: bool, e: &Element<'_>) -> f64 {
        let alpha = a / a_next;
        let beta = 1.0 - alpha;
        let mean = a_next.sqrt() * beta / (1.0 - a) * e.x0
            + alpha.sqrt() * (1.0 - a_next) / (1.0 - a) * e.x;
        // Algorithm 2: no noise in the last step.
        if is_last {
            return mean;
        }
        let small = (1.0 - a_next) / (1.0 - a) * beta;
        let variance = match self.config.variance_type {
            VarianceType::FixedSmall | VarianceType::FixedSmallLog => small,
            VarianceType::FixedLarge | VarianceType::FixedLargeLog => beta,
            VarianceType::Learned => e.v.exp(),
            // Nichol and Dhariwal 2021, eq. 15: v from 0 to 1 there, from -1 to 1 in their code.
            VarianceType::LearnedRange => {
                let v = (e.v + 1.0) / 2.0;
                (v * beta.ln() + (1.0 - v) * small.ln()).exp()
            }
        };
        mean + variance.sqrt() * e.noise
    }

    /// UniC-1 of Zhao et al. 2023, algorithm 1, data prediction: a_1 = 1/2.
    fn corrected(&self, level: usize, e: &Element<'_>) -> f64 {
        let Some(before) = e.past.last() else { return e.x };
        let (a_before, a) = (self.levels[level - 1], self.levels[level]);
        let lambda = |a: f64| 0.5 * (a / (1.0 - a)).ln();
        let h = lambda(a) - lambda(a_before);
        let b = match self.config.solver_type {
            Some(SolverType::Bh1) => -h,
            _ => (-h).exp_m1(),
        };
        ((1.0 - a) / (1.0 - a_before)).sqrt() * before.x
            - a.sqrt() * (-h).exp_m1() * before.x0
            - a.sqrt() * b * 0.5 * (e.x0 - before.x0)
    }

    /// Liu et al. 2022: eq. 11 for the transfer, eq. 12 and eq. 13 for the gradient.
    fn pndm(&self, k: usize, e: &Element<'_>) -> f64 {
        let transfer = |from: usize, to: usize, x: f64, epsilon: f64| {
            let (a, a_next) = (self.levels[from], self.levels[to]);
            let root = ((1.0 - a_next) * a).sqrt() + ((1.0 - a) * a_next).sqrt();
            (a_next / a).sqrt() * x - (a_next - a) / (a.sqrt() * root) * epsilon
        };
        let is_prk = self.config.kind == Sampler::PndmPrk;
        if is_prk && k < PRK_ROWS {
            let (start, stage) = (k / 4 * 2, k % 4);
            let to = start + if stage < 2 { 1 } else { 2 };
            let of = |stage: usize| e.past[k / 4 * 4 + stage];
            return match stage {
                0 => transfer(start, to, e.x, e.epsilon),
                3 => {
                    let sum = of(0).epsilon + 2.0 * of(1).epsilon + 2.0 * of(2).epsilon + e.epsilon;
                    transfer(start, to, of(0).x, sum / 6.0)
                }
                _ => transfer(start, to, of(0).x, e.epsilon),
            };
        }
        if !is_prk && k == 1 {
            // The first step again, with the mean of both slopes.
            return transfer(0, 1, e.past[0].x, (e.past[0].epsilon + e.epsilon) / 2.0);
        }
        // The rows that started a step, newest first.
        let is_start = |row: &usize| {
            if is_prk { *row >= PRK_ROWS || row.is_multiple_of(4) } else { *row != 1 }
        };
        let before: Vec<f64> =
            (0..k).rev().filter(is_start).map(|row| e.past[row].epsilon).collect();
        let gradient = match before[..] {
            [] => e.epsilon,
            [e1] => (3.0 * e.epsilon - e1) / 2.0,
            [e1, e2] => (23.0 * e.epsilon - 16.0 * e1 + 5.0 * e2) / 12.0,
            [e1, e2, e3, ..] => (55.0 * e.epsilon - 59.0 * e1 + 37.0 * e2 - 9.0 * e3) / 24.0,
        };
        transfer(self.level(k), self.level(k) + 1, e.x, gradient)
    }
}

/// The rows of F-PNDM's three Runge-Kutta steps.
const PRK_ROWS: usize = 12;
