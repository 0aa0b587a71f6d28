//! Deterministic samplers against the exact solution of the probability-flow ODE, from the same x_T: how
//! fast the error falls with the number of steps.

use ddpm::noise_schedule::NoiseSchedule;
use ddpm::prediction::PredictionType;
use ddpm::sampler::{FinalAlpha, Sampler, SamplerConfig, SigmaSpacing, SolverType, step_table};
use ddpm::step::{Combination, Row};
use ddpm::timesteps::TimestepSpacing;

use super::laws::{Gaussian, Law, Mixture, even_noise_schedule, even_timesteps, uneven_timesteps};
use super::rows::end_of;
use super::samplers::Form;

/// What is said of a sampler, and what must be seen.
pub struct Claim {
    pub form: Form,
    /// The order of the global error that its paper or its source gives.
    pub papers: u32,
    /// The order that it has.
    pub expected: u32,
}

const fn claim(form: Form, papers: u32, expected: u32) -> Claim {
    Claim { form, papers, expected }
}

const DPMPP: Form = Form::new(Sampler::Dpmpp);
const UNIPC: Form = Form::new(Sampler::Unipc);
const DEIS: Form = Form::new(Sampler::Deis);

pub const CLAIMS: [Claim; 18] = [
    claim(Form::new(Sampler::Ddim).with_eta(0.0), 1, 1),
    claim(Form::new(Sampler::Euler), 1, 1),
    // Karras et al. 2022, section 3.
    claim(Form::new(Sampler::Heun), 2, 2),
    // Lu et al. 2022, theorem of section 4.
    claim(DPMPP.with_order(1), 1, 1),
    claim(DPMPP.with_order(2).with_solver(SolverType::Midpoint), 2, 2),
    claim(DPMPP.with_order(2).with_solver(SolverType::Heun), 2, 2),
    // As published: half of the second difference that the third order needs.
    claim(DPMPP.with_order(3).with_solver(SolverType::Midpoint), 3, 2),
    // Zhao et al. 2023: the corrector adds an order.
    claim(UNIPC.with_order(1).with_solver(SolverType::Bh1), 2, 2),
    claim(UNIPC.with_order(1).with_solver(SolverType::Bh2), 2, 2),
    claim(UNIPC.with_order(2).with_solver(SolverType::Bh1), 3, 3),
    claim(UNIPC.with_order(2).with_solver(SolverType::Bh2), 3, 3),
    claim(UNIPC.with_order(3).with_solver(SolverType::Bh1), 4, 4),
    claim(UNIPC.with_order(3).with_solver(SolverType::Bh2), 4, 4),
    // Zhang and Chen 2023: of degree r - 1, order r.
    claim(DEIS.with_order(1), 1, 1),
    claim(DEIS.with_order(2), 2, 2),
    claim(DEIS.with_order(3), 3, 3),
    // Liu et al. 2022 prove the second order.
    claim(Form::new(Sampler::Pndm), 2, 2),
    claim(Form::new(Sampler::PndmPrk), 2, 2),
];

pub const STEPS: [usize; 6] = [8, 16, 32, 64, 128, 256];

pub const GAUSSIAN: Gaussian = Gaussian { mu: 0.4, s: 0.6 };

/// The root mean square of the error over x_T from -2 to 2, for the step from the first row's level to
/// alpha_bar of timestep 0.
fn error_of(rows: &[Row], to: f64, law: &dyn Law) -> f64 {
    let from = rows[0].alpha_cumprod;
    let starts = (0..9).map(|i| -2.0 + 0.5 * f64::from(i));
    let square = |x: f64| {
        let end = end_of(rows, x, 0.0, |row, x| law.epsilon(x, row.alpha_cumprod));
        (end - law.transported(x, from, to)).powi(2)
    };
    (starts.map(square).sum::<f64>() / 9.0).sqrt()
}

/// The config of `steps` steps, equal in lambda, that end at alpha_bar of timestep 0: the step to alpha_bar
/// 1 is infinite in lambda and of the first order in every sampler. A lower order in the last steps of
/// short runs, which the defaults have, would be seen as a higher order between short runs and long.
pub fn even_config(config: &SamplerConfig, total: usize, steps: usize) -> SamplerConfig {
    SamplerConfig {
        timesteps: Some(even_timesteps(total, steps)),
        final_alpha: FinalAlpha::First,
        lower_order_final: false,
        ..config.clone()
    }
}

/// The errors for each of [`STEPS`].
pub fn errors(form: Form, law: &dyn Law) -> Vec<f64> {
    let schedule = even_noise_schedule();
    let error = |&steps: &usize| {
        let config = even_config(&form.config(), schedule.num_train_timesteps(), steps);
        let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
        error_of(table.rows(), schedule.alphas_cumprod()[0], law)
    };
    STEPS.iter().map(error).collect()
}

/// The same over the DDPM paper's schedule, with its sigmas spread otherwise.
fn errors_over(form: Form, sigmas: SigmaSpacing, law: &dyn Law) -> Vec<f64> {
    let schedule = NoiseSchedule::ddpm();
    let error = |&steps: &usize| {
        let config = SamplerConfig {
            sigmas,
            // The last of the points is where the run ends: a step of no length.
            steps: steps + 1,
            final_alpha: FinalAlpha::First,
            spacing: TimestepSpacing::Linspace,
            lower_order_final: false,
            ..form.config()
        };
        let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
        error_of(table.rows(), schedule.alphas_cumprod()[0], law)
    };
    STEPS.iter().map(error).collect()
}

/// The order seen between each number of steps and its double.
pub fn orders(errors: &[f64]) -> Vec<f64> {
    errors.windows(2).map(|pair| (pair[0] / pair[1]).log2()).collect()
}

/// Between 128 and 256 steps, h = 0.08 and 0.04, the next term of the error is a few h of the leading
/// one, which moves the order by less than 0.2.
fn assert_order(errors: &[f64], expected: u32, what: &str) {
    let last = *orders(errors).last().unwrap();
    assert!(
        last > f64::from(expected) - 0.2,
        "{what}: order {last}, expected {expected}: {errors:?}"
    );
}

#[test]
fn error_falls_with_the_steps_at_the_order_of_the_sampler() {
    for Claim { form, expected, .. } in &CLAIMS {
        for (name, law) in [("Gaussian", &GAUSSIAN as &dyn Law), ("mixture", &Mixture::TWO)] {
            let errors = errors(*form, law);
            assert!(errors.windows(2).all(|pair| pair[1] < pair[0]), "{}: {errors:?}", form.name());
            assert_order(&errors, *expected, &format!("{} on the {name}", form.name()));
        }
    }
}

#[test]
fn karras_and_exponential_sigmas_keep_the_order() {
    for Claim { form, expected, .. } in &CLAIMS {
        for sigmas in [SigmaSpacing::Karras, SigmaSpacing::Exponential] {
            if (SamplerConfig { sigmas, ..form.config() }).validate().is_err() {
                assert!(matches!(form.kind, Sampler::Pndm | Sampler::PndmPrk));
                continue;
            }
            let errors = errors_over(*form, sigmas, &Mixture::TWO);
            assert_order(&errors, *expected, &format!("{} with {}", form.name(), sigmas.name()));
        }
    }
}

/// The config of so many steps, each second one half as long as the one before: a formula that takes
/// neighbouring steps for equal, or one ratio of theirs for another, loses an order here.
fn uneven_config(form: Form, total: usize, steps: usize) -> SamplerConfig {
    let timesteps = Some(uneven_timesteps(total, steps));
    SamplerConfig { timesteps, ..even_config(&form.config(), total, steps) }
}

#[test]
fn uneven_steps_keep_the_order() {
    let schedule = even_noise_schedule();
    for Claim { form, expected, .. } in &CLAIMS {
        if matches!(form.kind, Sampler::Pndm | Sampler::PndmPrk) {
            // Adams and Bashforth's weights are those of equal steps.
            continue;
        }
        let error = |&steps: &usize| {
            let config = uneven_config(*form, schedule.num_train_timesteps(), steps);
            let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
            error_of(table.rows(), schedule.alphas_cumprod()[0], &Mixture::TWO)
        };
        let errors: Vec<f64> = STEPS.iter().map(error).collect();
        assert_order(&errors, *expected, &form.name());
    }
}

/// The published third-order update (the authors' code, k-diffusion, diffusers) takes the Taylor
/// expansion's second difference once where the integral over lambda has it twice. The tables keep
/// what is published; this holds that nothing else is between it and the third order.
#[test]
fn dpmpp_of_order_3_lacks_only_half_of_its_second_difference() {
    let schedule = even_noise_schedule();
    let end = schedule.alphas_cumprod()[0];
    let form = DPMPP.with_order(3);
    let lambda = |a: f64| 0.5 * (a / (1.0 - a)).ln();
    let with_twice = |steps: usize| {
        let config = uneven_config(form, schedule.num_train_timesteps(), steps);
        let table = step_table(&schedule, PredictionType::Epsilon, &config).unwrap();
        let mut rows = table.rows().to_vec();
        let levels: Vec<f64> = rows.iter().map(|row| row.alpha_cumprod).chain([end]).collect();
        for k in 2..steps {
            let at = |k: usize| lambda(levels[k]);
            let h = at(k + 1) - at(k);
            let [x1, x2, _] = Combination::HISTORY;
            // h^2 / 2 times the second derivative of x_0, as a divided difference.
            let newer = (Combination::X0 - x1) * (1.0 / (at(k) - at(k - 1)));
            let older = (x1 - x2) * (1.0 / (at(k - 1) - at(k - 2)));
            let second = (newer - older) * (h * h / (at(k) - at(k - 2)));
            let weight = levels[k + 1].sqrt() * (((-h).exp() - 1.0 + h) / (h * h) - 0.5);
            rows[k].next = rows[k].next - second * weight;
        }
        error_of(&rows, end, &Mixture::TWO)
    };
    let twice: Vec<f64> = STEPS.iter().map(|&steps| with_twice(steps)).collect();
    let published = errors(form, &Mixture::TWO);
    assert_order(&twice, 3, "with the whole second difference");
    assert!(*orders(&published).last().unwrap() < 2.2, "{published:?}");
    assert!(twice[5] < 0.1 * published[5], "{twice:?} {published:?}");
}
