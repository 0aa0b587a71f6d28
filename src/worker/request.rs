//! What the worker does for a stream: one request, from the word that asks for it to the frame.
//!
//! This module must not know the queue, nor which requests go together into one call of the model.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};

use super::calls::Calls;
use super::director::Kind;
use super::progress::Ticket;
use super::stream_core::{StreamCore, Work};
use super::sync::Ordering;

/// After so many calls of the model that a request was left out of, it goes before those of the next
/// higher priority.
const PATIENCE: u32 = 16;

impl StreamCore {
    /// Applies a reset that the run has not seen.
    pub(super) fn catch_up(&self, work: &mut Work) -> Result<()> {
        let origin = self.origin();
        if work.origin != origin {
            work.run.reset(self.seed_of(origin).load(Ordering::Relaxed));
            work.checkpoints.clear();
            work.origin = origin;
            self.lengthen(work)?;
        }
        Ok(())
    }

    /// Worker: makes the run ready for the ticket. False where the ticket is about to be worthless.
    fn prepare(&self, ticket: Ticket) -> Result<bool> {
        let mut work = self.work.lock();
        let work = &mut *work;
        let (stand, is_seek) = match ticket {
            Ticket::Step { after, .. } => (after, false),
            Ticket::Seek { target, .. } => (target, true),
        };
        let is_new = work.epoch != ticket.epoch();
        if is_new {
            // A reset's origin shows a moment before its epoch does.
            if (self.origin().epoch.wrapping_sub(ticket.epoch()) as i32) > 0 {
                return Ok(false);
            }
            self.catch_up(work)?;
            work.epoch = ticket.epoch();
            work.last_finish = None;
        }
        if stand as usize > work.run.steps() {
            return Err(Error::invalid_argument(format!(
                "step: found {stand}, but the run was shortened to {} steps",
                work.run.steps()
            )));
        }
        // The run may be ahead of its word: a step that was discarded too late was made all the same.
        let is_there = work.run.step_index() == stand as usize && !work.run.is_spoiled();
        let is_off = !is_seek && !is_there;
        if (is_seek && is_new) || is_off {
            work.run.seek_start(&work.checkpoints, stand as usize)?;
        }
        if !is_seek && work.run.step_index() == stand as usize {
            self.keep_time(work)?;
            work.taken_up = Instant::now();
        }
        Ok(true)
    }

    /// Worker: whether its timesteps are still to be chosen.
    pub(super) fn awaits_director(&self) -> bool {
        self.options.director && self.work.lock().awaits_director
    }

    /// Worker: whether it waits for this pilot.
    pub(super) fn awaits_director_of(&self, kind: &Kind) -> bool {
        self.awaits_director() && self.kind() == *kind
    }

    /// Worker: makes the step of what the model said, and publishes its frame if that is what the ticket
    /// is for. Gives what there is to do next, if that is known already.
    fn answer(&self, ticket: Ticket, output: &[f32]) -> Result<Answered> {
        let mut work = self.work.lock();
        let work = &mut *work;
        // Under the lock: the run is that of the question as long as the ticket counts, and no longer. After
        // a reset a branch or a save takes it back to its start, which may be while this waited.
        if !self.progress.wants(ticket) {
            return Ok(Answered::Settled(None));
        }
        work.run.answer(output)?;
        work.checkpoints.record(&work.run);
        if (work.run.step_index() as u32) < ticket.reaches() {
            return Ok(Answered::OnTheWay);
        }
        Ok(Answered::Settled(self.arrive(ticket, work, None)?))
    }

    /// Worker: the same for a step that was made elsewhere, in the samples that `who` has of the run, with
    /// the picture that is then to be seen.
    fn answer_away(&self, ticket: Ticket, who: u64, shown: &[f32]) -> Result<Answered> {
        let mut work = self.work.lock();
        let work = &mut *work;
        if work.run.away() != Some(who) {
            // Taken back to its start meanwhile.
            return Ok(Answered::Settled(None));
        }
        // Made is made, though it may not be wanted any more.
        work.run.step_away(who);
        if !self.progress.wants(ticket) {
            return Ok(Answered::Settled(None));
        }
        if (work.run.step_index() as u32) < ticket.reaches() {
            return Ok(Answered::OnTheWay);
        }
        Ok(Answered::Settled(self.arrive(ticket, work, Some(shown))?))
    }

    /// Worker: the run stands where the ticket is for. `shown` is its picture, unless that is here.
    fn arrive(
        &self,
        ticket: Ticket,
        work: &mut Work,
        shown: Option<&[f32]>,
    ) -> Result<Option<Ticket>> {
        let step = ticket.reaches();
        let is_last = step as usize == work.run.steps();
        // At step 0 there is nothing to be seen yet, but in a run without steps.
        let drawn = match step {
            0 if !is_last => None,
            _ => {
                let shown = shown.unwrap_or_else(|| self.options.preview.of(&work.run));
                Some(self.draw(shown, ticket.epoch(), step)?)
            }
        };
        if !self.progress.commit(ticket) {
            return Ok(None);
        }
        if let Some(drawn) = drawn {
            drawn.publish();
        }
        let next = self.progress.finish(ticket, is_last);
        match ticket {
            Ticket::Step { .. } => self.measure(work, next.is_some()),
            Ticket::Seek { .. } => work.last_finish = next.map(|_| Instant::now()),
        }
        self.notify();
        Ok(next)
    }
}

enum Answered {
    /// A seek has further to go.
    OnTheWay,
    /// It is done, or no longer wanted; and what the stream wants next.
    Settled(Option<Ticket>),
}

/// A stream that waits for the worker, or is in its hands. Dropped unsettled, as when the engine
/// closes, it fails the stream, so that no stream is left stepping for ever.
pub(super) struct Request {
    core: Arc<StreamCore>,
    ticket: Ticket,
    is_settled: bool,
    /// The calls it was left out of.
    left_out: u32,
}

impl Request {
    /// What the stream asks for now; none where that is nothing.
    pub(super) fn of(core: Arc<StreamCore>) -> Option<Self> {
        let ticket = core.progress.wanted()?;
        Some(Self { core, ticket, is_settled: false, left_out: 0 })
    }

    pub(super) fn is_of(&self, core: &Arc<StreamCore>) -> bool {
        Arc::ptr_eq(&self.core, core)
    }

    pub(super) fn core(&self) -> &Arc<StreamCore> {
        &self.core
    }

    /// Looks at what the stream wants by now; false where that is nothing any more.
    pub(super) fn renew(&mut self) -> bool {
        match self.core.progress.wanted() {
            Some(ticket) => self.ticket = ticket,
            None => self.is_settled = true,
        }
        !self.is_settled
    }

    /// Smaller comes first.
    pub(super) fn rank(&self) -> Reverse<u32> {
        Reverse(self.core.options.priority as u32 * PATIENCE + self.left_out)
    }

    pub(super) fn was_left_out(&mut self) {
        self.left_out = self.left_out.saturating_add(1);
    }

    /// Makes the run ready, and gives how many samples the model is to be asked about. With none the
    /// request is settled, or on to what the stream wants next.
    pub(super) fn prepare(&mut self) -> Result<usize> {
        self.left_out = 0;
        while !self.is_settled {
            if !self.core.progress.wants(self.ticket) || !self.core.prepare(self.ticket)? {
                // A newer wish, if there is one, has queued the stream again.
                self.is_settled = true;
                break;
            }
            let mut work = self.core.work.lock();
            let is_there = matches!(self.ticket, Ticket::Seek { .. })
                && work.run.step_index() as u32 == self.ticket.reaches();
            if !is_there {
                return Ok(work.run.queries());
            }
            let next = self.core.arrive(self.ticket, &mut work, None)?;
            drop(work);
            self.go_on(next);
        }
        Ok(0)
    }

    /// Whether it is about to show a picture without a step, of a run whose samples are away.
    pub(super) fn arrives_away(&self) -> bool {
        let work = self.core.work.lock();
        matches!(self.ticket, Ticket::Seek { target, .. } if target as usize == work.run.step_index())
            && work.run.away().is_some()
    }

    /// Whether the step that comes next is the one to be seen.
    pub(super) fn shows_next(&self) -> bool {
        self.core.work.lock().run.step_index() as u32 + 1 >= self.ticket.reaches()
    }

    /// The timestep that the model is asked about next.
    pub(super) fn timestep(&self) -> Option<f64> {
        self.core.work.lock().run.timestep()
    }

    /// What it asks, for as many queries as `prepare` gave.
    pub(super) fn ask(
        &mut self,
        sample: &mut [f32],
        timesteps: &mut [f64],
        labels: &mut [i64],
    ) -> Result<()> {
        self.core.work.lock().run.ask(sample, timesteps, labels)
    }

    /// Takes part in a call of the model, if it is still wanted.
    pub(super) fn join(&self, calls: &Calls, call: u64) {
        self.core.membership.join(call);
        if !self.core.progress.wants(self.ticket) {
            // Whoever ended it may have looked before it joined.
            calls.leave(&self.core.membership);
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        !self.is_settled && self.core.progress.wants(self.ticket)
    }

    /// Makes the step. After an error the request is still to be failed.
    pub(super) fn answer(&mut self, output: &[f32]) -> Result<()> {
        if let Answered::Settled(next) = self.core.answer(self.ticket, output)? {
            self.go_on(next);
        }
        Ok(())
    }

    /// Takes the step that `who` made of the samples it has. After an error the request is still to be
    /// failed.
    pub(super) fn answer_away(&mut self, who: u64, shown: &[f32]) -> Result<()> {
        if let Answered::Settled(next) = self.core.answer_away(self.ticket, who, shown)? {
            self.go_on(next);
        }
        Ok(())
    }

    /// Ends it if it is not wanted any more.
    pub(super) fn drop_unwanted(&mut self) {
        self.is_settled |= !self.core.progress.wants(self.ticket);
    }

    fn go_on(&mut self, next: Option<Ticket>) {
        match next {
            Some(ticket) => self.ticket = ticket,
            None => self.is_settled = true,
        }
    }

    /// Ends it with this error.
    pub(super) fn fail(&mut self, error: Error) {
        if !self.is_settled {
            self.core.fail(self.ticket, error);
            self.is_settled = true;
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.is_settled
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let error = Error::new(ErrorKind::EngineClosed, "the engine was closed during the step");
        self.fail(error);
    }
}
