//! The engine through its public API, with real models: pictures, cancels, closes, faults.
//!
//! Nothing here depends on speed: waits are bounded only where a hang is the fault looked for.

mod batching;
mod director;
mod frames;
mod fused;
mod loading;
mod samplers;
mod trajectory;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use ddpm::engine::{
    Engine, EngineConfig, EngineState, FrameFormat, FrameInfo, ModelOverrides, Preview, Provider,
    StepOutcome, Stream, StreamConfig, StreamState,
};
use ddpm::error::ErrorKind;
use ddpm::image::to_byte;
use ddpm::log::LogLevel;
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding};
use ddpm::timesteps::TimestepSpacing;

/// The time after which something that should end at once is taken to hang.
const HANG: Duration = Duration::from_secs(60);

fn config(name: &str) -> EngineConfig {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let mut config = EngineConfig::new(models.join(format!("{name}.onnx")));
    config.provider = Provider::Cpu;
    config.threads = 1;
    config
}

fn loaded(name: &str) -> Engine {
    let engine = Engine::new(config(name)).unwrap();
    assert!(engine.wait(None).unwrap());
    engine
}

fn frame(stream: &Stream) -> Option<(FrameInfo, Vec<u8>)> {
    let mut pixels = vec![0; 8 * 8 * 4];
    let info = stream.copy_frame(&mut pixels, 8 * 4).unwrap()?;
    Some((info, pixels))
}

/// Every frame to the end.
fn reveal(stream: &Stream) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while stream.step().unwrap() == StepOutcome::Accepted {
        assert!(stream.wait(None).unwrap());
        let (info, pixels) = frame(stream).unwrap();
        frames.push(pixels);
        assert_eq!(info.step as usize, frames.len());
    }
    assert_eq!(stream.status().state, StreamState::Done);
    frames
}

/// DDPM in so many steps, as the test models have it unless they say otherwise.
fn few(steps: usize, seed: u64) -> StreamConfig {
    StreamConfig::new(SamplerConfig { steps, ..SamplerConfig::default() }, seed)
}

/// The picture that the oracle models know, times `scale`, as RGBA8.
fn clean_image(scale: f64) -> Vec<u8> {
    let mut pixels = Vec::new();
    for row in 0..8 {
        for column in 0..8 {
            let (y, x) = (f64::from(row) / 3.5 - 1.0, f64::from(column) / 3.5 - 1.0);
            let channels = [x / 4.0, y / 2.0, (x + y) * 3.0 / 8.0];
            pixels.extend(channels.map(|c| to_byte((scale * c) as f32)));
            pixels.push(255);
        }
    }
    pixels
}

fn close_to(found: &[u8], expected: &[u8]) -> bool {
    // Rounding may fall either way where the f32 chain lands near a half.
    found.iter().zip(expected).all(|(&a, &b)| a.abs_diff(b) <= 1)
}

#[test]
fn the_clip_can_be_widened_and_turned_off() {
    let engine = loaded("oracle_wide");
    // The clean picture reaches 3 in blue and 1 in red, so it shows what it is held to.
    let last = |clip: Option<Thresholding>| {
        let own = engine.info().unwrap().model.sampler_config(Sampler::Ddim, 10);
        let thresholding = clip.unwrap_or(own.thresholding);
        let sampler = SamplerConfig { thresholding, ..own };
        let config = StreamConfig { preview: Preview::Sample, ..StreamConfig::new(sampler, 1) };
        let stream = engine.stream(&config).unwrap();
        reveal(&stream).pop().unwrap()
    };
    assert!(close_to(&last(Some(Thresholding::Off)), &clean_image(4.0)));
    assert!(close_to(&last(Some(Thresholding::Clip(5.0))), &clean_image(4.0)));
    // Held to 0.5, nothing is darker than a quarter or lighter than three.
    let held = last(Some(Thresholding::Clip(0.5)));
    let colours = held.chunks(4).flat_map(|pixel| &pixel[..3]);
    assert!(colours.clone().all(|&c| (63..=193).contains(&c)));
    assert!(last(None).chunks(4).any(|pixel| pixel[2] == 0));
}

#[test]
fn the_models_own_sampler_has_fifty_steps_and_other_numbers_are_checked() {
    let engine = loaded("lin");
    assert_eq!(engine.stream(&StreamConfig::default()).unwrap().status().steps, 50);
    assert_eq!(engine.stream(&few(1000, 0)).unwrap().status().steps, 1000);
    for steps in [0, 1001, usize::MAX] {
        let error = engine.stream(&few(steps, 0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        assert!(error.to_string().starts_with(&format!("steps: found {steps}")), "{error}");
    }
    let ddim = engine.info().unwrap().model.sampler_config(Sampler::Ddim, 5);
    let eta = StreamConfig::new(SamplerConfig { eta: Some(f64::NAN), ..ddim }, 0);
    assert_eq!(engine.stream(&eta).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[test]
fn the_status_follows_the_run() {
    let engine = loaded("lin");
    let own = engine.info().unwrap().model.sampler_config(Sampler::Ddpm, 4);
    let sampler = SamplerConfig { spacing: TimestepSpacing::Leading, ..own };
    let stream = engine.stream(&StreamConfig::new(sampler, 0)).unwrap();
    let mut timesteps = Vec::new();
    loop {
        let status = stream.status();
        assert_eq!(status.steps, 4);
        assert_eq!(status.generation, u64::from(status.step));
        if status.state == StreamState::Done {
            assert_eq!((status.step, status.timestep), (4, 0.0));
            break;
        }
        assert_eq!(status.state, StreamState::Idle);
        timesteps.push(status.timestep);
        assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
        stream.wait(None).unwrap();
    }
    assert_eq!(timesteps, [750.0, 500.0, 250.0, 0.0]);
    assert_eq!(stream.step().unwrap(), StepOutcome::Done);
}

#[test]
fn there_is_no_frame_before_the_first_step_and_each_comes_once() {
    let engine = loaded("lin");
    let stream = engine.stream(&few(3, 0)).unwrap();
    assert!(frame(&stream).is_none());
    stream.step().unwrap();
    stream.wait(None).unwrap();
    assert_eq!(frame(&stream).unwrap().0.generation, 1);
    assert!(frame(&stream).is_none());
    stream.reset(None).unwrap();
    assert!(frame(&stream).is_none());
    stream.step().unwrap();
    stream.wait(None).unwrap();
    // Frames are counted over resets, so a host can tell the new from the old.
    let info = frame(&stream).unwrap().0;
    assert_eq!((info.generation, info.step), (2, 1));
}

#[test]
fn a_frame_that_was_not_copied_is_gone_after_a_reset() {
    let engine = loaded("lin");
    let stream = engine.stream(&few(3, 0)).unwrap();
    stream.step().unwrap();
    stream.wait(None).unwrap();
    assert_eq!(stream.status().generation, 1);
    stream.reset(None).unwrap();
    assert_eq!((stream.status().step, stream.status().generation), (0, 0));
    assert!(frame(&stream).is_none());
}

#[test]
fn gray_and_alpha_models_become_pixels_too() {
    for (name, alpha_is_opaque, is_gray) in [("gray", true, true), ("rgba", false, false)] {
        let engine = loaded(name);
        let stream = engine.stream(&few(2, 0)).unwrap();
        let frames = reveal(&stream);
        let pixels = || frames[1].chunks(4);
        assert_eq!(pixels().all(|p| p[3] == 255), alpha_is_opaque, "{name}");
        assert_eq!(pixels().all(|p| p[0] == p[1] && p[1] == p[2]), is_gray, "{name}");
    }
}

#[test]
fn both_previews_end_in_the_same_picture_and_differ_before() {
    let engine = loaded("oracle");
    let run = |preview| {
        let stream = engine.stream(&StreamConfig { preview, ..few(10, 5) }).unwrap();
        reveal(&stream)
    };
    let (clean, noisy) = (run(Preview::PredOriginalSample), run(Preview::Sample));
    assert_eq!(clean[9], noisy[9]);
    assert_ne!(clean[0], noisy[0]);
    // The oracle's guess is right from the start; noise is not.
    assert!(close_to(&clean[0], &clean[9]) && !close_to(&noisy[0], &noisy[9]));
}

#[test]
fn a_seed_gives_the_same_frames_on_another_engine() {
    let run = |seed| {
        let engine = loaded("lin");
        let stream = engine.stream(&few(12, seed)).unwrap();
        reveal(&stream)
    };
    assert_eq!(run(7), run(7));
    let last = [0, 7, 1 << 32, (1 << 32) + 1, u64::MAX].map(|seed| run(seed).pop().unwrap());
    for (i, a) in last.iter().enumerate() {
        assert!(last[..i].iter().all(|b| a != b), "seed {i} repeats another");
    }
}

#[test]
fn streams_that_share_an_engine_do_not_change_each_other() {
    let engine = loaded("lin");
    let alone: Vec<_> = (0..3).map(|seed| reveal(&engine.stream(&few(9, seed)).unwrap())).collect();
    let streams: Vec<_> = (0..3).map(|seed| engine.stream(&few(9, seed)).unwrap()).collect();
    for step in 0..9 {
        for stream in &streams {
            assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
        }
        for (stream, alone) in streams.iter().zip(&alone) {
            stream.wait(None).unwrap();
            assert_eq!(frame(stream).unwrap().1, alone[step]);
        }
    }
}

#[test]
fn a_reset_repeats_the_run_or_takes_another_seed() {
    let engine = loaded("lin");
    let stream = engine.stream(&few(5, 1)).unwrap();
    let first = reveal(&stream);
    stream.reset(None).unwrap();
    assert_eq!(reveal(&stream), first);
    stream.reset(Some(2)).unwrap();
    let second = reveal(&stream);
    assert_ne!(second, first);
    // A seed given once is kept.
    stream.reset(None).unwrap();
    assert_eq!(reveal(&stream), second);
}

#[test]
fn step_after_cancel_matches_a_fresh_stream() {
    let engine = loaded("slow");
    let expected = reveal(&engine.stream(&few(4, 11)).unwrap());
    let stream = engine.stream(&few(4, 11)).unwrap();
    // A pseudo-random walk over delays; some hit the queue, some the model, some the idle stream.
    let mut random = 1u32;
    for round in 0..200 {
        let steps = round % 3;
        for _ in 0..steps {
            stream.step().unwrap();
            stream.wait(None).unwrap();
        }
        assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let until = Instant::now() + Duration::from_micros(u64::from(random >> 20));
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        stream.cancel();
        let status = stream.status();
        assert_eq!(status.state, StreamState::Cancelled);
        assert!((steps..=steps + 1).contains(&status.step), "{status:?}");
        assert_eq!(stream.step().unwrap(), StepOutcome::Done);
        stream.reset(None).unwrap();
    }
    assert_eq!(reveal(&stream), expected);
}

#[test]
fn streams_and_engines_go_in_any_order_in_mid_step() {
    for round in 0..20 {
        let engine = loaded("endless");
        let streams: Vec<_> = (0..3).map(|seed| engine.stream(&few(5, seed)).unwrap()).collect();
        for stream in &streams {
            assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
        }
        if round % 2 == 0 {
            drop(streams);
            drop(engine);
        } else {
            let started = Instant::now();
            drop(engine);
            assert!(started.elapsed() < HANG);
            for stream in &streams {
                assert_eq!(stream.wait(Some(HANG)).unwrap_err().kind(), ErrorKind::EngineClosed);
                assert_eq!(stream.step().unwrap_err().kind(), ErrorKind::EngineClosed);
                assert_eq!(stream.reset(None).unwrap_err().kind(), ErrorKind::EngineClosed);
                assert!(frame(stream).is_none());
                stream.cancel();
            }
        }
    }
}

#[test]
fn an_engine_may_go_while_it_loads() {
    // Its load would take hours.
    let started = Instant::now();
    for round in 0..50 {
        let engine = Engine::new(config("endless_load")).unwrap();
        if round % 5 == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(engine.state(), EngineState::Loading);
        drop(engine);
    }
    assert!(started.elapsed() < HANG, "took {:?}", started.elapsed());
}

#[test]
fn nothing_works_before_the_model_is_loaded_and_nothing_waits_for_it() {
    let engine = Engine::new(config("endless_load")).unwrap();
    assert!(!engine.wait(Some(Duration::from_millis(50))).unwrap());
    assert_eq!(engine.info().unwrap_err().kind(), ErrorKind::EngineLoading);
    assert_eq!(engine.stream(&few(5, 0)).unwrap_err().kind(), ErrorKind::EngineLoading);
    engine.close().unwrap();
    assert_eq!(engine.state(), EngineState::Closed);
    assert_eq!(engine.wait(None).unwrap_err().kind(), ErrorKind::EngineClosed);
    assert_eq!(engine.info().unwrap_err().kind(), ErrorKind::EngineClosed);
    assert_eq!(engine.stream(&few(5, 0)).unwrap_err().kind(), ErrorKind::EngineClosed);
}

#[test]
fn the_last_frame_outlives_the_engine() {
    let engine = loaded("oracle");
    let stream = engine.stream(&few(1, 0)).unwrap();
    stream.step().unwrap();
    stream.wait(None).unwrap();
    engine.close().unwrap();
    drop(engine);
    assert!(close_to(&frame(&stream).unwrap().1, &clean_image(1.0)));
    assert_eq!(stream.status().step, 1);
}

#[test]
fn a_wait_ends_at_its_time() {
    let engine = loaded("endless");
    let stream = engine.stream(&few(5, 0)).unwrap();
    assert!(stream.wait(Some(Duration::ZERO)).unwrap());
    stream.step().unwrap();
    assert!(!stream.wait(Some(Duration::from_millis(30))).unwrap());
    assert_eq!(stream.step().unwrap(), StepOutcome::Busy);
    assert_eq!(stream.status().state, StreamState::Stepping);
    stream.cancel();
    assert!(stream.wait(None).unwrap());
}

#[test]
fn a_failed_load_says_the_same_every_time() {
    let failures = [
        ("absent", ErrorKind::Io),
        ("wrong_channels", ErrorKind::Model),
        ("extra_input", ErrorKind::Model),
        ("version_2", ErrorKind::Unsupported),
    ];
    for (name, kind) in failures {
        let engine = Engine::new(config(name)).unwrap();
        let error = engine.wait(None).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(&format!("{name}.onnx")), "{error}");
        assert_eq!(engine.wait(None).unwrap_err(), error);
        assert_eq!(engine.info().unwrap_err(), error);
        assert_eq!(engine.stream(&few(5, 0)).unwrap_err(), error);
        assert_eq!(engine.state(), EngineState::Failed);
        engine.close().unwrap();
    }
}

#[test]
fn an_overflowing_model_is_an_error_with_its_step_until_a_reset() {
    let engine = loaded("overflow");
    let stream = engine.stream(&few(10, 0)).unwrap();
    // t = 999, 899, 799, 699, 599, then 499.
    for _ in 0..5 {
        stream.step().unwrap();
        stream.wait(None).unwrap();
    }
    let good = frame(&stream).unwrap();
    stream.step().unwrap();
    let error = stream.wait(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NonFinite);
    assert!(error.to_string().contains("step 6, t = 499"), "{error}");
    assert_eq!(stream.step().unwrap_err(), error);
    assert_eq!((stream.status().state, stream.status().step), (StreamState::Failed, 5));
    assert!(frame(&stream).is_none(), "no black picture");
    assert_eq!(good.0.step, 5);
    stream.reset(None).unwrap();
    stream.step().unwrap();
    stream.wait(None).unwrap();
}

#[test]
fn two_threads_may_use_one_stream() {
    let engine = loaded("lin");
    let expected = reveal(&engine.stream(&few(200, 4)).unwrap());
    let stream = engine.stream(&few(200, 4)).unwrap();
    let accepted = Mutex::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    match stream.step().unwrap() {
                        StepOutcome::Accepted => *accepted.lock().unwrap() += 1,
                        StepOutcome::Busy => std::thread::yield_now(),
                        StepOutcome::Done => break,
                        StepOutcome::Paused => panic!("nobody paused it"),
                    }
                    if let Some((info, pixels)) = frame(&stream) {
                        assert_eq!(pixels, expected[info.step as usize - 1]);
                    }
                }
            });
        }
    });
    assert_eq!(*accepted.lock().unwrap(), 200);
    assert_eq!(stream.status().step, 200);
}

#[test]
fn resets_and_cancels_from_another_thread_leave_a_whole_run() {
    let engine = loaded("lin");
    let expected = reveal(&engine.stream(&few(6, 4)).unwrap());
    let stream = engine.stream(&few(6, 4)).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..300 {
                if round % 3 == 0 {
                    stream.cancel();
                }
                stream.reset(Some(round)).unwrap();
                std::thread::yield_now();
            }
        });
        for _ in 0..3000 {
            stream.step().unwrap();
            let _ = frame(&stream);
        }
    });
    stream.reset(Some(4)).unwrap();
    assert_eq!(reveal(&stream), expected);
}

#[test]
fn the_info_says_what_runs() {
    let mut config = config("open_size");
    let size = (Some(12), Some(20));
    config.overrides =
        ModelOverrides { height: size.0, width: size.1, ..ModelOverrides::default() };
    config.threads = 2;
    let engine = Engine::new(config).unwrap();
    engine.wait(None).unwrap();
    let info = engine.info().unwrap();
    assert_eq!((info.provider, info.threads), (Provider::Cpu, 2));
    assert_eq!((info.model.channels, info.model.height, info.model.width), (3, 12, 20));
    assert!(info.runtime_version.starts_with("1."), "{}", info.runtime_version);
    assert!(info.runtime_library.is_absolute());
    let stream = engine.stream(&few(1, 0)).unwrap();
    stream.step().unwrap();
    stream.wait(None).unwrap();
    let mut pixels = vec![0; 12 * 20 * 4];
    let info = stream.copy_frame(&mut pixels, 20 * 4).unwrap().unwrap();
    assert_eq!((info.width, info.height), (20, 12));
}

#[test]
fn a_fallback_to_the_cpu_is_logged_and_reported() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&seen);
    let mut config = config("lin");
    config.provider = Provider::Auto;
    config.log = Some(Arc::new(move |level, text: &str| {
        kept.lock().unwrap().push((level, text.to_owned()));
    }));
    let engine = Engine::new(config).unwrap();
    engine.wait(None).unwrap();
    let info = engine.info().unwrap();
    if info.provider == Provider::Cpu {
        let reason = info.fallback_reason.as_deref().unwrap();
        assert!(reason.starts_with("CUDA: "), "{reason}");
        let expected = (LogLevel::Warning, format!("using the CPU: {reason}"));
        assert!(seen.lock().unwrap().contains(&expected), "{:?}", seen.lock().unwrap());
    } else {
        assert_eq!(info.fallback_reason, None);
    }
}

#[test]
fn the_log_comes_from_the_engines_thread_which_cannot_close_the_engine() {
    let slot: Arc<OnceLock<Arc<Engine>>> = Arc::default();
    let errors = Arc::new(Mutex::new(Vec::new()));
    let mut config = config("lin");
    config.log_level = LogLevel::Debug;
    config.log = Some({
        let (slot, errors) = (Arc::clone(&slot), Arc::clone(&errors));
        Arc::new(move |_, _: &str| {
            assert_eq!(std::thread::current().name(), Some("ddpm-worker"));
            errors.lock().unwrap().push(slot.wait().close().unwrap_err().kind());
        })
    });
    let engine = Arc::new(Engine::new(config).unwrap());
    slot.set(Arc::clone(&engine)).unwrap();
    engine.wait(None).unwrap();
    let errors = errors.lock().unwrap();
    assert!(!errors.is_empty());
    assert!(errors.iter().all(|&kind| kind == ErrorKind::InvalidArgument), "{errors:?}");
}

#[test]
fn a_thousandth_of_the_timestep_shows_what_was_fed() {
    // The model's output is its timestep over 1000; as a predicted x_0 it is the frame's colour.
    let mut config = config("trec_i64_n");
    config.overrides.prediction_type = Some(ddpm::prediction::PredictionType::Sample);
    let engine = Engine::new(config).unwrap();
    engine.wait(None).unwrap();
    for steps in [1, 7, 53, 999, 1000] {
        let stream = engine.stream(&few(steps, 0)).unwrap();
        let mut calls = 0;
        loop {
            let fed = stream.status().timestep;
            if stream.step().unwrap() == StepOutcome::Done {
                break;
            }
            stream.wait(None).unwrap();
            calls += 1;
            assert_eq!(frame(&stream).unwrap().1[0], to_byte(fed as f32 / 1000.0), "at {fed}");
        }
        assert_eq!(calls, steps);
    }
}

#[test]
fn types_cross_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Engine>();
    shared::<Stream>();
}
