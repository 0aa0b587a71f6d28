//! A branch: the same run up to its step, and from there on another one of the same law.

use std::sync::Arc;

use ddpm::error::{Error, ErrorKind, Result};
use ddpm::model::{Denoiser, ModelConfig};
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::rng::{Purpose, fill_standard_normal};
use ddpm::run::{Branch, Run, RunStart, RunState};
use ddpm::sampler::{Sampler, SamplerConfig};
use ndarray::{ArrayView4, ArrayViewMut4};

use super::cases::{Case, Shown, cases, small};
use super::samplers::{Form, all_forms};

/// Knows that every picture is `0.7` everywhere, and shows what it was asked last.
struct Oracle {
    config: ModelConfig,
    schedule: NoiseSchedule,
    asked: Vec<f32>,
}

const C: f64 = 0.7;

impl Oracle {
    fn new(config: ModelConfig) -> Self {
        let schedule = config.noise_schedule().unwrap();
        Self { config, schedule, asked: Vec::new() }
    }
}

impl Denoiser for Oracle {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        _labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        self.asked = sample.iter().copied().collect();
        let alpha_bar = 1.0 / (1.0 + self.schedule.sigma_at(timesteps[0]).powi(2));
        output.zip_mut_with(&sample, |out, &x| *out = epsilon(x, alpha_bar) as f32);
        Ok(())
    }
}

/// The noise that hides the oracle's picture in x.
fn epsilon(x: f32, alpha_bar: f64) -> f64 {
    (f64::from(x) - alpha_bar.sqrt() * C) / (1.0 - alpha_bar).sqrt()
}

fn branched(branches: &[Branch]) -> RunStart {
    RunStart { seed: 5, branches: branches.to_vec(), ..RunStart::default() }
}

#[test]
fn a_branch_leaves_its_past_alone_and_changes_its_future() {
    for case in cases() {
        let mut plain = case.clone();
        plain.start.branches.clear();
        let straight = plain.straight();
        let run = plain.run();
        let steps = run.steps();
        println!("{}", case.name);
        for step in [0, 3, steps - 1] {
            let draws = run.draws_noise_from(step);
            for variation in [0.0, 0.3] {
                let mut other = plain.clone();
                other.start.branches = vec![Branch { step: step as u32, seed: 77, variation }];
                let shown = other.straight();
                assert_eq!(shown[..=step], straight[..=step], "step {step}");
                // The inverse starts from a picture without noise, of which none can be renewed.
                let is_clean = plain.sampler.kind.is_inverse() && step == 0;
                let differs = draws || (variation > 0.0 && !is_clean);
                let what = format!("step {step}, variation {variation}");
                assert_eq!(shown[step + 1..] != straight[step + 1..], differs, "{what}");
            }
        }
    }
    let draws = |form: Form| {
        let run = Run::new(&small(), &SamplerConfig { steps: 8, ..form.config() }, 0, 1).unwrap();
        (0..=8).map(|step| run.draws_noise_from(step)).collect::<Vec<_>>()
    };
    let until_the_last = [true, true, true, true, true, true, true, false, false];
    assert_eq!(draws(Form::new(Sampler::Ddpm)), until_the_last);
    assert_eq!(draws(Form::new(Sampler::Ddim)), [false; 9]);
}

/// With a picture that is known x_t is alpha c + sigma epsilon all along, with one epsilon where no noise
/// is drawn. A whole renewal makes it the new one, at once and in all rows to come: whatever a sampler
/// had kept of the old one must have changed as well.
#[test]
fn a_whole_renewal_leaves_nothing_of_the_old_noise_in_any_sampler() {
    let mut checked = 0;
    for form in all_forms() {
        // The inverse is asked at another level than its sample's.
        if form.is_random() || form.kind.is_inverse() {
            continue;
        }
        let sampler = SamplerConfig { steps: 8, ..form.config() };
        let rows = Run::new(&small(), &sampler, 0, 1).unwrap().steps();
        for step in 0..rows - 1 {
            let branch = Branch { step: step as u32, seed: 40, variation: 1.0 };
            let mut oracle = Oracle::new(small());
            let mut run =
                Run::starting(&oracle.config.clone(), &sampler, branched(&[branch]), 1).unwrap();
            let mut z = vec![0f32; 15];
            fill_standard_normal(40, Purpose::Branch, step as u32, &mut z);
            let alpha_bar = run.table().rows()[step].alpha_cumprod;
            // A start from noise becomes the new noise, which the oracle then takes for another one
            // around its picture.
            let noise = |z: f32| if step == 0 { epsilon(z, alpha_bar) } else { f64::from(z) };
            let noise: Vec<f64> = z.into_iter().map(noise).collect();
            for row in 0..rows {
                let alpha_bar = run.table().rows()[row].alpha_cumprod;
                run.step(&mut oracle).unwrap();
                if row < step {
                    continue;
                }
                for (&x, &noise) in oracle.asked.iter().zip(&noise) {
                    let expected = alpha_bar.sqrt() * C + (1.0 - alpha_bar).sqrt() * noise;
                    // float32 keeps x to 6e-8; divided by alpha, down to 0.006 at the first row, and
                    // weighted up to 59 / 24 for a few rows. A kept old noise would be 0.1 or more.
                    let off = (f64::from(x) - expected).abs();
                    assert!(off < 1e-3, "{}, branch {step}, row {row}: {x}", form.name());
                }
            }
            checked += 1;
        }
    }
    assert!(checked > 100);
}

#[test]
fn a_renewal_keeps_mean_and_variance_of_the_noise_and_as_much_of_it_as_it_says() {
    const N: usize = 128 * 128;
    let model = ModelConfig::ddpm(1, 128, 128);
    for step in [0, 5, 9] {
        // For the start a timestep so low that alpha_bar is 0.4: the start is noise alone all the same.
        let highest = if step == 0 { 300 } else { 999 };
        let list: Arc<[usize]> = (0..10).map(|i| highest - highest / 10 * i).collect();
        let sampler = SamplerConfig { timesteps: Some(list), ..Form::new(Sampler::Ddpm).config() };
        for variation in [0.1, 0.5, 1.0] {
            let branch = Branch { step, seed: 8, variation };
            let mut run = Run::starting(&model, &sampler, branched(&[branch]), 1).unwrap();
            let mut oracle = Oracle::new(model.clone());
            (0..step).for_each(|_| assert!(run.step(&mut oracle).unwrap()));
            let before = run.sample().to_vec();
            let alpha_bar = run.table().rows()[step as usize].alpha_cumprod;
            run.step(&mut oracle).unwrap();
            let noise = |x: f32| if step == 0 { f64::from(x) } else { epsilon(x, alpha_bar) };
            let pairs = || before.iter().zip(&oracle.asked).map(|(&a, &b)| (noise(a), noise(b)));
            let mean = pairs().map(|(_, b)| b).sum::<f64>() / N as f64;
            let variance = pairs().map(|(_, b)| b * b).sum::<f64>() / N as f64;
            let kept = pairs().map(|(a, b)| a * b).sum::<f64>() / N as f64;
            // Standard errors over N normal values: of the mean 1 / sqrt(N), of the variance
            // sqrt(2 / N), of the product sqrt((1 + rho^2) / N), rho what is kept; five of each.
            let n = (N as f64).sqrt();
            let rho = (1.0 - variation).sqrt();
            let what = format!("step {step}, variation {variation}: {mean} {variance} {kept}");
            assert!(mean.abs() < 5.0 / n, "{what}");
            assert!((variance - 1.0).abs() < 5.0 * 2f64.sqrt() / n, "{what}");
            assert!((kept - rho).abs() < 5.0 * (1.0 + rho * rho).sqrt() / n, "{what}");
        }
    }
}

#[test]
fn an_item_branches_as_its_own_run_does() {
    let sampler = SamplerConfig { steps: 6, ..Form::new(Sampler::Ddpm).config() };
    let branch = Branch { step: 2, seed: u64::MAX, variation: 0.5 };
    let run = |start: RunStart, batch| {
        let case =
            Case { name: String::new(), model: small(), sampler: sampler.clone(), start, batch };
        let (mut run, mut denoiser) = (case.run(), case.denoiser());
        while run.step(&mut denoiser).unwrap() {}
        run.sample().to_vec()
    };
    let both = run(branched(&[branch]), 2);
    let second = RunStart { seed: 6, ..branched(&[Branch { seed: 0, ..branch }]) };
    assert_eq!(both[..15], run(branched(&[branch]), 1));
    assert_eq!(both[15..], run(second, 1));
}

#[test]
fn asking_again_saving_and_failing_do_not_renew_twice() {
    for case in cases() {
        let (mut run, mut denoiser, straight) = (case.run(), case.denoiser(), case.straight());
        let queries = run.queries();
        let mut sample = vec![0.0; queries * 15];
        let mut timesteps = vec![0.0; queries];
        let takes_labels = case.model.classes.is_some();
        let mut labels = vec![0; if takes_labels { queries } else { 0 }];
        let mut output = vec![0.0; queries * 15 * case.model.output_channels()];
        let mut state = RunState::new(&run).unwrap();
        println!("{}", case.name);
        for step in 0..run.steps() {
            run.ask(&mut sample, &mut timesteps, &mut labels).unwrap();
            let first = sample.clone();
            assert!(run.step(&mut Failing(case.model.clone())).is_err());
            run.ask(&mut sample, &mut timesteps, &mut labels).unwrap();
            assert_eq!(sample, first);
            assert_eq!(Shown::of(&run), straight[step]);
            run.save_state(&mut state).unwrap();
            run.restore_state(&state).unwrap();
            let shape = [queries, 1, 3, 5];
            let out_shape = [queries, case.model.output_channels(), 3, 5];
            denoiser
                .predict(
                    ArrayView4::from_shape(shape, &sample).unwrap(),
                    &timesteps,
                    &labels,
                    ArrayViewMut4::from_shape(out_shape, &mut output).unwrap(),
                )
                .unwrap();
            run.answer(&output).unwrap();
            assert_eq!(Shown::of(&run), straight[step + 1], "step {step}");
        }
    }
}

/// Fails after it has written its output.
struct Failing(ModelConfig);

impl Denoiser for Failing {
    fn config(&self) -> &ModelConfig {
        &self.0
    }

    fn predict(
        &mut self,
        _sample: ArrayView4<'_, f32>,
        _timesteps: &[f64],
        _labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        output.fill(1.0);
        Err(Error::new(ErrorKind::Inference, "no"))
    }
}

#[test]
fn the_last_branch_counts_and_a_reset_forgets_all_of_them() {
    let case = |branches: &[Branch]| Case {
        name: String::new(),
        model: small(),
        sampler: SamplerConfig { steps: 8, ..Form::new(Sampler::EulerAncestral).config() },
        start: branched(branches),
        batch: 1,
    };
    let at = |step, seed| Branch { step, seed, variation: 0.0 };
    let plain = case(&[]).straight();
    // Back to the run's own seed: only rows 2 and 3 had other noise.
    let there_and_back = case(&[at(2, 9), at(4, 5)]);
    assert_ne!(there_and_back.straight()[3..], plain[3..]);
    let whole = case(&[at(0, 9)]).straight();
    assert_eq!(whole[0], plain[0]);
    let mut seeds = Vec::new();
    let mut run = there_and_back.run();
    let mut noise = |seed: u64, row: u32, noise: &mut [f32]| {
        seeds.push((row, seed));
        noise.fill(0.0);
    };
    let mut denoiser = there_and_back.denoiser();
    while run.step_with_noise(&mut denoiser, &mut noise).unwrap() {}
    assert_eq!(seeds, [(0, 5), (1, 5), (2, 9), (3, 9), (4, 5), (5, 5), (6, 5)]);
    assert_eq!(run.start(), &there_and_back.start);
    run.reset(5);
    assert!(run.start().branches.is_empty());
    super::cases::step_and_compare(&mut run, &mut denoiser, 8, &plain);
}

#[test]
fn bad_branches_are_refused_by_name() {
    let sampler = SamplerConfig { steps: 8, ..Form::new(Sampler::Ddpm).config() };
    let at = |step, variation| Branch { step, seed: 1, variation };
    for (branches, expected) in [
        (&[at(8, 0.0)][..], "branches[0].step: found 8, expected 0 to 7"),
        (&[at(3, 0.0), at(3, 0.0)], "branches[1].step: found 3 after 3, expected rising steps"),
        (&[at(3, 0.0), at(0, 0.0)], "branches[1].step: found 0 after 3, expected rising steps"),
        (&[at(3, -0.1)], "branches[0].variation: found -0.1, expected 0 to 1"),
        (&[at(3, 1.5)], "branches[0].variation: found 1.5, expected 0 to 1"),
        (&[at(3, f64::NAN)], "branches[0].variation: found NaN, expected 0 to 1"),
        (&[at(u32::MAX, 0.0)], "branches[0].step: found 4294967295, expected 0 to 7"),
    ] {
        let error = Run::starting(&small(), &sampler, branched(branches), 1).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
}
