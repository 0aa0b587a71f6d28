//! The forward process: betas and alphas_cumprod in f64, and q(x_t | x_0).
//!
//! This module must not know samplers, models or what a network predicts.
//! Equation numbers without a name are of Ho, Jain, Abbeel, "Denoising diffusion probabilistic
//! models", 2020.

use std::f64::consts::FRAC_PI_2;
use std::sync::Arc;

use crate::error::{Error, Result};

/// The longest training schedule accepted; a table of this length is 16 MB.
pub const MAX_TRAIN_TIMESTEPS: usize = 1_000_000;

/// How beta_t grows over training time. Both ends are in the open range (0, 1).
#[derive(Clone, Debug, PartialEq)]
pub enum BetaSchedule {
    /// Evenly spaced betas (section 4 of the DDPM paper: 1e-4 to 0.02).
    Linear { beta_start: f64, beta_end: f64 },
    /// Evenly spaced square roots of beta (latent diffusion: 0.00085 to 0.012).
    ScaledLinear { beta_start: f64, beta_end: f64 },
    /// alpha_bar a squared cosine, beta at most 0.999 (Nichol and Dhariwal 2021, eq. 17).
    SquaredcosCapV2,
    /// A logistic curve over [-6, 6] between the ends (GeoDiff, Xu et al. 2022).
    Sigmoid { beta_start: f64, beta_end: f64 },
    /// The logarithm of the SNR spread by a Laplace law with mean 0 and scale 0.5, beta at most 0.999
    /// (Hang et al. 2024, "Improved noise schedule for diffusion training", table 1).
    ///
    /// diffusers takes sqrt(alpha_bar) for alpha_bar here, so its `laplace` is another schedule: a
    /// model trained with that one needs its betas [`Given`](Self::Given).
    Laplace,
    /// beta_t for each t in 0..T, each in (0, 1) (diffusers' `trained_betas`).
    Given(Arc<[f64]>),
}

impl BetaSchedule {
    /// Linear from 1e-4 to 0.02, the DDPM paper's.
    pub const DDPM: Self = Self::Linear { beta_start: 1e-4, beta_end: 0.02 };

    /// The schedule called `name` in diffusers' configs and in `ddpm.beta_schedule`.
    ///
    /// The ends are not used by `squaredcos_cap_v2` and `laplace`. Errors: `InvalidArgument` for another name.
    pub fn from_name(name: &str, beta_start: f64, beta_end: f64) -> Result<Self> {
        match name {
            "linear" => Ok(Self::Linear { beta_start, beta_end }),
            "scaled_linear" => Ok(Self::ScaledLinear { beta_start, beta_end }),
            "squaredcos_cap_v2" => Ok(Self::SquaredcosCapV2),
            "sigmoid" => Ok(Self::Sigmoid { beta_start, beta_end }),
            "laplace" => Ok(Self::Laplace),
            _ => Err(Error::invalid_argument(format!(
                "beta_schedule: found \"{name}\", expected linear, scaled_linear, squaredcos_cap_v2, sigmoid or laplace"
            ))),
        }
    }

    /// The name that [`from_name`](Self::from_name) takes; "given", which it does not take, for betas.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Linear { .. } => "linear",
            Self::ScaledLinear { .. } => "scaled_linear",
            Self::SquaredcosCapV2 => "squaredcos_cap_v2",
            Self::Sigmoid { .. } => "sigmoid",
            Self::Laplace => "laplace",
            Self::Given(_) => "given",
        }
    }

    /// (beta_start, beta_end); none where the schedule has no such parameters.
    pub fn ends(&self) -> Option<(f64, f64)> {
        match *self {
            Self::Linear { beta_start, beta_end }
            | Self::ScaledLinear { beta_start, beta_end }
            | Self::Sigmoid { beta_start, beta_end } => Some((beta_start, beta_end)),
            Self::SquaredcosCapV2 | Self::Laplace | Self::Given(_) => None,
        }
    }

    fn betas(&self, len: usize) -> Vec<f64> {
        let linspace = |start: f64, end: f64| {
            let step = if len > 1 { (end - start) / (len - 1) as f64 } else { 0.0 };
            (0..len).map(move |i| start + step * i as f64)
        };
        // The betas of a closed form of alpha_bar over [0, 1], of which only ratios count.
        let from_alpha_bar = |alpha_bar: fn(f64) -> f64| {
            let at = |i: usize| alpha_bar(i as f64 / len as f64);
            (0..len).map(|i| (1.0 - at(i + 1) / at(i)).min(0.999)).collect()
        };
        match *self {
            Self::Linear { beta_start, beta_end } => linspace(beta_start, beta_end).collect(),
            Self::ScaledLinear { beta_start, beta_end } => {
                linspace(beta_start.sqrt(), beta_end.sqrt()).map(|root| root * root).collect()
            }
            // Nichol and Dhariwal 2021, eq. 17 with s = 0.008.
            Self::SquaredcosCapV2 => {
                from_alpha_bar(|time| ((time + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2))
            }
            // Hang et al. 2024, table 1: log SNR = -b sgn(0.5 - t) ln(1 - 2 |t - 0.5|), b = 0.5; the
            // 1e-6 keeps both ends finite.
            Self::Laplace => from_alpha_bar(|time| {
                let from_middle = 0.5 - time;
                let log_snr =
                    -0.5 * from_middle.signum() * (1.0 - 2.0 * from_middle.abs() + 1e-6).ln();
                1.0 / (1.0 + (-log_snr).exp())
            }),
            Self::Given(ref betas) => betas.to_vec(),
            Self::Sigmoid { beta_start, beta_end } => linspace(-6.0, 6.0)
                .map(|z| beta_start + (beta_end - beta_start) / (1.0 + (-z).exp()))
                .collect(),
        }
    }
}

/// The tables of a forward process with T training timesteps, t in 0..T, all in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct NoiseSchedule {
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
}

impl NoiseSchedule {
    /// The tables of `schedule` for `num_train_timesteps` timesteps.
    ///
    /// Errors: `InvalidArgument` where the timesteps are not 1 to [`MAX_TRAIN_TIMESTEPS`], an end or a
    /// beta is not in (0, 1), or there are not T betas. Allocates the tables.
    pub fn new(schedule: &BetaSchedule, num_train_timesteps: usize) -> Result<Self> {
        if !(1..=MAX_TRAIN_TIMESTEPS).contains(&num_train_timesteps) {
            return Err(Error::invalid_argument(format!(
                "num_train_timesteps: found {num_train_timesteps}, expected 1 to {MAX_TRAIN_TIMESTEPS}"
            )));
        }
        if let Some((beta_start, beta_end)) = schedule.ends() {
            for (name, beta) in [("beta_start", beta_start), ("beta_end", beta_end)] {
                if !(beta > 0.0 && beta < 1.0) {
                    return Err(Error::invalid_argument(format!(
                        "{name}: found {beta}, expected a number above 0 and below 1"
                    )));
                }
            }
        }
        if let BetaSchedule::Given(betas) = schedule {
            if betas.len() != num_train_timesteps {
                return Err(Error::invalid_argument(format!(
                    "betas: found {} of them, expected {num_train_timesteps} as num_train_timesteps",
                    betas.len()
                )));
            }
            if let Some(t) = betas.iter().position(|beta| !(*beta > 0.0 && *beta < 1.0)) {
                return Err(Error::invalid_argument(format!(
                    "betas[{t}]: found {}, expected a number above 0 and below 1",
                    betas[t]
                )));
            }
        }
        Ok(Self::from_betas(schedule.betas(num_train_timesteps)))
    }

    /// The DDPM paper's schedule: linear betas from 1e-4 to 0.02, T = 1000.
    pub fn ddpm() -> Self {
        Self::from_betas(BetaSchedule::DDPM.betas(1000))
    }

    fn from_betas(betas: Vec<f64>) -> Self {
        // alpha_bar_t is the product of 1 - beta_s for s up to t (above eq. 4).
        let cumulative = |product: &mut f64, beta: &f64| {
            *product *= 1.0 - beta;
            Some(*product)
        };
        let alphas_cumprod = betas.iter().scan(1.0, cumulative).collect();
        Self { betas, alphas_cumprod }
    }

    /// The same process with its last alpha_bar moved to exactly 0: pure noise at t = T - 1.
    ///
    /// Source: Lin, Liu, Li, Yang, "Common diffusion noise schedules and sample steps are flawed",
    /// 2024, algorithm 1. Errors: `InvalidArgument` where T is below 2, as nothing would be left.
    pub fn rescaled_to_zero_snr(mut self) -> Result<Self> {
        let len = self.alphas_cumprod.len();
        if len < 2 {
            return Err(Error::invalid_argument(format!(
                "rescale_betas_zero_snr: found num_train_timesteps {len}, expected at least 2"
            )));
        }
        let first = self.alphas_cumprod[0].sqrt();
        let last = self.alphas_cumprod[len - 1].sqrt();
        let mut previous = 1.0;
        for (beta, alpha_bar) in self.betas.iter_mut().zip(&mut self.alphas_cumprod) {
            // Shift so that the last root is 0, scale so that the first is unchanged.
            let root = (alpha_bar.sqrt() - last) * first / (first - last);
            *alpha_bar = root * root;
            *beta = 1.0 - *alpha_bar / previous;
            previous = *alpha_bar;
        }
        Ok(self)
    }

    /// T, the number of training timesteps; at least 1.
    pub fn num_train_timesteps(&self) -> usize {
        self.betas.len()
    }

    /// beta_t for t in 0..T.
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// alpha_bar_t for t in 0..T, strictly falling, in (0, 1); the last is 0 after
    /// [`rescaled_to_zero_snr`](Self::rescaled_to_zero_snr).
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// Whether the last timestep holds no signal at all, so that x_0 cannot be had from its noise.
    pub fn has_zero_terminal_snr(&self) -> bool {
        self.alphas_cumprod.last().is_some_and(|&alpha_bar| alpha_bar <= 0.0)
    }

    /// alpha_bar at `t`. Errors: `InvalidArgument` where t is not below T.
    pub fn alpha_cumprod(&self, t: usize) -> Result<f64> {
        self.alphas_cumprod.get(t).copied().ok_or_else(|| {
            Error::invalid_argument(format!(
                "timestep: found {t}, expected 0 to {}",
                self.alphas_cumprod.len().saturating_sub(1)
            ))
        })
    }

    /// sigma at a fractional `t`: sqrt((1 - alpha_bar) / alpha_bar) of the neighbours, interpolated
    /// linearly (Karras et al. 2022, appendix C.3.4); 0 at t = -1, before the first timestep, and below.
    pub fn sigma_at(&self, t: f64) -> f64 {
        let below = t.floor();
        let at = |index: f64| {
            let alpha_bar = match index {
                _ if index < 0.0 => 1.0,
                _ => self.alphas_cumprod[(index as usize).min(self.alphas_cumprod.len() - 1)],
            };
            sigma_of(alpha_bar)
        };
        let share = t - below;
        if share == 0.0 { at(t) } else { at(below) + share * (at(below + 1.0) - at(below)) }
    }

    /// The fractional timestep at which sigma is `sigma`, interpolated in ln sigma and held to
    /// [0, T - 1] (Karras et al. 2022, as k-diffusion has it).
    pub fn timestep_of_sigma(&self, sigma: f64) -> f64 {
        let last = self.alphas_cumprod.len() - 1;
        // sigma rises with t.
        let above = self.alphas_cumprod.partition_point(|&a| sigma_of(a) <= sigma);
        match above {
            0 => 0.0,
            above if above > last => last as f64,
            above => {
                let (low, high) = (self.sigma_at((above - 1) as f64), self.sigma_at(above as f64));
                let share = (sigma / low).ln() / (high / low).ln();
                (above - 1) as f64 + share
            }
        }
    }

    /// Draws from q(x_t | x_0): `out = sqrt(alpha_bar_t) x0 + sqrt(1 - alpha_bar_t) noise` (eq. 4).
    ///
    /// All slices have one length; computed in f32 from f64 tables. Errors: `InvalidArgument` where
    /// t is not below T or a length differs. Does not allocate or block.
    pub fn add_noise(&self, x0: &[f32], noise: &[f32], t: usize, out: &mut [f32]) -> Result<()> {
        let alpha_bar = self.alpha_cumprod(t)?;
        if x0.len() != out.len() || noise.len() != out.len() {
            return Err(Error::invalid_argument(format!(
                "add_noise: found {} values of x0 and {} of noise, expected {} of each",
                x0.len(),
                noise.len(),
                out.len()
            )));
        }
        let (signal, spread) = (alpha_bar.sqrt() as f32, (1.0 - alpha_bar).sqrt() as f32);
        for ((out, x0), noise) in out.iter_mut().zip(x0).zip(noise) {
            *out = signal * x0 + spread * noise;
        }
        Ok(())
    }
}

/// The noise's share over the signal's, sigma of Karras et al. 2022; infinite where alpha_bar is 0.
pub(crate) fn sigma_of(alpha_bar: f64) -> f64 {
    ((1.0 - alpha_bar) / alpha_bar).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCALED: BetaSchedule =
        BetaSchedule::ScaledLinear { beta_start: 0.00085, beta_end: 0.012 };
    const SIGMOID: BetaSchedule = BetaSchedule::Sigmoid { beta_start: 1e-4, beta_end: 0.02 };

    fn named() -> [BetaSchedule; 5] {
        let cosine = BetaSchedule::SquaredcosCapV2;
        [BetaSchedule::DDPM, SCALED, SIGMOID, cosine, BetaSchedule::Laplace]
    }

    #[test]
    fn betas_meet_their_ends() {
        let cases = [(BetaSchedule::DDPM, 1e-4, 0.02), (SCALED, 0.00085, 0.012)];
        for (schedule, start, end) in cases {
            let table = NoiseSchedule::new(&schedule, 1000).unwrap();
            assert!((table.betas()[0] - start).abs() < 1e-15, "{schedule:?}");
            assert!((table.betas()[999] - end).abs() < 1e-15, "{schedule:?}");
        }
        let sigmoid = NoiseSchedule::new(&SIGMOID, 1000).unwrap();
        // 1 / (1 + e^6) of the way from one end to the other.
        assert!((sigmoid.betas()[0] - (1e-4 + 0.0199 * 0.002_472_623_156_634_774)).abs() < 1e-12);
        assert!((sigmoid.betas()[999] + sigmoid.betas()[0] - 0.0201).abs() < 1e-12);
    }

    #[test]
    fn ddpm_is_the_general_schedule_with_the_papers_numbers() {
        assert_eq!(NoiseSchedule::ddpm(), NoiseSchedule::new(&BetaSchedule::DDPM, 1000).unwrap());
        // exp(sum of ln(1 - beta)), computed apart: the paper's prior is all but pure noise.
        assert!((NoiseSchedule::ddpm().alphas_cumprod()[999] - 4.035_83e-5).abs() < 1e-9);
    }

    #[test]
    fn cosine_follows_its_closed_form_until_the_cap() {
        let table = NoiseSchedule::new(&BetaSchedule::SquaredcosCapV2, 1000).unwrap();
        let f = |time: f64| ((time + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
        for t in [0, 1, 500, 998] {
            let expected = f((t + 1) as f64 / 1000.0) / f(0.0);
            assert!((table.alphas_cumprod()[t] / expected - 1.0).abs() < 1e-9, "t = {t}");
        }
        assert_eq!(table.betas()[999], 0.999);
    }

    #[test]
    fn laplace_has_the_papers_signal_to_noise_ratio() {
        let table = NoiseSchedule::new(&BetaSchedule::Laplace, 1000).unwrap();
        let snr = |t: usize| table.alphas_cumprod()[t] / (1.0 - table.alphas_cumprod()[t]);
        // Hang et al. 2024: SNR is (2 - 2 t)^0.5 above the middle and (2 t)^-0.5 below it; alpha_bar
        // is normalised by its value at t = 0, 1 - 1e-3.
        let normalised = |snr: f64| {
            let alpha_bar = snr / (1.0 + snr) / (1.0 - 1.0 / 1001.0);
            alpha_bar / (1.0 - alpha_bar)
        };
        for (t, expected) in [(124, 0.25f64.powf(-0.5)), (499, 1.0), (749, 0.5f64.powf(0.5))] {
            let off = snr(t) / normalised(expected) - 1.0;
            // The 1e-6 of the schedule counts relative to 1 - 2 |t - 0.5|.
            assert!(off.abs() < 1e-5, "t = {t}: off by {off}");
        }
    }

    #[test]
    fn given_betas_are_used_as_they_are() {
        let betas: Arc<[f64]> = Arc::from([0.1, 0.2, 0.05]);
        let table = NoiseSchedule::new(&BetaSchedule::Given(Arc::clone(&betas)), 3).unwrap();
        assert_eq!(table.betas(), &*betas);
        assert!((table.alphas_cumprod()[2] - 0.9 * 0.8 * 0.95).abs() < 1e-15);
        for (betas, len, named) in [
            (vec![0.1], 3, "betas: found 1 of them, expected 3"),
            (vec![0.1, 1.0], 2, "betas[1]: found 1, expected a number above 0"),
            (vec![0.0, 0.1], 2, "betas[0]: found 0"),
            (vec![0.1, f64::NAN], 2, "betas[1]: found NaN"),
        ] {
            let error = NoiseSchedule::new(&BetaSchedule::Given(betas.into()), len).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
        }
    }

    #[test]
    fn sigma_is_interpolated_and_found_again() {
        let table = NoiseSchedule::ddpm();
        let exact = |t: usize| {
            let alpha_bar = table.alphas_cumprod()[t];
            ((1.0 - alpha_bar) / alpha_bar).sqrt()
        };
        assert_eq!((table.sigma_at(7.0), table.sigma_at(999.0)), (exact(7), exact(999)));
        assert!((table.sigma_at(7.25) - (0.75 * exact(7) + 0.25 * exact(8))).abs() < 1e-15);
        assert_eq!((table.sigma_at(-1.0), table.sigma_at(-0.5)), (0.0, 0.5 * exact(0)));
        for t in [0, 1, 500, 999] {
            assert!((table.timestep_of_sigma(exact(t)) - t as f64).abs() < 1e-9, "t = {t}");
        }
        let between = (exact(40) * exact(41)).sqrt();
        assert!((table.timestep_of_sigma(between) - 40.5).abs() < 1e-9);
        assert_eq!((table.timestep_of_sigma(1e9), table.timestep_of_sigma(0.0)), (999.0, 0.0));
    }

    #[test]
    fn every_schedule_loses_signal_at_every_step() {
        for schedule in named() {
            for len in [1, 2, 10, 1000, 4000] {
                let table = NoiseSchedule::new(&schedule, len).unwrap();
                let alphas = table.alphas_cumprod();
                assert!(alphas[0] < 1.0 && alphas[len - 1] > 0.0, "{schedule:?} {len}");
                assert!(alphas.windows(2).all(|w| w[1] < w[0]), "{schedule:?} {len}");
            }
        }
    }

    #[test]
    fn zero_snr_ends_in_pure_noise_and_keeps_the_first_alpha() {
        let plain = NoiseSchedule::new(&SCALED, 1000).unwrap();
        let rescaled = plain.clone().rescaled_to_zero_snr().unwrap();
        assert!(!plain.has_zero_terminal_snr() && rescaled.has_zero_terminal_snr());
        assert_eq!(rescaled.alphas_cumprod()[999], 0.0);
        assert_eq!(rescaled.betas()[999], 1.0);
        assert!((rescaled.alphas_cumprod()[0] - plain.alphas_cumprod()[0]).abs() < 1e-15);
        assert!(rescaled.alphas_cumprod().windows(2).all(|w| w[1] < w[0]));
        let single = NoiseSchedule::new(&SCALED, 1).unwrap().rescaled_to_zero_snr();
        assert!(single.unwrap_err().to_string().contains("num_train_timesteps 1"));
    }

    #[test]
    fn add_noise_mixes_by_the_roots_of_alpha_bar() {
        let schedule = NoiseSchedule::ddpm();
        let mut out = [0f32; 2];
        schedule.add_noise(&[1.0, -0.5], &[0.0, 2.0], 200, &mut out).unwrap();
        let a = schedule.alphas_cumprod()[200];
        let expected = [a.sqrt(), -0.5 * a.sqrt() + 2.0 * (1.0 - a).sqrt()];
        assert!(out.iter().zip(expected).all(|(&o, e)| (f64::from(o) - e).abs() < 1e-6), "{out:?}");
        assert!(schedule.add_noise(&[1.0], &[0.0, 2.0], 200, &mut out).is_err());
        let error = schedule.add_noise(&[1.0, 1.0], &[0.0, 2.0], 1000, &mut out).unwrap_err();
        assert_eq!(error.to_string(), "timestep: found 1000, expected 0 to 999");
    }

    #[test]
    fn bad_parameters_are_refused_by_name() {
        for (start, end, named) in [
            (0.0, 0.02, "beta_start: found 0"),
            (1e-4, 1.0, "beta_end: found 1"),
            (f64::NAN, 0.02, "beta_start: found NaN"),
            (1e-4, f64::INFINITY, "beta_end: found inf"),
        ] {
            let schedule = BetaSchedule::Linear { beta_start: start, beta_end: end };
            let error = NoiseSchedule::new(&schedule, 1000).unwrap_err();
            assert!(error.to_string().starts_with(named), "{error}");
        }
        for len in [0, MAX_TRAIN_TIMESTEPS + 1] {
            let error = NoiseSchedule::new(&BetaSchedule::DDPM, len).unwrap_err();
            assert!(error.to_string().starts_with("num_train_timesteps: found"), "{error}");
        }
    }

    #[test]
    fn names_go_both_ways() {
        for schedule in named() {
            let (start, end) = schedule.ends().unwrap_or((0.0, 0.0));
            assert_eq!(BetaSchedule::from_name(schedule.name(), start, end).unwrap(), schedule);
        }
        let error = BetaSchedule::from_name("cosine", 0.0, 0.0).unwrap_err();
        assert!(error.to_string().contains("found \"cosine\""), "{error}");
    }
}
