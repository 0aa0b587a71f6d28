//! The worker with models made for the occasion: blocked, failing and panicking ones.

use std::sync::mpsc;

use ndarray::{ArrayView4, ArrayViewMut4};

use super::*;
use crate::model::ModelConfig;
use crate::run::{Run, RunStart};
use crate::sampler::{Sampler, SamplerConfig};

/// The time after which something that should end at once is taken to hang.
const HANG: Option<Duration> = Some(Duration::from_secs(60));

/// Halves its sample, after whatever `before` does with the timestep.
struct Fake<F> {
    config: ModelConfig,
    before: F,
}

impl<F: FnMut(f64) -> Result<()> + Send> Denoiser for Fake<F> {
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
        (self.before)(timesteps[0])?;
        output.zip_mut_with(&sample, |out, &x| *out = 0.5 * x);
        Ok(())
    }
}

/// For a model that ends by itself, and one that ends when `stop` was called.
pub(super) struct OnStop<F>(pub(super) F);

impl<F: Fn() + Send + Sync> Stopper for OnStop<F> {
    fn stop(&self) {
        (self.0)();
    }

    fn break_off(&self) {}

    fn was_broken_off(&self) -> bool {
        false
    }
}

fn model() -> ModelConfig {
    ModelConfig::ddpm(1, 4, 4)
}

fn worker(before: impl FnMut(f64) -> Result<()> + Send + 'static) -> Worker<()> {
    let denoiser = Box::new(Fake { config: model(), before });
    let worker =
        Worker::spawn(Arc::new(OnStop(|| {})), 1, || Ok(Loaded { denoiser, info: () })).unwrap();
    worker.wait(None).unwrap();
    worker
}

/// Shows x_t, and keeps every state.
pub(super) fn options() -> Options {
    Options {
        preview: Preview::Sample,
        format: FrameFormat::Rgba8,
        priority: Priority::Normal,
        director: false,
        checkpoint_bytes: 1 << 20,
    }
}

pub(super) fn core_of(
    model: &ModelConfig,
    sampler: &SamplerConfig,
    start: RunStart,
) -> Arc<StreamCore> {
    let run = Run::starting(model, sampler, start, 1).unwrap();
    Arc::new(StreamCore::new(model, run, options()).unwrap())
}

fn stream(seed: u64) -> Arc<StreamCore> {
    let sampler = model().sampler_config(Sampler::Ddpm, 5);
    let start = RunStart { seed, ..RunStart::default() };
    core_of(&model(), &sampler, start)
}

/// A model that announces each call and then waits to be let go.
struct Gate {
    entered: mpsc::Receiver<f64>,
    leave: mpsc::Sender<()>,
}

fn gated() -> (Gate, impl FnMut(f64) -> Result<()> + Send) {
    let (enter, entered) = mpsc::channel();
    let (leave, left) = mpsc::channel();
    let before = move |t| {
        enter.send(t).unwrap();
        left.recv().unwrap();
        Ok(())
    };
    (Gate { entered, leave }, before)
}

fn frame(core: &StreamCore) -> Option<(FrameInfo, Vec<u8>)> {
    let mut pixels = vec![0; 4 * 4 * 4];
    let info = core.copy_frame(&mut pixels, 16).unwrap()?;
    Some((info, pixels))
}

fn one_step(link: &Link<()>, core: &Arc<StreamCore>) {
    assert_eq!(link.step(core).unwrap(), StepOutcome::Accepted);
    assert!(core.wait(None).unwrap());
}

#[test]
fn a_reset_discards_the_step_in_flight() {
    let (gate, before) = gated();
    let worker = worker(before);
    let (link, core) = (worker.link().unwrap(), stream(1));
    link.step(&core).unwrap();
    gate.entered.recv().unwrap();
    link.reset(&core, Some(2)).unwrap();
    assert_eq!(core.status().state, StreamState::Idle);
    // Accepted at once, though the old step still runs.
    assert_eq!(link.step(&core).unwrap(), StepOutcome::Accepted);
    gate.leave.send(()).unwrap();
    gate.entered.recv().unwrap();
    // The old step is over and left no trace.
    assert_eq!((core.status().step, core.status().generation), (0, 0));
    assert!(frame(&core).is_none());
    gate.leave.send(()).unwrap();
    core.wait(None).unwrap();
    let (info, pixels) = frame(&core).unwrap();
    assert_eq!(info.step, 1);

    let fresh = stream(2);
    link.step(&fresh).unwrap();
    gate.entered.recv().unwrap();
    gate.leave.send(()).unwrap();
    fresh.wait(None).unwrap();
    assert_eq!(frame(&fresh).unwrap().1, pixels);
}

#[test]
fn a_cancel_discards_the_step_in_flight_and_keeps_the_last_frame() {
    let (gate, before) = gated();
    let worker = worker(before);
    let (link, core) = (worker.link().unwrap(), stream(1));
    gate.leave.send(()).unwrap();
    one_step(&link, &core);
    gate.entered.recv().unwrap();
    link.step(&core).unwrap();
    gate.entered.recv().unwrap();
    link.cancel(&core);
    assert!(core.wait(None).unwrap());
    gate.leave.send(()).unwrap();
    assert_eq!(link.step(&core).unwrap(), StepOutcome::Done);
    let status = core.status();
    assert_eq!((status.state, status.step), (StreamState::Cancelled, 1));
    assert_eq!(frame(&core).unwrap().0.step, 1);
}

#[test]
fn streams_take_turns() {
    let (gate, before) = gated();
    let worker = worker(before);
    let link = worker.link().unwrap();
    let cores = [stream(1), stream(2), stream(3)];
    link.step(&cores[0]).unwrap();
    for _ in 0..6 {
        gate.entered.recv().unwrap();
        // All want a step; the one being served is busy.
        let taken = cores.each_ref().map(|core| link.step(core).unwrap());
        assert!(taken.contains(&StepOutcome::Busy));
        gate.leave.send(()).unwrap();
    }
    gate.entered.recv().unwrap();
    let steps = cores.each_ref().map(|core| core.status().step);
    assert_eq!(steps, [2; 3]);
    gate.leave.send(()).unwrap();
    // Let the rest through.
    drop(gate.leave);
}

#[test]
fn an_engine_takes_no_more_streams_than_its_queue_has_places() {
    let (gate, before) = gated();
    let worker = worker(before);
    let links: Vec<_> = (0..MAX_STREAMS).map(|_| worker.link().unwrap()).collect();
    let cores: Vec<_> = (0..MAX_STREAMS as u64).map(stream).collect();
    let step = |index: usize| links[index].step(&cores[index]).unwrap();
    assert_eq!(step(0), StepOutcome::Accepted);
    gate.entered.recv().unwrap();
    for index in 1..MAX_STREAMS {
        assert_eq!(step(index), StepOutcome::Accepted);
    }
    let refused = worker.link().err().unwrap();
    assert_eq!(refused.kind(), ErrorKind::OutOfMemory);
    assert!(refused.to_string().starts_with("streams: found 4096"), "{refused}");
    // A dropped stream keeps its place until it is out of the queue, so the queue never is full.
    links.iter().zip(&cores).for_each(|(link, core)| link.cancel(core));
    drop(links);
    let only = worker.link().unwrap();
    assert!(worker.link().is_err());
    drop(only);
    drop(gate);
    let deadline = Instant::now() + HANG.unwrap();
    while worker.link().is_err() {
        assert!(Instant::now() < deadline, "places are not given back");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_close_ends_the_step_in_flight_and_those_that_wait() {
    let (enter, entered) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    let denoiser = Box::new(Fake {
        config: model(),
        before: move |_| {
            enter.send(()).unwrap();
            stopped.recv().unwrap();
            Err(Error::new(ErrorKind::Inference, "terminated"))
        },
    });
    let stop = Mutex::new(stop);
    let stopper = Arc::new(OnStop(move || {
        let _ = stop.lock().send(());
    }));
    let worker = Worker::spawn(stopper, 1, || Ok(Loaded { denoiser, info: () })).unwrap();
    worker.wait(None).unwrap();
    let link = worker.link().unwrap();
    // Two wait: the one that the thread takes up when it stops, and one left in the queue.
    let (running, next, waiting) = (stream(1), stream(2), stream(3));
    link.step(&running).unwrap();
    entered.recv().unwrap();
    link.step(&next).unwrap();
    link.step(&waiting).unwrap();
    let waiter = {
        let waiting = Arc::clone(&waiting);
        thread::spawn(move || waiting.wait(HANG).unwrap_err())
    };
    worker.close().unwrap();
    assert_eq!(waiter.join().unwrap().kind(), ErrorKind::EngineClosed);
    for core in [&running, &next, &waiting] {
        assert_eq!(core.wait(HANG).unwrap_err().kind(), ErrorKind::EngineClosed);
        assert_eq!(link.step(core).unwrap_err().kind(), ErrorKind::EngineClosed);
    }
    assert_eq!(worker.state(), EngineState::Closed);
    assert_eq!(worker.wait(None).unwrap_err().kind(), ErrorKind::EngineClosed);
    worker.close().unwrap();
}

#[test]
fn an_error_stays_with_its_stream_until_a_reset() {
    let worker =
        worker(|t| if t < 500.0 { Err(Error::new(ErrorKind::Inference, "low")) } else { Ok(()) });
    let (link, core, other) = (worker.link().unwrap(), stream(1), stream(2));
    one_step(&link, &core);
    one_step(&link, &core);
    one_step(&link, &core);
    link.step(&core).unwrap();
    for _ in 0..2 {
        assert_eq!(core.wait(None).unwrap_err().message(), "low");
        assert_eq!(link.step(&core).unwrap_err().message(), "low");
    }
    assert_eq!((core.status().state, core.status().step), (StreamState::Failed, 3));
    one_step(&link, &other);
    link.reset(&core, None).unwrap();
    one_step(&link, &core);
    assert_eq!(worker.state(), EngineState::Ready);
}

#[test]
fn a_panic_in_a_step_is_an_error_everywhere_and_no_crash() {
    let worker = worker(|t| if t < 900.0 { panic!("at {t}") } else { Ok(()) });
    let (link, core, other) = (worker.link().unwrap(), stream(1), stream(2));
    one_step(&link, &core);
    link.step(&core).unwrap();
    let error = core.wait(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("at 799"), "{error}");
    link.step(&other).unwrap();
    assert_eq!(other.wait(None).unwrap_err(), error);
    assert_eq!(worker.state(), EngineState::Failed);
    assert_eq!(worker.info().unwrap_err(), error);
    worker.close().unwrap();
}

#[test]
fn a_panic_in_the_load_is_a_failed_load() {
    let worker = Worker::<()>::spawn(Arc::new(OnStop(|| {})), 1, || panic!("loading")).unwrap();
    let error = worker.wait(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.to_string().contains("loading"), "{error}");
    assert_eq!(worker.wait(None).unwrap_err(), error);
}

#[test]
fn the_thread_cannot_close_itself() {
    let (send, receive) = mpsc::channel::<Arc<Worker<()>>>();
    let (told, tell) = mpsc::channel();
    let denoiser = Box::new(Fake {
        config: model(),
        before: move |_| {
            let own = receive.recv().unwrap();
            told.send(own.close().unwrap_err().kind()).unwrap();
            // The last handle may go here as well, and must not wait for this thread.
            drop(own);
            Ok(())
        },
    });
    let worker = Arc::new(
        Worker::spawn(Arc::new(OnStop(|| {})), 1, || Ok(Loaded { denoiser, info: () })).unwrap(),
    );
    worker.wait(None).unwrap();
    let (link, core) = (worker.link().unwrap(), stream(1));
    link.step(&core).unwrap();
    send.send(worker).unwrap();
    assert_eq!(tell.recv().unwrap(), ErrorKind::InvalidArgument);
}

#[test]
fn a_queued_step_that_is_cancelled_is_never_run() {
    let calls = Arc::new(Mutex::new(0));
    let (gate, mut before) = gated();
    let counted = Arc::clone(&calls);
    let worker = worker(move |t| {
        *counted.lock() += 1;
        before(t)
    });
    let (link, first, second) = (worker.link().unwrap(), stream(1), stream(2));
    link.step(&first).unwrap();
    gate.entered.recv().unwrap();
    link.step(&second).unwrap();
    link.cancel(&second);
    (0..3).for_each(|_| gate.leave.send(()).unwrap());
    assert!(first.wait(HANG).unwrap());
    // The queue is served in order: once this is over, the cancelled one was passed by.
    one_step(&link, &first);
    assert_eq!(*calls.lock(), 2);
}
