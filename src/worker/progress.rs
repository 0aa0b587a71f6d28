//! Where a stream stands, in one atomic word that the host and the worker both move.
//!
//! The word holds an epoch, the number of finished steps and a phase. A reset starts a new epoch,
//! so whatever the worker still does for the old one cannot be mistaken for news: every change of
//! the worker's is a compare-and-swap against the ticket it was given.
//!
//! Nobody waits here. This module must not know runs, frames or channels.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Waiting to be asked for the next step.
    Idle,
    /// A step is queued or running.
    Stepping,
    /// Every step has been made; the picture is finished.
    Done,
    /// The run was cancelled; a reset starts another.
    Cancelled,
    /// A step failed; the error comes back from `step` and `wait` until a reset.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Idle,
    Stepping,
    /// The step counts and its frame is being published: too late to discard it.
    Committed,
    Done,
    Cancelled,
    Failed,
}

const PHASES: [Phase; 6] =
    [Phase::Idle, Phase::Stepping, Phase::Committed, Phase::Done, Phase::Cancelled, Phase::Failed];
const STEP_BITS: u32 = 24;
const STEP_MASK: u32 = (1 << STEP_BITS) - 1;

/// The most steps a stream can have, 2^24 - 1.
pub(crate) const MAX_STEPS: usize = STEP_MASK as usize;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    epoch: u32,
    step: u32,
    phase: Phase,
}

impl Word {
    fn pack(self) -> u64 {
        u64::from(self.epoch) << 32 | u64::from(self.step & STEP_MASK) << 8 | self.phase as u64
    }

    fn unpack(bits: u64) -> Self {
        // The byte was written by `pack`; the fallback only keeps this total.
        let phase = PHASES.get((bits & 0xff) as usize).copied().unwrap_or(Phase::Failed);
        Self { epoch: (bits >> 32) as u32, step: (bits >> 8) as u32 & STEP_MASK, phase }
    }
}

/// The right to make one step: which run, and which of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The run, as counted by resets.
    pub(crate) epoch: u32,
    /// How many steps were finished before this one.
    pub(crate) step: u32,
}

impl Ticket {
    fn word(self, phase: Phase) -> u64 {
        Word { epoch: self.epoch, step: self.step, phase }.pack()
    }
}

/// What asking for a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    Granted(Ticket),
    Busy,
    Over,
    Failed,
}

/// A consistent look at the word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) epoch: u32,
    pub(crate) step: u32,
    pub(crate) state: StreamState,
}

/// The shared word. See the module's text.
pub(crate) struct Progress {
    word: AtomicU64,
    /// The phase at step 0: idle, but done where there is no step to make.
    start: Phase,
}

impl Progress {
    /// Epoch 0, no step made of `steps`.
    pub(crate) fn new(steps: usize) -> Self {
        let start = if steps == 0 { Phase::Done } else { Phase::Idle };
        Self { word: AtomicU64::new(Word { epoch: 0, step: 0, phase: start }.pack()), start }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let word = Word::unpack(self.word.load(Ordering::Acquire));
        let (step, state) = match word.phase {
            Phase::Idle => (word.step, StreamState::Idle),
            Phase::Stepping => (word.step, StreamState::Stepping),
            // Its frame may not be there yet, so the step does not show as finished yet.
            Phase::Committed => (word.step.saturating_sub(1), StreamState::Stepping),
            Phase::Done => (word.step, StreamState::Done),
            Phase::Cancelled => (word.step, StreamState::Cancelled),
            Phase::Failed => (word.step, StreamState::Failed),
        };
        Snapshot { epoch: word.epoch, step, state }
    }

    /// Host: asks for the next step.
    pub(crate) fn begin(&self) -> Begin {
        let word = Word::unpack(self.word.load(Ordering::Acquire));
        let ticket = Ticket { epoch: word.epoch, step: word.step };
        match word.phase {
            Phase::Idle => match self.swap(word.pack(), ticket.word(Phase::Stepping)) {
                true => Begin::Granted(ticket),
                // Another thread asked, cancelled or reset in between; asking again is the answer
                // to all three.
                false => Begin::Busy,
            },
            Phase::Stepping | Phase::Committed => Begin::Busy,
            Phase::Done | Phase::Cancelled => Begin::Over,
            Phase::Failed => Begin::Failed,
        }
    }

    /// Host: gives a ticket back that could not be queued.
    pub(crate) fn give_back(&self, ticket: Ticket) {
        self.swap(ticket.word(Phase::Stepping), ticket.word(Phase::Idle));
    }

    /// Host: ends the run. A finished or failed run stays what it is.
    pub(crate) fn cancel(&self) {
        self.update(|word| match word.phase {
            Phase::Idle | Phase::Stepping | Phase::Committed => {
                Word { phase: Phase::Cancelled, ..word }
            }
            Phase::Done | Phase::Cancelled | Phase::Failed => word,
        });
    }

    /// Host: the epoch that a [`reset`](Self::reset) would start. Stable while resets are excluded.
    pub(crate) fn next_epoch(&self) -> u32 {
        Word::unpack(self.word.load(Ordering::Acquire)).epoch.wrapping_add(1)
    }

    /// Host: starts `epoch` at step 0, whatever was going on.
    pub(crate) fn reset(&self, epoch: u32) {
        self.word.store(Word { epoch, step: 0, phase: self.start }.pack(), Ordering::Release);
    }

    /// Worker: whether the step is still wanted.
    pub(crate) fn wants(&self, ticket: Ticket) -> bool {
        self.word.load(Ordering::Acquire) == ticket.word(Phase::Stepping)
    }

    /// Worker: makes the step count. False where a cancel or reset came first, and it must not.
    pub(crate) fn commit(&self, ticket: Ticket) -> bool {
        let after = Ticket { step: ticket.step + 1, ..ticket };
        self.swap(ticket.word(Phase::Stepping), after.word(Phase::Committed))
    }

    /// Worker: after a commit, once the frame is out.
    pub(crate) fn finish(&self, ticket: Ticket, last: bool) {
        let after = Ticket { step: ticket.step + 1, ..ticket };
        let phase = if last { Phase::Done } else { Phase::Idle };
        self.swap(after.word(Phase::Committed), after.word(phase));
    }

    /// Worker: the step failed. Ignored where it is no longer wanted.
    pub(crate) fn fail(&self, ticket: Ticket) {
        self.swap(ticket.word(Phase::Stepping), ticket.word(Phase::Failed));
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn update(&self, change: impl Fn(Word) -> Word) {
        let mut bits = self.word.load(Ordering::Acquire);
        while !self.swap(bits, change(Word::unpack(bits)).pack()) {
            bits = self.word.load(Ordering::Acquire);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(progress: &Progress) -> Ticket {
        match progress.begin() {
            Begin::Granted(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn state(progress: &Progress) -> (u32, StreamState) {
        let snapshot = progress.snapshot();
        (snapshot.step, snapshot.state)
    }

    #[test]
    fn a_word_survives_packing() {
        for phase in PHASES {
            let word = Word { epoch: u32::MAX - 1, step: STEP_MASK, phase };
            assert_eq!(Word::unpack(word.pack()), word);
        }
    }

    #[test]
    fn steps_count_up_to_done() {
        let progress = Progress::new(9);
        for step in 0..3 {
            let ticket = granted(&progress);
            assert_eq!(ticket.step, step);
            assert_eq!(progress.begin(), Begin::Busy);
            assert!(progress.commit(ticket));
            assert_eq!(state(&progress), (step, StreamState::Stepping));
            progress.finish(ticket, step == 2);
        }
        assert_eq!(state(&progress), (3, StreamState::Done));
        assert_eq!(progress.begin(), Begin::Over);
    }

    #[test]
    fn a_run_without_steps_is_done_from_the_start_and_after_a_reset() {
        let progress = Progress::new(0);
        for _ in 0..2 {
            assert_eq!(state(&progress), (0, StreamState::Done));
            assert_eq!(progress.begin(), Begin::Over);
            progress.cancel();
            progress.reset(progress.next_epoch());
        }
    }

    #[test]
    fn a_cancelled_step_does_not_count() {
        let progress = Progress::new(9);
        let ticket = granted(&progress);
        progress.cancel();
        assert!(!progress.wants(ticket));
        assert!(!progress.commit(ticket));
        progress.fail(ticket);
        assert_eq!(state(&progress), (0, StreamState::Cancelled));
        assert_eq!(progress.begin(), Begin::Over);
    }

    #[test]
    fn a_cancel_after_the_commit_keeps_the_step() {
        let progress = Progress::new(9);
        let ticket = granted(&progress);
        assert!(progress.commit(ticket));
        progress.cancel();
        progress.finish(ticket, false);
        assert_eq!(state(&progress), (1, StreamState::Cancelled));
    }

    #[test]
    fn a_reset_makes_old_tickets_worthless() {
        let progress = Progress::new(9);
        let old = granted(&progress);
        progress.reset(progress.next_epoch());
        assert!(!progress.wants(old));
        assert!(!progress.commit(old));
        let new = granted(&progress);
        assert_ne!(new.epoch, old.epoch);
        progress.fail(old);
        assert!(progress.wants(new));
        assert!(!progress.commit(old));
        assert!(progress.commit(new));
    }

    #[test]
    fn a_failed_run_stays_failed_until_reset() {
        let progress = Progress::new(9);
        progress.fail(granted(&progress));
        progress.cancel();
        assert_eq!(progress.begin(), Begin::Failed);
        progress.reset(progress.next_epoch());
        assert_eq!(state(&progress), (0, StreamState::Idle));
    }
}
