//! Steps that the model makes whole, when something goes wrong with them.

use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use ndarray::{ArrayView4, ArrayViewMut4};

use super::progress::Goal;
use super::tests::{OnStop, core_of};
use super::*;
use crate::model::{FusedAsk, FusedSteps, ModelConfig};
use crate::run::{Run, RunStart};
use crate::sampler::Sampler;

/// What the next whole step comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    Made,
    /// For a reason of its own.
    Fails,
    /// Where there are several.
    FailsTogether,
    /// What is asked for.
    Refuses,
    Panics,
    /// Only what is to be had back.
    PanicsAtFetch,
}

/// Halves. Its whole steps leave the state as it is, which no plain step does.
struct Fake {
    config: ModelConfig,
    turn: Arc<StdMutex<Turn>>,
    /// Whole steps and plain ones that were asked for.
    asked: Arc<StdMutex<(u32, u32)>>,
    held: Vec<f32>,
}

impl Denoiser for Fake {
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
        self.asked.lock().unwrap().1 += 1;
        output.zip_mut_with(&sample, |out, &x| *out = 0.5 * x);
        Ok(())
    }

    fn fused(&mut self) -> Option<&mut dyn FusedSteps> {
        Some(self)
    }
}

impl FusedSteps for Fake {
    fn step(&mut self, _place: usize, ask: FusedAsk<'_>) -> Result<bool> {
        self.asked.lock().unwrap().0 += 1;
        let turn = *self.turn.lock().unwrap();
        match turn {
            Turn::FailsTogether if ask.rows.len() > 1 => {
                Err(Error::new(ErrorKind::OutOfMemory, "no room for so many"))
            }
            Turn::Made | Turn::FailsTogether | Turn::PanicsAtFetch => {
                if let Some(state) = ask.state {
                    self.held = state.to_vec();
                }
                Ok(true)
            }
            Turn::Fails => Err(Error::new(ErrorKind::Inference, "the device is gone")),
            Turn::Refuses => Err(Error::new(ErrorKind::Unsupported, "timestep 3.5 is fractional")),
            Turn::Panics => panic!("a whole step"),
        }
    }

    fn fetch(&mut self, _place: usize, state: &mut [f32]) -> Result<()> {
        assert_ne!(*self.turn.lock().unwrap(), Turn::PanicsAtFetch);
        state.copy_from_slice(&self.held);
        Ok(())
    }
}

struct Bench {
    worker: Worker<()>,
    turn: Arc<StdMutex<Turn>>,
    asked: Arc<StdMutex<(u32, u32)>>,
    link: Link<()>,
    core: Arc<StreamCore>,
}

fn fake() -> Fake {
    let turn = Arc::new(StdMutex::new(Turn::Made));
    Fake { config: ModelConfig::ddpm(1, 4, 4), turn, asked: Arc::default(), held: Vec::new() }
}

fn bench() -> Bench {
    let fake = fake();
    let config = fake.config.clone();
    let (turn, asked) = (Arc::clone(&fake.turn), Arc::clone(&fake.asked));
    let load = move || Ok(Loaded { denoiser: Box::new(fake), info: () });
    let worker = Worker::spawn(Arc::new(OnStop(|| {})), 4, load).unwrap();
    worker.wait(None).unwrap();
    let link = worker.link().unwrap();
    let core = core_of(&config, &config.sampler_config(Sampler::Ddim, 10), RunStart::default());
    Bench { worker, turn, asked, link, core }
}

impl Bench {
    fn step(&self) -> Result<u32> {
        assert_eq!(self.link.step(&self.core)?, StepOutcome::Accepted);
        assert!(self.link.wait(&self.core, Some(Duration::from_secs(60)))?);
        Ok(self.core.status().step)
    }

    fn sample(&self) -> Result<Vec<f32>> {
        self.link.look_at_run(&self.core, |run| Ok(run.sample().to_vec()))
    }
}

#[test]
fn a_whole_step_that_fails_is_made_in_the_old_way_and_no_more_are_tried() {
    let bench = bench();
    let start = bench.sample().unwrap();
    assert_eq!(bench.step().unwrap(), 1);
    *bench.turn.lock().unwrap() = Turn::Fails;
    assert_eq!(bench.step().unwrap(), 2);
    assert_eq!(*bench.asked.lock().unwrap(), (2, 1));
    assert_ne!(bench.sample().unwrap(), start);
    *bench.turn.lock().unwrap() = Turn::Made;
    assert_eq!(bench.step().unwrap(), 3);
    assert_eq!(*bench.asked.lock().unwrap(), (2, 2));
    bench.worker.close().unwrap();
}

#[test]
fn a_sample_that_is_away_when_the_model_panics_is_lost_and_nobody_waits_for_it() {
    let bench = bench();
    assert_eq!(bench.step().unwrap(), 1);
    *bench.turn.lock().unwrap() = Turn::Panics;
    let error = bench.step().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal);
    // What is here is of the start, and must not pass for the run's.
    let looked = bench.link.look_at_run(&bench.core, |run| {
        assert!(run.is_spoiled());
        Ok(())
    });
    assert!(looked.is_ok());
    bench.worker.close().unwrap();
    assert_eq!(bench.sample().unwrap_err().kind(), ErrorKind::EngineClosed);
}

/// One more whole step after that, and its stream would go on from the sample that is here, which is old.
#[test]
fn after_a_whole_step_has_failed_none_is_made_for_those_who_wait_with_it() {
    let mut fake = fake();
    *fake.turn.lock().unwrap() = Turn::FailsTogether;
    let sampler = fake.config.sampler_config(Sampler::Ddim, 10);
    let start = |seed| RunStart { seed, ..RunStart::default() };
    let cores: Vec<_> = (0..3).map(|seed| core_of(&fake.config, &sampler, start(seed))).collect();
    let mut batch = Batch::new(&fake, 4, &Arc::default());
    let (calls, stopper) = (Calls::default(), OnStop(|| {}));
    let watch = Watch { calls: &calls, stopper: &stopper, closing: &|| None };
    for _ in 0..2 {
        let ask = |core: &Arc<StreamCore>| {
            assert!(core.ask(Goal::Next).unwrap().is_ok());
            Request::of(Arc::clone(core)).unwrap()
        };
        let mut requests: Vec<_> = cores.iter().map(ask).collect();
        batch.serve(&mut requests, &mut fake, &watch).unwrap();
    }
    assert_eq!(fake.asked.lock().unwrap().0, 1);
    for (seed, core) in (0..).zip(&cores) {
        let mut alone = Run::starting(&fake.config, &sampler, start(seed), 1).unwrap();
        assert!(alone.step(&mut fake).unwrap() && alone.step(&mut fake).unwrap());
        let run = &core.work.lock().run;
        assert_eq!((run.away(), run.step_index()), (None, 2));
        assert_eq!(run.sample(), alone.sample());
    }
}

#[test]
fn a_whole_step_that_is_refused_for_what_a_stream_asks_for_is_no_fault_of_the_others() {
    let bench = bench();
    assert_eq!(bench.step().unwrap(), 1);
    *bench.turn.lock().unwrap() = Turn::Refuses;
    assert_eq!(bench.step().unwrap(), 2);
    assert_eq!(*bench.asked.lock().unwrap(), (2, 1));
    *bench.turn.lock().unwrap() = Turn::Made;
    assert_eq!(bench.step().unwrap(), 3);
    assert_eq!(*bench.asked.lock().unwrap(), (3, 1));
    bench.worker.close().unwrap();
}

#[test]
fn whoever_calls_a_sample_home_is_told_when_the_model_panics_over_that() {
    let bench = Arc::new(bench());
    assert_eq!(bench.step().unwrap(), 1);
    *bench.turn.lock().unwrap() = Turn::PanicsAtFetch;
    let (same, (told, hears)) = (Arc::clone(&bench), std::sync::mpsc::channel());
    std::thread::spawn(move || {
        let spoiled = same.link.look_at_run(&same.core, |run| Ok(run.is_spoiled()));
        told.send(spoiled)
    });
    assert!(hears.recv_timeout(Duration::from_secs(30)).unwrap().unwrap());
    assert_eq!(bench.worker.state(), EngineState::Failed);
    bench.worker.close().unwrap();
}
