//! Back and forth along a run, runs that are put away and taken up, and reveals that take a time.

use std::path::Path;

use ddpm::engine::{Branch, Easing, PlaybackConfig, Priority};
use ddpm::onnx::write_blob;
use ddpm::run::{Run, RunStart};

use super::*;

fn portraits() -> Engine {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/portraits.onnx");
    let engine = Engine::new(EngineConfig { model: model.into(), ..config("lin") }).unwrap();
    assert!(engine.wait(None).unwrap());
    engine
}

/// The picture the stream stands at, in floats as its format has them.
fn picture(stream: &Stream) -> Vec<u8> {
    assert!(stream.wait(None).unwrap());
    stream.acquire_frame().unwrap().unwrap().to_vec()
}

fn sampled(kind: Sampler, steps: usize, seed: u64) -> StreamConfig {
    let sampler = SamplerConfig { kind, steps, ..SamplerConfig::default() };
    StreamConfig { format: FrameFormat::PlanarF32, ..StreamConfig::new(sampler, seed) }
}

/// The pictures of a straight run, that after the first step first.
fn straight(engine: &Engine, config: &StreamConfig) -> Vec<Vec<u8>> {
    let stream = engine.stream(config).unwrap();
    let mut pictures = Vec::new();
    while stream.step().unwrap() != StepOutcome::Done {
        pictures.push(picture(&stream));
    }
    pictures
}

fn seek(stream: &Stream, step: usize) -> Vec<u8> {
    stream.seek(step as u32).unwrap();
    let picture = picture(stream);
    assert_eq!(stream.status().step as usize, step);
    picture
}

#[test]
fn a_sought_picture_is_that_of_the_straight_run_bit_for_bit() {
    let engine = portraits();
    for kind in [Sampler::Ddpm, Sampler::Unipc, Sampler::Heun, Sampler::DpmppSde] {
        let config = sampled(kind, 20, 6);
        let expected = straight(&engine, &config);
        for checkpoint_bytes in [None, Some(0)] {
            let stream =
                engine.stream(&StreamConfig { checkpoint_bytes, ..config.clone() }).unwrap();
            for step in [5, 17, 16, 2, expected.len(), 1] {
                assert!(seek(&stream, step) == expected[step - 1], "{kind} at {step}");
            }
        }
    }
}

#[test]
fn a_saved_run_is_taken_up_where_it_stood_by_its_own_model_only() {
    let engine = portraits();
    let config = sampled(Sampler::DpmppSde, 12, 6);
    let expected = straight(&engine, &config);
    let stream = engine.stream(&config).unwrap();
    let at_start = stream.save().unwrap();
    let middle = seek(&stream, 5);
    let saved = stream.save().unwrap();
    drop(stream);
    drop(engine);

    let engine = portraits();
    let shown = StreamConfig { format: FrameFormat::PlanarF32, ..StreamConfig::default() };
    let stream = engine.load_stream(&saved, &shown).unwrap();
    assert_eq!((stream.status().step, stream.status().steps), (5, 12));
    assert!(picture(&stream) == middle, "its picture is there at once");
    for expected in &expected[5..] {
        assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
        assert!(picture(&stream) == *expected);
    }
    assert_eq!(stream.step().unwrap(), StepOutcome::Done);
    // The whole run is in it: back before the step it was saved at, and to the end once more.
    assert!(seek(&stream, 3) == expected[2]);
    assert!(seek(&stream, 12) == expected[11]);
    let done = engine.load_stream(&stream.save().unwrap(), &shown).unwrap();
    assert_eq!(done.step().unwrap(), StepOutcome::Done);
    assert!(picture(&done) == expected[11]);
    // And one that was saved before a step was made has no frame.
    let stream = engine.load_stream(&at_start, &shown).unwrap();
    assert!(stream.acquire_frame().unwrap().is_none());
    assert!(seek(&stream, 12) == expected[11]);

    let directed = StreamConfig { director: true, ..sampled(Sampler::Ddim, 12, 6) };
    let directed = engine.stream(&directed).unwrap();
    let error = directed.save().unwrap_err();
    assert!(error.message().starts_with("director: found a run whose timesteps"), "{error}");
    let first = seek(&directed, 1);
    let again = engine.load_stream(&directed.save().unwrap(), &shown).unwrap();
    assert!(picture(&again) == first && seek(&again, 7) == seek(&directed, 7));

    let other = loaded("lin");
    let error = other.load_stream(&saved, &shown).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("of the model"), "{error}");
    assert!(engine.load_stream(&saved[..saved.len() / 2], &shown).is_err());
    assert!(engine.load_stream(b"a picture", &shown).is_err());
    let info = engine.info().unwrap();
    let two = Run::new(&info.model, &config.sampler.unwrap(), 6, 2).unwrap();
    let two = write_blob(&two, &info.model, &info.fingerprint).unwrap();
    let error = engine.load_stream(&two, &shown).unwrap_err();
    assert_eq!(error.message(), "run: found one of 2 samples, expected 1: a stream reveals one");
    let start = RunStart { seed: 3, ..RunStart::default() };
    let error = engine.load_stream(&saved, &StreamConfig { start, ..shown }).unwrap_err();
    assert!(error.message().starts_with("start: found one"), "{error}");
}

#[test]
fn a_branch_leaves_its_source_alone_and_is_saved_with_what_it_branched_from() {
    let engine = portraits();
    let config = sampled(Sampler::Ddpm, 12, 6);
    let expected = straight(&engine, &config);
    let stream = engine.stream(&config).unwrap();
    let here = seek(&stream, 8);
    let branch = stream.branch(Branch { step: 6, seed: 99, variation: 0.0 }).unwrap();
    assert!(picture(&branch) == expected[5]);
    let end = seek(&branch, 12);
    assert!(end != expected[11], "other noise");
    assert_eq!(stream.status().step, 8);
    let shown = StreamConfig { format: FrameFormat::PlanarF32, ..StreamConfig::default() };
    let again = engine.load_stream(&branch.save().unwrap(), &shown).unwrap();
    assert!(seek(&again, 4) == expected[3]);
    assert!(seek(&again, 12) == end);
    // A reset is a plain run.
    again.reset(Some(6)).unwrap();
    assert!(seek(&again, 12) == expected[11]);
    assert!(seek(&stream, 8) == here);
    for (branch, message) in [
        (Branch { step: 12, seed: 1, variation: 0.0 }, ""),
        (Branch { step: 6, seed: 1, variation: 1.5 }, ""),
        (Branch { step: 6, seed: 1, variation: f64::NAN }, ""),
    ] {
        let error = stream.branch(branch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error} {message}");
    }
    drop(stream);
    engine.close().unwrap();
    assert_eq!(branch.save().unwrap_err().kind(), ErrorKind::EngineClosed);
    assert_eq!(branch.seek(1).unwrap_err().kind(), ErrorKind::EngineClosed);
}

#[test]
fn a_playback_ends_with_its_time_and_shows_what_a_run_of_its_steps_shows() {
    let engine = portraits();
    let config = sampled(Sampler::Ddim, 30, 6);
    let expected = straight(&engine, &config);
    let stream = engine.stream(&StreamConfig { priority: Priority::High, ..config }).unwrap();
    let playback =
        PlaybackConfig { easing: Easing::EaseInOut, fewest_steps: 30, ..PlaybackConfig::new(1.0) };
    stream.play(playback).unwrap();
    let mut before = 0;
    for _ in 0..60 {
        // A host's clock is what it says it is.
        stream.tick(1.0 / 60.0).unwrap();
        assert!(stream.wait(None).unwrap());
        let step = stream.status().step;
        assert!(step >= before);
        before = step;
    }
    stream.tick(0.001).unwrap();
    assert!(picture(&stream) == expected[29]);
    assert_eq!(stream.status().state, StreamState::Done);
    for duration in [0.0, -1.0, f64::NAN, 1e9] {
        let error = stream.play(PlaybackConfig::new(duration)).unwrap_err();
        assert!(error.message().starts_with("duration: found"), "{error}");
    }
}

#[test]
fn a_hurried_playback_keeps_the_branches_ahead() {
    let engine = portraits();
    let stream = engine.stream(&sampled(Sampler::Ddpm, 20, 6)).unwrap();
    let branch = stream.branch(Branch { step: 15, seed: 99, variation: 0.5 }).unwrap();
    seek(&branch, 2);
    // Over before its second step, on any machine that needs to be hurried.
    branch.play(PlaybackConfig { fewest_steps: 1, ..PlaybackConfig::new(1e-3) }).unwrap();
    branch.tick(1.0).unwrap();
    picture(&branch);
    let status = branch.status();
    assert_eq!(status.state, StreamState::Done);
    assert!((16..=20).contains(&status.steps), "{status:?}");
}
