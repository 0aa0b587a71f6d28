//! The floating-point state of the thread: the library computes with its own, whatever the host has set.
//!
//! A host may round upwards, flush small numbers to zero or trap divisions by zero; pictures do not depend
//! on it, and threads started by a call, which take over its state, do not either.

/// Calls `work` with the state that a program starts with, and puts the host's back. On processors that
/// are not listed here it leaves all as it is.
pub(super) fn with_own<T>(work: impl FnOnce() -> T) -> T {
    /// Also where `work` panics.
    struct Host(processor::State);
    impl Drop for Host {
        fn drop(&mut self) {
            processor::set(self.0);
        }
    }
    let host = processor::get();
    let Some(own) = processor::own(host) else {
        return work();
    };
    let _host = Host(host);
    processor::set(own);
    work()
}

#[cfg(target_arch = "x86_64")]
mod processor {
    use std::arch::asm;

    /// MXCSR.
    pub(super) type State = u32;

    /// Rounding, masks of exceptions, flush to zero and denormals are zero; below them are the flags of
    /// what happened so far.
    const CONTROL: u32 = 0xFFC0;
    /// To nearest, all exceptions masked.
    const START: u32 = 0x1F80;

    pub(super) fn get() -> State {
        let mut state = 0;
        // SAFETY: writes the register's 32 bits to the variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut state, options(nostack, preserves_flags)) };
        state
    }

    pub(super) fn set(state: State) {
        // SAFETY: `state` is what the register held, or its start value, and so valid. No code that is
        // moved over this line by the compiler knows of another state than that at the start: it is here
        // that the host's ends and begins.
        unsafe {
            asm!("ldmxcsr [{}]", in(reg) &raw const state, options(nostack, preserves_flags))
        };
    }

    /// The state to compute with; none where the host has it.
    pub(super) fn own(host: State) -> Option<State> {
        (host & CONTROL != START).then_some(START)
    }
}

#[cfg(target_arch = "aarch64")]
mod processor {
    use std::arch::asm;

    /// FPCR, which is 0 at the start.
    pub(super) type State = u64;

    pub(super) fn get() -> State {
        let state;
        // SAFETY: reads the register.
        unsafe { asm!("mrs {}, fpcr", out(reg) state, options(nomem, nostack, preserves_flags)) };
        state
    }

    pub(super) fn set(state: State) {
        // SAFETY: `state` is what the register held, or its start value. As on the other processors, this
        // is the line at which the host's state ends and begins.
        unsafe { asm!("msr fpcr, {}", in(reg) state, options(nostack, preserves_flags)) };
    }

    /// The state to compute with; none where the host has it.
    pub(super) fn own(host: State) -> Option<State> {
        (host != 0).then_some(0)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod processor {
    pub(super) type State = ();

    pub(super) fn get() -> State {}

    pub(super) fn set((): State) {}

    pub(super) fn own((): State) -> Option<State> {
        None
    }
}
