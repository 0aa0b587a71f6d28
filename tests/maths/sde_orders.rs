//! Samplers that draw noise, on Gaussian data: how fast the mean and the deviation of what they give
//! come near the data's with the number of steps.

use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{Sampler, SamplerConfig, SolverType, VarianceType, step_table};

use super::laws::{Gaussian, even_noise_schedule};
use super::ode_orders::{GAUSSIAN, STEPS, even_config, orders};
use super::rows::{Moments, moments_of};
use super::samplers::{Form, all_forms};

/// The samplers of this file, in the order of the table.
pub fn configs() -> Vec<(String, SamplerConfig)> {
    let sde = |order: u32| Form::new(Sampler::DpmppSde).with_order(order);
    let large = SamplerConfig {
        variance_type: VarianceType::FixedLarge,
        ..Form::new(Sampler::Ddpm).config()
    };
    let mut all = vec![
        ("ddpm fixed_small".to_owned(), Form::new(Sampler::Ddpm).config()),
        ("ddpm fixed_large".to_owned(), large),
    ];
    all.extend(
        [
            Form::new(Sampler::Ddim).with_eta(0.5),
            Form::new(Sampler::Ddim).with_eta(1.0),
            Form::new(Sampler::EulerAncestral),
            sde(1),
            sde(2).with_solver(SolverType::Midpoint),
            sde(2).with_solver(SolverType::Heun),
            sde(3),
        ]
        .map(|form| (form.name(), form.config())),
    );
    all
}

/// The moments that the run ends with, begun at the exact law of x_T.
fn end_moments(schedule: &NoiseSchedule, config: &SamplerConfig, law: Gaussian) -> Moments {
    let table = step_table(schedule, PredictionType::Epsilon, config).unwrap();
    let first = table.rows()[0].alpha_cumprod;
    let start = Moments { mean: first.sqrt() * law.mu, variance: law.variance(first) };
    let model = |row: &ddpm::step::Row| law.epsilon_coefficients(row.alpha_cumprod);
    *moments_of(table.rows(), start, model).last().unwrap()
}

/// The error of the mean and of the deviation, together, for each of [`STEPS`].
pub fn errors(config: &SamplerConfig, law: Gaussian) -> Vec<f64> {
    let schedule = even_noise_schedule();
    let a = schedule.alphas_cumprod()[0];
    STEPS
        .iter()
        .map(|&steps| {
            let config = even_config(config, schedule.num_train_timesteps(), steps);
            let found = end_moments(&schedule, &config, law);
            let mean_error = found.mean - a.sqrt() * law.mu;
            mean_error.hypot(found.variance.sqrt() - law.variance(a).sqrt())
        })
        .collect()
}

/// The order that the paper gives: of the update's name. As an order in the law it is only claimed of
/// order 1.
pub fn papers(config: &SamplerConfig) -> u32 {
    config.order.unwrap_or(1)
}

/// The order that is expected: 1 where x_0 is held over a step, 2 where its change is followed.
pub fn expected(config: &SamplerConfig) -> u32 {
    match config.kind {
        Sampler::DpmppSde if config.order != Some(1) => 2,
        _ => 1,
    }
}

#[test]
fn moments_come_near_those_of_the_data_at_the_order_of_the_sampler() {
    for (name, config) in configs() {
        for law in [GAUSSIAN, Gaussian { mu: -0.3, s: 1.4 }] {
            let errors = errors(&config, law);
            let last = *orders(&errors).last().unwrap();
            // As with the deterministic samplers: the next term of the error is some h = 0.04 of it.
            let least = f64::from(expected(&config)) - 0.2;
            assert!(last > least, "{name} with s = {}: order {last}: {errors:?}", law.s);
            assert!(errors[5] < 0.02 * law.s, "{name} with s = {}: {errors:?}", law.s);
        }
    }
}

#[test]
fn every_row_on_a_point_mass_ends_in_the_exact_law_of_its_level() {
    // All the data is one value c: x_t is N(sqrt(a) c, 1 - a), at every level, however few the steps.
    let law = Gaussian { mu: 0.7, s: 0.0 };
    let schedule = NoiseSchedule::ddpm();
    for form in all_forms() {
        if form.kind.is_inverse() {
            continue;
        }
        for steps in [1, 2, 4, 20] {
            let config = SamplerConfig { steps, ..form.config() };
            let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
            let rows = table.rows();
            let first = rows[0].alpha_cumprod;
            let start = Moments { mean: first.sqrt() * law.mu, variance: 1.0 - first };
            let moments =
                moments_of(rows, start, |row| law.epsilon_coefficients(row.alpha_cumprod));
            for (k, found) in moments.iter().enumerate() {
                let a = rows.get(k + 1).map_or(1.0, |row| row.alpha_cumprod);
                // LCM mixes c_skip of x into x_0, which for t from 19 is 7e-6 at most.
                // The others cancel terms up to 157^2, the square of 1 / alpha of the first level.
                let bound = if form.kind == Sampler::Lcm { 1e-5 } else { 1e-8 };
                let what = format!(
                    "{} {steps}, row {k}: {found:?}, expected {} and {}",
                    form.name(),
                    a.sqrt() * law.mu,
                    1.0 - a
                );
                assert!((found.mean - a.sqrt() * law.mu).abs() < bound, "{what}");
                assert!((found.variance - (1.0 - a)).abs() < bound, "{what}");
            }
        }
    }
}
