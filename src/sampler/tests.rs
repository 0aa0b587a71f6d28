//! What no run can show: single numbers of the tables, and refusals. Runs are in `tests/`.

use std::sync::Arc;

use super::*;
use crate::noise_schedule::BetaSchedule;
use crate::step::Combination;
use crate::timesteps::TimestepSpacing;

const EPSILON: PredictionType = PredictionType::Epsilon;

fn table(config: &SamplerConfig) -> StepTable {
    step_table(&NoiseSchedule::ddpm(), EPSILON, config).unwrap()
}

fn ddim(eta: f64) -> SamplerConfig {
    SamplerConfig { kind: Sampler::Ddim, eta: Some(eta), ..SamplerConfig::default() }
}

#[test]
fn ddim_at_eta_1_is_ddpm_where_nothing_is_clipped() {
    // Song et al. 2021, section 4.1. Written over x and m, both rules are the same numbers.
    let ddpm = table(&SamplerConfig { steps: 20, ..SamplerConfig::default() });
    let ddim = table(&SamplerConfig { steps: 20, ..ddim(1.0) });
    for (a, b) in ddpm.rows().iter().zip(ddim.rows()) {
        let over_x_and_m =
            |row: &Row| [row.next.x + row.next.x0 * row.p_x, row.next.m + row.next.x0 * row.p_m];
        for (p, q) in over_x_and_m(a).into_iter().zip(over_x_and_m(b)) {
            // 1 - alpha_bar of 1e-4 leaves 12 digits.
            assert!((p - q).abs() < 1e-10, "t = {}: {p} {q}", a.timestep);
        }
        assert!((a.next.noise - b.next.noise).abs() < 1e-12, "t = {}", a.timestep);
    }
}

#[test]
fn last_row_returns_x0_and_draws_no_noise() {
    for kind in Sampler::ALL.into_iter().filter(|kind| !kind.is_inverse()) {
        for eta in [None, Some(1.0)] {
            let mut config = SamplerConfig { kind, eta, ..SamplerConfig::default() };
            if config.validate().is_err() {
                config.eta = None;
            }
            if matches!(kind, Sampler::Pndm | Sampler::PndmPrk | Sampler::Lcm | Sampler::Unipc) {
                // Multistep to the end; c_out below 1; a correction first.
                continue;
            }
            let table = table(&config);
            let last = table.rows().last().unwrap().next;
            let others = Combination { x0: 0.0, ..last };
            assert!(others.coefficients().iter().all(|c| c.abs() < 1e-12), "{kind}: {last:?}");
            assert!((last.x0 - 1.0).abs() < 1e-12, "{kind}");
        }
    }
}

#[test]
fn fixed_large_variance_is_beta_and_logarithms_change_nothing() {
    let schedule = NoiseSchedule::ddpm();
    let of = |variance_type| {
        table(&SamplerConfig { steps: 1000, variance_type, ..SamplerConfig::default() })
    };
    for row in &of(VarianceType::FixedLarge).rows()[..999] {
        let beta = schedule.betas()[row.timestep as usize];
        assert!((row.next.noise.powi(2) - beta).abs() < 1e-12, "t = {}", row.timestep);
    }
    assert_eq!(of(VarianceType::FixedLarge), of(VarianceType::FixedLargeLog));
    assert_eq!(of(VarianceType::FixedSmall), of(VarianceType::FixedSmallLog));
}

#[test]
fn learned_range_reaches_from_the_posteriors_variance_to_beta() {
    let of = |variance_type| {
        table(&SamplerConfig { steps: 25, variance_type, ..SamplerConfig::default() })
    };
    let (small, large) = (of(VarianceType::FixedSmall), of(VarianceType::FixedLarge));
    let range = of(VarianceType::LearnedRange);
    for ((row, small), large) in range.rows()[..24].iter().zip(small.rows()).zip(large.rows()) {
        let learned = row.learned_variance.unwrap();
        let deviation =
            |v: f64| row.next.noise * (0.5 * (learned.offset + learned.slope * v)).exp();
        assert!((deviation(-1.0) - small.next.noise).abs() < 1e-12, "t = {}", row.timestep);
        assert!((deviation(1.0) - large.next.noise).abs() < 1e-12, "t = {}", row.timestep);
    }
    assert_eq!(range.rows()[24].next.noise, 0.0);
}

#[test]
fn final_alpha_first_stops_at_the_schedules_first_noise_level() {
    let config = SamplerConfig { final_alpha: FinalAlpha::First, ..ddim(0.0) };
    let last = table(&config).rows()[49].next;
    let first = NoiseSchedule::ddpm().alphas_cumprod()[0];
    assert_eq!((last.x0, last.m), (first.sqrt(), (1.0 - first).sqrt()));
}

#[test]
fn given_timesteps_are_visited_and_bad_lists_refused() {
    let list = |timesteps: &[usize]| SamplerConfig {
        timesteps: Some(Arc::from(timesteps)),
        steps: 7,
        ..ddim(0.0)
    };
    let visited: Vec<f64> =
        table(&list(&[900, 30, 2])).rows().iter().map(|row| row.timestep).collect();
    assert_eq!(visited, [900.0, 30.0, 2.0]);
    for (bad, named) in [
        (&[][..], "timesteps: found none"),
        (&[1000], "timesteps[0]: found 1000"),
        (&[5, 5], "timesteps[1]: found 5 after 5"),
        (&[5, 6], "timesteps[1]: found 6 after 5"),
    ] {
        let error = step_table(&NoiseSchedule::ddpm(), EPSILON, &list(bad)).unwrap_err();
        assert!(error.to_string().starts_with(named), "{error}");
    }
}

#[test]
fn strength_leaves_whole_steps_rounded_down() {
    // 0.29 of 100 is 28.999999999999996 in binary.
    for (strength, steps, left) in [
        (0.0, 20, 0),
        (0.04, 20, 0),
        (0.05, 20, 1),
        (0.29, 100, 29),
        (0.999, 20, 19),
        (1.0, 20, 20),
    ] {
        let all = table(&SamplerConfig { steps, ..ddim(0.0) });
        let some = table(&SamplerConfig { steps, strength, ..ddim(0.0) });
        assert_eq!(some.rows(), &all.rows()[steps - left..], "{strength} of {steps}");
        let start = some
            .rows()
            .first()
            .map_or(1.0, |row| NoiseSchedule::ddpm().alphas_cumprod()[row.timestep as usize]);
        assert_eq!(some.start_alpha_cumprod(), start);
    }
}

#[test]
fn bad_configs_are_refused_by_name() {
    let base = SamplerConfig::default;
    let dpmpp = || SamplerConfig { kind: Sampler::Dpmpp, ..base() };
    let clip = |range| SamplerConfig { thresholding: Thresholding::Clip(range), ..base() };
    let dynamic =
        |ratio, max| SamplerConfig { thresholding: Thresholding::Dynamic { ratio, max }, ..base() };
    let karras = |kind| SamplerConfig { kind, sigmas: SigmaSpacing::Karras, ..base() };
    for (config, named) in [
        (SamplerConfig { steps: 0, ..base() }, "steps: found 0, expected 1 to 1000"),
        (SamplerConfig { steps: 1001, ..base() }, "steps: found 1001, expected 1 to 1000"),
        (ddim(-0.1), "eta: found -0.1"),
        (ddim(f64::NAN), "eta: found NaN"),
        (SamplerConfig { eta: Some(0.5), ..base() }, "eta: found 0.5, but ddpm has none"),
        (SamplerConfig { order: Some(2), ..base() }, "order: found 2, but ddpm has none"),
        (SamplerConfig { order: Some(4), ..dpmpp() }, "order: found 4 with dpmpp, expected 1 to 3"),
        (SamplerConfig { order: Some(0), ..dpmpp() }, "order: found 0"),
        (
            SamplerConfig { solver_type: Some(SolverType::Bh1), ..dpmpp() },
            "solver_type: found bh1, but dpmpp has none",
        ),
        (SamplerConfig { clipped_epsilon: true, ..base() }, "clipped_epsilon: found true"),
        (clip(0.0), "clip: found 0"),
        (clip(f64::INFINITY), "clip: found inf"),
        (dynamic(0.0, 1.0), "dynamic_thresholding_ratio: found 0"),
        (dynamic(0.9, 0.5), "sample_max_value: found 0.5"),
        (SamplerConfig { strength: 1.01, ..base() }, "strength: found 1.01"),
        (SamplerConfig { strength: f64::NAN, ..base() }, "strength: found NaN"),
        (karras(Sampler::Lcm), "sigmas: found karras, but lcm has none"),
        (
            SamplerConfig { timesteps: Some(Arc::from([5])), ..karras(Sampler::Dpmpp) },
            "timesteps: found a list with sigmas karras",
        ),
        (SamplerConfig { original_steps: 0, ..base() }, "original_steps: found 0"),
    ] {
        let error = step_table(&NoiseSchedule::ddpm(), EPSILON, &config).unwrap_err();
        assert!(error.to_string().starts_with(named), "{error}");
    }
}

#[test]
fn zero_snr_with_epsilon_is_refused_whatever_the_spacing() {
    let schedule = NoiseSchedule::new(&BetaSchedule::DDPM, 1000).unwrap();
    let schedule = schedule.rescaled_to_zero_snr().unwrap();
    for spacing in [TimestepSpacing::Leading, TimestepSpacing::Trailing] {
        let config = SamplerConfig { spacing, ..SamplerConfig::default() };
        let error = step_table(&schedule, EPSILON, &config).unwrap_err();
        assert!(error.to_string().starts_with("prediction_type: found epsilon"), "{error}");
        step_table(&schedule, PredictionType::VPrediction, &config).unwrap();
    }
}

#[test]
fn names_are_unique_and_go_both_ways() {
    let mut seen = Vec::new();
    for sampler in Sampler::ALL {
        assert_eq!(sampler.name().parse::<Sampler>().unwrap(), sampler);
        assert!(!sampler.summary().is_empty(), "{sampler}");
        for name in sampler.names() {
            assert!(!seen.contains(&name), "{name}");
            seen.push(name);
            let (found, order) = Sampler::with_order(name).unwrap();
            assert_eq!(found, sampler);
            SamplerConfig { kind: found, order, ..SamplerConfig::default() }.validate().unwrap();
        }
    }
    assert_eq!(Sampler::with_order("dpmpp-2m").unwrap(), (Sampler::Dpmpp, Some(2)));
    let error = "dpm".parse::<Sampler>().unwrap_err();
    assert!(error.to_string().starts_with("sampler: found \"dpm\", expected one of ddpm, ddim,"));
    for variance in VarianceType::ALL {
        assert_eq!(variance.name().parse::<VarianceType>().unwrap(), variance);
    }
    let error = "junk".parse::<VarianceType>().unwrap_err();
    assert!(error.to_string().contains("found \"junk\", expected one of fixed_small,"), "{error}");
}
