//! The host's frame path does not allocate: a global allocator counts, thread by thread.
//!
//! A binary of its own, since the allocator is the whole process's.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use std::sync::Arc;

use ddpm::engine::{
    Engine, EngineConfig, FrameFormat, PlaybackConfig, Provider, StepOutcome, StreamConfig,
    StreamState,
};
use ddpm::error::Result;
use ddpm::model::{Classes, Denoiser, ModelConfig};
use ddpm::run::{Branch, Checkpoints, Run, RunStart, RunState};
use ddpm::sampler::{Sampler, SamplerConfig, Thresholding};
use ndarray::{ArrayView4, ArrayViewMut4};

struct Counting;

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // At a thread's end the counter may be gone, and then nobody asks for it.
    let _ = CALLS.try_with(|calls| calls.set(calls.get() + 1));
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count();
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocator calls that `work` makes on this thread.
fn calls<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = CALLS.get();
    let value = work();
    (CALLS.get() - before, value)
}

#[test]
fn the_frame_path_makes_no_allocator_call_on_the_hosts_thread() {
    assert_ne!(calls(|| vec![0u8; 100]).0, 0, "the allocator does not count");

    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models");
    // One model that is done before the next look, and one that is always busy.
    for (name, kind, format) in [
        ("lin", Sampler::Ddpm, FrameFormat::RgbaF32),
        ("lin", Sampler::Dpmpp, FrameFormat::PlanarF32),
        ("lin", Sampler::Unipc, FrameFormat::Rgba8),
        ("slow", Sampler::Ddpm, FrameFormat::Rgba8),
    ] {
        let mut config = EngineConfig::new(models.join(format!("{name}.onnx")));
        config.provider = Provider::Cpu;
        let engine = Engine::new(config).unwrap();
        engine.wait(None).unwrap();
        let sampler = engine.info().unwrap().model.sampler_config(kind, 100);
        let config = StreamConfig { format, ..StreamConfig::new(sampler, 0) };
        let stream = engine.stream(&config).unwrap();
        let mut pixels = vec![0; 8 * stream.row_bytes() * 3];
        // Never shortened, so that a slow machine has the steps to seek to as well.
        let steady = PlaybackConfig { fewest_steps: 100, ..PlaybackConfig::new(0.5) };
        let (mut accepted, mut frames) = (0, 0);
        for round in 0u64..20_000 {
            let (made, outcome) = calls(|| stream.step().unwrap());
            assert_eq!(made, 0, "{name}: step, {outcome:?} in round {round}");
            accepted += u32::from(outcome == StepOutcome::Accepted);
            let (made, status) = calls(|| stream.status());
            assert_eq!(made, 0, "{name}: status, {status:?}");
            // Copied and acquired in turn; the guard of the latter is dropped in there too.
            let (made, frame) = calls(|| match round % 2 {
                0 => stream.copy_frame(&mut pixels, 0).unwrap(),
                _ => stream.acquire_frame().unwrap().map(|frame| frame.info()),
            });
            assert_eq!(made, 0, "{name}: round {round}, {frame:?}");
            frames += u32::from(frame.is_some());
            if round % 500 == 499 {
                assert_eq!(calls(|| stream.cancel()).0, 0, "{name}: cancel");
            }
            if round % 500 == 499 || status.state == StreamState::Done {
                let (made, ()) = calls(|| stream.reset(Some(round)).unwrap());
                assert_eq!(made, 0, "{name}: reset");
            }
            if round % 100 == 7 {
                let seeks = calls(|| {
                    stream.seek(round as u32 % 8).unwrap();
                    stream.pause();
                    stream.resume();
                });
                assert_eq!(seeks.0, 0, "{name}: seek");
                let (made, ()) = calls(|| stream.play(steady).unwrap());
                assert_eq!(made, 0, "{name}: play");
            } else if round > 7 {
                let (made, outcome) = calls(|| stream.tick(1e-4).unwrap());
                assert_eq!(made, 0, "{name}: tick, {outcome:?}");
            }
            // Let the worker in, on a machine with one core too.
            std::thread::yield_now();
        }
        assert!(accepted > 0, "{name}: {accepted} steps");
        stream.reset(None).unwrap();
        while frames == 0 {
            stream.step().unwrap();
            stream.wait(None).unwrap();
            let (made, frame) = calls(|| stream.copy_frame(&mut pixels, 0).unwrap());
            assert_eq!(made, 0);
            frames += u32::from(frame.is_some());
        }
    }
}

/// Half of the sample, a little more for a higher label.
struct Halves(ModelConfig);

impl Denoiser for Halves {
    fn config(&self) -> &ModelConfig {
        &self.0
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        _timesteps: &[f64],
        labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        output.zip_mut_with(&sample, |out, x| *out = 0.5 * x + 0.1 * labels[0] as f32);
        Ok(())
    }
}

#[test]
fn a_run_of_any_sampler_takes_all_its_memory_when_it_is_made() {
    let mut model = ModelConfig::ddpm(3, 8, 8);
    model.classes = Some(Classes { count: Some(2), null: Some(2) });
    let image: Arc<[f32]> = vec![0.25; model.sample_len(1).unwrap()].into();
    let mut denoiser = Halves(model.clone());
    for kind in Sampler::ALL {
        for order in [None, Some(3)] {
            let sampler = SamplerConfig {
                thresholding: Thresholding::Dynamic { ratio: 0.995, max: 2.0 },
                order,
                strength: 0.8,
                ..model.sampler_config(kind, 20)
            };
            if model.check_sampler(&sampler).is_err() {
                assert!(order.is_some(), "{kind}");
                continue;
            }
            let start = RunStart {
                seed: 3,
                label: Some(1),
                guidance: 2.0,
                image: Some(Arc::clone(&image)),
                branches: vec![Branch { step: 3, seed: 4, variation: 0.5 }],
            };
            let mut run = Run::starting(&model, &sampler, start, 1).unwrap();
            let mut state = RunState::new(&run).unwrap();
            let mut kept = Checkpoints::new(&run, 4 * state.bytes()).unwrap();
            let mut others = Checkpoints::new(&run, 4 * state.bytes()).unwrap();
            let (made, ()) = calls(|| {
                for seed in 0..2 {
                    while run.step(&mut denoiser).unwrap() {
                        kept.record(&run);
                    }
                    run.save_state(&mut state).unwrap();
                    kept.copy_up_to(&mut others, 9);
                    run.seek_start(&others, 9).unwrap();
                    run.step(&mut denoiser).unwrap();
                    run.restore_state(&state).unwrap();
                    kept.clear();
                    run.seek_start(&kept, 2).unwrap();
                    while run.step(&mut denoiser).unwrap() {}
                    run.reset(seed);
                }
            });
            assert_eq!(made, 0, "{kind}, order {order:?}");
        }
    }
}
