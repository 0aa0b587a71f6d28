//! Seeks, branches, goals, pauses and cancels on a worker whose model is made for the occasion.

use std::sync::mpsc;
use std::sync::{Mutex as StdMutex, MutexGuard as StdGuard};

use ndarray::{ArrayView4, ArrayViewMut4};

use super::tests::core_of;
use super::*;
use crate::model::{Batching, ModelConfig};
use crate::run::{Branch, Run, RunStart};
use crate::sampler::Sampler;
use crate::timesteps::{TimestepSpacing, timesteps};

const HANG: Option<Duration> = Some(Duration::from_secs(60));
const STEPS: usize = 12;

/// Predicts 0.3 x + t / 2000. A call can be held up, and ends with an error when it is broken off then.
struct Fake {
    config: ModelConfig,
    state: Arc<Gate>,
    entered: mpsc::Sender<Vec<f64>>,
}

#[derive(Default)]
struct Gate {
    state: StdMutex<GateState>,
    changed: std::sync::Condvar,
    broke: AtomicBool,
}

#[derive(Default)]
struct GateState {
    /// Calls wait until this is false, but for so many.
    is_shut: bool,
    let_through: usize,
    /// A break off that no call has taken yet.
    broken: bool,
    is_stopped: bool,
    break_offs: usize,
}

impl Gate {
    fn state(&self) -> StdGuard<'_, GateState> {
        self.state.lock().unwrap()
    }

    fn set_shut(&self, is_shut: bool) {
        self.state().is_shut = is_shut;
        self.changed.notify_all();
    }
}

impl Gate {
    fn let_one_through(&self) {
        self.state().let_through += 1;
        self.changed.notify_all();
    }
}

impl Stopper for Gate {
    fn stop(&self) {
        self.state().is_stopped = true;
        self.changed.notify_all();
    }

    fn break_off(&self) {
        let mut state = self.state();
        state.broken = true;
        state.break_offs += 1;
        self.changed.notify_all();
    }

    fn was_broken_off(&self) -> bool {
        self.broke.load(Ordering::SeqCst)
    }
}

impl Denoiser for Fake {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn batching(&self) -> Batching {
        Batching::default()
    }

    fn warm_up(&mut self, _batch: usize) -> Result<()> {
        let is_broken = std::mem::take(&mut self.state.state().broken);
        self.state.broke.store(is_broken, Ordering::SeqCst);
        if is_broken { Err(Error::new(ErrorKind::Inference, "terminated")) } else { Ok(()) }
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        _labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        // Nobody listens in a test that is over.
        let _ = self.entered.send(timesteps.to_vec());
        let state = self.state.state();
        let held = |state: &mut GateState| {
            state.is_shut && state.let_through == 0 && !state.broken && !state.is_stopped
        };
        let mut state = self.state.changed.wait_while(state, held).unwrap();
        state.let_through = state.let_through.saturating_sub(1);
        self.state.broke.store(state.broken, Ordering::SeqCst);
        if std::mem::take(&mut state.broken) || state.is_stopped {
            return Err(Error::new(ErrorKind::Inference, "terminated"));
        }
        for ((x, mut out), &t) in sample.outer_iter().zip(output.outer_iter_mut()).zip(timesteps) {
            out.zip_mut_with(&x, |out, &x| *out = 0.3 * x + t as f32 / 2000.0);
        }
        Ok(())
    }
}

struct Bench {
    worker: Worker<()>,
    gate: Arc<Gate>,
    entered: mpsc::Receiver<Vec<f64>>,
}

fn model() -> ModelConfig {
    ModelConfig::ddpm(1, 4, 4)
}

fn bench(max_batch: usize) -> Bench {
    bench_at(Gate::default(), max_batch)
}

fn bench_at(gate: Gate, max_batch: usize) -> Bench {
    let (enter, entered) = mpsc::channel();
    let gate = Arc::new(gate);
    let fake = Fake { config: model(), state: Arc::clone(&gate), entered: enter };
    let load = move || Ok(Loaded { denoiser: Box::new(fake), info: () });
    let stopper: Arc<Gate> = Arc::clone(&gate);
    let worker = Worker::spawn(stopper, max_batch, load).unwrap();
    worker.wait(None).unwrap();
    Bench { worker, gate, entered }
}

fn start(seed: u64) -> RunStart {
    RunStart { seed, ..RunStart::default() }
}

fn stream(kind: Sampler, seed: u64) -> Arc<StreamCore> {
    core_of(&model(), &model().sampler_config(kind, STEPS), start(seed))
}

fn with(options: Options, seed: u64) -> Arc<StreamCore> {
    let config = model().sampler_config(Sampler::Ddim, STEPS);
    let run = Run::starting(&model(), &config, start(seed), 1).unwrap();
    Arc::new(StreamCore::new(&model(), run, options).unwrap())
}

/// x_t after each step of a straight run, step 0 first.
fn straight(core: &StreamCore) -> Vec<Vec<f32>> {
    let mut run = {
        let work = core.work.lock();
        Run::starting(&model(), work.run.config(), work.run.start().clone(), 1).unwrap()
    };
    let gate = Arc::new(Gate::default());
    let mut fake = Fake { config: model(), state: gate, entered: mpsc::channel().0 };
    let mut samples = vec![run.sample().to_vec()];
    while run.step_index() < run.steps() {
        run.step(&mut fake).unwrap();
        samples.push(run.sample().to_vec());
    }
    samples
}

fn sample(core: &StreamCore) -> Vec<f32> {
    core.work.lock().run.sample().to_vec()
}

fn shown_step(core: &StreamCore) -> Option<u32> {
    let mut pixels = vec![0; 4 * 4 * 4];
    core.copy_frame(&mut pixels, 16).unwrap().map(|info| info.step)
}

impl Bench {
    fn link(&self) -> Link<()> {
        self.worker.link().unwrap()
    }

    fn seek(&self, core: &Arc<StreamCore>, step: u32) {
        self.link().seek(core, step).unwrap();
        assert!(core.wait(HANG).unwrap());
    }
}

#[test]
fn a_sought_step_is_that_of_the_straight_run_back_and_forth() {
    let bench = bench(8);
    let state_bytes = 4 * 4 * 4 * 6;
    for kind in Sampler::ALL.into_iter().filter(|kind| !kind.is_inverse()) {
        for bytes in [0, 3 * state_bytes, 1 << 20] {
            let config = model().sampler_config(kind, STEPS);
            let run = Run::starting(&model(), &config, start(5), 1).unwrap();
            let options = Options { checkpoint_bytes: bytes, ..super::tests::options() };
            let core = Arc::new(StreamCore::new(&model(), run, options).unwrap());
            let expected = straight(&core);
            let last = expected.len() - 1;
            for step in [3, 7, 2, last, 0, last - 1, 1, 6, 6] {
                bench.seek(&core, step as u32);
                assert_eq!(sample(&core), expected[step], "{kind}, step {step}, {bytes} bytes");
                let status = core.status();
                assert_eq!(status.step as usize, step);
                let is_done = status.state == StreamState::Done;
                assert_eq!(is_done, step == last, "{kind} {status:?}");
                assert_eq!(shown_step(&core), (step > 0).then_some(step as u32));
            }
            // And on from there, to the end.
            let link = bench.link();
            while link.step(&core).unwrap() != StepOutcome::Done {
                core.wait(HANG).unwrap();
            }
            assert_eq!(sample(&core), expected[last], "{kind}");
        }
    }
}

#[test]
fn a_seek_takes_up_what_was_cancelled_and_what_failed() {
    let bench = bench(1);
    let (link, core) = (bench.link(), stream(Sampler::Ddpm, 3));
    let expected = straight(&core);
    bench.seek(&core, 4);
    link.cancel(&core);
    assert_eq!(link.step(&core).unwrap(), StepOutcome::Done);
    bench.seek(&core, 6);
    assert_eq!(sample(&core), expected[6]);
    // A step that is held up, and one that fails.
    bench.gate.set_shut(true);
    assert_eq!(link.step(&core).unwrap(), StepOutcome::Accepted);
    bench.entered.recv().unwrap();
    link.seek(&core, 2).unwrap();
    bench.gate.set_shut(false);
    assert!(core.wait(HANG).unwrap());
    assert_eq!(sample(&core), expected[2]);
    core.fail(
        match core.ask(progress::Goal::Next).unwrap() {
            Ok(ticket) => ticket,
            Err(outcome) => panic!("{outcome:?}"),
        },
        Error::new(ErrorKind::NonFinite, "made up"),
    );
    assert_eq!(link.step(&core).unwrap_err().message(), "made up");
    bench.seek(&core, 9);
    assert_eq!(sample(&core), expected[9]);
    let error = link.seek(&core, STEPS as u32 + 1).unwrap_err();
    assert_eq!(error.message(), "step: found 13, expected 0 to 12");
}

#[test]
fn a_reset_before_a_seek_counts_first() {
    let bench = bench(1);
    let (link, core) = (bench.link(), stream(Sampler::Ddpm, 3));
    bench.seek(&core, 5);
    link.reset(&core, Some(8)).unwrap();
    bench.seek(&core, 5);
    assert_eq!(sample(&core), straight(&stream(Sampler::Ddpm, 8))[5]);
}

#[test]
fn a_cancel_breaks_off_the_run_that_nobody_else_wants_and_no_other() {
    let bench = bench(8);
    let (link, cores) = (bench.link(), [stream(Sampler::Ddim, 1), stream(Sampler::Ddim, 2)]);
    bench.gate.set_shut(true);
    link.step(&cores[0]).unwrap();
    bench.entered.recv().unwrap();
    // Alone in its call: the worker is free at once, though the model would never have ended.
    link.cancel(&cores[0]);
    assert_eq!(bench.gate.state().break_offs, 1);
    link.reset(&cores[0], None).unwrap();
    link.step(&cores[0]).unwrap();
    bench.entered.recv().unwrap();
    // While that is held up the other two queue, and share the next call.
    let third = stream(Sampler::Ddim, 3);
    link.step(&cores[1]).unwrap();
    link.step(&third).unwrap();
    link.cancel(&cores[0]);
    assert_eq!(bench.entered.recv().unwrap().len(), 2);
    link.cancel(&cores[1]);
    assert_eq!(bench.gate.state().break_offs, 2, "the third still wants the call");
    link.seek(&third, 0).unwrap();
    assert_eq!(bench.gate.state().break_offs, 3, "a seek discards it too");
    assert!(third.wait(HANG).unwrap());
    bench.gate.set_shut(false);
    bench.seek(&third, 3);
    assert_eq!(sample(&third), straight(&third)[3]);
    // A call of two that was broken off says nothing about how many the model takes.
    bench.entered.try_iter().for_each(drop);
    bench.gate.set_shut(true);
    link.step(&third).unwrap();
    bench.entered.recv().unwrap();
    for core in &cores {
        link.reset(core, None).unwrap();
        link.step(core).unwrap();
    }
    bench.gate.let_one_through();
    assert_eq!(bench.entered.recv().unwrap().len(), 2);
    cores.iter().for_each(|core| link.cancel(core));
    bench.gate.set_shut(false);
    for core in &cores {
        link.reset(core, None).unwrap();
    }
    bench.gate.set_shut(true);
    link.step(&third).unwrap();
    bench.entered.recv().unwrap();
    for core in &cores {
        link.step(core).unwrap();
    }
    bench.gate.let_one_through();
    assert_eq!(bench.entered.recv().unwrap().len(), 2);
    bench.gate.set_shut(false);
}

#[test]
fn a_call_that_is_broken_off_by_mistake_is_made_again() {
    let bench = bench(1);
    let (link, core) = (bench.link(), stream(Sampler::Ddim, 1));
    bench.gate.set_shut(true);
    link.step(&core).unwrap();
    bench.entered.recv().unwrap();
    // As by a stream that left its call a moment too late.
    bench.gate.break_off();
    bench.entered.recv().unwrap();
    bench.gate.set_shut(false);
    assert!(core.wait(HANG).unwrap());
    assert_eq!(sample(&core), straight(&core)[1]);
}

#[test]
fn a_first_call_that_is_broken_off_by_mistake_says_nothing_about_the_batch_size() {
    let late = GateState { broken: true, ..GateState::default() };
    let bench = bench_at(Gate { state: StdMutex::new(late), ..Gate::default() }, 8);
    // Nobody asks for a step before the first call has taken it.
    let deadline = Instant::now() + HANG.unwrap();
    while bench.gate.state().broken {
        assert!(Instant::now() < deadline);
        thread::yield_now();
    }
    let link = bench.link();
    let cores: Vec<_> = (0..3).map(|seed| stream(Sampler::Ddim, seed)).collect();
    bench.seek(&cores[0], 1);
    // While one is held up the other two queue, and share the next call.
    bench.entered.try_iter().for_each(drop);
    bench.gate.set_shut(true);
    link.step(&cores[0]).unwrap();
    bench.entered.recv().unwrap();
    link.step(&cores[1]).unwrap();
    link.step(&cores[2]).unwrap();
    bench.gate.let_one_through();
    assert_eq!(bench.entered.recv().unwrap().len(), 2);
    bench.gate.set_shut(false);
}

#[test]
fn a_result_that_waited_for_the_run_while_it_was_reset_is_thrown_away() {
    let bench = bench(1);
    let (link, core) = (bench.link(), stream(Sampler::Ddpm, 3));
    bench.seek(&core, 4);
    bench.gate.set_shut(true);
    link.step(&core).unwrap();
    bench.entered.recv().unwrap();
    // As by a branch that holds the run when the result comes.
    let mut work = core.work.lock();
    bench.gate.set_shut(false);
    // For the worker to come to the lock; where it takes longer, this shows nothing.
    thread::sleep(Duration::from_millis(100));
    link.reset(&core, Some(8)).unwrap();
    core.catch_up(&mut work).unwrap();
    drop(work);
    bench.seek(&core, 1);
    assert_eq!(sample(&core), straight(&stream(Sampler::Ddpm, 8))[1]);
}

#[test]
fn of_streams_that_wait_the_higher_priority_goes_first_and_the_lower_is_not_forgotten() {
    let bench = bench(1);
    let link = bench.link();
    let of = |priority, seed| with(Options { priority, ..super::tests::options() }, seed);
    let first = of(Priority::Normal, 0);
    bench.gate.set_shut(true);
    link.step(&first).unwrap();
    bench.entered.recv().unwrap();
    let order = [Priority::Low, Priority::Normal, Priority::High, Priority::Normal];
    let cores: Vec<_> = order.iter().zip(1..).map(|(&priority, seed)| of(priority, seed)).collect();
    for core in &cores {
        link.step(core).unwrap();
    }
    // Let one call through at a time, and see whose step it was.
    bench.gate.let_one_through();
    bench.entered.recv().unwrap();
    let mut served = Vec::new();
    while served.len() < cores.len() {
        bench.gate.let_one_through();
        let is_new = |&index: &usize| cores[index].status().step == 1 && !served.contains(&index);
        let deadline = Instant::now() + HANG.unwrap();
        while !(0..cores.len()).any(|index| is_new(&index)) {
            assert!(Instant::now() < deadline, "{served:?}");
            thread::yield_now();
        }
        let new: Vec<usize> = (0..cores.len()).filter(is_new).collect();
        served.extend(new);
    }
    assert_eq!(served, [2, 1, 3, 0]);
    bench.gate.set_shut(false);

    // One of low priority beside one of high priority that always wants more.
    let (low, high) = (of(Priority::Low, 9), of(Priority::High, 10));
    link.step(&low).unwrap();
    let deadline = Instant::now() + HANG.unwrap();
    while low.status().step == 0 {
        assert!(Instant::now() < deadline, "the low one is starved");
        if link.step(&high).unwrap() == StepOutcome::Done {
            link.reset(&high, None).unwrap();
        }
    }
}

#[test]
fn a_goal_is_reached_without_the_host_and_a_pause_holds_it_up() {
    let bench = bench(1);
    let (link, core) = (bench.link(), stream(Sampler::Dpmpp, 1));
    let error = link.tick(&core, 0.1).unwrap_err();
    assert!(error.message().starts_with("tick: the stream does not play"), "{error}");
    core.play(PlaybackConfig { fewest_steps: STEPS as u32, ..PlaybackConfig::new(10.0) }).unwrap();
    assert_eq!(link.tick(&core, 2.6).unwrap(), StepOutcome::Accepted);
    assert!(core.wait(HANG).unwrap());
    // A quarter of the time and a little more: at least a quarter of the steps, by a worker of its own.
    let quarter = core.status().step;
    assert!((3..=5).contains(&quarter), "{quarter}");
    core.set_paused(true);
    assert_eq!(link.tick(&core, 5.0).unwrap(), StepOutcome::Paused);
    assert_eq!(link.step(&core).unwrap(), StepOutcome::Paused);
    assert_eq!((core.status().step, core.status().is_paused), (quarter, true));
    core.set_paused(false);
    assert_eq!(link.tick(&core, 0.0).unwrap(), StepOutcome::Accepted);
    assert!(core.wait(HANG).unwrap());
    assert_eq!(core.status().step, quarter, "no time has passed in the pause");
    assert_eq!(link.tick(&core, 100.0).unwrap(), StepOutcome::Accepted);
    assert!(core.wait(HANG).unwrap());
    assert_eq!(
        (core.status().state, link.tick(&core, 0.0).unwrap()),
        (StreamState::Done, StepOutcome::Done)
    );
    assert_eq!(sample(&core), straight(&core)[STEPS]);
    for seconds in [-0.1, f64::NAN, f64::INFINITY] {
        assert_eq!(link.tick(&core, seconds).unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
    // Back to the middle, and the rest plays from there.
    bench.seek(&core, 6);
    assert_eq!(link.tick(&core, 0.0).unwrap(), StepOutcome::Accepted);
    assert!(core.wait(HANG).unwrap());
    assert!(core.status().step < 9);
    link.tick(&core, 10.0).unwrap();
    assert!(core.wait(HANG).unwrap());
    assert_eq!(core.status().state, StreamState::Done);
}

#[test]
fn a_branch_is_the_same_before_it_and_another_after_it() {
    let bench = bench(1);
    let core = stream(Sampler::Ddpm, 3);
    let expected = straight(&core);
    for (stand, step) in [(8, 5), (2, 5), (5, 5), (12, 0)] {
        bench.seek(&core, stand);
        let (run, options) =
            core.branch(Branch { step, seed: 77, variation: 0.0 }, &|| Ok(())).unwrap();
        let branch = Arc::new(StreamCore::new(&model(), run, options).unwrap());
        core.share_checkpoints(&branch, step);
        bench.seek(&branch, step);
        assert_eq!(sample(&branch), expected[step as usize], "stood at {stand}");
        let other = straight(&branch);
        for at in [12, step + 1, 3] {
            bench.seek(&branch, at);
            assert_eq!(sample(&branch), other[at as usize]);
            assert_eq!(at > step, other[at as usize] != expected[at as usize]);
        }
        assert_eq!(sample(&core), expected[stand as usize], "its source is as it was");
    }
    let plain = stream(Sampler::Ddim, 3);
    let error = plain.branch(Branch { step: 4, seed: 7, variation: 0.0 }, &|| Ok(())).unwrap_err();
    assert!(error.message().starts_with("variation: found 0, but ddim draws no noise"), "{error}");
    plain.branch(Branch { step: 4, seed: 7, variation: 0.3 }, &|| Ok(())).unwrap();
    let error = core.branch(Branch { step: 12, seed: 7, variation: 0.0 }, &|| Ok(())).unwrap_err();
    assert!(error.message().contains("step: found 12, expected"), "{error}");
}

#[test]
fn a_machine_that_is_too_slow_makes_fewer_steps_and_a_fast_one_all() {
    let bench = bench(1);
    let link = bench.link();
    let config = model().sampler_config(Sampler::Dpmpp, 900);
    let core = || core_of(&model(), &config, start(4));
    let slow = core();
    // A microsecond a step is more than any machine has.
    slow.play(PlaybackConfig { fewest_steps: 20, ..PlaybackConfig::new(1e-6) }).unwrap();
    link.tick(&slow, 0.0).unwrap();
    slow.wait(HANG).unwrap();
    link.tick(&slow, 1.0).unwrap();
    slow.wait(HANG).unwrap();
    let status = slow.status();
    assert_eq!(status.state, StreamState::Done);
    assert!((20..900).contains(&status.steps), "{status:?}");
    assert_eq!(status.step, status.steps);
    // It is the straight run of the timesteps that were left, and seeks along it.
    let expected = straight(&slow);
    assert_eq!(expected.len(), status.steps as usize + 1);
    assert_eq!(sample(&slow), expected[status.steps as usize]);
    bench.seek(&slow, 7);
    assert_eq!(sample(&slow), expected[7]);
    // The next run has them all again.
    link.reset(&slow, None).unwrap();
    assert_eq!(slow.status().steps, 900);
    bench.seek(&slow, 3);
    assert_eq!(sample(&slow), straight(&core())[3]);

    let patient = core();
    patient.play(PlaybackConfig { fewest_steps: 900, ..PlaybackConfig::new(1e-6) }).unwrap();
    link.tick(&patient, 1.0).unwrap();
    patient.wait(HANG).unwrap();
    assert_eq!((patient.status().step, patient.status().steps), (900, 900));
}

#[test]
fn a_step_time_of_a_bad_moment_is_forgotten_also_by_steps_that_are_asked_for_one_by_one() {
    let bench = bench(1);
    let (link, core) = (bench.link(), stream(Sampler::Ddim, 1));
    // More than any machine takes.
    core.step_time.store(100f64.to_bits(), Ordering::Relaxed);
    for _ in 0..8 {
        link.step(&core).unwrap();
        assert!(core.wait(HANG).unwrap());
    }
    let found = core.step_time().unwrap();
    assert!(found < 50.0, "{found}");
}

#[test]
fn the_director_measures_once_and_every_stream_then_has_all_its_steps() {
    let (bench, other) = (bench(8), bench(8));
    let link = bench.link();
    let options = Options { director: true, ..super::tests::options() };
    let cores = [with(options, 1), with(options, 2)];
    let plain = stream(Sampler::Ddim, 1);
    for core in cores.iter().chain([&plain]) {
        assert_eq!(link.step(core).unwrap(), StepOutcome::Accepted);
    }
    for core in cores.iter().chain([&plain]) {
        assert!(core.wait(HANG).unwrap());
    }
    let calls: Vec<Vec<f64>> = bench.entered.try_iter().collect();
    let pilot = timesteps(1000, 32, TimestepSpacing::Trailing, 0).unwrap();
    let seen = pilot.iter().map(|&t| calls.iter().filter(|call| **call == [t as f64]).count());
    let seen: Vec<usize> = seen.collect();
    assert!(seen.iter().all(|&count| count > 0), "the rows of a pilot run: {seen:?}");
    // Streams may have a few of these timesteps too.
    assert!(seen.iter().filter(|&&count| count == 1).count() > 24, "one pilot run: {seen:?}");
    // Whoever asks first has the same timesteps, and so the same picture.
    let alone = with(options, 2);
    other.link().step(&alone).unwrap();
    assert!(alone.wait(HANG).unwrap());
    let list = |core: &StreamCore| -> Vec<u64> {
        core.timesteps.iter().map(|timestep| timestep.load(Ordering::Relaxed)).collect()
    };
    assert_eq!(list(&alone), list(&cores[1]));
    assert_ne!(list(&alone), list(&plain));
    for core in &cores {
        bench.seek(core, STEPS as u32);
        assert_eq!(core.status().steps as usize, STEPS);
        assert_eq!(sample(core), straight(core)[STEPS]);
    }
    link.reset(&cores[0], Some(9)).unwrap();
    bench.seek(&cores[0], 5);
    assert!(bench.entered.try_iter().count() < 32, "no second pilot");
    let config = model().sampler_config(Sampler::Heun, STEPS);
    let run = Run::starting(&model(), &config, start(1), 1).unwrap();
    let error = StreamCore::new(&model(), run, options).err().unwrap();
    assert!(error.message().starts_with("director: heun"), "{error}");
}
