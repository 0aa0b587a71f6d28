//! Streams that are stepped together.

use std::sync::{Arc, Mutex, mpsc};

use ndarray::{ArrayView4, ArrayViewMut4};

use super::progress::Goal;
use super::tests::{OnStop, core_of};
use super::*;
use crate::model::{Batching, Classes, ModelConfig};
use crate::run::{Run, RunStart};
use crate::sampler::Sampler;

/// Predicts t / 1000 + 0.1 label + 0.5 x, so that a sample with another's timestep, label or place
/// shows; writes down the timesteps of each call, and waits to be let go.
struct Fake {
    config: ModelConfig,
    rules: Batching,
    calls: Arc<Mutex<Vec<Vec<f64>>>>,
    entered: mpsc::Sender<()>,
    leave: mpsc::Receiver<()>,
    /// What goes wrong: for a call with this timestep an error, for that sample a NaN.
    fails_at: Option<f64>,
    overflows_at: Option<f64>,
    /// Calls with more samples fail.
    most: usize,
    /// Whether that shows in `warm_up` already.
    warms_up: bool,
}

impl Denoiser for Fake {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn batching(&self) -> Batching {
        self.rules
    }

    fn warm_up(&mut self, batch: usize) -> Result<()> {
        if self.warms_up && batch > self.most {
            return Err(Error::new(ErrorKind::Inference, "too many"));
        }
        Ok(())
    }

    fn predict(
        &mut self,
        sample: ArrayView4<'_, f32>,
        timesteps: &[f64],
        labels: &[i64],
        mut output: ArrayViewMut4<'_, f32>,
    ) -> Result<()> {
        self.calls.lock().unwrap().push(timesteps.to_vec());
        // Nobody listens any more in a test that is over.
        let _ = self.entered.send(());
        let _ = self.leave.recv();
        if timesteps.len() > self.most || self.fails_at.is_some_and(|t| timesteps.contains(&t)) {
            return Err(Error::new(ErrorKind::Inference, "a bad sample"));
        }
        let pairs = sample.outer_iter().zip(output.outer_iter_mut());
        for (index, (x, mut out)) in pairs.enumerate() {
            let label = labels.get(index).copied().unwrap_or(0);
            let t = timesteps[index];
            out.zip_mut_with(&x, |out, &x| {
                *out = t as f32 / 1000.0 + 0.1 * label as f32 + 0.5 * x;
            });
            if self.overflows_at == Some(t) {
                out.fill(f32::NAN);
            }
        }
        Ok(())
    }
}

struct Bench {
    worker: Worker<()>,
    model: ModelConfig,
    calls: Arc<Mutex<Vec<Vec<f64>>>>,
    entered: mpsc::Receiver<()>,
    leave: mpsc::Sender<()>,
}

fn bench(max_batch: usize, change: impl FnOnce(&mut Fake)) -> Bench {
    let (enter, entered) = mpsc::channel();
    let (leave, left) = mpsc::channel();
    let mut fake = Fake {
        config: ModelConfig::ddpm(1, 4, 4),
        rules: Batching::default(),
        calls: Arc::default(),
        entered: enter,
        leave: left,
        fails_at: None,
        overflows_at: None,
        most: usize::MAX,
        warms_up: true,
    };
    change(&mut fake);
    let (model, calls) = (fake.config.clone(), Arc::clone(&fake.calls));
    let load = move || Ok(Loaded { denoiser: Box::new(fake), info: () });
    let worker = Worker::spawn(Arc::new(OnStop(|| {})), max_batch, load).unwrap();
    worker.wait(None).unwrap();
    Bench { worker, model, calls, entered, leave }
}

impl Bench {
    fn stream(&self, kind: Sampler, steps: usize, start: RunStart) -> Arc<StreamCore> {
        let sampler = self.model.sampler_config(kind, steps);
        core_of(&self.model, &sampler, start)
    }

    fn plain(&self, steps: usize, seed: u64) -> Arc<StreamCore> {
        self.stream(Sampler::Ddpm, steps, RunStart { seed, ..RunStart::default() })
    }

    /// Keeps the worker busy with a stream of its own while the others queue, then lets it all run.
    /// Gives the batch sizes of the calls for the others.
    fn step_together(&self, cores: &[Arc<StreamCore>]) -> Vec<usize> {
        let link = self.worker.link().unwrap();
        let first = self.plain(1, 99);
        assert_eq!(link.step(&first).unwrap(), StepOutcome::Accepted);
        self.entered.recv().unwrap();
        self.calls.lock().unwrap().clear();
        for core in cores {
            assert_eq!(link.step(core).unwrap(), StepOutcome::Accepted);
        }
        self.leave.send(()).unwrap();
        while cores.iter().any(|core| core.status().state == StreamState::Stepping) {
            if self.entered.recv_timeout(Duration::from_millis(1)).is_ok() {
                self.leave.send(()).unwrap();
            }
        }
        self.calls.lock().unwrap().iter().map(Vec::len).collect()
    }
}

fn pixels(core: &StreamCore) -> Vec<u8> {
    let mut pixels = vec![0; 4 * 4 * 4];
    core.copy_frame(&mut pixels, 16).unwrap().unwrap();
    pixels
}

/// What a run of its own shows after one step.
fn alone(bench: &Bench, kind: Sampler, steps: usize, start: RunStart) -> Vec<u8> {
    let (enter, _entered) = mpsc::channel();
    let (leave, left) = mpsc::channel();
    let mut fake = Fake {
        config: bench.model.clone(),
        rules: Batching::default(),
        calls: Arc::default(),
        entered: enter,
        leave: left,
        fails_at: None,
        overflows_at: None,
        most: 1,
        warms_up: true,
    };
    drop(leave);
    let sampler = bench.model.sampler_config(kind, steps);
    let mut run = Run::starting(&bench.model, &sampler, start, 1).unwrap();
    run.step(&mut fake).unwrap();
    let mut pixels = vec![0; 4 * 4 * 4];
    crate::image::to_rgba8(run.sample(), bench.model.color, 4, 4, &mut pixels, 16).unwrap();
    pixels
}

#[test]
fn what_waits_runs_in_few_calls_and_each_stream_gets_its_own_picture() {
    let bench = bench(8, |_| {});
    let kinds =
        [Sampler::Ddpm, Sampler::Ddim, Sampler::Dpmpp, Sampler::Unipc, Sampler::EulerAncestral];
    let of = |index: usize| {
        let start = RunStart { seed: index as u64, ..RunStart::default() };
        (kinds[index % 5], 5 + index, start)
    };
    let all: Vec<_> = (0..13).map(of).collect();
    let cores: Vec<_> =
        all.iter().map(|(kind, steps, start)| bench.stream(*kind, *steps, start.clone())).collect();
    // 8 at once, then the largest powers of two there are.
    assert_eq!(bench.step_together(&cores), [8, 4, 1]);
    for (core, (kind, steps, start)) in cores.iter().zip(all) {
        assert_eq!(pixels(core), alone(&bench, kind, steps, start), "{kind} {steps}");
    }
}

#[test]
fn a_limit_of_one_serves_one_by_one() {
    let bench = bench(1, |_| {});
    let cores: Vec<_> = (0..3).map(|seed| bench.plain(5, seed)).collect();
    assert_eq!(bench.step_together(&cores), [1, 1, 1]);
}

#[test]
fn guided_streams_ask_twice_in_the_same_call() {
    let classes = Some(Classes { count: Some(3), null: Some(3) });
    let bench = bench(8, |fake| fake.config.classes = classes);
    let start = |label, guidance| RunStart { seed: 4, label, guidance, ..RunStart::default() };
    let starts = [start(Some(1), 3.0), start(None, 1.0), start(Some(2), 1.0)];
    let cores: Vec<_> =
        starts.iter().map(|start| bench.stream(Sampler::Ddim, 5, start.clone())).collect();
    assert_eq!(bench.step_together(&cores), [4]);
    for (core, start) in cores.iter().zip(starts) {
        assert_eq!(pixels(core), alone(&bench, Sampler::Ddim, 5, start));
    }
}

#[test]
fn a_model_with_one_timestep_for_all_gets_groups_of_equal_ones() {
    let bench = bench(8, |fake| fake.rules.shared_timestep = true);
    let cores: Vec<_> =
        [5, 5, 7, 7, 7, 5].iter().zip(0..).map(|(&steps, seed)| bench.plain(steps, seed)).collect();
    // Second steps have timesteps that depend on the number of steps.
    let first = bench.step_together(&cores);
    assert_eq!(first, [4, 2], "all first steps are at T - 1");
    let second = bench.step_together(&cores);
    assert_eq!(second, [2, 1, 2, 1], "those of one timestep at a time");
    let calls = bench.calls.lock().unwrap();
    assert!(calls.iter().all(|call| call.iter().all(|t| *t == call[0])), "{calls:?}");
}

#[test]
fn a_model_of_a_fixed_batch_is_filled_up() {
    let bench = bench(8, |fake| fake.rules.fixed = Some(4));
    let cores: Vec<_> = (0..6).map(|seed| bench.plain(5 + seed as usize, seed)).collect();
    assert_eq!(bench.step_together(&cores), [4, 4]);
    for (core, seed) in cores.iter().zip(0..) {
        let start = RunStart { seed, ..RunStart::default() };
        assert_eq!(pixels(core), alone(&bench, Sampler::Ddpm, 5 + seed as usize, start));
    }
    // The second steps have different timesteps, and the last call is filled up with copies of its first.
    bench.step_together(&cores);
    let calls = bench.calls.lock().unwrap();
    assert_eq!(calls[1].len(), 4);
    assert!(calls[1][0] != calls[1][1] && calls[1][2..] == [calls[1][0]; 2], "{calls:?}");
}

#[test]
fn a_sample_that_overflows_fails_its_own_stream_only() {
    let bench = bench(8, |fake| fake.overflows_at = Some(799.0));
    let cores = [bench.plain(5, 0), bench.plain(4, 1)];
    assert_eq!(bench.step_together(&cores), [2]);
    assert_eq!(bench.step_together(&cores), [2]);
    let error = cores[0].wait(None).unwrap_err();
    assert_eq!(error.to_string(), "non-finite model output at step 2, t = 799");
    assert_eq!((cores[1].status().state, cores[1].status().step), (StreamState::Idle, 2));
}

#[test]
fn a_call_that_fails_is_made_again_for_each_alone() {
    let bench = bench(8, |fake| fake.fails_at = Some(799.0));
    let cores = [bench.plain(5, 0), bench.plain(4, 1), bench.plain(3, 2), bench.plain(2, 3)];
    bench.step_together(&cores);
    assert_eq!(bench.step_together(&cores), [4, 1, 1, 1, 1]);
    assert_eq!(cores[0].wait(None).unwrap_err().to_string(), "a bad sample");
    for core in &cores[1..3] {
        assert_eq!((core.status().state, core.status().step), (StreamState::Idle, 2));
    }
    assert_eq!(cores[3].status().state, StreamState::Done);
}

#[test]
fn a_model_that_takes_fewer_than_it_says_is_asked_for_more_once() {
    for is_seen_before in [true, false] {
        let bench = bench(8, |fake| (fake.most, fake.warms_up) = (3, is_seen_before));
        let cores: Vec<_> = (0..5).map(|seed| bench.plain(5, seed)).collect();
        // Before, where the worker has had the time, or in this call.
        bench.step_together(&cores);
        assert_eq!(bench.step_together(&cores), [2, 2, 1]);
    }
}

#[test]
fn streams_reset_or_cancelled_in_the_queue_are_left_out() {
    let bench = bench(8, |_| {});
    let cores: Vec<_> = (0..4).map(|seed| bench.plain(5, seed)).collect();
    let link = bench.worker.link().unwrap();
    let first = bench.plain(1, 99);
    link.step(&first).unwrap();
    bench.entered.recv().unwrap();
    bench.calls.lock().unwrap().clear();
    for core in &cores {
        link.step(core).unwrap();
    }
    link.cancel(&cores[1]);
    link.reset(&cores[2], Some(7)).unwrap();
    // The new run's step queues behind the old one's.
    link.step(&cores[2]).unwrap();
    bench.leave.send(()).unwrap();
    bench.entered.recv().unwrap();
    bench.leave.send(()).unwrap();
    bench.entered.recv().unwrap();
    bench.leave.send(()).unwrap();
    cores.iter().for_each(|core| assert!(core.wait(None).unwrap()));
    let sizes: Vec<usize> = bench.calls.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [2, 1]);
    assert_eq!(cores[1].status().state, StreamState::Cancelled);
    let start = RunStart { seed: 7, ..RunStart::default() };
    assert_eq!(pixels(&cores[2]), alone(&bench, Sampler::Ddpm, 5, start));
}

/// A seek that ends a step looks for the step's call only after its word is out, and then leaves what the
/// worker has begun since for the seek itself. How often that happens here is the machine's affair.
#[test]
fn a_call_that_a_stream_left_by_mistake_is_made_all_the_same() {
    let model = ModelConfig::ddpm(1, 4, 4);
    let core = core_of(&model, &model.sampler_config(Sampler::Ddim, 10), RunStart::default());
    assert!(core.ask(Goal::Next).unwrap().is_ok());
    let request = Request::of(Arc::clone(&core)).unwrap();
    let (calls, stopper, is_over) = (Calls::default(), OnStop(|| {}), AtomicBool::new(false));
    let watch = Watch { calls: &calls, stopper: &stopper, closing: &|| None };
    let are_made = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                calls.leave(&core.membership);
            }
        });
        let are_made = (0..20_000).all(|_| watch.over(&[&request], || Ok(())).unwrap());
        is_over.store(true, Ordering::SeqCst);
        are_made
    });
    assert!(are_made, "a step that is wanted passed for made");
}
