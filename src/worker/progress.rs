//! Where a stream stands, in one atomic word that the host and the worker both move.
//!
//! The word holds an epoch, a number of steps and a phase. A reset or a seek starts a new epoch, so
//! whatever the worker still does for the old one cannot be mistaken for news: every change of the
//! worker's is a compare-and-swap against the ticket it took from the word. Beside it stands the goal:
//! the step up to which the worker goes on by itself.
//!
//! Nobody waits here. This module must not know runs, frames or channels.

use super::sync::{AtomicBool, AtomicU64, Ordering};

/// What a stream is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamState {
    /// Waiting to be asked for the next step.
    Idle,
    /// Steps, or a seek, are queued or running.
    Stepping,
    /// Every step has been made; the picture is finished.
    Done,
    /// The run was cancelled; a reset or a seek takes it up again.
    Cancelled,
    /// A step failed; the error comes back from `step` and `wait` until a reset or a seek.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Idle,
    Stepping,
    /// The step counts and its frame is being published: too late to discard it.
    Committed,
    /// On the way to the step in the word.
    Seeking,
    /// There, and its frame is being published.
    Arrived,
    /// As good as idle, but the worker looks once more whether there is a goal: whoever waits is not
    /// told that nothing is in flight before it has.
    Stopping,
    Done,
    Cancelled,
    Failed,
}

const PHASES: [Phase; 9] = [
    Phase::Idle,
    Phase::Stepping,
    Phase::Committed,
    Phase::Seeking,
    Phase::Arrived,
    Phase::Stopping,
    Phase::Done,
    Phase::Cancelled,
    Phase::Failed,
];
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

    /// Whether the worker has something to do that a new epoch would discard.
    fn is_in_flight(self) -> bool {
        matches!(self.phase, Phase::Stepping | Phase::Seeking)
    }
}

/// What the worker is to do for a stream: of which epoch, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ticket {
    /// One step, after so many.
    Step { epoch: u32, after: u32 },
    /// Whatever it takes to stand at this step.
    Seek { epoch: u32, target: u32 },
}

impl Ticket {
    pub(crate) fn epoch(self) -> u32 {
        match self {
            Self::Step { epoch, .. } | Self::Seek { epoch, .. } => epoch,
        }
    }

    /// The steps there are once it is done.
    pub(crate) fn reaches(self) -> u32 {
        match self {
            Self::Step { after, .. } => after + 1,
            Self::Seek { target, .. } => target,
        }
    }

    /// The word while it waits or runs.
    fn pending(self) -> u64 {
        let word = match self {
            Self::Step { epoch, after } => Word { epoch, step: after, phase: Phase::Stepping },
            Self::Seek { epoch, target } => Word { epoch, step: target, phase: Phase::Seeking },
        };
        word.pack()
    }

    /// The word once it is done, in this phase.
    fn done(self, phase: Phase) -> u64 {
        Word { epoch: self.epoch(), step: self.reaches(), phase }.pack()
    }

    /// The word between commit and finish.
    fn committed(self) -> u64 {
        self.done(match self {
            Self::Step { .. } => Phase::Committed,
            Self::Seek { .. } => Phase::Arrived,
        })
    }
}

/// How far the host wants the worker to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// One step, if none is in flight.
    Next,
    /// On to this number of steps, in this epoch.
    Until { epoch: u32, step: u32 },
}

/// What asking for steps came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begin {
    /// The stream has to be shown to the worker.
    Granted(Ticket),
    /// The worker is at it. A goal further on was noted.
    Busy,
    /// The goal was reached before.
    Reached,
    Paused,
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

/// The shared word, the goal and the pause. See the module's text.
///
/// Goal and word are read across each other (the host notes a goal and then looks whether the worker
/// still runs; the worker stops and then looks for a goal), hence SeqCst.
pub(crate) struct Progress {
    word: AtomicU64,
    /// The epoch it is of (high half) and the number of steps (low half).
    goal: AtomicU64,
    paused: AtomicBool,
    /// The phase at step 0: idle, but done where there is no step to make.
    start: Phase,
}

impl Progress {
    /// Epoch 0, no step made of `steps`.
    pub(crate) fn new(steps: usize) -> Self {
        let start = if steps == 0 { Phase::Done } else { Phase::Idle };
        Self {
            word: AtomicU64::new(Word { epoch: 0, step: 0, phase: start }.pack()),
            goal: AtomicU64::new(0),
            paused: AtomicBool::new(false),
            start,
        }
    }

    /// Epoch 0, `step` steps made of `steps`.
    pub(crate) fn resuming(step: usize, steps: usize) -> Self {
        let progress = Self::new(steps);
        let phase = if step >= steps { Phase::Done } else { Phase::Idle };
        let word = Word { epoch: 0, step: step as u32 & STEP_MASK, phase };
        progress.word.store(word.pack(), Ordering::SeqCst);
        progress
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let word = self.load();
        let (step, state) = match word.phase {
            Phase::Idle => (word.step, StreamState::Idle),
            Phase::Stepping | Phase::Seeking | Phase::Arrived | Phase::Stopping => {
                (word.step, StreamState::Stepping)
            }
            // Its frame may not be there yet, so the step does not show as finished yet.
            Phase::Committed => (word.step.saturating_sub(1), StreamState::Stepping),
            Phase::Done => (word.step, StreamState::Done),
            Phase::Cancelled => (word.step, StreamState::Cancelled),
            Phase::Failed => (word.step, StreamState::Failed),
        };
        Snapshot { epoch: word.epoch, step, state }
    }

    /// Host: asks for steps.
    pub(crate) fn ask(&self, goal: Goal) -> Begin {
        loop {
            let word = self.load();
            match (word.phase, goal) {
                // Of a run that a reset or a seek has ended since: it says nothing of this one.
                (_, Goal::Until { epoch, .. }) if epoch != word.epoch => return Begin::Busy,
                (Phase::Done | Phase::Cancelled, _) => return Begin::Over,
                (Phase::Failed, _) => return Begin::Failed,
                _ if self.is_paused() => return Begin::Paused,
                (Phase::Idle | Phase::Stopping, Goal::Next) => {
                    // No goal but this step, and not this step either: a worker that has just stopped
                    // would take it for one and go on, and this would tell of a step that nobody got.
                    self.goal.store(goal_word(word.epoch, word.step), Ordering::SeqCst);
                    // Where another thread asked, cancelled or reset in between, asking again is the
                    // answer.
                    return self.grant(word).unwrap_or(Begin::Busy);
                }
                (Phase::Idle | Phase::Stopping, Goal::Until { step, .. }) if step <= word.step => {
                    return Begin::Reached;
                }
                (Phase::Idle | Phase::Stopping, Goal::Until { step, .. }) => {
                    self.raise(word.epoch, step);
                    if let Some(granted) = self.grant(word) {
                        return granted;
                    }
                }
                (_, Goal::Next) => return Begin::Busy,
                (_, Goal::Until { step, .. }) => {
                    self.raise(word.epoch, step);
                    // The worker may have looked for a goal before and stopped since.
                    if !matches!(self.load().phase, Phase::Idle | Phase::Stopping) {
                        return Begin::Busy;
                    }
                }
            }
        }
    }

    fn grant(&self, idle: Word) -> Option<Begin> {
        let ticket = Ticket::Step { epoch: idle.epoch, after: idle.step };
        self.swap(idle.pack(), ticket.pending()).then_some(Begin::Granted(ticket))
    }

    fn raise(&self, epoch: u32, step: u32) {
        let goal = goal_word(epoch, step);
        let mut found = self.goal.load(Ordering::SeqCst);
        loop {
            let is_later = ((found >> 32) as u32).wrapping_sub(epoch) as i32 > 0;
            let is_further = (found >> 32) as u32 == epoch && found >= goal;
            if is_later || is_further {
                return;
            }
            match self.goal.compare_exchange(found, goal, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return,
                Err(now) => found = now,
            }
        }
    }

    /// Host: takes back what could not be shown to the worker.
    pub(crate) fn give_back(&self, ticket: Ticket) {
        if let Ticket::Step { epoch, after } = ticket {
            self.swap(ticket.pending(), Word { epoch, step: after, phase: Phase::Idle }.pack());
        }
    }

    /// Host: no step begins until it is resumed; a seek does.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::SeqCst);
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// Host: ends the run. A finished or failed run stays what it is. True where that discarded a step
    /// or a seek in flight.
    pub(crate) fn cancel(&self) -> bool {
        let mut word = self.load();
        loop {
            let cancelled = match word.phase {
                // How far a seek has come is not known here; its target is a lie for the status only.
                Phase::Idle
                | Phase::Stepping
                | Phase::Committed
                | Phase::Seeking
                | Phase::Arrived
                | Phase::Stopping => Word { phase: Phase::Cancelled, ..word },
                Phase::Done | Phase::Cancelled | Phase::Failed => return false,
            };
            if self.swap(word.pack(), cancelled.pack()) {
                return word.is_in_flight();
            }
            word = self.load();
        }
    }

    /// Host: the epoch that a [`reset`](Self::reset) or a [`seek`](Self::seek) would start. Stable while
    /// those are excluded.
    pub(crate) fn next_epoch(&self) -> u32 {
        self.load().epoch.wrapping_add(1)
    }

    /// Host: starts `epoch` at step 0, whatever was going on. True where that discarded something.
    pub(crate) fn reset(&self, epoch: u32) -> bool {
        self.start_over(Word { epoch, step: 0, phase: self.start })
    }

    /// Host: starts `epoch` on the way to `target`, whatever was going on. True where that discarded
    /// something.
    pub(crate) fn seek(&self, epoch: u32, target: u32) -> bool {
        self.start_over(Word { epoch, step: target, phase: Phase::Seeking })
    }

    fn start_over(&self, word: Word) -> bool {
        Word::unpack(self.word.swap(word.pack(), Ordering::SeqCst)).is_in_flight()
    }

    /// Worker: what there is to do.
    pub(crate) fn wanted(&self) -> Option<Ticket> {
        let Word { epoch, step, phase } = self.load();
        match phase {
            Phase::Stepping => Some(Ticket::Step { epoch, after: step }),
            Phase::Seeking => Some(Ticket::Seek { epoch, target: step }),
            _ => None,
        }
    }

    /// Worker: whether it is still to be done.
    pub(crate) fn wants(&self, ticket: Ticket) -> bool {
        self.word.load(Ordering::SeqCst) == ticket.pending()
    }

    /// Worker: makes it count. False where a cancel, reset or seek came first, and it must not.
    pub(crate) fn commit(&self, ticket: Ticket) -> bool {
        self.swap(ticket.pending(), ticket.committed())
    }

    /// Worker: after a commit, once the frame is out. Gives what there is to do next, if the goal lies
    /// further on.
    pub(crate) fn finish(&self, ticket: Ticket, last: bool) -> Option<Ticket> {
        let from = ticket.committed();
        if last {
            self.swap(from, ticket.done(Phase::Done));
            return None;
        }
        let next = Ticket::Step { epoch: ticket.epoch(), after: ticket.reaches() };
        if self.goes_on(next) {
            return self.swap(from, next.pending()).then_some(next);
        }
        let stopping = ticket.done(Phase::Stopping);
        if !self.swap(from, stopping) {
            return None;
        }
        // The host may have noted a goal before it could see that nobody runs for it.
        let resumes = self.goes_on(next);
        let to = if resumes { next.pending() } else { ticket.done(Phase::Idle) };
        (self.swap(stopping, to) && resumes).then_some(next)
    }

    fn goes_on(&self, next: Ticket) -> bool {
        let goal = self.goal.load(Ordering::SeqCst);
        (goal >> 32) as u32 == next.epoch() && goal as u32 >= next.reaches() && !self.is_paused()
    }

    /// Worker: it failed. Ignored where it is no longer wanted.
    pub(crate) fn fail(&self, ticket: Ticket) {
        let Word { epoch, step, .. } = Word::unpack(ticket.pending());
        self.swap(ticket.pending(), Word { epoch, step, phase: Phase::Failed }.pack());
    }

    fn load(&self) -> Word {
        Word::unpack(self.word.load(Ordering::SeqCst))
    }

    fn swap(&self, from: u64, to: u64) -> bool {
        self.word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

fn goal_word(epoch: u32, step: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(progress: &Progress, goal: Goal) -> Ticket {
        match progress.ask(goal) {
            Begin::Granted(ticket) => ticket,
            other => panic!("{other:?}"),
        }
    }

    fn until(progress: &Progress, step: u32) -> Goal {
        Goal::Until { epoch: progress.snapshot().epoch, step }
    }

    fn state(progress: &Progress) -> (u32, StreamState) {
        let snapshot = progress.snapshot();
        (snapshot.step, snapshot.state)
    }

    /// Makes the step; what the worker does next.
    fn make(progress: &Progress, ticket: Ticket) -> Option<Ticket> {
        assert!(progress.commit(ticket));
        progress.finish(ticket, false)
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
            let ticket = granted(&progress, Goal::Next);
            assert_eq!(ticket, Ticket::Step { epoch: 0, after: step });
            assert_eq!(progress.wanted(), Some(ticket));
            assert_eq!(progress.ask(Goal::Next), Begin::Busy);
            assert!(progress.commit(ticket));
            assert_eq!(state(&progress), (step, StreamState::Stepping));
            assert_eq!(progress.finish(ticket, step == 2), None);
        }
        assert_eq!(state(&progress), (3, StreamState::Done));
        assert_eq!(progress.ask(until(&progress, 9)), Begin::Over);
    }

    #[test]
    fn a_run_without_steps_is_done_from_the_start_and_after_a_reset() {
        let progress = Progress::new(0);
        for _ in 0..2 {
            assert_eq!(state(&progress), (0, StreamState::Done));
            assert_eq!(progress.ask(Goal::Next), Begin::Over);
            progress.cancel();
            progress.reset(progress.next_epoch());
        }
    }

    #[test]
    fn the_worker_goes_on_to_the_goal_and_a_further_one_counts_in_between() {
        let progress = Progress::new(9);
        let mut next = Some(granted(&progress, until(&progress, 2)));
        assert_eq!(progress.ask(until(&progress, 1)), Begin::Busy, "a nearer one changes nothing");
        let mut made = 0;
        while let Some(ticket) = next {
            if made == 1 {
                assert_eq!(progress.ask(until(&progress, 4)), Begin::Busy);
            }
            next = make(&progress, ticket);
            made += 1;
        }
        assert_eq!((made, state(&progress)), (4, (4, StreamState::Idle)));
        assert_eq!(progress.ask(until(&progress, 4)), Begin::Reached);
        // A single step is one, whatever was the goal before.
        let ticket = granted(&progress, Goal::Next);
        assert_eq!(make(&progress, ticket), None);
    }

    #[test]
    fn a_pause_ends_with_the_step_in_flight_and_lets_none_begin() {
        let progress = Progress::new(9);
        let ticket = granted(&progress, until(&progress, 5));
        progress.set_paused(true);
        assert_eq!(make(&progress, ticket), None);
        assert_eq!(progress.ask(Goal::Next), Begin::Paused);
        assert_eq!(progress.ask(until(&progress, 5)), Begin::Paused);
        // But a seek goes where it is to go.
        progress.seek(progress.next_epoch(), 3);
        let seek = progress.wanted().unwrap();
        assert_eq!(make(&progress, seek), None);
        assert_eq!(state(&progress), (3, StreamState::Idle));
        progress.set_paused(false);
        assert_eq!(granted(&progress, until(&progress, 5)), Ticket::Step { epoch: 1, after: 3 });
    }

    #[test]
    fn a_seek_makes_old_tickets_worthless_and_ends_at_its_step() {
        let progress = Progress::new(9);
        let old = granted(&progress, until(&progress, 7));
        assert!(progress.seek(progress.next_epoch(), 4), "a step was in flight");
        assert!(!progress.commit(old));
        assert_eq!(state(&progress), (4, StreamState::Stepping));
        let seek = progress.wanted().unwrap();
        assert_eq!(seek, Ticket::Seek { epoch: 1, target: 4 });
        assert_eq!(progress.ask(Goal::Next), Begin::Busy);
        // The goal of before was another epoch's, this one counts.
        assert_eq!(progress.ask(until(&progress, 5)), Begin::Busy);
        assert_eq!(make(&progress, seek), Some(Ticket::Step { epoch: 1, after: 4 }));
        for end in [StreamState::Done, StreamState::Cancelled, StreamState::Failed] {
            progress.reset(progress.next_epoch());
            let ticket = granted(&progress, Goal::Next);
            match end {
                StreamState::Done => {
                    progress.commit(ticket);
                    progress.finish(ticket, true);
                }
                StreamState::Cancelled => assert!(progress.cancel()),
                _ => progress.fail(ticket),
            }
            assert_eq!(state(&progress).1, end);
            assert!(!progress.seek(progress.next_epoch(), 2), "nothing was in flight");
            assert!(progress.wanted().is_some());
        }
    }

    #[test]
    fn the_goal_of_a_run_that_is_over_is_none_of_the_next() {
        let progress = Progress::new(9);
        let old = until(&progress, 9);
        progress.reset(progress.next_epoch());
        assert_eq!(progress.ask(old), Begin::Busy);
        let ticket = granted(&progress, Goal::Next);
        assert_eq!(progress.ask(old), Begin::Busy);
        assert_eq!(make(&progress, ticket), None, "no further than it was asked to");
    }

    #[test]
    fn a_cancelled_step_does_not_count() {
        let progress = Progress::new(9);
        let ticket = granted(&progress, Goal::Next);
        assert!(progress.cancel());
        assert!(!progress.cancel());
        assert!(!progress.wants(ticket));
        assert!(!progress.commit(ticket));
        progress.fail(ticket);
        assert_eq!(state(&progress), (0, StreamState::Cancelled));
        assert_eq!(progress.ask(Goal::Next), Begin::Over);
    }

    #[test]
    fn a_cancel_after_the_commit_keeps_the_step() {
        let progress = Progress::new(9);
        let ticket = granted(&progress, until(&progress, 5));
        assert!(progress.commit(ticket));
        assert!(!progress.cancel(), "too late to discard it");
        assert_eq!(progress.finish(ticket, false), None);
        assert_eq!(state(&progress), (1, StreamState::Cancelled));
    }

    #[test]
    fn a_reset_makes_old_tickets_worthless() {
        let progress = Progress::new(9);
        let old = granted(&progress, Goal::Next);
        assert!(progress.reset(progress.next_epoch()));
        assert!(!progress.wants(old));
        assert!(!progress.commit(old));
        let new = granted(&progress, Goal::Next);
        assert_ne!(new.epoch(), old.epoch());
        progress.fail(old);
        assert!(progress.wants(new));
        assert!(!progress.commit(old));
        assert!(progress.commit(new));
    }

    #[test]
    fn a_failed_run_stays_failed_until_reset() {
        let progress = Progress::new(9);
        progress.fail(granted(&progress, Goal::Next));
        progress.cancel();
        assert_eq!(progress.ask(Goal::Next), Begin::Failed);
        progress.reset(progress.next_epoch());
        assert_eq!(state(&progress), (0, StreamState::Idle));
    }
}
