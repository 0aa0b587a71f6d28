//! Data of one dimension whose exact epsilon and probability flow are known.

use std::sync::Arc;

use ddpm::noise_schedule::{BetaSchedule, NoiseSchedule};

/// Where the schedule of these tests begins and ends, in lambda, half the logarithm of the
/// signal-to-noise ratio: the DDPM paper's goes from 4.6 to -5.1.
pub const LAMBDA: (f64, f64) = (4.6, -5.1);

/// A schedule whose lambda falls evenly with t, so that equal steps in t are equal steps in lambda: what
/// the papers' orders are stated in. 3840 = 15 x 256 intervals.
pub fn even_noise_schedule() -> NoiseSchedule {
    const T: usize = 3841;
    let (first, last) = LAMBDA;
    let alpha_bar = |t: usize| {
        let lambda = first + (last - first) * t as f64 / (T - 1) as f64;
        1.0 / (1.0 + (-2.0 * lambda).exp())
    };
    let beta = |t: usize| 1.0 - alpha_bar(t) / if t > 0 { alpha_bar(t - 1) } else { 1.0 };
    NoiseSchedule::new(&BetaSchedule::Given((0..T).map(beta).collect()), T).unwrap()
}

/// `steps` timesteps from T - 1, evenly spread, to step from each to the next and from the last to 0.
pub fn even_timesteps(total: usize, steps: usize) -> Arc<[usize]> {
    assert_eq!((total - 1) % steps, 0);
    (0..steps).map(|i| (total - 1) / steps * (steps - i)).collect()
}

/// The same, but of every two steps the first is twice as long as the second.
pub fn uneven_timesteps(total: usize, steps: usize) -> Arc<[usize]> {
    assert_eq!((total - 1) * 2 % (3 * steps), 0);
    let short = (total - 1) * 2 / (3 * steps);
    (0..steps).map(|i| total - 1 - (i / 2 * 3 + i % 2 * 2) * short).collect()
}

/// A law of the data, with what follows from it at a level alpha_bar of noise.
pub trait Law {
    /// The expectation of epsilon given x_t = x.
    fn epsilon(&self, x: f64, alpha_bar: f64) -> f64;

    /// Where the probability-flow ODE takes `x` from one level to another.
    fn transported(&self, x: f64, from: f64, to: f64) -> f64;
}

/// N(mu, s^2). x_t is N(sqrt(a) mu, a s^2 + 1 - a).
#[derive(Clone, Copy, Debug)]
pub struct Gaussian {
    pub mu: f64,
    pub s: f64,
}

impl Gaussian {
    /// The variance at the level alpha_bar = a.
    pub fn variance(&self, a: f64) -> f64 {
        a * self.s * self.s + 1.0 - a
    }

    /// (gain, shift): epsilon = gain x + shift.
    pub fn epsilon_coefficients(&self, a: f64) -> (f64, f64) {
        let gain = (1.0 - a).sqrt() / self.variance(a);
        (gain, -gain * a.sqrt() * self.mu)
    }
}

impl Law for Gaussian {
    fn epsilon(&self, x: f64, a: f64) -> f64 {
        let (gain, shift) = self.epsilon_coefficients(a);
        gain * x + shift
    }

    /// The flow keeps the distance from the mean in standard deviations.
    fn transported(&self, x: f64, from: f64, to: f64) -> f64 {
        let ratio = (self.variance(to) / self.variance(from)).sqrt();
        to.sqrt() * self.mu + (x - from.sqrt() * self.mu) * ratio
    }
}

/// A mixture of two normal laws, the first with weight `weight`.
#[derive(Clone, Copy, Debug)]
pub struct Mixture {
    pub weight: f64,
    pub parts: [Gaussian; 2],
}

impl Mixture {
    /// The one of these tests: two overlapping bumps of unequal weight and width.
    pub const TWO: Self = Self {
        weight: 0.35,
        parts: [Gaussian { mu: -0.9, s: 0.45 }, Gaussian { mu: 0.6, s: 0.6 }],
    };

    fn weights(&self) -> [f64; 2] {
        [self.weight, 1.0 - self.weight]
    }

    /// P(x_t <= x).
    pub fn cdf(&self, x: f64, a: f64) -> f64 {
        let one = |part: &Gaussian| normal_cdf((x - a.sqrt() * part.mu) / part.variance(a).sqrt());
        self.weights().iter().zip(&self.parts).map(|(w, part)| w * one(part)).sum()
    }
}

impl Law for Mixture {
    fn epsilon(&self, x: f64, a: f64) -> f64 {
        // The logarithm of the odds of the first part, given x.
        let log_density = |part: &Gaussian| {
            let v = part.variance(a);
            -0.5 * ((x - a.sqrt() * part.mu).powi(2) / v + v.ln())
        };
        let [first, second] = self.parts.each_ref().map(log_density);
        let [w1, w2] = self.weights();
        let p1 = 1.0 / (1.0 + w2 / w1 * (second - first).exp());
        p1 * self.parts[0].epsilon(x, a) + (1.0 - p1) * self.parts[1].epsilon(x, a)
    }

    /// d(x / alpha) = epsilon d(sigma / alpha) (Song et al. 2021, DDIM, eq. 14), by Runge and Kutta's
    /// rule in steps of lambda. With half the steps the result is the same to 1e-11.
    fn transported(&self, x: f64, from: f64, to: f64) -> f64 {
        self.transported_in(x, from, to, 4000)
    }
}

impl Mixture {
    pub fn transported_in(&self, x: f64, from: f64, to: f64, steps: usize) -> f64 {
        let lambda_of = |a: f64| 0.5 * (a / (1.0 - a)).ln();
        let (start, end) = (lambda_of(from), lambda_of(to));
        let h = (end - start) / steps as f64;
        let slope = |lambda: f64, scaled: f64| {
            let a = 1.0 / (1.0 + (-2.0 * lambda).exp());
            -(-lambda).exp() * self.epsilon(scaled * a.sqrt(), a)
        };
        let mut scaled = x / from.sqrt();
        for i in 0..steps {
            let at = start + h * i as f64;
            let k1 = slope(at, scaled);
            let k2 = slope(at + 0.5 * h, scaled + 0.5 * h * k1);
            let k3 = slope(at + 0.5 * h, scaled + 0.5 * h * k2);
            let k4 = slope(at + h, scaled + h * k3);
            scaled += h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4);
        }
        scaled * to.sqrt()
    }
}

/// The standard normal law's distribution function, to 1e-12: by Simpson's rule from 0, the density
/// being smooth.
pub fn normal_cdf(x: f64) -> f64 {
    const INTERVALS: usize = 400;
    let density = |z: f64| (-0.5 * z * z).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let to = x.clamp(-9.0, 9.0);
    let h = to / INTERVALS as f64;
    let inner = |i: usize| density(h * i as f64) * if i % 2 == 1 { 4.0 } else { 2.0 };
    let sum = density(0.0) + density(to) + (1..INTERVALS).map(inner).sum::<f64>();
    0.5 + sum * h / 3.0
}

#[test]
fn flow_of_a_mixture_keeps_quantiles_and_needs_no_more_steps() {
    // In one dimension the flow is monotone and keeps the law, so it keeps P(x_t <= x).
    let law = Mixture::TWO;
    let (from, to) = (4e-5, 1.0 - 1e-4);
    for x in [-2.0, -0.7, 0.0, 0.4, 1.9] {
        let end = law.transported(x, from, to);
        assert!((law.cdf(x, from) - law.cdf(end, to)).abs() < 1e-10, "from {x} to {end}");
        assert!((law.transported_in(x, from, to, 2000) - end).abs() < 1e-10, "from {x}");
    }
    let one = Gaussian { mu: 0.3, s: 0.7 };
    let same = Mixture { weight: 0.5, parts: [one, one] };
    assert!((same.transported(0.9, from, to) - one.transported(0.9, from, to)).abs() < 1e-10);
}
