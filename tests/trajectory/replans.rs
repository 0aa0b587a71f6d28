//! Other timesteps for the rest of a run: the run that had them from the start, bit for bit.

use ddpm::run::{Branch, Checkpoints, Run, RunStart};
use ddpm::sampler::{Sampler, SamplerConfig, SigmaSpacing};
use ddpm::timesteps::{TimestepSpacing, timesteps};

use super::cases::{Case, Shown, picture, small, step_and_compare, two_branches};
use super::samplers::{Form, all_forms};

fn case(form: Form, steps: usize) -> Case {
    let sampler = SamplerConfig { steps, ..form.config() };
    let start = RunStart { seed: 5, ..RunStart::default() };
    Case { name: form.name(), model: small(), sampler, start, batch: 1 }
}

fn whole(run: &Run) -> Vec<usize> {
    run.timesteps().map(|t| t as usize).collect()
}

/// The case of the run's config: what a fresh run has to come to.
fn as_planned(case: &Case, run: &Run) -> Case {
    Case { sampler: run.config().clone(), ..case.clone() }
}

/// The forms that can have other timesteps.
fn plannable() -> impl Iterator<Item = Form> {
    all_forms().into_iter().filter(|form| {
        !matches!(
            form.kind,
            Sampler::Heun
                | Sampler::Pndm
                | Sampler::PndmPrk
                | Sampler::Lcm
                | Sampler::Tcd
                | Sampler::DdimInverse
        )
    })
}

#[test]
fn a_new_rest_is_the_run_that_had_it_from_the_start_bit_for_bit() {
    // From long to short, from short to long, and runs below the 15 steps that lower their order.
    for (steps, rest_every) in [(20, 3), (4, 0), (12, 2)] {
        for form in plannable() {
            let mut case = case(form, steps);
            // Euler's own linspace has timesteps between the whole ones.
            case.sampler.spacing = TimestepSpacing::Trailing;
            case.start.branches = vec![Branch { step: 1, seed: 8, variation: 0.2 }];
            let old = whole(&case.run());
            for taken in 0..steps {
                let (mut run, mut denoiser) = (case.run(), case.denoiser());
                assert!(run.can_replan(), "{}", case.name);
                (0..taken).for_each(|_| assert!(run.step(&mut denoiser).unwrap()));
                let mut list = old[..=taken].to_vec();
                match rest_every {
                    0 => list.extend((1..old[taken].min(30)).rev()),
                    every => list.extend(old[taken + 1..].iter().skip(every - 1).step_by(every)),
                }
                if list.len() < 2 {
                    continue;
                }
                let what = format!("{} of {steps}, {taken} taken, {list:?}", case.name);
                run.replan(&case.model, &list).unwrap();
                assert_eq!((run.step_index(), whole(&run)), (taken, list.clone()), "{what}");
                let planned = as_planned(&case, &run);
                let straight = planned.straight();
                // The step before the last has order 2 at most, where it knows that it is: it is
                // taken with order 3 in one plan and with 2 in the other.
                let lowers = form.order == Some(3);
                let is_short = |len: usize| len < 15 || form.kind == Sampler::Unipc;
                let lowered = |len: usize| is_short(len) && taken + 1 == len;
                let changes = lowers && taken >= 3 && lowered(steps) != lowered(list.len());
                assert_eq!(run.is_straight(), !changes, "{what}");
                if changes {
                    run.seek_start(&Checkpoints::new(&run, 0).unwrap(), taken).unwrap();
                    assert_eq!(run.step_index(), 0, "{what}");
                } else {
                    assert_eq!(Shown::of(&run), straight[taken], "{what}");
                }
                step_and_compare(&mut run, &mut denoiser, list.len(), &straight);
                run.restart();
                step_and_compare(&mut run, &mut denoiser, list.len(), &straight);
            }
        }
    }
}

#[test]
fn a_run_can_be_planned_anew_at_every_step() {
    for form in plannable() {
        let mut case = case(form, 30);
        case.sampler.spacing = TimestepSpacing::Trailing;
        let (mut run, mut denoiser) = (case.run(), case.denoiser());
        let mut kept = Checkpoints::new(&run, usize::MAX).unwrap();
        while run.step_index() < run.steps() {
            let taken = run.step_index();
            let mut list = whole(&run);
            // One of the steps to come goes, as long as three are left.
            if list.len() - taken > 3 {
                list.remove(taken + 2);
            }
            run.replan(&case.model, &list).unwrap();
            run.step(&mut denoiser).unwrap();
            kept.record(&run);
        }
        println!("{}", case.name);
        assert!(run.is_straight());
        let straight = as_planned(&case, &run).straight();
        assert_eq!(Shown::of(&run), straight[run.steps()]);
        // Every state that was kept on the way is one of the last plan's.
        for target in (1..=run.steps()).rev() {
            run.seek_start(&kept, target).unwrap();
            assert_eq!((run.step_index(), Shown::of(&run)), (target, straight[target].clone()));
        }
    }
}

#[test]
fn states_of_timesteps_that_were_replaced_are_passed_by() {
    let case = case(Form::new(Sampler::Dpmpp).with_order(3), 20);
    let (mut run, mut denoiser) = (case.run(), case.denoiser());
    let mut kept = Checkpoints::new(&run, usize::MAX).unwrap();
    while run.step_index() < 20 {
        run.step(&mut denoiser).unwrap();
        kept.record(&run);
    }
    run.seek_start(&kept, 6).unwrap();
    let mut list = whole(&run);
    list.remove(9);
    run.replan(&case.model, &list).unwrap();
    let straight = as_planned(&case, &run).straight();
    for target in [19, 7, 12, 9, 8, 3] {
        run.seek_start(&kept, target).unwrap();
        // Row 8 went to the timestep that is gone.
        assert_eq!(run.step_index(), target.min(8), "{target}");
        step_and_compare(&mut run, &mut denoiser, target, &straight);
    }
}

#[test]
fn a_picture_with_a_strength_keeps_its_noise_level() {
    for kind in [Sampler::Ddim, Sampler::Ddpm, Sampler::Dpmpp] {
        let mut case = case(Form::new(kind), 20);
        case.sampler.strength = 0.6;
        case.start.image = Some(picture());
        let (mut run, mut denoiser) = (case.run(), case.denoiser());
        (0..4).for_each(|_| assert!(run.step(&mut denoiser).unwrap()));
        let mut list = whole(&run);
        assert_eq!(list.len(), 12);
        list.remove(7);
        run.replan(&case.model, &list).unwrap();
        assert!(run.is_straight());
        let straight = as_planned(&case, &run).straight();
        step_and_compare(&mut run, &mut denoiser, 11, &straight);
        run.restart();
        step_and_compare(&mut run, &mut denoiser, 11, &straight);
    }
}

#[test]
fn samplers_whose_steps_are_their_own_choice_are_not_planned_anew() {
    let refused = |form: Form, change: &dyn Fn(&mut Case)| {
        let mut case = case(form, 8);
        change(&mut case);
        let mut run = case.run();
        assert!(!run.can_replan(), "{}", case.name);
        let before = whole(&run);
        let error = run.replan(&case.model, &before).unwrap_err();
        let text = format!("timesteps: found a new list for a run of {}", form.kind);
        assert!(error.to_string().starts_with(&text), "{error}");
    };
    let plannable: Vec<Form> = plannable().collect();
    let others = all_forms().into_iter().filter(|form| !plannable.contains(form));
    for form in others {
        refused(form, &|case| case.start.image = form.kind.is_inverse().then(picture));
        refused(form, &|case| {
            case.start.image = form.kind.is_inverse().then(picture);
            case.sampler.steps = 1;
        });
    }
    for sigmas in [SigmaSpacing::Karras, SigmaSpacing::Exponential] {
        refused(Form::new(Sampler::Dpmpp), &|case| case.sampler.sigmas = sigmas);
    }
    // Halves.
    refused(Form::new(Sampler::Euler), &|case| {
        case.sampler.spacing = TimestepSpacing::Linspace;
        case.sampler.steps = 7;
    });
    refused(Form::new(Sampler::Ddim), &|case| {
        case.sampler.strength = 0.0;
        case.start.image = Some(picture());
    });
}

#[test]
fn bad_lists_are_refused_and_change_nothing() {
    let mut case = case(Form::new(Sampler::Ddim), 8);
    case.start.branches = two_branches();
    let old = timesteps(1000, 8, TimestepSpacing::Trailing, 0).unwrap();
    let (mut run, mut denoiser) = (case.run(), case.denoiser());
    (0..3).for_each(|_| assert!(run.step(&mut denoiser).unwrap()));
    let changed = |index: usize, t: usize| {
        let mut list = old.clone();
        list[index] = t;
        list
    };
    for (list, expected) in [
        (vec![], "timesteps: found 0 of them after 3 steps of 8, expected at least 4"),
        (old[..3].to_vec(), "timesteps: found 3 of them after 3 steps of 8, expected at least 4"),
        (
            changed(1, 800),
            "timesteps[1]: found 800, expected 874 as in the run, which took 3 steps",
        ),
        (
            changed(3, 600),
            "timesteps[3]: found 600, expected 624 as in the run, which took 3 steps",
        ),
        (changed(5, 499), "timesteps[5]: found 499 after 499, expected a falling list"),
        (old[..4].to_vec(), "branches[1].step: found 4, expected 0 to 3"),
    ] {
        let error = run.replan(&case.model, &list).unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert_eq!((run.step_index(), whole(&run)), (3, old.clone()));
        assert_eq!(run.config(), &case.sampler);
    }
    let other = ddpm::model::ModelConfig::ddpm(3, 3, 5);
    let error = run.replan(&other, &old).unwrap_err();
    assert_eq!(error.to_string(), "model: found samples of [3, 3, 5], expected [1, 3, 5]");
    // One less than the last branch needs was refused above; so few are enough.
    assert_eq!((run.least_steps(), case.run().least_steps()), (5, 5));
    case.run().replan(&case.model, &old[..5]).unwrap();
    step_and_compare(&mut run, &mut denoiser, 8, &case.straight());
    assert_eq!(run.least_steps(), 8);
    // A run that is over has no rest.
    let mut longer = old.clone();
    longer.push(1);
    let error = run.replan(&case.model, &longer).unwrap_err();
    let text = "timesteps: found 9 of them after 8 steps of 8, expected the same 8";
    assert_eq!(error.to_string(), text);
    run.replan(&case.model, &old).unwrap();
    assert!(run.is_straight());
}
