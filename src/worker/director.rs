//! The director: chooses the timesteps of streams so that a picture appears evenly.
//!
//! What one sees at which timestep is measured once for a sampler and a preview, by a pilot run of the
//! model that nobody is shown. The pilot makes a row at a time, between the steps of other streams.

use crate::error::{Error, Result};
use crate::model::{Denoiser, ModelConfig, Stopper};
use crate::pacing::{DEFAULT_FLOOR, PILOT_ROWS, Shown, VisibleChange};
use crate::run::{Run, RunStart};
use crate::sampler::SamplerConfig;

use super::request::Request;
use super::stream_core::{Preview, StreamCore};

/// Profiles that are kept: a host may give each stream another eta.
const MAX_PROFILES: usize = 8;

/// What a profile is good for. The pilot is a function of it alone, so that the timesteps of a stream,
/// and with them its picture, do not depend on which stream asked first.
#[derive(Clone, PartialEq)]
pub(super) struct Kind {
    preview: Preview,
    /// The pilot's: so many rows, plainly spaced.
    config: SamplerConfig,
    /// The pilot's: of the first class where the stream has one, from the noise of seed 0.
    start: RunStart,
}

/// The profiles there are, and the pilot that makes the next.
#[derive(Default)]
pub(super) struct Director {
    profiles: Vec<(Kind, VisibleChange)>,
    pilot: Option<Pilot>,
}

struct Pilot {
    kind: Kind,
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
            (None, None) => Pilot::new(kind, &request.core().model, denoiser).map(|pilot| {
                self.pilot = Some(pilot);
                false
            }),
        };
        outcome.unwrap_or_else(|error| {
            request.fail(error);
            false
        })
    }

    /// Makes a row of the pilot, if there is one. Blocks for a run of the model. Gives the error that the
    /// pilot ended with, if it did: the streams of its kind that wait have to fail with it.
    pub(super) fn fly(
        &mut self,
        denoiser: &mut dyn Denoiser,
        stopper: &dyn Stopper,
    ) -> Option<(Kind, Error)> {
        let mut pilot = self.pilot.take()?;
        match pilot.fly(denoiser) {
            Ok(true) => self.pilot = Some(pilot),
            Ok(false) => {
                if self.profiles.len() == MAX_PROFILES {
                    self.profiles.remove(0);
                }
                self.profiles.push((pilot.kind, pilot.seen));
            }
            // Meant for a call before this one: the run is as it was.
            Err(_) if stopper.was_broken_off() => self.pilot = Some(pilot),
            Err(error) => return Some((pilot.kind, error)),
        }
        None
    }
}

impl Pilot {
    fn new(kind: Kind, model: &ModelConfig, denoiser: &dyn Denoiser) -> Result<Self> {
        // The pictures of a fixed batch count together; one is enough.
        let batch = denoiser.batching().fixed.unwrap_or(1);
        let run = Run::starting(model, &kind.config, kind.start.clone(), batch)?;
        let shown = match kind.preview {
            Preview::PredOriginalSample => Shown::Prediction,
            Preview::Sample => Shown::Sample,
        };
        let seen = VisibleChange::new(run.timesteps().collect(), shown)?;
        Ok(Self { kind, run, seen })
    }

    /// A row. False after the last.
    fn fly(&mut self, denoiser: &mut dyn Denoiser) -> Result<bool> {
        let row = self.run.step_index();
        let more = self.run.step(denoiser)?;
        self.seen.record(row, self.kind.preview.of(&self.run))?;
        Ok(more)
    }
}

impl StreamCore {
    pub(super) fn kind(&self) -> Kind {
        let work = self.work.lock();
        let (config, start) = (work.run.config().clone(), work.run.start());
        let steps = PILOT_ROWS.min(self.model.num_train_timesteps);
        Kind {
            preview: self.options.preview,
            config: SamplerConfig { steps, timesteps: None, ..config },
            start: RunStart {
                label: start.label.map(|_| 0),
                guidance: start.guidance,
                ..RunStart::default()
            },
        }
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
