//! What a network predicts, and how x_0 and epsilon follow from it: always linear in x and m.
//!
//! This module must not know samplers or networks. x is x_t in the variance-preserving scale,
//! m the raw model output.

use std::fmt;
use std::str::FromStr;

use crate::error::{Error, Result};
use crate::noise_schedule::NoiseSchedule;

/// What the model output m stands for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PredictionType {
    /// The noise epsilon in x_t (Ho et al. 2020, eq. 11).
    #[default]
    Epsilon,
    /// The clean sample x_0.
    Sample,
    /// v = sqrt(alpha_bar) epsilon - sqrt(1 - alpha_bar) x_0 (Salimans and Ho 2022, appendix D).
    VPrediction,
    /// The posterior mean mu of x_{t-1} over neighbouring training timesteps (Ho et al. 2020, eq. 7).
    Mean,
}

impl PredictionType {
    /// The name in diffusers' configs and in `ddpm.prediction_type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Epsilon => "epsilon",
            Self::Sample => "sample",
            Self::VPrediction => "v_prediction",
            Self::Mean => "mean",
        }
    }

    /// (p_x, p_m) at training timestep t: x_0 = p_x x + p_m m.
    ///
    /// Errors: `InvalidArgument` where t is not below T, or where m does not determine x_0, that is
    /// epsilon where alpha_bar is 0.
    pub fn x0_coefficients(self, schedule: &NoiseSchedule, t: usize) -> Result<(f64, f64)> {
        let alpha_bar = schedule.alpha_cumprod(t)?;
        if self == Self::Epsilon && alpha_bar <= 0.0 {
            return Err(no_signal(t));
        }
        Ok(self.x0_coefficients_at(alpha_bar, alpha_bar_before(schedule, t)))
    }

    /// (e_x, e_m) at training timestep t: epsilon = e_x x + e_m m.
    ///
    /// Errors: as [`x0_coefficients`](Self::x0_coefficients).
    pub fn epsilon_coefficients(self, schedule: &NoiseSchedule, t: usize) -> Result<(f64, f64)> {
        let alpha_bar = schedule.alpha_cumprod(t)?;
        Ok(self.epsilon_coefficients_at(alpha_bar, alpha_bar_before(schedule, t)))
    }

    /// (p_x, p_m) where alpha_bar is `alpha_bar`, and `before` one training timestep earlier (only
    /// the mean looks at it). Not finite where m does not determine x_0.
    pub(crate) fn x0_coefficients_at(self, alpha_bar: f64, before: f64) -> (f64, f64) {
        match self {
            // x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, solved for x_0.
            Self::Epsilon => (1.0 / alpha_bar.sqrt(), -((1.0 - alpha_bar) / alpha_bar).sqrt()),
            Self::Sample => (0.0, 1.0),
            Self::VPrediction => (alpha_bar.sqrt(), -(1.0 - alpha_bar).sqrt()),
            Self::Mean => {
                let (c_x0, c_x) = posterior_mean_coefficients(alpha_bar, before);
                (-c_x / c_x0, 1.0 / c_x0)
            }
        }
    }

    /// (e_x, e_m) where alpha_bar is `alpha_bar`, as [`x0_coefficients_at`](Self::x0_coefficients_at).
    pub(crate) fn epsilon_coefficients_at(self, alpha_bar: f64, before: f64) -> (f64, f64) {
        match self {
            Self::Epsilon => (0.0, 1.0),
            Self::VPrediction => ((1.0 - alpha_bar).sqrt(), alpha_bar.sqrt()),
            Self::Sample | Self::Mean => {
                epsilon_of_x0(self.x0_coefficients_at(alpha_bar, before), alpha_bar)
            }
        }
    }

    /// (c_x0, c_noise) at training timestep t: the training target is c_x0 x_0 + c_noise epsilon.
    ///
    /// Errors: `InvalidArgument` where t is not below T.
    pub fn target_coefficients(self, schedule: &NoiseSchedule, t: usize) -> Result<(f64, f64)> {
        let alpha_bar = schedule.alpha_cumprod(t)?;
        let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        match self {
            Self::Epsilon => Ok((0.0, 1.0)),
            Self::Sample => Ok((1.0, 0.0)),
            Self::VPrediction => Ok((-spread, signal)),
            Self::Mean => {
                let before = alpha_bar_before(schedule, t);
                let (c_x0, c_x) = posterior_mean_coefficients(alpha_bar, before);
                Ok((c_x0 + c_x * signal, c_x * spread))
            }
        }
    }
}

/// (e_x, e_m) of epsilon where (p_x, p_m) are those of x_0.
pub(crate) fn epsilon_of_x0((p_x, p_m): (f64, f64), alpha_bar: f64) -> (f64, f64) {
    // x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) epsilon, solved for epsilon.
    let (signal, spread) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
    ((1.0 - signal * p_x) / spread, -signal * p_m / spread)
}

/// (c_x0, c_x) of mu = c_x0 x_0 + c_x x_t, the mean of q(x_{t-1} | x_t, x_0) (Ho et al. 2020, eq. 7).
pub fn posterior_mean_coefficients(alpha_bar: f64, before: f64) -> (f64, f64) {
    let alpha = alpha_bar / before;
    (
        before.sqrt() * (1.0 - alpha) / (1.0 - alpha_bar),
        alpha.sqrt() * (1.0 - before) / (1.0 - alpha_bar),
    )
}

/// alpha_bar one training timestep before t: 1 before the first.
fn alpha_bar_before(schedule: &NoiseSchedule, t: usize) -> f64 {
    t.checked_sub(1).and_then(|t| schedule.alphas_cumprod().get(t)).copied().unwrap_or(1.0)
}

fn no_signal(t: usize) -> Error {
    Error::invalid_argument(format!(
        "prediction_type: found epsilon with alpha_bar 0 at timestep {t} (zero terminal SNR), \
         expected v_prediction or sample: the noise does not determine the image there"
    ))
}

impl FromStr for PredictionType {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        [Self::Epsilon, Self::Sample, Self::VPrediction, Self::Mean]
            .into_iter()
            .find(|prediction| prediction.name() == name)
            .ok_or_else(|| {
                Error::invalid_argument(format!(
                    "prediction_type: found \"{name}\", expected epsilon, sample, v_prediction or mean"
                ))
            })
    }
}

impl fmt::Display for PredictionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise_schedule::BetaSchedule;

    const ALL: [PredictionType; 4] = [
        PredictionType::Epsilon,
        PredictionType::Sample,
        PredictionType::VPrediction,
        PredictionType::Mean,
    ];

    #[test]
    fn a_perfect_model_gives_back_x0_and_epsilon() {
        let schedule = NoiseSchedule::ddpm();
        let (x0, epsilon) = (0.3, -1.7);
        for prediction in ALL {
            for t in [0, 1, 500, 999] {
                let a = schedule.alphas_cumprod()[t];
                let x = a.sqrt() * x0 + (1.0 - a).sqrt() * epsilon;
                let (c_x0, c_noise) = prediction.target_coefficients(&schedule, t).unwrap();
                let m = c_x0 * x0 + c_noise * epsilon;
                let (p_x, p_m) = prediction.x0_coefficients(&schedule, t).unwrap();
                let (e_x, e_m) = prediction.epsilon_coefficients(&schedule, t).unwrap();
                // The division by sqrt(alpha_bar) = 1 / 157 or by c_x0 costs a few digits.
                assert!((p_x * x + p_m * m - x0).abs() < 1e-10, "{prediction} x0 at {t}");
                assert!((e_x * x + e_m * m - epsilon).abs() < 1e-10, "{prediction} epsilon at {t}");
            }
        }
    }

    #[test]
    fn mean_target_is_eq_7_of_the_paper() {
        let schedule = NoiseSchedule::ddpm();
        let t = 400;
        let (a, a_prev) = (schedule.alphas_cumprod()[t], schedule.alphas_cumprod()[t - 1]);
        let beta = schedule.betas()[t];
        let (x0, epsilon) = (0.8, 0.6);
        let x = a.sqrt() * x0 + (1.0 - a).sqrt() * epsilon;
        // Eq. 11: the same mean written with epsilon.
        let mu = (x - beta / (1.0 - a).sqrt() * epsilon) / (1.0 - beta).sqrt();
        let (c_x0, c_noise) = PredictionType::Mean.target_coefficients(&schedule, t).unwrap();
        assert!((c_x0 * x0 + c_noise * epsilon - mu).abs() < 1e-12);
        assert!(a < a_prev);
    }

    #[test]
    fn only_epsilon_is_lost_at_zero_snr() {
        let schedule = NoiseSchedule::new(&BetaSchedule::DDPM, 1000).unwrap();
        let schedule = schedule.rescaled_to_zero_snr().unwrap();
        for prediction in ALL {
            let found = prediction.x0_coefficients(&schedule, 999);
            assert_eq!(found.is_err(), prediction == PredictionType::Epsilon, "{prediction}");
        }
        let error = PredictionType::Epsilon.x0_coefficients(&schedule, 999).unwrap_err();
        assert!(error.to_string().contains("timestep 999"), "{error}");
    }

    #[test]
    fn names_go_both_ways_and_junk_is_refused() {
        for prediction in ALL {
            assert_eq!(prediction.name().parse::<PredictionType>().unwrap(), prediction);
        }
        let error = "junk".parse::<PredictionType>().unwrap_err();
        assert!(error.to_string().starts_with("prediction_type: found \"junk\""), "{error}");
    }

    #[test]
    fn timestep_beyond_the_schedule_is_refused() {
        let schedule = NoiseSchedule::ddpm();
        for prediction in ALL {
            assert!(prediction.x0_coefficients(&schedule, 1000).is_err());
            assert!(prediction.epsilon_coefficients(&schedule, 1000).is_err());
            assert!(prediction.target_coefficients(&schedule, 1000).is_err());
        }
    }
}
