//! Every order of events between hosts that step, cancel, reset, seek and close, and the worker: its
//! real loop with a model that halves.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use loom::thread::{self, JoinHandle};
use ndarray::{ArrayView4, ArrayViewMut4};

use super::loom_sync::check;
use super::progress::Goal;
use super::*;
use crate::model::{FusedAsk, FusedSteps, ModelConfig};
use crate::run::{Run, RunStart};
use crate::sampler::{Sampler, SamplerConfig};
use crate::step::STATE_PARTS;

/// Steps of each run.
const STEPS: usize = 2;

fn config() -> ModelConfig {
    // A short schedule, since there is a new one for each order of events.
    ModelConfig { num_train_timesteps: 4, ..ModelConfig::ddpm(1, 1, 1) }
}

/// How a model's call ends.
#[derive(Clone, Copy, PartialEq)]
enum Ends {
    ByItself,
    /// Not before it is broken off or stopped.
    WhenBrokenOff,
}

/// What breaks off the one call, as [`Stopper`] says: the call that is going on, or else the next one.
struct Breaker {
    state: Mutex<Breaks>,
    changed: Condvar,
    /// Calls that came to an end. Not one of the checker's, so that counting is no event.
    calls: AtomicU32,
}

#[derive(Default)]
struct Breaks {
    asked: bool,
    stopped: bool,
    was_broken_off: bool,
}

impl Breaker {
    fn new() -> Arc<Self> {
        let state = Mutex::new(Breaks::default());
        Arc::new(Self { state, changed: Condvar::new(), calls: AtomicU32::new(0) })
    }

    fn calls(&self) -> u32 {
        self.calls.load(std::sync::atomic::Ordering::Relaxed)
    }
}

impl Stopper for Breaker {
    fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_all();
    }

    fn break_off(&self) {
        self.state.lock().asked = true;
        self.changed.notify_all();
    }

    fn was_broken_off(&self) -> bool {
        self.state.lock().was_broken_off
    }
}

struct Halves {
    config: ModelConfig,
    ends: Ends,
    breaker: Arc<Breaker>,
    /// What fused steps have of the one sample, where there are any.
    away: Option<[f32; STATE_PARTS]>,
}

impl FusedSteps for Halves {
    fn step(&mut self, _place: usize, ask: FusedAsk<'_>) -> Result<bool> {
        let held = self.away.get_or_insert_default();
        if let Some(state) = ask.state {
            held.copy_from_slice(state);
        }
        let [row] = ask.rows else { panic!("{} rows", ask.rows.len()) };
        let m = 0.5 * held[0];
        let x0 = (row.terms[0] * f64::from(held[0]) + row.terms[1] * f64::from(m))
            .clamp(row.terms[2], row.terms[3]);
        let slots = held.iter().map(|&value| value.into()).chain([m.into(), x0, 0.0]);
        let slots: Vec<f64> = slots.collect();
        let made = row.matrix.map(|row| {
            row.iter().zip(&slots).map(|(share, value)| share * value).sum::<f64>() as f32
        });
        held.copy_from_slice(&made[..STATE_PARTS]);
        if let Some([shown]) = ask.shown {
            *shown = made[STATE_PARTS];
        }
        self.breaker.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(true)
    }

    fn fetch(&mut self, _place: usize, state: &mut [f32]) -> Result<()> {
        state.copy_from_slice(&self.away.unwrap());
        Ok(())
    }
}

impl Denoiser for Halves {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        _timesteps: &[f64],
        _labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        let mut state = self.breaker.state.lock();
        while self.ends == Ends::WhenBrokenOff && !state.asked && !state.stopped {
            self.breaker.changed.wait(&mut state);
        }
        state.was_broken_off = std::mem::take(&mut state.asked);
        if state.was_broken_off || state.stopped {
            return Err(Error::new(ErrorKind::Inference, "broken off"));
        }
        self.breaker.calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        output.zip_mut_with(&sample, |out, &x| *out = 0.5 * x);
        Ok(())
    }

    fn fused(&mut self) -> Option<&mut dyn FusedSteps> {
        self.away.is_some().then_some(self as &mut dyn FusedSteps)
    }
}

fn core(sampler: &SamplerConfig, start: RunStart) -> Arc<StreamCore> {
    let run = Run::starting(&config(), sampler, start, 1).unwrap();
    let options = Options { format: FrameFormat::PlanarF32, ..tests::options() };
    Arc::new(StreamCore::new(&config(), run, options).unwrap())
}

/// A worker, and what its owner has of it.
struct Bench {
    shared: Arc<Shared<()>>,
    outbox: Outbox<Shown>,
    breaker: Arc<Breaker>,
    worker: JoinHandle<()>,
}

/// A stream with its way to the worker.
struct Stream {
    link: Link<()>,
    core: Arc<StreamCore>,
}

impl Bench {
    fn start(max_batch: usize, ends: Ends) -> Self {
        Self::of(max_batch, ends, None)
    }

    /// One whose model makes whole steps, of one stream.
    fn fused() -> Self {
        Self::of(1, Ends::ByItself, Some([0.0; STATE_PARTS]))
    }

    fn of(max_batch: usize, ends: Ends, away: Option<[f32; STATE_PARTS]>) -> Self {
        let breaker = Breaker::new();
        let shared = Arc::new(Shared::new(Arc::clone(&breaker) as Arc<dyn Stopper>));
        // A place for each stream, and no more: there are as many as go into one call.
        let (outbox, mut inbox) = inbox(max_batch);
        let denoiser =
            Box::new(Halves { config: config(), ends, breaker: Arc::clone(&breaker), away });
        let own = Arc::clone(&shared);
        let worker = thread::spawn(move || {
            live(&own, &mut inbox, max_batch, || Ok(Loaded { denoiser, info: () }));
        });
        Self { shared, outbox, breaker, worker }
    }

    fn stream(&self) -> Arc<Stream> {
        self.stream_of(0)
    }

    fn stream_of(&self, seed: u64) -> Arc<Stream> {
        // The handle is for naps, which are not modelled, and to tell the worker from hosts: all that the
        // checker runs is one thread to the system.
        let worker = std::thread::Builder::new().spawn(|| {}).unwrap().thread().clone();
        let link = Link::new(&self.shared, &self.outbox, &worker).unwrap();
        let sampler = config().sampler_config(Sampler::Ddim, STEPS);
        Arc::new(Stream { link, core: core(&sampler, RunStart { seed, ..RunStart::default() }) })
    }

    /// Ends the worker once it comes out of the model.
    fn close_without_a_stop(self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.outbox.wake();
        self.worker.join().unwrap();
    }

    /// Closes the engine and waits for the worker.
    fn close(self) {
        self.shared.close(&self.outbox);
        self.worker.join().unwrap();
    }
}

impl Stream {
    fn step(&self) -> StepOutcome {
        self.link.step(&self.core).unwrap()
    }

    /// Waits until nothing is in flight; the state then.
    fn settle(&self) -> (StreamState, u32) {
        assert!(self.link.wait(&self.core, None).unwrap());
        let status = self.core.status();
        (status.state, status.step)
    }

    /// The step that a new frame shows, and its pixels.
    fn picture(&self) -> Option<(u32, Vec<u8>)> {
        self.core.acquire_frame().unwrap().map(|frame| (frame.info().step, frame.to_vec()))
    }

    /// The step that a new frame shows.
    fn frame(&self) -> Option<u32> {
        self.picture().map(|(step, _)| step)
    }
}

#[test]
fn a_step_that_is_asked_for_is_made_once_and_whoever_waits_hears_of_it() {
    check(Some(5), || {
        let bench = Bench::start(1, Ends::ByItself);
        let stream = bench.stream();
        assert_eq!(stream.step(), StepOutcome::Accepted);
        assert_eq!(stream.settle(), (StreamState::Idle, 1));
        assert_eq!(stream.frame(), Some(1));
        assert_eq!(stream.step(), StepOutcome::Accepted);
        assert_eq!(stream.settle(), (StreamState::Done, 2));
        assert_eq!(stream.frame(), Some(2));
        assert_eq!(stream.step(), StepOutcome::Done);
        assert_eq!(bench.breaker.calls(), 2);
        bench.close();
    });
}

#[test]
fn two_that_ask_at_once_get_a_step_for_each_time_it_was_accepted() {
    check(Some(4), || {
        let bench = Bench::start(1, Ends::ByItself);
        let stream = bench.stream();
        let same = Arc::clone(&stream);
        let other = thread::spawn(move || same.step());
        let outcomes = [stream.step(), other.join().unwrap()];
        let accepted = outcomes.iter().filter(|&&found| found == StepOutcome::Accepted).count();
        let (_, made) = stream.settle();
        assert_eq!((made as usize, bench.breaker.calls() as usize), (accepted, accepted));
        assert_eq!(stream.frame(), Some(made));
        bench.close();
    });
}

#[test]
fn a_goal_raised_while_the_worker_goes_idle_is_reached() {
    check(Some(6), || {
        let bench = Bench::start(1, Ends::ByItself);
        let stream = bench.stream();
        stream.step();
        stream.link.ask(&stream.core, Goal::Until { epoch: 0, step: 2 }).unwrap();
        assert_eq!(stream.settle(), (StreamState::Done, 2));
        assert_eq!(bench.breaker.calls(), 2);
        bench.close();
    });
}

#[test]
fn a_step_that_was_cancelled_counts_and_shows_or_does_neither() {
    check(Some(5), || {
        let bench = Bench::start(1, Ends::ByItself);
        let stream = bench.stream();
        stream.step();
        stream.link.cancel(&stream.core);
        let (state, step) = stream.settle();
        assert_eq!(state, StreamState::Cancelled);
        assert_eq!(stream.step(), StepOutcome::Done);
        // What counts may be published a moment later.
        bench.close();
        assert_eq!(stream.core.status().step, step);
        assert_eq!(stream.frame(), (step == 1).then_some(1));
    });
}

#[test]
fn a_run_after_a_cancel_is_as_any_other() {
    check(Some(4), || {
        let bench = Bench::start(1, Ends::ByItself);
        let stream = bench.stream();
        stream.step();
        stream.link.cancel(&stream.core);
        stream.link.reset(&stream.core, None).unwrap();
        assert_eq!(stream.core.status().step, 0);
        assert!(stream.frame().is_none(), "a frame of the run before");
        assert_eq!(stream.step(), StepOutcome::Accepted);
        assert_eq!(stream.settle(), (StreamState::Idle, 1));
        assert_eq!((stream.frame(), stream.frame()), (Some(1), None));
        bench.close();
    });
}

#[test]
fn what_a_reset_or_a_seek_discards_leaves_no_trace() {
    for target in [None, Some(1), Some(2)] {
        check(Some(3), move || {
            let bench = Bench::start(1, Ends::ByItself);
            let stream = bench.stream();
            stream.step();
            let expected = match target {
                None => {
                    // Shown three times, though its place in the queue is one.
                    stream.link.reset(&stream.core, Some(2)).unwrap();
                    stream.step();
                    stream.link.reset(&stream.core, Some(3)).unwrap();
                    stream.step();
                    (StreamState::Idle, 1)
                }
                Some(step) => {
                    stream.link.seek(&stream.core, step).unwrap();
                    let end =
                        if step as usize == STEPS { StreamState::Done } else { StreamState::Idle };
                    (end, step)
                }
            };
            assert_eq!(stream.settle(), expected);
            let (step, pixels) = stream.picture().unwrap();
            assert_eq!((step, stream.frame()), (expected.1, None));
            let alone = bench.stream_of(if target.is_none() { 3 } else { 0 });
            for _ in 0..step {
                alone.step();
                alone.settle();
            }
            assert_eq!(alone.picture(), Some((step, pixels)));
            bench.close();
        });
    }
}

#[test]
fn a_run_of_the_model_that_nobody_wants_any_more_is_broken_off() {
    check(Some(4), || {
        let bench = Bench::start(2, Ends::WhenBrokenOff);
        let streams = [bench.stream(), bench.stream()];
        let other = Arc::clone(&streams[1]);
        let cancelling = thread::spawn(move || {
            other.step();
            other.link.cancel(&other.core);
        });
        streams[0].step();
        streams[0].link.cancel(&streams[0].core);
        cancelling.join().unwrap();
        bench.close_without_a_stop();
    });
}

#[test]
fn a_cancel_never_costs_another_stream_its_step() {
    check(Some(4), || {
        let bench = Bench::start(2, Ends::ByItself);
        let (kept, dropped) = (bench.stream(), bench.stream());
        let other = Arc::clone(&dropped);
        let cancelling = thread::spawn(move || {
            other.step();
            other.link.cancel(&other.core);
        });
        assert_eq!(kept.step(), StepOutcome::Accepted);
        assert_eq!(kept.settle(), (StreamState::Idle, 1));
        assert_eq!(kept.frame(), Some(1));
        cancelling.join().unwrap();
        bench.close();
    });
}

#[test]
fn a_close_leaves_no_stream_stepping() {
    check(Some(5), || {
        let bench = Bench::start(1, Ends::ByItself);
        let stream = bench.stream();
        let same = Arc::clone(&stream);
        let stepping = thread::spawn(move || {
            let _ = same.link.step(&same.core);
            same.link.wait(&same.core, None).is_ok()
        });
        bench.close();
        let made = stepping.join().unwrap();
        let status = stream.core.status();
        match status.state {
            StreamState::Idle => assert!(made),
            StreamState::Failed => assert!(!made),
            state => panic!("{state:?}"),
        }
        let error = stream.link.step(&stream.core).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EngineClosed);
    });
}

/// The sample after each step, that of the start first.
fn straight() -> [f32; STEPS + 1] {
    let sampler = config().sampler_config(Sampler::Ddim, STEPS);
    let mut run = Run::starting(&config(), &sampler, RunStart::default(), 1).unwrap();
    std::array::from_fn(|step| {
        if step > 0 {
            let halved = [0.5 * run.sample()[0]];
            run.answer(&halved).unwrap();
        }
        run.sample()[0]
    })
}

#[test]
fn a_run_whose_sample_is_away_is_looked_at_whole_and_goes_on() {
    let straight = straight();
    check(Some(3), move || {
        let bench = Bench::fused();
        let stream = bench.stream();
        let same = Arc::clone(&stream);
        let looking = thread::spawn(move || {
            same.link.look_at_run(&same.core, |run| Ok((run.step_index(), run.sample()[0])))
        });
        for step in 1..=STEPS {
            assert_eq!(stream.step(), StepOutcome::Accepted);
            assert_eq!(stream.settle().1 as usize, step);
            assert_eq!(stream.frame(), Some(step as u32));
        }
        let (step, sample) = looking.join().unwrap().unwrap();
        assert_eq!(sample, straight[step]);
        let (step, sample) = stream
            .link
            .look_at_run(&stream.core, |run| Ok((run.step_index(), run.sample()[0])))
            .unwrap();
        assert_eq!((step, sample), (STEPS, straight[STEPS]));
        assert_eq!(bench.breaker.calls() as usize, STEPS);
        bench.close();
    });
}

#[test]
fn a_look_at_a_run_ends_whatever_becomes_of_the_engine() {
    check(Some(3), || {
        let bench = Bench::fused();
        let stream = bench.stream();
        stream.step();
        let same = Arc::clone(&stream);
        let looking = thread::spawn(move || same.link.look_at_run(&same.core, |_| Ok(())));
        bench.close();
        if let Err(error) = looking.join().unwrap() {
            assert_eq!(error.kind(), ErrorKind::EngineClosed);
        }
    });
}

#[test]
fn a_reset_while_the_sample_is_away_begins_anew() {
    let straight = straight();
    check(Some(3), move || {
        let bench = Bench::fused();
        let stream = bench.stream();
        stream.step();
        stream.link.reset(&stream.core, None).unwrap();
        assert_eq!(stream.step(), StepOutcome::Accepted);
        assert_eq!(stream.settle(), (StreamState::Idle, 1));
        let (step, sample) = stream
            .link
            .look_at_run(&stream.core, |run| Ok((run.step_index(), run.sample()[0])))
            .unwrap();
        assert_eq!((step, sample), (1, straight[1]));
        bench.close();
    });
}

#[test]
fn a_reset_of_a_run_without_steps_is_seen_with_its_frame() {
    /// The generation of a new frame; none too while another has one.
    fn take(core: &StreamCore) -> Option<u64> {
        core.acquire_frame().ok().flatten().map(|frame| frame.info().generation)
    }
    check(None, || {
        let base = config().sampler_config(Sampler::Ddim, STEPS);
        let sampler = SamplerConfig { strength: 0.0, ..base };
        let start = RunStart { image: Some([0.5].into()), ..RunStart::default() };
        let core = core(&sampler, start);
        let same = Arc::clone(&core);
        let taking = thread::spawn(move || [take(&same), take(&same)]);
        core.reset(None).unwrap();
        let taken = taking.join().unwrap();
        let rest = take(&core);
        let last = taken.into_iter().chain([rest]).filter(|&found| found == Some(2));
        assert_eq!(last.count(), 1, "{taken:?} {rest:?}");
    });
}
