//! A state put away at any step goes on as the straight run does, bit for bit.

use ddpm::error::ErrorKind;
use ddpm::model::ModelConfig;
use ddpm::run::{Run, RunStart, RunState};
use ddpm::sampler::{Sampler, SamplerConfig};

use super::cases::{Case, Shown, Wavy, cases, shuffled, small, step_and_compare};
use super::samplers::Form;

#[test]
fn a_state_of_any_step_goes_on_as_the_straight_run_bit_for_bit() {
    for case in cases() {
        let (mut run, mut denoiser) = (case.run(), case.denoiser());
        let mut states = Vec::new();
        let mut straight = Vec::new();
        loop {
            let mut state = RunState::new(&run).unwrap();
            run.save_state(&mut state).unwrap();
            assert_eq!(state.step_index(), run.step_index());
            states.push(state);
            straight.push(Shown::of(&run));
            if run.step_index() == run.steps() {
                break;
            }
            run.step(&mut denoiser).unwrap();
        }
        println!("{}", case.name);
        for step in shuffled(states.len(), 1) {
            run.restore_state(&states[step]).unwrap();
            assert_eq!((run.step_index(), Shown::of(&run)), (step, straight[step].clone()));
            assert!(run.is_straight());
            step_and_compare(&mut run, &mut denoiser, straight.len() - 1, &straight);
        }
        // A run that never went there, too.
        let mut fresh = case.run();
        fresh.restore_state(&states[3]).unwrap();
        step_and_compare(&mut fresh, &mut denoiser, run.steps(), &straight);
        fresh.restart();
        step_and_compare(&mut fresh, &mut denoiser, run.steps(), &straight);
    }
}

#[test]
fn a_state_holds_what_its_sampler_keeps_and_no_more() {
    let bytes = |kind, order| {
        let sampler = SamplerConfig { order, ..Form::new(kind).config() };
        let run = Run::new(&small(), &sampler, 0, 3).unwrap();
        RunState::new(&run).unwrap().bytes() / (3 * 15 * size_of::<f32>())
    };
    // The sample and x_0; and of the history, and carried.
    assert_eq!(bytes(Sampler::Ddpm, None), 2);
    assert_eq!(bytes(Sampler::Dpmpp, Some(1)), 2);
    assert_eq!(bytes(Sampler::Dpmpp, Some(2)), 3);
    assert_eq!(bytes(Sampler::Heun, None), 4);
    assert_eq!(bytes(Sampler::Unipc, Some(3)), 2 + 3 + 1);
}

#[test]
fn a_state_of_another_shape_is_refused_and_changes_nothing() {
    let other_model = ModelConfig::ddpm(1, 5, 3);
    let run_of = |model: &ModelConfig, kind, batch| {
        Run::new(model, &SamplerConfig { steps: 5, ..Form::new(kind).config() }, 0, batch).unwrap()
    };
    let mut run = run_of(&small(), Sampler::Dpmpp, 1);
    let before = Shown::of(&run);
    for other in [
        run_of(&other_model, Sampler::Dpmpp, 1),
        run_of(&small(), Sampler::Dpmpp, 2),
        run_of(&small(), Sampler::Ddpm, 1),
        run_of(&small(), Sampler::Unipc, 1),
    ] {
        let mut state = RunState::new(&other).unwrap();
        for error in
            [run.save_state(&mut state).unwrap_err(), run.restore_state(&state).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            assert!(error.to_string().starts_with("state: found one of shape ["), "{error}");
        }
    }
    // Of the same shape, and behind the end.
    let mut long = Run::new(&small(), &Form::new(Sampler::Dpmpp).config(), 0, 1).unwrap();
    for _ in 0..6 {
        long.step(&mut Wavy(small())).unwrap();
    }
    let mut state = RunState::new(&long).unwrap();
    long.save_state(&mut state).unwrap();
    let error = run.restore_state(&state).unwrap_err();
    assert_eq!(error.to_string(), "state: found step 6, expected 0 to 5");
    assert_eq!((run.step_index(), Shown::of(&run)), (0, before));
}

#[test]
fn a_run_whose_sample_a_step_spoiled_keeps_no_state_until_it_is_taken_back() {
    /// Finite, but the sample made of it is not.
    struct Huge(ModelConfig);
    impl ddpm::model::Denoiser for Huge {
        fn config(&self) -> &ModelConfig {
            &self.0
        }

        fn predict(
            &mut self,
            _sample: ndarray::ArrayView4<'_, f32>,
            _timesteps: &[f64],
            _labels: &[i64],
            mut output: ndarray::ArrayViewMut4<'_, f32>,
        ) -> ddpm::error::Result<()> {
            output.fill(f32::MAX);
            Ok(())
        }
    }
    let case = Case {
        name: String::new(),
        model: small(),
        sampler: SamplerConfig { steps: 5, ..Form::new(Sampler::Unipc).config() },
        start: RunStart::default(),
        batch: 1,
    };
    let (straight, mut denoiser) = (case.straight(), case.denoiser());
    let mut run = case.run();
    run.step(&mut denoiser).unwrap();
    let mut state = RunState::new(&run).unwrap();
    run.save_state(&mut state).unwrap();
    for back in 0..2 {
        assert_eq!(run.step(&mut Huge(small())).unwrap_err().kind(), ErrorKind::NonFinite);
        assert!(!run.is_straight());
        let mut other = RunState::new(&run).unwrap();
        let error = run.save_state(&mut other).unwrap_err();
        assert!(error.to_string().starts_with("run: found its sample spoiled"), "{error}");
        if back == 0 {
            run.restore_state(&state).unwrap()
        } else {
            run.restart()
        }
        step_and_compare(&mut run, &mut denoiser, 5, &straight);
        run.restore_state(&state).unwrap();
    }
}
