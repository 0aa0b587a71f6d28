//! Which streams the running call of the model is for, so that it can be broken off once none of them
//! wants it any more.
//!
//! One word holds the number of the call and how many of its streams still want it. A stream leaves at
//! most once; whoever leaves last breaks the call off. The call may have ended by then and another
//! have begun: the count is of one call only, and a call that was broken off by mistake is made again.
//! This module must not know models or queues.

use super::sync::{AtomicU64, Ordering};

const COUNT_BITS: u32 = 16;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The call that runs; one for each worker.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    /// The call's number (high), and how many streams want it (low 16 bits).
    word: AtomicU64,
}

/// The call a stream takes part in; one for each stream. 0 is none.
#[derive(Debug, Default)]
pub(crate) struct Membership {
    call: AtomicU64,
}

impl Calls {
    /// Worker: a call for `streams` streams is about to run. Gives its number.
    pub(crate) fn begin(&self, streams: usize) -> u64 {
        let call = (self.word.load(Ordering::SeqCst) >> COUNT_BITS) + 1;
        let count = (streams as u64).min(COUNT_MASK);
        self.word.store(call << COUNT_BITS | count, Ordering::SeqCst);
        call
    }

    /// Worker: whether a stream wants the call. The last that leaves after this breaks it off.
    pub(crate) fn is_wanted(&self) -> bool {
        self.word.load(Ordering::SeqCst) & COUNT_MASK > 0
    }

    /// Worker: it ended. Whoever leaves from now on leaves nothing.
    pub(crate) fn end(&self) {
        self.word.fetch_and(!COUNT_MASK, Ordering::SeqCst);
    }

    /// A stream no longer wants what runs for it. True where it was the last, and the call is to be
    /// broken off. Does not block or allocate.
    pub(crate) fn leave(&self, membership: &Membership) -> bool {
        let call = membership.call.swap(0, Ordering::SeqCst);
        if call == 0 {
            return false;
        }
        let mut word = self.word.load(Ordering::SeqCst);
        while word >> COUNT_BITS == call && word & COUNT_MASK > 0 {
            match self.word.compare_exchange(word, word - 1, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return word & COUNT_MASK == 1,
                Err(now) => word = now,
            }
        }
        false
    }
}

impl Membership {
    /// Worker: the stream takes part in this call. Whether it still wants to is to be looked at after
    /// this.
    pub(crate) fn join(&self, call: u64) {
        self.call.store(call, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(call: u64) -> Membership {
        let membership = Membership::default();
        membership.join(call);
        membership
    }

    #[test]
    fn the_last_to_leave_breaks_off() {
        let calls = Calls::default();
        let call = calls.begin(2);
        let (first, second) = (joined(call), joined(call));
        assert!(!calls.leave(&first));
        assert!(!calls.leave(&first), "counted twice");
        assert!(calls.leave(&second));
    }

    #[test]
    fn whoever_leaves_late_does_not_count_in_the_next_call() {
        let calls = Calls::default();
        let late = joined(calls.begin(1));
        calls.end();
        let member = joined(calls.begin(1));
        assert!(!calls.leave(&late));
        assert!(!calls.leave(&Membership::default()));
        assert!(calls.leave(&member));
        calls.end();
        assert!(!calls.leave(&joined(1)));
    }
}
