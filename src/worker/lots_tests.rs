//! Steps that the model makes whole, when something goes wrong with them.

use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;

use ndarray::{ArrayView4, ArrayViewMut4};

use super::tests::{OnStop, core_of};
use super::*;
use crate::model::{FusedAsk, FusedSteps, ModelConfig};
use crate::run::RunStart;
use crate::sampler::Sampler;

/// What the next whole step comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Turn {
    Made,
    Fails,
    Panics,
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
            Turn::Made => {
                if let Some(state) = ask.state {
                    self.held = state.to_vec();
                }
                Ok(true)
            }
            Turn::Fails => Err(Error::new(ErrorKind::Inference, "the device is gone")),
            Turn::Panics => panic!("a whole step"),
        }
    }

    fn fetch(&mut self, _place: usize, state: &mut [f32]) -> Result<()> {
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

fn bench() -> Bench {
    let config = ModelConfig::ddpm(1, 4, 4);
    let (turn, asked) = (Arc::new(StdMutex::new(Turn::Made)), Arc::default());
    let fake = Fake {
        config: config.clone(),
        turn: Arc::clone(&turn),
        asked: Arc::clone(&asked),
        held: Vec::new(),
    };
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
