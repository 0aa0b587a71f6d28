//! Reveals that take a given time: the host's clock, and the worker's measure of its own pace.
//!
//! The host's ticks say how many steps are due (see [`pacing`](crate::pacing)); the worker drops timesteps
//! where what is left would end late. This module must not know queues.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::pacing::{Easing, Playback, even_shares, kept_rows, kept_shares, should_shorten, thin};

use super::progress::Goal;
use super::stream_core::{StepOutcome, StreamCore, Work};
use super::sync::Ordering;

/// How fast a new measurement counts: the last four or so steps decide.
const FORGET: f64 = 0.25;

/// How a reveal is to be paced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PlaybackConfig {
    /// Seconds from now to the finished picture, up to a day.
    pub duration: f64,
    /// How the visible share grows over that time.
    pub easing: Easing,
    /// The steps that the rest of the run is shortened to at the fewest, where this machine is too slow
    /// for all of them; 0 is [`DEFAULT_FEWEST_STEPS`]. The run's own number or more never shortens it, and
    /// ends late instead. A sampler whose timesteps cannot be chosen is not shortened either.
    pub fewest_steps: u32,
}

/// What `fewest_steps` 0 stands for: what is left of a picture's quality by fewer is not worth the time.
pub const DEFAULT_FEWEST_STEPS: u32 = 8;

impl PlaybackConfig {
    /// An even reveal of this many seconds.
    pub fn new(duration: f64) -> Self {
        Self { duration, easing: Easing::default(), fewest_steps: 0 }
    }
}

/// The clock of a playback, and what each step shows.
pub(super) struct Pace {
    playback: Option<Running>,
    /// By step: the share of the visible change that there is after it.
    shares: Vec<f32>,
}

#[derive(Clone, Copy)]
struct Running {
    config: PlaybackConfig,
    clock: Playback,
}

impl Pace {
    /// No playback; every step counts the same.
    pub(super) fn new(steps: usize) -> Self {
        Self { playback: None, shares: even_shares(steps) }
    }

    fn share_after(&self, step: u32) -> f32 {
        step.checked_sub(1).and_then(|row| self.shares.get(row as usize)).copied().unwrap_or(0.0)
    }
}

impl StreamCore {
    /// Host: the rest of the run is to take a time, from now on.
    pub(crate) fn play(&self, config: PlaybackConfig) -> Result<()> {
        let clock = Playback::new(config.duration, config.easing)?;
        let mut pace = self.pace.lock();
        let clock = clock.starting_at(pace.share_after(self.progress.snapshot().step));
        pace.playback = Some(Running { config, clock });
        self.deadline.store(0, Ordering::Release);
        Ok(())
    }

    /// Host: a reset or a seek goes to `step`, and a playback goes on from there: what is left takes its
    /// share of the duration.
    pub(super) fn restart_playback(&self, step: u32) {
        let mut pace = self.pace.lock();
        let share = pace.share_after(step);
        if let Some(running) = &mut pace.playback {
            let PlaybackConfig { duration, easing, .. } = running.config;
            let rest = duration * f64::from(1.0 - share).max(1e-6);
            // The duration was valid, and so is a part of it.
            if let Ok(clock) = Playback::new(rest, easing) {
                running.clock = clock.starting_at(share);
            }
        }
        self.deadline.store(0, Ordering::Release);
    }

    /// Host: lets time pass, and gives the goal that there is now; none while it is paused.
    pub(crate) fn tick(
        &self,
        seconds: f64,
        usual_step_time: Option<f64>,
    ) -> Result<std::result::Result<Goal, StepOutcome>> {
        let mut pace = self.pace.lock();
        let Pace { playback: Some(running), shares } = &mut *pace else {
            return Err(Error::invalid_argument(
                "tick: the stream does not play, expected play before it",
            ));
        };
        if self.progress.is_paused() {
            // Looked at all the same, so that a bad number shows at once.
            running.clock.clone().advance(seconds)?;
            self.deadline.store(0, Ordering::Release);
            return Ok(Err(StepOutcome::Paused));
        }
        running.clock.advance(seconds)?;
        let step_time = self.step_time().or(usual_step_time);
        let now = self.progress.snapshot();
        let step = running.clock.goal(shares, now.step as usize, step_time) as u32;
        // With a frame's grace: what is due after the last frame in time is asked for in the next.
        let deadline = self.now() + running.clock.remaining() + running.clock.frame();
        self.deadline.store(((deadline * 1e9) as u64).max(1), Ordering::Release);
        Ok(Ok(Goal::Until { epoch: now.epoch, step }))
    }

    /// Seconds since the stream was made.
    fn now(&self) -> f64 {
        self.born.elapsed().as_secs_f64()
    }

    /// Seconds that a step of this stream takes now, from one step's end to the next; none until it was
    /// measured.
    pub(super) fn step_time(&self) -> Option<f64> {
        Some(f64::from_bits(self.step_time.load(Ordering::Relaxed))).filter(|&time| time > 0.0)
    }

    /// Worker: a step was finished. One that followed on another took the time since that one's end, which
    /// counts the others that the worker serves in between; else the time since it was taken up.
    pub(super) fn measure(&self, work: &mut Work, goes_on: bool) {
        let now = Instant::now();
        let found = now.duration_since(work.last_finish.unwrap_or(work.taken_up)).as_secs_f64();
        let time = self.step_time().map_or(found, |old| old + FORGET * (found - old));
        self.step_time.store(time.to_bits(), Ordering::Relaxed);
        work.last_finish = goes_on.then_some(now);
    }

    /// Worker: drops timesteps where the playback would end late. Allocates where it does.
    pub(super) fn keep_time(&self, work: &mut Work) -> Result<()> {
        let deadline = self.deadline.load(Ordering::Acquire) as f64 / 1e9;
        let Some(step_time) = self.step_time().filter(|_| deadline > 0.0) else {
            return Ok(());
        };
        let made = work.run.step_index();
        let left = work.run.steps().saturating_sub(made);
        let affordable = ((deadline - self.now()).max(0.0) / step_time) as usize;
        let fewest = match self.pace.lock().playback {
            None => return Ok(()),
            Some(running) => match running.config.fewest_steps {
                0 => DEFAULT_FEWEST_STEPS,
                fewest => fewest,
            },
        };
        let least = work.run.least_steps().saturating_sub(made);
        match should_shorten(left, affordable, least.max(fewest as usize)) {
            Some(left) if work.run.can_replan() => self.shorten(work, left),
            _ => Ok(()),
        }
    }

    fn shorten(&self, work: &mut Work, left: usize) -> Result<()> {
        let made = work.run.step_index();
        let timesteps: Vec<usize> = work.run.timesteps().map(|t| t as usize).collect();
        // Only the worker changes them, so a copy is as good; the host's lock is not held for long.
        let all = self.pace.lock().shares.clone();
        let kept = kept_rows(&all, made, left);
        self.follow(work, &thin(&timesteps, &all, made, left))?;
        self.set_shares(kept_shares(&all, &kept));
        work.unshortened.get_or_insert((timesteps, all));
        Ok(())
    }

    /// Worker: a new run has all its steps again. At step 0.
    pub(super) fn lengthen(&self, work: &mut Work) -> Result<()> {
        if let Some((timesteps, shares)) = work.unshortened.take() {
            self.follow(work, &timesteps)?;
            self.set_shares(shares);
        }
        Ok(())
    }

    /// Worker: the run visits these timesteps from now on.
    pub(super) fn follow(&self, work: &mut Work, timesteps: &[usize]) -> Result<()> {
        work.run.replan(&self.model, timesteps)?;
        for (slot, timestep) in self.timesteps.iter().zip(work.run.timesteps()) {
            slot.store(timestep.to_bits(), Ordering::Release);
        }
        self.steps.store(work.run.steps() as u32, Ordering::Release);
        Ok(())
    }

    /// Worker: each step shows so much, in place of all the same.
    pub(super) fn set_shares(&self, shares: Vec<f32>) {
        // What was there is freed after the lock is.
        let old = std::mem::replace(&mut self.pace.lock().shares, shares);
        drop(old);
    }
}
