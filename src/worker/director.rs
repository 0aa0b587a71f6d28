//! The director: chooses the timesteps of streams so that every frame changes the picture as much as the
//! others do.
//!
//! What one sees at which timestep is measured once for a sampler and a preview, by a pilot run of the
//! model that nobody is shown. The pilot makes a row at a time, between the steps of other streams.

use crate::error::{Error, Result};
use crate::model::{Denoiser, ModelConfig, Stopper};
use crate::pacing::{DEFAULT_FLOOR, Shown, VisibleChange};
use crate::run::{Run, RunStart};
use crate::sampler::{Sampler, SamplerConfig};

use super::request::Request;
use super::stream_core::{Preview, StreamCore};

/// Rows of a pilot run.
const PILOT_ROWS: usize = 32;

/// Pictures of a pilot run, side by side; one model run a row where the model takes any batch.
const PILOT_PICTURES: usize = 4;

/// What a profile is good for.
pub(super) type Kind = (Sampler, Preview);

/// The profiles there are, and the pilot that makes the next.
#[derive(Default)]
pub(super) struct Director {
    profiles: Vec<(Kind, VisibleChange)>,
    pilot: Option<Pilot>,
}

struct Pilot {
    kind: Kind,
    model: ModelConfig,
    config: SamplerConfig,
    start: RunStart,
    run: Run,
    seen: VisibleChange,
}

impl Director {
    /// Chooses the timesteps of the streams that wait for it, if that is known; begins a pilot where it
    /// is not. True where the request can be served now.
    pub(super) fn admits(&mut self, request: &mut Request, denoiser: &dyn Denoiser) -> bool {
        if !request.core().awaits_director() {
            return true;
        }
        let kind = request.core().kind();
        let profile = self.profiles.iter().find(|(known, _)| *known == kind);
        let outcome = match (profile, &self.pilot) {
            (Some((_, seen)), _) => request.core().direct(seen).map(|()| true),
            (None, Some(_)) => Ok(false),
            (None, None) => Pilot::of(request.core(), denoiser).map(|pilot| {
                self.pilot = Some(pilot);
                false
            }),
        };
        outcome.unwrap_or_else(|error| {
            request.fail(error);
            false
        })
    }

    /// Makes a row of the pilot, if there is one. Blocks for a run of the model.
    ///
    /// Errors: what the model gives; the streams that wait for this pilot have to fail with it.
    pub(super) fn fly(
        &mut self,
        denoiser: &mut dyn Denoiser,
        stopper: &dyn Stopper,
    ) -> std::result::Result<(), (Kind, Error)> {
        let Some(mut pilot) = self.pilot.take() else {
            return Ok(());
        };
        match pilot.fly(denoiser) {
            Ok(true) => self.pilot = Some(pilot),
            Ok(false) => self.profiles.push((pilot.kind, pilot.seen)),
            // Meant for a call before this one: the run is as it was.
            Err(_) if stopper.was_broken_off() => self.pilot = Some(pilot),
            Err(error) => match pilot.alone(denoiser) {
                Some(pilot) => self.pilot = Some(pilot),
                None => return Err((pilot.kind, error)),
            },
        }
        Ok(())
    }
}

impl Pilot {
    fn of(core: &StreamCore, denoiser: &dyn Denoiser) -> Result<Self> {
        let kind = core.kind();
        let (config, start) = {
            let work = core.work.lock();
            (work.run.config().clone(), work.run.start().clone())
        };
        let steps = PILOT_ROWS.min(core.model.num_train_timesteps);
        let config = SamplerConfig { steps, timesteps: None, ..config };
        let start = RunStart { branches: Vec::new(), ..start };
        let batch = denoiser.batching().fixed.unwrap_or(PILOT_PICTURES);
        Self::new(kind, core.model.clone(), config, start, batch)
    }

    fn new(
        kind: Kind,
        model: ModelConfig,
        config: SamplerConfig,
        start: RunStart,
        batch: usize,
    ) -> Result<Self> {
        let run = Run::starting(&model, &config, start.clone(), batch)?;
        let shown = match kind.1 {
            Preview::PredOriginalSample => Shown::Prediction,
            Preview::Sample => Shown::Sample,
        };
        let seen = VisibleChange::new(run.timesteps().collect(), shown)?;
        Ok(Self { kind, model, config, start, run, seen })
    }

    /// The same with one picture, for a model that may not take more; none where that was tried, or the
    /// model does not take one.
    fn alone(&self, denoiser: &dyn Denoiser) -> Option<Self> {
        let could_be_less = denoiser.batching().fixed.is_none() && self.run.shape()[0] > 1;
        let (config, start) = (self.config.clone(), self.start.clone());
        could_be_less
            .then(|| Self::new(self.kind, self.model.clone(), config, start, 1).ok())
            .flatten()
    }

    /// A row. False after the last.
    fn fly(&mut self, denoiser: &mut dyn Denoiser) -> Result<bool> {
        let row = self.run.step_index();
        let more = self.run.step(denoiser)?;
        let shown = match self.kind.1 {
            Preview::PredOriginalSample => self.run.x0(),
            Preview::Sample => self.run.sample(),
        };
        self.seen.record(row, shown)?;
        Ok(more)
    }
}

impl StreamCore {
    pub(super) fn kind(&self) -> Kind {
        (self.work.lock().run.config().kind, self.options.preview)
    }

    /// Worker: takes the timesteps that make what one sees change evenly.
    fn direct(&self, seen: &VisibleChange) -> Result<()> {
        let mut work = self.work.lock();
        let work = &mut *work;
        let base: Vec<usize> = work.run.timesteps().map(|t| t as usize).collect();
        self.follow(work, &seen.directed_timesteps(&base, DEFAULT_FLOOR))?;
        let timesteps: Vec<f64> = work.run.timesteps().collect();
        self.set_shares(seen.shares(&timesteps));
        work.awaits_director = false;
        Ok(())
    }
}
