//! Streams whose steps the model makes whole, beside those whose steps it does not.

use ddpm::engine::{Branch, FusedStep};
use ddpm::run::RunStart;

use super::*;

fn engine(name: &str, fused_step: FusedStep) -> Engine {
    let engine = Engine::new(EngineConfig { fused_step, ..config(name) }).unwrap();
    assert!(engine.wait(None).unwrap());
    assert_eq!(engine.info().unwrap().is_fused, fused_step == FusedStep::On);
    engine
}

fn floats(config: StreamConfig) -> StreamConfig {
    StreamConfig { format: FrameFormat::PlanarF32, ..config }
}

fn picture(stream: &Stream) -> Vec<f32> {
    assert!(stream.wait(None).unwrap());
    values(&stream.acquire_frame().unwrap().unwrap())
}

fn values(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks(4).map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap())).collect()
}

/// Both kernels compute in f64 and round once; the order of a sum may turn a rounding of f32.
fn check_same(found: &[f32], expected: &[f32], what: &str) {
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(found.len() == expected.len() && off <= 1e-5, "{what}: {off}");
}

fn step(stream: &Stream) -> Vec<f32> {
    assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
    picture(stream)
}

#[test]
fn streams_that_come_and_go_show_the_pictures_of_steps_that_are_not_fused() {
    let (fused, plain) = (engine("oracle", FusedStep::On), engine("oracle", FusedStep::Off));
    let kinds = Sampler::ALL.into_iter().filter(|kind| !kind.is_inverse());
    let configs: Vec<StreamConfig> = kinds
        .zip(0..)
        .map(|(kind, seed)| {
            let sampler = SamplerConfig::default().with_kind(kind);
            let sampler = SamplerConfig { steps: 7, ..sampler };
            let preview = if seed % 2 == 0 { Preview::Sample } else { Preview::PredOriginalSample };
            StreamConfig { preview, ..floats(StreamConfig::new(sampler, seed)) }
        })
        .collect();
    let streams = |engine: &Engine| -> Vec<Stream> {
        configs.iter().map(|config| engine.stream(config).unwrap()).collect()
    };
    let (found, expected) = (streams(&fused), streams(&plain));
    // In every round another third of them rests, so that no company lasts.
    for round in 0..30 {
        let stepping: Vec<usize> = (0..found.len()).filter(|k| (k + round) % 3 != 0).collect();
        for &k in &stepping {
            let (a, b) = (found[k].step().unwrap(), expected[k].step().unwrap());
            assert_eq!(a, b, "{:?} in round {round}", configs[k].sampler);
        }
        for &k in &stepping {
            assert!(found[k].wait(None).unwrap() && expected[k].wait(None).unwrap());
            let frame = |stream: &Stream| stream.acquire_frame().unwrap().map(|f| f.to_vec());
            if let Some(expected) = frame(&expected[k]) {
                let found = frame(&found[k]).unwrap();
                check_same(&values(&found), &values(&expected), &format!("{k} in round {round}"));
            }
        }
    }
    assert!(found.iter().all(|stream| stream.status().state == StreamState::Done));
}

#[test]
fn samples_stay_where_the_model_runs_while_the_same_streams_go_on() {
    let engine = engine("oracle", FusedStep::On);
    let config = StreamConfig { checkpoint_bytes: Some(0), ..few(40, 1) };
    let streams: Vec<Stream> = (0..4).map(|_| engine.stream(&config).unwrap()).collect();
    // One after the other: a place for each.
    for _ in 0..10 {
        for stream in &streams {
            stream.step().unwrap();
            stream.wait(None).unwrap();
        }
    }
    let copies = engine.host_copies();
    assert_eq!(copies, 4);
    // A look at one brings that one home, and takes it away again with its next step.
    streams[2].save().unwrap();
    assert_eq!(engine.host_copies(), copies + 1);
    for stream in &streams {
        stream.step().unwrap();
        stream.wait(None).unwrap();
    }
    assert_eq!(engine.host_copies(), copies + 2);
}

#[test]
fn a_fused_run_is_sought_saved_branched_reset_and_cancelled_as_any() {
    let fused = engine("oracle", FusedStep::On);
    for kind in [Sampler::Ddpm, Sampler::Unipc, Sampler::Heun] {
        let sampler = SamplerConfig { steps: 12, ..SamplerConfig::default().with_kind(kind) };
        let config = floats(StreamConfig::new(sampler, 3));
        let straight = fused.stream(&config).unwrap();
        let steps = straight.status().steps as usize;
        let expected: Vec<Vec<f32>> = (0..steps).map(|_| step(&straight)).collect();
        let stream = fused.stream(&config).unwrap();
        for target in [7, 2, steps, 5, 5, 1] {
            stream.seek(target as u32).unwrap();
            assert!(picture(&stream) == expected[target - 1], "{kind} at {target}");
        }
        assert!(step(&stream) == expected[1]);
        let saved = stream.save().unwrap();
        let loaded = fused
            .load_stream(
                &saved,
                &StreamConfig { format: FrameFormat::PlanarF32, ..Default::default() },
            )
            .unwrap();
        assert!(step(&loaded) == expected[2] && step(&stream) == expected[2]);
        let branch = Branch { step: 3, seed: 9, variation: 0.5 };
        let other = stream.branch(branch).unwrap();
        let made = step(&other);
        assert!(made != expected[3]);
        assert!(step(&stream) == expected[3]);
        stream.step().unwrap();
        stream.cancel();
        stream.reset(None).unwrap();
        assert!(step(&stream) == expected[0]);
        let plain = engine("oracle", FusedStep::Off);
        let plain = plain.stream(&config).unwrap();
        (0..3).for_each(|_| drop(step(&plain)));
        check_same(&made, &step(&plain.branch(branch).unwrap()), &format!("branch of {kind}"));
    }
}

#[test]
fn what_the_model_cannot_make_whole_is_made_in_the_old_way() {
    let (fused, plain) =
        (engine("class_labels", FusedStep::On), engine("class_labels", FusedStep::Off));
    let dynamic = Thresholding::Dynamic { ratio: 0.9, max: 2.0 };
    let dynamic = SamplerConfig { steps: 5, thresholding: dynamic, ..SamplerConfig::default() };
    let guided = RunStart { seed: 4, label: Some(1), guidance: 3.0, ..RunStart::default() };
    let of_class = RunStart { seed: 4, label: Some(2), ..RunStart::default() };
    let configs = [
        StreamConfig { start: of_class.clone(), ..StreamConfig::new(dynamic, 4) },
        StreamConfig { start: guided, ..few(5, 4) },
        StreamConfig { start: of_class, ..few(5, 4) },
    ];
    let streams = |engine: &Engine| -> Vec<Stream> {
        configs.iter().map(|c| engine.stream(&floats(c.clone())).unwrap()).collect()
    };
    let (found, expected) = (streams(&fused), streams(&plain));
    for _ in 0..5 {
        found.iter().chain(&expected).for_each(|stream| _ = stream.step().unwrap());
        for (k, (a, b)) in found.iter().zip(&expected).enumerate() {
            check_same(&picture(a), &picture(b), &format!("stream {k}"));
        }
    }
}

#[test]
fn a_value_that_is_not_finite_is_the_same_error_and_nobody_elses() {
    let texts = [FusedStep::On, FusedStep::Off].map(|fused_step| {
        let engine = engine("overflow", fused_step);
        let (bad, good) = (engine.stream(&few(20, 1)).unwrap(), engine.stream(&few(2, 1)).unwrap());
        bad.seek(9).unwrap();
        bad.wait(None).unwrap();
        good.step().unwrap();
        let error = loop {
            if let Err(error) = bad.step() {
                break error;
            }
            let _ = bad.wait(None);
        };
        assert!(good.wait(None).unwrap());
        assert!(frame(&good).is_some());
        bad.reset(None).unwrap();
        bad.step().unwrap();
        assert!(bad.wait(None).unwrap());
        error.to_string()
    });
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].contains("non-finite"), "{}", texts[0]);
}

#[test]
fn runs_can_be_looked_at_from_another_thread_while_they_go_on() {
    let engine = engine("oracle", FusedStep::On);
    let streams: Vec<Stream> =
        (0..3).map(|seed| engine.stream(&few(1000, seed)).unwrap()).collect();
    std::thread::scope(|scope| {
        for stream in &streams {
            scope.spawn(|| {
                let began = Instant::now();
                while began.elapsed() < Duration::from_millis(500) {
                    stream.save().unwrap();
                }
            });
            scope.spawn(|| {
                for _ in 0..200 {
                    stream.step().unwrap();
                    assert!(stream.wait(Some(HANG)).unwrap());
                }
            });
        }
    });
    engine.close().unwrap();
    let error = streams[0].save().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::EngineClosed);
}
