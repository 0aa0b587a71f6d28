//! A sought step is that of the straight run bit for bit, whatever memory there is for checkpoints.

use ddpm::run::{Branch, Checkpoints, Run, RunStart, RunState};
use ddpm::sampler::{Sampler, SamplerConfig};

use super::cases::{Case, Shown, cases, shuffled, small, step_and_compare};
use super::samplers::Form;

/// The bytes of so many states of the run.
fn room_for(run: &Run, states: usize) -> usize {
    states * RunState::new(run).unwrap().bytes()
}

fn case(kind: Sampler, steps: usize, start: RunStart) -> Case {
    let sampler = SamplerConfig { steps, ..Form::new(kind).config() };
    Case { name: kind.name().to_owned(), model: small(), sampler, start, batch: 1 }
}

#[test]
fn every_step_in_any_order_is_that_of_the_straight_run_bit_for_bit() {
    for case in cases() {
        let (straight, mut denoiser, mut run) = (case.straight(), case.denoiser(), case.run());
        println!("{}", case.name);
        for states in [0, 1, 3, 100] {
            let mut kept = Checkpoints::new(&run, room_for(&run, states)).unwrap();
            for target in [shuffled(straight.len(), 2), shuffled(straight.len(), 3)].concat() {
                run.seek_start(&kept, target).unwrap();
                while run.step_index() < target {
                    run.step(&mut denoiser).unwrap();
                    kept.record(&run);
                    assert_eq!(Shown::of(&run), straight[run.step_index()]);
                }
                assert_eq!((run.step_index(), Shown::of(&run)), (target, straight[target].clone()));
            }
        }
    }
}

#[test]
fn a_seek_takes_fewer_steps_than_checkpoints_lie_apart() {
    let case = case(Sampler::Dpmpp, 20, RunStart::default());
    let (mut run, mut denoiser) = (case.run(), case.denoiser());
    let mut kept = Checkpoints::new(&run, room_for(&run, 6)).unwrap();
    assert_eq!(kept.every(), 3);
    assert!(kept.nearest(20).is_none());
    while run.step_index() < 20 {
        run.step(&mut denoiser).unwrap();
        kept.record(&run);
    }
    for target in shuffled(21, 4) {
        run.seek_start(&kept, target).unwrap();
        assert_eq!(run.step_index(), target / 3 * 3);
        let nearest = kept.nearest(target).map(RunState::step_index);
        assert_eq!(nearest, (target >= 3).then_some(target / 3 * 3));
    }
    // From a step of its own that is nearer it goes on.
    run.seek_start(&kept, 12).unwrap();
    run.step(&mut denoiser).unwrap();
    run.seek_start(&kept, 14).unwrap();
    assert_eq!(run.step_index(), 13);
    let error = run.seek_start(&kept, 21).unwrap_err();
    assert_eq!(error.to_string(), "step: found 21, expected 0 to 20");
    kept.clear();
    assert!(kept.nearest(20).is_none());
}

#[test]
fn checkpoints_are_as_close_as_their_memory_allows() {
    let run = case(Sampler::Unipc, 20, RunStart::default()).run();
    let one = room_for(&run, 1);
    for (bytes, every, kept) in [
        (0, 0, 0),
        (one - 1, 0, 0),
        (one, 11, 1),
        (2 * one, 7, 2),
        (6 * one, 3, 6),
        (9 * one, 3, 6),
        (10 * one, 2, 10),
        (20 * one - 1, 2, 10),
        (20 * one, 1, 20),
        (usize::MAX, 1, 20),
    ] {
        let mut run = case(Sampler::Unipc, 20, RunStart::default()).run();
        let mut checkpoints = Checkpoints::new(&run, bytes).unwrap();
        assert_eq!(checkpoints.every(), every, "{bytes} bytes");
        let mut denoiser = super::cases::Wavy(small());
        let mut steps = std::collections::BTreeSet::new();
        while run.step_index() < 20 {
            run.step(&mut denoiser).unwrap();
            checkpoints.record(&run);
            steps.extend(checkpoints.nearest(20).map(RunState::step_index));
        }
        assert_eq!(steps.len(), kept, "{bytes} bytes");
        assert!(kept * one <= bytes);
    }
    let none = SamplerConfig { strength: 0.0, ..Form::new(Sampler::Ddim).config() };
    let start = RunStart { image: Some(super::cases::picture()), ..RunStart::default() };
    let mut run = Run::starting(&small(), &none, start, 1).unwrap();
    let mut checkpoints = Checkpoints::new(&run, usize::MAX).unwrap();
    checkpoints.record(&run);
    run.seek_start(&checkpoints, 0).unwrap();
    assert_eq!((checkpoints.every(), run.step_index()), (0, 0));
}

#[test]
fn states_of_another_way_are_passed_by() {
    let plain = case(Sampler::Ddpm, 8, RunStart { seed: 1, ..RunStart::default() });
    let (mut run, mut denoiser) = (plain.run(), plain.denoiser());
    let mut kept = Checkpoints::new(&run, usize::MAX).unwrap();
    while run.step_index() < 8 {
        run.step(&mut denoiser).unwrap();
        kept.record(&run);
    }
    // Of another seed, though nobody cleared them.
    run.reset(2);
    let other = case(Sampler::Ddpm, 8, RunStart { seed: 2, ..RunStart::default() }).straight();
    run.seek_start(&kept, 5).unwrap();
    assert_eq!(run.step_index(), 0);
    step_and_compare(&mut run, &mut denoiser, 5, &other);
    // The run's own, put there by hand.
    let mut first = plain.run();
    first.restore_state(kept.nearest(4).unwrap()).unwrap();
    run.restore_state(kept.nearest(4).unwrap()).unwrap();
    assert!(first.is_straight() && !run.is_straight());
    run.seek_start(&kept, 6).unwrap();
    assert_eq!(run.step_index(), 0);
    // A start that a caller gave.
    run.restart();
    run.set_sample(&[0.5; 15]).unwrap();
    run.step(&mut denoiser).unwrap();
    run.seek_start(&kept, 1).unwrap();
    step_and_compare(&mut run, &mut denoiser, 1, &other);
}

#[test]
fn a_branch_shares_the_checkpoints_before_it() {
    // By the noise of its steps alone, and by that of the sample alone.
    for (kind, variation) in [(Sampler::DpmppSde, 0.0), (Sampler::Dpmpp, 0.5)] {
        let plain = case(kind, 8, RunStart { seed: 1, ..RunStart::default() });
        let (mut run, mut denoiser) = (plain.run(), plain.denoiser());
        let mut kept = Checkpoints::new(&run, usize::MAX).unwrap();
        while run.step_index() < 8 {
            run.step(&mut denoiser).unwrap();
            kept.record(&run);
        }
        let branches = vec![Branch { step: 5, seed: 7, variation }];
        let branched = case(kind, 8, RunStart { branches, ..plain.start.clone() });
        let straight = branched.straight();
        let mut child = branched.run();
        let mut copied = Checkpoints::new(&child, usize::MAX).unwrap();
        kept.copy_up_to(&mut copied, 5);
        assert_eq!(copied.nearest(8).map(RunState::step_index), Some(5));
        child.seek_start(&copied, 8).unwrap();
        assert_eq!((child.step_index(), Shown::of(&child)), (5, straight[5].clone()));
        step_and_compare(&mut child, &mut denoiser, 8, &straight);
        // Those behind the branch are the parent's own: they are not the child's.
        kept.copy_up_to(&mut copied, 8);
        child.seek_start(&copied, 3).unwrap();
        child.seek_start(&copied, 7).unwrap();
        assert_eq!(child.step_index(), 5);
        step_and_compare(&mut child, &mut denoiser, 7, &straight);
        // Nothing of another distance or shape is copied.
        let mut sparse = Checkpoints::new(&run, room_for(&run, 3)).unwrap();
        let other = case(Sampler::Ddpm, 8, RunStart::default()).run();
        let mut smaller = Checkpoints::new(&other, usize::MAX).unwrap();
        for other in [&mut sparse, &mut smaller] {
            kept.copy_up_to(other, 8);
            assert!(other.nearest(8).is_none());
        }
    }
}
