//! Steps that a run of the model makes whole, beside those of the crate's own kernel.

use ddpm::model::FusedAsk;
use ddpm::onnx::FusedStep;
use ddpm::step::STATE_PARTS;

use super::*;

/// Both kernels compute in f64 and round once. Sums are in another order, which may turn a rounding of
/// f32, and the model then makes a little more of that.
const TOLERANCE: f32 = 1e-5;

fn fused(name: &str) -> Result<OnnxDenoiser> {
    let options = OnnxOptions { fused_step: FusedStep::On, ..cpu() };
    OnnxDenoiser::load(&ModelSource::from(&model(name)), &options)
}

/// Runs as many samples as there are seeds through fused steps, in one place.
fn reveal(denoiser: &mut OnnxDenoiser, config: &SamplerConfig, seeds: &[u64]) -> Vec<Vec<f32>> {
    let model = denoiser.config().clone();
    let mut runs: Vec<Run> =
        seeds.iter().map(|&seed| Run::new(&model, config, seed, 1).unwrap()).collect();
    let item = runs[0].item_len();
    let mut state = vec![0.0; seeds.len() * STATE_PARTS * item];
    for (run, to) in runs.iter().zip(state.chunks_mut(STATE_PARTS * item)) {
        run.pack(to).unwrap();
    }
    let labels: Vec<i64> = runs.iter().filter_map(Run::label).collect();
    let mut shown = vec![0.0; seeds.len() * item];
    for step in 0..runs[0].steps() {
        let rows: Vec<_> = runs.iter().map(|run| run.row_matrix(step % 2 == 0).unwrap()).collect();
        let timesteps: Vec<_> = runs.iter().map(|run| run.timestep().unwrap()).collect();
        let mut noise = vec![0.0; seeds.len() * item];
        let mut draws = false;
        for (run, to) in runs.iter().zip(noise.chunks_mut(item)) {
            draws |= run.next_noise(to);
        }
        let ask = FusedAsk {
            rows: &rows,
            timesteps: &timesteps,
            labels: &labels,
            state: (step == 0).then_some(&state[..]),
            noise: draws.then_some(&noise[..]),
            shown: Some(&mut shown),
        };
        assert!(denoiser.fused().unwrap().step(3, ask).unwrap());
        runs.iter_mut().for_each(|run| run.step_away(9));
    }
    denoiser.fused().unwrap().fetch(3, &mut state).unwrap();
    for (run, from) in runs.iter_mut().zip(state.chunks(STATE_PARTS * item)) {
        assert_eq!(run.away(), Some(9));
        run.take_home(from).unwrap();
    }
    runs.iter().map(|run| [run.sample(), run.x0()].concat()).collect()
}

fn differ(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_sampler_makes_the_pictures_of_the_crates_own_kernel() {
    let learned = SamplerConfig { variance_type: VarianceType::LearnedRange, ..Default::default() };
    let unclipped = SamplerConfig { thresholding: Thresholding::Off, ..Default::default() };
    let mut cases = vec![
        ("learned_range", learned),
        ("trec_i64_n", unclipped.clone()),
        ("lin_f16", unclipped),
        ("class_labels", SamplerConfig::default()),
    ];
    for kind in Sampler::ALL.into_iter().filter(|kind| !kind.is_inverse()) {
        cases.push(("oracle", SamplerConfig::default().with_kind(kind)));
    }
    for (name, config) in cases {
        let mut plain = load(name).unwrap();
        let mut fused = fused(name).unwrap();
        assert!(fused.info().is_fused && !plain.info().is_fused);
        let config = SamplerConfig { steps: 9, ..config };
        let made = reveal(&mut fused, &config, &[5, 6]);
        for (made, seed) in made.iter().zip([5, 6]) {
            let mut run = Run::new(plain.config(), &config, seed, 1).unwrap();
            while run.step(&mut plain).unwrap() {}
            let off = differ(made, &[run.sample(), run.x0()].concat());
            assert!(off <= TOLERANCE, "{name}, {}: {off}", config.kind);
        }
    }
}

#[test]
fn a_step_with_a_value_that_is_not_finite_leaves_the_state_as_it_was() {
    let mut denoiser = fused("overflow").unwrap();
    let config = SamplerConfig { steps: 20, ..SamplerConfig::default() };
    let run = Run::new(denoiser.config(), &config, 1, 1).unwrap();
    let mut before = vec![0.0; STATE_PARTS * run.item_len()];
    run.pack(&mut before).unwrap();
    let mut after = before.clone();
    let row = [run.row_matrix(false).unwrap()];
    let mut step = |timestep: f64, state| {
        let ask = FusedAsk {
            rows: &row,
            timesteps: &[timestep],
            labels: &[],
            state,
            noise: None,
            shown: None,
        };
        denoiser.fused().unwrap().step(0, ask)
    };
    assert!(step(900.0, Some(&before[..])).unwrap());
    // It overflows below 500.
    assert!(!step(100.0, None).unwrap());
    assert!(step(900.0, None).unwrap());
    assert!(!step(100.0, None).unwrap());
    denoiser.fused().unwrap().fetch(0, &mut after).unwrap();
    assert_ne!(before, after);
    assert!(after.iter().all(|value| value.is_finite()));
}

#[test]
fn a_model_with_a_fused_step_still_predicts_as_it_did() {
    let (mut plain, mut fused) = (load("oracle").unwrap(), fused("oracle").unwrap());
    assert!(plain.fused().is_none());
    assert_eq!(plain.info().contract, fused.info().contract);
    for timesteps in [&[3.0][..], &[700.0, 2.0, 5.0]] {
        let (_, expected) = predict(&mut plain, timesteps).unwrap();
        let (_, found) = predict(&mut fused, timesteps).unwrap();
        assert_eq!(found, expected);
    }
}

#[test]
fn what_cannot_be_fused_is_refused_with_the_reason_or_goes_without() {
    let mut old = std::fs::read(model("lin")).unwrap();
    // opset_import { version: 17 }
    let at = old.windows(2).rposition(|pair| pair == [0x10, 17]).unwrap();
    old[at + 1] = 11;
    let old = ModelSource::Bytes(old.into());
    let open = ModelSource::from(&model("open_variance"));
    for (source, expected) in [
        (old, "needs opset 13 or newer, found 11"),
        (open, "needs the number of channels, which is open"),
    ] {
        let load = |fused_step| OnnxDenoiser::load(&source, &OnnxOptions { fused_step, ..cpu() });
        let error = load(FusedStep::On).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!load(FusedStep::Off).unwrap().info().is_fused);
        assert!(!load(FusedStep::Auto).unwrap().info().is_fused);
    }
}

#[test]
fn a_fused_step_checks_what_it_is_given() {
    let mut denoiser = fused("lin").unwrap();
    let config = SamplerConfig { steps: 2, ..SamplerConfig::default() };
    let run = Run::new(denoiser.config(), &config, 1, 1).unwrap();
    let row = [run.row_matrix(false).unwrap()];
    let state = vec![0.0; STATE_PARTS * run.item_len()];
    let mut noise = vec![0.0; 1];
    let base = || FusedAsk {
        rows: &row,
        timesteps: &[1.0],
        labels: &[],
        state: Some(&state),
        noise: None,
        shown: None,
    };
    let steps = denoiser.fused().unwrap();
    for (ask, expected) in [
        (FusedAsk { state: None, ..base() }, "found no state"),
        (FusedAsk { state: Some(&state[1..]), ..base() }, "state: found"),
        (FusedAsk { timesteps: &[], ..base() }, "timesteps: found 0 values, expected 1"),
        (FusedAsk { noise: Some(&noise.clone()), ..base() }, "noise: found 1 values"),
        (FusedAsk { shown: Some(&mut noise), ..base() }, "shown: found 1 values"),
    ] {
        let error = steps.step(0, ask).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(steps.fetch(0, &mut vec![0.0; state.len()]).is_err());
    assert!(steps.step(0, base()).unwrap());
    assert!(steps.fetch(0, &mut [0.0; 3]).is_err());
    assert!(steps.fetch(1, &mut vec![0.0; state.len()]).is_err());
}
