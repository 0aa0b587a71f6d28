//! What holds of every step table: it is finite, has the rows it should, reads only what was written,
//! and finds a constant image.

use std::collections::BTreeSet;

use ddpm::noise_schedule::{BetaSchedule, NoiseSchedule};
use ddpm::prediction::PredictionType;
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, step_table};
use ddpm::step::{Combination, HISTORY, Row};
use ddpm::timesteps::TimestepSpacing;

use super::rows::end_of;
use super::samplers::{Form, all_forms};

const SPACINGS: [TimestepSpacing; 3] =
    [TimestepSpacing::Leading, TimestepSpacing::Trailing, TimestepSpacing::Linspace];
const PREDICTIONS: [PredictionType; 4] = [
    PredictionType::Epsilon,
    PredictionType::Sample,
    PredictionType::VPrediction,
    PredictionType::Mean,
];

/// The image, and the noise in the start.
const C: f64 = 0.7;
const EPSILON: f64 = -1.3;

/// How many rows `steps` steps have.
fn rows_of(kind: Sampler, steps: usize) -> usize {
    match kind {
        // The last step has no second slope.
        Sampler::Heun => 2 * steps - 1,
        // The first step is made twice, unless it is the last.
        Sampler::Pndm if steps > 1 => steps + 1,
        // Four evaluations in each of the first three steps, the last step left out.
        Sampler::PndmPrk => steps + 3 * (steps - 1).min(3),
        _ => steps,
    }
}

/// The row's combinations read no history and no carried sample that no row before wrote.
fn assert_reads_what_was_written(rows: &[Row], what: &dyn Fn() -> String) {
    let (mut remembered, mut carries) = (0, false);
    for (index, row) in rows.iter().enumerate() {
        for combination in [Some(&row.next), row.carried.as_ref(), row.remember.as_ref()] {
            let Some(combination) = combination else { continue };
            let Combination { history, carried, .. } = combination;
            let reach = (0..HISTORY).filter(|&i| history[i] != 0.0).max().map_or(0, |i| i + 1);
            assert!(reach <= remembered, "{}: row {index} reads history {reach}", what());
            assert!(*carried == 0.0 || carries, "{}: row {index} reads the carried", what());
        }
        remembered += usize::from(row.remember.is_some());
        carries |= row.carried.is_some();
    }
}

fn assert_is_finite(row: &Row, total: usize, what: &dyn Fn() -> String) {
    let numbers = [row.timestep, row.alpha_cumprod, row.p_x, row.p_m];
    let combinations = [Some(row.next), row.carried, row.remember];
    let coefficients = combinations.iter().flatten().flat_map(Combination::coefficients);
    let is_finite = numbers.into_iter().chain(coefficients).all(f64::is_finite);
    assert!(is_finite, "{}: {row:?}", what());
    assert!((0.0..=(total - 1) as f64).contains(&row.timestep), "{}: {row:?}", what());
    assert!((0.0..=1.0).contains(&row.alpha_cumprod), "{}: {row:?}", what());
    for quiet in [row.carried, row.remember].into_iter().flatten() {
        assert_eq!(quiet.noise, 0.0, "{}: only next has noise", what());
    }
}

/// What rounding may become in samplers that ask the model where a step ends.
///
/// Every row cancels terms of 1 / alpha of the first level, up to 4096 or (cosine) 20,000, which leaves
/// 9 of f64's 16 digits. Heun and PNDM multiply what is lost by the ratio of sigma at the ends of a
/// step, Runge and Kutta's rule does so three times: in one step from t = T - 1 to 0, or from the
/// stand-in of a zero SNR, nothing may be left.
fn amplified_rounding(kind: Sampler, rows: &[Row]) -> f64 {
    let power = match kind {
        Sampler::Heun | Sampler::Pndm => 1,
        Sampler::PndmPrk => 3,
        _ => return 0.0,
    };
    let sigma = |row: &Row| ((1.0 - row.alpha_cumprod) / row.alpha_cumprod).sqrt();
    let fall = |i: usize| sigma(&rows[i]) / sigma(&rows[(i + 3).min(rows.len() - 1)]);
    let most = (0..rows.len()).map(fall).fold(0.0, f64::max);
    1e-15 * sigma(&rows[0]) * most.powi(power)
}

/// The output of a model that knows the image, at the level of the row.
fn oracle(schedule: &NoiseSchedule, prediction: PredictionType, row: &Row, x: f64) -> f64 {
    let a = row.alpha_cumprod;
    let (signal, spread) = (a.sqrt(), (1.0 - a).sqrt());
    let epsilon = (x - signal * C) / spread;
    match prediction {
        PredictionType::Epsilon => epsilon,
        PredictionType::Sample => C,
        PredictionType::VPrediction => signal * epsilon - spread * C,
        PredictionType::Mean => {
            let before = 1.0 / (1.0 + schedule.sigma_at(row.timestep - 1.0).powi(2));
            // Where 0 has a stand-in, what the model gives is still the mean over an alpha_bar of 0.
            let is_last = row.timestep > (schedule.num_train_timesteps() - 2) as f64;
            let a = if schedule.has_zero_terminal_snr() && is_last { 0.0 } else { a };
            // Eq. 7 of Ho et al. 2020.
            let of_c = before.sqrt() * (1.0 - a / before) / (1.0 - a);
            let of_x = (a / before).sqrt() * (1.0 - before) / (1.0 - a);
            of_c * C + of_x * x
        }
    }
}

struct Case<'a> {
    schedule: &'a NoiseSchedule,
    form: Form,
    prediction: PredictionType,
    config: SamplerConfig,
}

impl Case<'_> {
    fn check(&self) {
        let Self { schedule, form, prediction, ref config } = *self;
        let what = || format!("{} {prediction} {config:?}", form.name());
        let rows = step_table(schedule, prediction, config).unwrap();
        let rows = rows.rows();
        assert_eq!(rows.len(), rows_of(form.kind, config.steps), "{}", what());
        for row in rows {
            assert_is_finite(row, schedule.num_train_timesteps(), &what);
        }
        assert_reads_what_was_written(rows, &what);
        if form.kind.is_inverse() {
            // Goes from the image to noise.
            return;
        }
        let last = rows[rows.len() - 1];
        let first = rows[0].alpha_cumprod;
        let start = first.sqrt() * C + (1.0 - first).sqrt() * EPSILON;
        // Where the run ends in noise of its own, without any its share of the start's is left.
        let z = if config.final_alpha == FinalAlpha::One { 0.8 } else { 0.0 };
        let end = end_of(rows, start, z, |row, x| oracle(schedule, prediction, row, x));
        let a_end = match config.final_alpha {
            FinalAlpha::One => 1.0,
            FinalAlpha::First => schedule.alphas_cumprod()[0],
        };
        let (signal, spread) = (f64::sqrt(a_end), f64::sqrt(1.0 - a_end));
        let is_random = form.is_random();
        if form.kind == Sampler::Lcm {
            // c_skip of the last row is its share of x, which stays within a few units: at t = 0 the
            // consistency function is x itself. The end is clean whatever final_alpha says.
            let bound = 6.0 * last.next.x + (1.0 - last.next.x0);
            assert!((end - C).abs() <= bound + 1e-9, "{}: {end}", what());
            return;
        }
        if is_random && a_end < 1.0 {
            let most = spread * EPSILON.abs() + 1e-9;
            assert!((end - signal * C).abs() < most, "{}: {end}", what());
            return;
        }
        // With x_0 constant the noise is too, on a deterministic path.
        let expected = signal * C + if is_random { 0.0 } else { spread * EPSILON };
        let bound = 1e-8 + amplified_rounding(form.kind, rows);
        if bound > 1e-3 {
            return;
        }
        assert!((end - expected).abs() < bound, "{}: {end}, expected {expected}", what());
    }
}

fn check_all(schedule: &NoiseSchedule, counts: &[usize], sigmas: &[SigmaSpacing]) {
    for form in all_forms() {
        for &steps in counts {
            for spacing in SPACINGS {
                for &sigmas in sigmas {
                    for final_alpha in [FinalAlpha::One, FinalAlpha::First] {
                        let config =
                            SamplerConfig { steps, spacing, sigmas, final_alpha, ..form.config() };
                        if config.validate().is_err() {
                            assert_ne!(sigmas, SigmaSpacing::Timesteps);
                            continue;
                        }
                        for prediction in PREDICTIONS {
                            if schedule.has_zero_terminal_snr()
                                && prediction == PredictionType::Epsilon
                            {
                                continue;
                            }
                            let config = config.clone();
                            Case { schedule, form, prediction, config }.check();
                        }
                    }
                }
            }
        }
    }
}

/// Every named schedule, of the length given, as it is and with zero SNR.
fn schedules(total: usize) -> Vec<NoiseSchedule> {
    // As much noise in fewer timesteps.
    let scale = 1000.0 / total as f64;
    let mut all = Vec::new();
    for name in ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"] {
        let betas = BetaSchedule::from_name(name, 1e-4 * scale, 0.02 * scale).unwrap();
        let schedule = NoiseSchedule::new(&betas, total).unwrap();
        all.push(schedule.clone());
        all.push(schedule.rescaled_to_zero_snr().unwrap());
    }
    all
}

#[test]
fn all_forms_are_all() {
    let names: Vec<String> = all_forms().into_iter().map(Form::name).collect();
    for sampler in Sampler::ALL {
        assert!(names.iter().any(|name| name.starts_with(sampler.name())), "{sampler}");
    }
    for name in ["ddim eta 0.5", "dpmpp-sde-3 heun", "unipc-1 bh2", "deis-3", "tcd eta 1", "lcm"] {
        assert!(names.iter().any(|known| known == name), "{name} is not in {names:?}");
    }
}

#[test]
fn every_number_of_steps_gives_a_finite_table_that_finds_a_constant_image() {
    let counts: Vec<usize> = (1..=60).collect();
    check_all(&schedules(60)[0], &counts, SigmaSpacing::ALL);
}

#[test]
fn every_schedule_gives_finite_tables_that_find_a_constant_image() {
    for schedule in schedules(60) {
        check_all(&schedule, &[1, 2, 3, 4, 14, 15, 29, 59, 60], SigmaSpacing::ALL);
    }
}

#[test]
fn a_thousand_timesteps_give_finite_tables_that_find_a_constant_image() {
    let counts = [1, 2, 3, 11, 14, 15, 25, 53, 251, 999, 1000];
    for schedule in &schedules(1000)[..2] {
        check_all(schedule, &counts, &[SigmaSpacing::Timesteps]);
        check_all(schedule, &[1, 2, 15, 53], &SigmaSpacing::ALL[1..]);
    }
    for schedule in &schedules(1000)[2..] {
        check_all(schedule, &[2, 15, 1000], &[SigmaSpacing::Timesteps]);
    }
}

#[test]
fn part_of_a_run_is_a_table_of_its_own() {
    // A strength, a shorter history: the rows left of a multistep run begin with order 1.
    let schedule = NoiseSchedule::ddpm();
    for form in all_forms() {
        let mut lengths = BTreeSet::new();
        for steps in [1, 5, 20] {
            for strength in [0.0, 0.05, 0.3, 0.5, 0.99] {
                let config = SamplerConfig { steps, strength, ..form.config() };
                let what = || format!("{} {steps} at {strength}", form.name());
                let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
                let left = (steps as f64 * strength + 1e-9) as usize;
                let rows = table.rows();
                assert_eq!(rows.len(), if left > 0 { rows_of(form.kind, left) } else { 0 });
                rows.iter().for_each(|row| assert_is_finite(row, 1000, &what));
                assert_reads_what_was_written(rows, &what);
                lengths.insert(rows.len());
            }
        }
        assert!(lengths.len() > 3, "{lengths:?}");
    }
}
