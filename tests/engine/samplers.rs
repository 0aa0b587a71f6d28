//! Everything a sampler can do, through streams.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ddpm::model::Denoiser;
use ddpm::noise_schedule::NoiseSchedule;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions};
use ddpm::run::{Run, RunStart};
use ddpm::sampler::{FinalAlpha, SigmaSpacing};

use super::*;

fn config_of(engine: &Engine, kind: Sampler, steps: usize) -> SamplerConfig {
    engine.info().unwrap().model.sampler_config(kind, steps)
}

/// The start image of the tests: the value at [c, y, x] is a ramp, in bytes 40 to 231.
fn ramp() -> (Vec<u8>, Arc<[f32]>) {
    let byte = |channel: usize, pixel: usize| (40 + channel * 64 + pixel) as u8;
    let planar = (0..3 * 64).map(|i| ddpm::image::from_byte(byte(i / 64, i % 64))).collect();
    let pixels = (0..64).flat_map(|p| [byte(0, p), byte(1, p), byte(2, p), 255]).collect();
    (pixels, planar)
}

#[test]
fn every_sampler_ends_in_the_picture_the_model_knows() {
    let engine = loaded("oracle");
    for kind in Sampler::ALL.into_iter().filter(|kind| !kind.is_inverse()) {
        for steps in [1, 2, 3, 50] {
            for preview in [Preview::PredOriginalSample, Preview::Sample] {
                let sampler = config_of(&engine, kind, steps);
                let stream = StreamConfig { preview, ..StreamConfig::new(sampler, 3) };
                let frames = reveal(&engine.stream(&stream).unwrap());
                assert!(frames.len() >= steps, "{kind} {steps}");
                let last = &frames[frames.len() - 1];
                assert!(close_to(last, &clean_image(1.0)), "{kind} {steps} {preview:?}");
            }
        }
    }
}

/// Settings that reach every part of a stream config.
fn settings(engine: &Engine) -> Vec<(String, StreamConfig)> {
    let (_, image) = ramp();
    let mut all = Vec::new();
    for kind in Sampler::ALL {
        let mut config = StreamConfig::new(config_of(engine, kind, 7), 11);
        config.start.image = kind.is_inverse().then(|| Arc::clone(&image));
        all.push((kind.to_string(), config));
    }
    let base = |kind| config_of(engine, kind, 9);
    let list = Some(Arc::from([900, 500, 499, 20, 0]));
    let dynamic = Thresholding::Dynamic { ratio: 0.9, max: 1.5 };
    for (name, sampler) in [
        ("dpmpp 3", SamplerConfig { order: Some(3), ..base(Sampler::Dpmpp) }),
        ("unipc 3", SamplerConfig { order: Some(3), ..base(Sampler::Unipc) }),
        ("karras", SamplerConfig { sigmas: SigmaSpacing::Karras, ..base(Sampler::Dpmpp) }),
        ("eta", SamplerConfig { eta: Some(0.7), ..base(Sampler::Ddim) }),
        ("timesteps", SamplerConfig { timesteps: list, ..base(Sampler::Ddim) }),
        ("dynamic", SamplerConfig { thresholding: dynamic, ..base(Sampler::Dpmpp) }),
        ("first", SamplerConfig { final_alpha: FinalAlpha::First, ..base(Sampler::Ddim) }),
    ] {
        all.push((name.to_owned(), StreamConfig::new(sampler, 5)));
    }
    for kind in [Sampler::Ddpm, Sampler::DpmppSde, Sampler::Unipc, Sampler::Heun] {
        let sampler = SamplerConfig { strength: 0.6, ..base(kind) };
        let mut config = StreamConfig::new(sampler, 5);
        config.start.image = Some(Arc::clone(&image));
        all.push((format!("{kind} from an image"), config));
    }
    all
}

fn denoiser(name: &str) -> OnnxDenoiser {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    let source = ModelSource::Path(models.join(format!("{name}.onnx")));
    let options = OnnxOptions { provider: Provider::Cpu, threads: 1, ..OnnxOptions::default() };
    OnnxDenoiser::load(&source, &options).unwrap()
}

/// Reveals a stream of each config beside a run of the same; no two may end in one picture, so that
/// none of the settings is left out on the way. `alike` are names of two that do.
fn streams_are_runs(model: &str, configs: Vec<(String, StreamConfig)>, alike: [&str; 2]) {
    let engine = loaded(model);
    let mut denoiser = denoiser(model);
    let mut pictures: Vec<(String, Vec<u8>)> = Vec::new();
    for (name, config) in configs {
        let frames = reveal(&engine.stream(&config).unwrap());
        let sampler = config.sampler.as_ref().unwrap();
        let mut run = Run::starting(denoiser.config(), sampler, config.start.clone(), 1).unwrap();
        assert_eq!(frames.len(), run.steps(), "{name}");
        for (step, frame) in frames.iter().enumerate() {
            run.step(&mut denoiser).unwrap();
            let mut expected = vec![0; 8 * 8 * 4];
            let color = denoiser.config().color;
            ddpm::image::to_rgba8(run.x0(), color, 8, 8, &mut expected, 32).unwrap();
            assert_eq!(*frame, expected, "{name}, step {step}");
        }
        let last = frames.into_iter().next_back().unwrap();
        for (other, picture) in &pictures {
            let may_be = alike == [other.as_str(), name.as_str()];
            assert!(may_be || *picture != last, "{name} and {other}");
        }
        pictures.push((name, last));
    }
}

#[test]
fn a_stream_is_a_run_of_the_same_settings_bit_for_bit() {
    // Euler's ancestral step over the same timesteps is DDPM's.
    streams_are_runs("lin", settings(&loaded("lin")), ["ddpm", "euler-a"]);
}

#[test]
fn a_stream_of_a_class_with_guidance_is_the_run_of_the_same() {
    let engine = loaded("class_labels");
    let config = |label, guidance| {
        let mut config = StreamConfig::new(config_of(&engine, Sampler::Dpmpp, 6), 2);
        config.start = RunStart { label, guidance, ..config.start };
        (format!("{label:?} {guidance}"), config)
    };
    let configs = vec![
        config(None, 1.0),
        config(Some(0), 1.0),
        config(Some(1), 1.0),
        config(Some(1), 3.0),
        config(Some(2), 0.0),
    ];
    // At scale 0 guidance leaves what the model says of no class.
    streams_are_runs("class_labels", configs, ["None 1", "Some(2) 0"]);
}

#[test]
fn a_reset_repeats_the_run_of_a_sampler_with_a_memory() {
    let engine = loaded("lin");
    let fresh = StreamConfig::new(config_of(&engine, Sampler::Unipc, 9), 4);
    let expected = reveal(&engine.stream(&fresh).unwrap());
    let stream = engine.stream(&fresh).unwrap();
    for steps in 0..9 {
        for _ in 0..steps {
            stream.step().unwrap();
            stream.wait(None).unwrap();
        }
        stream.reset(None).unwrap();
        assert_eq!(reveal(&stream), expected, "after {steps} steps");
        stream.reset(None).unwrap();
    }
}

#[test]
fn strength_takes_whole_steps_from_the_end_of_the_run() {
    let engine = loaded("oracle");
    let (_, image) = ramp();
    for (strength, steps, taken) in [
        (0.04, 20, 0),
        (0.05, 20, 1),
        (0.29, 100, 29),
        (0.3, 10, 3),
        (0.99, 10, 9),
        (1.0, 20, 20),
        (0.0, 20, 0),
    ] {
        let sampler = SamplerConfig { strength, ..config_of(&engine, Sampler::Ddim, steps) };
        let mut config = StreamConfig::new(sampler, 1);
        config.start.image = Some(Arc::clone(&image));
        let stream = engine.stream(&config).unwrap();
        assert_eq!(stream.status().steps, taken, "{strength} of {steps}");
        if taken > 0 {
            assert!(frame(&stream).is_none());
            assert!(close_to(&reveal(&stream).pop().unwrap(), &clean_image(1.0)), "{strength}");
        }
    }
    for strength in [1.01, -0.1, f64::NAN] {
        let sampler = SamplerConfig { strength, ..config_of(&engine, Sampler::Ddim, 20) };
        let mut config = StreamConfig::new(sampler, 1);
        config.start.image = Some(Arc::clone(&image));
        let error = engine.stream(&config).unwrap_err();
        assert!(error.to_string().starts_with("strength: found"), "{error}");
    }
}

#[test]
fn a_director_is_refused_where_the_timesteps_are_not_its_to_choose() {
    let engine = loaded("oracle");
    let (_, image) = ramp();
    let refuses = |sampler: SamplerConfig| {
        let start = RunStart { image: Some(Arc::clone(&image)), ..RunStart::default() };
        let config = StreamConfig { start, director: true, ..StreamConfig::new(sampler, 0) };
        engine.stream(&config).map(|_| ()).map_err(|error| error.to_string())
    };
    let ddim = config_of(&engine, Sampler::Ddim, 20);
    assert_eq!(refuses(ddim.clone()), Ok(()));
    for sampler in [
        SamplerConfig { strength: 0.6, ..ddim.clone() },
        SamplerConfig { sigmas: SigmaSpacing::Karras, ..ddim.clone() },
        ddim.with_kind(Sampler::Heun),
        ddim.with_kind(Sampler::Lcm),
    ] {
        let error = refuses(sampler).unwrap_err();
        assert!(error.starts_with("director: "), "{error}");
    }
}

#[test]
fn a_run_without_steps_is_done_at_once_and_its_image_is_the_frame() {
    let engine = loaded("lin");
    let (pixels, image) = ramp();
    for preview in [Preview::PredOriginalSample, Preview::Sample] {
        let sampler = SamplerConfig { strength: 0.0, ..SamplerConfig::default() };
        let start = RunStart { image: Some(Arc::clone(&image)), ..RunStart::default() };
        let stream = engine.stream(&StreamConfig {
            sampler: Some(sampler),
            start,
            preview,
            ..StreamConfig::default()
        });
        let stream = stream.unwrap();
        for generation in 1..=3 {
            let status = stream.status();
            assert_eq!((status.state, status.step, status.steps), (StreamState::Done, 0, 0));
            assert_eq!(status.generation, generation);
            assert_eq!(stream.step().unwrap(), StepOutcome::Done);
            assert!(stream.wait(None).unwrap());
            stream.cancel();
            let (info, found) = frame(&stream).unwrap();
            assert_eq!((info.generation, info.step, info.steps), (generation, 0, 0));
            assert_eq!(found, pixels);
            assert!(frame(&stream).is_none(), "each frame comes once");
            stream.reset(Some(9)).unwrap();
        }
        stream.seek(0).unwrap();
        assert!(stream.wait(None).unwrap());
        assert_eq!(stream.status().state, StreamState::Done);
        assert_eq!(frame(&stream).map(|(_, found)| found), Some(pixels.clone()));
    }
}

#[test]
fn no_reset_of_a_run_without_steps_loses_its_frame_to_a_copy_at_that_moment() {
    // Few of the resets meet a copy at the wrong moment, so many are made; on a busy machine, fewer.
    const RESETS: u64 = 20_000;
    const TIME: Duration = Duration::from_secs(5);
    let engine = loaded("lin");
    let (pixels, image) = ramp();
    let sampler = SamplerConfig { strength: 0.0, ..SamplerConfig::default() };
    let mut config = StreamConfig::new(sampler, 0);
    config.start.image = Some(image);
    let stream = engine.stream(&config).unwrap();
    let newest = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Copies all the time, so some copies meet a reset half way.
        scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                if let Some((info, found)) = frame(&stream) {
                    assert_eq!(found, pixels);
                    newest.store(info.generation, Ordering::Release);
                }
            }
        });
        let (mut lost, started) = (None, Instant::now());
        for generation in (1..=RESETS).take_while(|_| started.elapsed() < TIME) {
            // Of this frame alone: how long all of them take is the machine's affair.
            let since = Instant::now();
            while newest.load(Ordering::Acquire) < generation && since.elapsed() < HANG {
                std::hint::spin_loop();
            }
            if newest.load(Ordering::Acquire) < generation {
                lost = Some(generation);
                break;
            }
            stream.reset(Some(generation)).unwrap();
            assert_eq!(stream.step().unwrap(), StepOutcome::Done);
        }
        over.store(true, Ordering::Release);
        assert_eq!(lost, None, "a frame was never copied");
    });
}

#[test]
fn start_images_and_lists_that_do_not_fit_are_refused_by_name() {
    let engine = loaded("lin");
    let (_, image) = ramp();
    let refused = |kind, change: &dyn Fn(&mut SamplerConfig, &mut RunStart)| {
        let mut config = StreamConfig::new(config_of(&engine, kind, 5), 0);
        change(config.sampler.as_mut().unwrap(), &mut config.start);
        let error = engine.stream(&config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        error.to_string()
    };
    let list = |list: &'static [usize]| {
        refused(Sampler::Ddim, &|sampler, _| sampler.timesteps = Some(Arc::from(list)))
    };
    for (found, expected) in [
        (list(&[]), "timesteps: found none"),
        (list(&[500, 500]), "timesteps[1]: found 500 after 500"),
        (list(&[1, 2]), "timesteps[1]: found 2 after 1"),
        (list(&[1000]), "timesteps[0]: found 1000, expected 0 to 999"),
        (refused(Sampler::DdimInverse, &|_, _| {}), "image: found none"),
        (refused(Sampler::Ddim, &|s, _| s.strength = 0.5), "strength: found 0.5 without an image"),
        (
            refused(Sampler::Ddim, &|_, start| start.image = Some(image[1..].into())),
            "image: found 191 values, expected 192",
        ),
        (refused(Sampler::Ddim, &|_, start| start.label = Some(0)), "class: found 0"),
        (refused(Sampler::Ddim, &|_, start| start.guidance = 2.0), "guidance: found 2"),
    ] {
        assert!(found.starts_with(expected), "{found}");
    }
}

#[test]
fn the_engine_knows_the_noise_schedule_of_its_model() {
    let engine = loaded("v_prediction");
    let schedule = engine.noise_schedule().unwrap();
    assert_eq!(schedule.num_train_timesteps(), 500);
    assert_ne!(schedule.alphas_cumprod(), NoiseSchedule::ddpm().alphas_cumprod());
    assert_eq!(*schedule, engine.info().unwrap().model.noise_schedule().unwrap());
    let loading = Engine::new(config("endless_load")).unwrap();
    assert_eq!(loading.noise_schedule().unwrap_err().kind(), ErrorKind::EngineLoading);
}
