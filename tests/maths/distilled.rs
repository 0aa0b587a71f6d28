//! LCM and TCD, which are for distilled models: what their papers promise of a model that has learned
//! what it should.

use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{Sampler, SamplerConfig, step_table};
use ddpm::step::Row;

use super::laws::Gaussian;
use super::rows::{Moments, moments_of};
use super::samplers::Form;

const LAW: Gaussian = Gaussian { mu: 0.4, s: 0.6 };

fn start(a: f64) -> Moments {
    Moments { mean: a.sqrt() * LAW.mu, variance: LAW.variance(a) }
}

/// The consistency function of the law: where the flow takes x to at alpha_bar 1, gain x + shift.
fn consistency(row: &Row) -> (f64, f64) {
    let a = row.alpha_cumprod;
    let gain = LAW.s / LAW.variance(a).sqrt();
    (gain, LAW.mu - gain * a.sqrt() * LAW.mu)
}

#[test]
fn lcm_with_an_exact_consistency_function_is_exact_at_every_level() {
    let schedule = NoiseSchedule::ddpm();
    for steps in [1, 2, 4, 8] {
        let config = SamplerConfig { steps, ..Form::new(Sampler::Lcm).config() };
        let table = step_table(&schedule, PredictionType::Sample, &config).unwrap();
        let rows = table.rows();
        let all = moments_of(rows, start(rows[0].alpha_cumprod), consistency);
        for (k, found) in all.iter().enumerate() {
            let a = rows.get(k + 1).map_or(1.0, |row| row.alpha_cumprod);
            let expected = start(a);
            // c_skip is 0.25 / (10 t)^2, below 2e-7 from t = 139 on.
            let what = format!("{steps} steps, row {k}: {found:?}, expected {expected:?}");
            assert!((found.mean - expected.mean).abs() < 1e-6, "{what}");
            assert!((found.variance - expected.variance).abs() < 1e-6, "{what}");
        }
    }
}

#[test]
fn lcm_with_a_plain_epsilon_model_does_not_converge() {
    // Its x_0 is the mean over what the image may be, not a sample: the spread is lost however many
    // the steps. This is why such models are distilled.
    let schedule = NoiseSchedule::ddpm();
    let deviation = |steps: usize| {
        let config = SamplerConfig { steps, ..Form::new(Sampler::Lcm).config() };
        let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
        let rows = table.rows();
        let model = |row: &Row| LAW.epsilon_coefficients(row.alpha_cumprod);
        moments_of(rows, start(rows[0].alpha_cumprod), model).last().unwrap().variance.sqrt()
    };
    for steps in [4, 50] {
        assert!(deviation(steps) < 0.95 * LAW.s, "{steps} steps: {}", deviation(steps));
    }
}

#[test]
fn tcd_at_gamma_0_is_ddim_over_its_timesteps() {
    let schedule = NoiseSchedule::ddpm();
    for steps in [1, 4, 8] {
        for prediction in [PredictionType::Epsilon, PredictionType::VPrediction] {
            let tcd = SamplerConfig { steps, ..Form::new(Sampler::Tcd).with_eta(0.0).config() };
            let tcd = step_table(&schedule, prediction, &tcd).unwrap();
            let visited = tcd.rows().iter().map(|row| row.timestep as usize).collect();
            let ddim =
                SamplerConfig { timesteps: Some(visited), ..Form::new(Sampler::Ddim).config() };
            let ddim = step_table(&schedule, prediction, &ddim).unwrap();
            assert_eq!(tcd.rows().len(), steps);
            for (tcd, ddim) in tcd.rows().iter().zip(ddim.rows()) {
                assert_eq!((tcd.timestep, tcd.p_x, tcd.p_m), (ddim.timestep, ddim.p_x, ddim.p_m));
                let pairs = tcd.next.coefficients().into_iter().zip(ddim.next.coefficients());
                for (a, b) in pairs {
                    assert!((a - b).abs() < 1e-14, "{steps} steps: {tcd:?} {ddim:?}");
                }
            }
        }
    }
}

#[test]
fn tcd_goes_below_the_next_timestep_by_gamma_and_comes_back_with_noise() {
    // Zheng et al. 2024, algorithm 4, on the steps 999 and 499 of two.
    let schedule = NoiseSchedule::ddpm();
    let a = |t: usize| schedule.alphas_cumprod()[t];
    for (gamma, below) in [(0.0, 499), (0.3, 349), (1.0, 0)] {
        let config = SamplerConfig { steps: 2, ..Form::new(Sampler::Tcd).with_eta(gamma).config() };
        let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
        let next = table.rows()[0].next;
        let ratio = a(499) / a(below);
        assert!((next.x0 - a(499).sqrt()).abs() < 1e-14, "gamma {gamma}");
        assert!((next.m - (ratio * (1.0 - a(below))).sqrt()).abs() < 1e-14, "gamma {gamma}");
        assert!((next.noise - (1.0 - ratio).sqrt()).abs() < 1e-14, "gamma {gamma}");
    }
}
