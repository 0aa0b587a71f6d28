//! Time: a stream that is told a duration, and ticked once a frame.

use super::descriptor::{self, Versioned};
use super::guard::{borrow, choose, expect_zero, guard};
use super::result::{DDPM_BUSY, DDPM_DONE, DDPM_OK, DDPM_PAUSED, ddpm_result};
use super::stream::ddpm_stream;
use super::stream_desc::by_field;
use crate::engine::{Easing, PlaybackConfig, StepOutcome};

/// `easing`: what is shown grows at one pace.
pub const DDPM_EASING_LINEAR: u32 = 0;
/// Slow at first, fast at the end: t^3.
pub const DDPM_EASING_IN: u32 = 1;
/// Fast at first, slow at the end: 1 - (1 - t)^3.
pub const DDPM_EASING_OUT: u32 = 2;
/// Slow at both ends: 3 t^2 - 2 t^3.
pub const DDPM_EASING_IN_OUT: u32 = 3;

const EASINGS: [(u32, &str, Easing); 4] = [
    (DDPM_EASING_LINEAR, "DDPM_EASING_LINEAR", Easing::Linear),
    (DDPM_EASING_IN, "DDPM_EASING_IN", Easing::EaseIn),
    (DDPM_EASING_OUT, "DDPM_EASING_OUT", Easing::EaseOut),
    (DDPM_EASING_IN_OUT, "DDPM_EASING_IN_OUT", Easing::EaseInOut),
];

/// How long a reveal takes. Initialise it with `DDPM_PLAYBACK_DESC_INIT`; `duration` has to be set.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_playback_desc {
    /// sizeof(ddpm_playback_desc); `DDPM_PLAYBACK_DESC_INIT` sets it.
    pub struct_size: u32,
    /// How the share that is shown grows with time: one of `DDPM_EASING_*`.
    pub easing: u32,
    /// Seconds from now to the finished picture, above 0 and up to a day.
    pub duration: f64,
    /// The steps that the rest of the run is shortened to at the fewest, where the machine is too slow for
    /// all of them. 0: 8. The run's own number or more never shortens it, and ends late instead.
    pub fewest_steps: u32,
    /// Kept for later versions; 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; numbers only, for all of which zero is valid.
unsafe impl Versioned for ddpm_playback_desc {
    const NAME: &'static str = "ddpm_playback_desc";
    const INIT: &'static str = "DDPM_PLAYBACK_DESC_INIT";
}

/// Gives what is left of the picture a time: from now on the host calls `ddpm_stream_tick` once a frame in
/// place of `ddpm_step`. Called again, it takes another time. A reset, and a seek, go on playing from where
/// they lead; what is left then takes its share of the duration.
///
/// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT, with the field, for a NULL, a
/// descriptor that is not initialised, or a value out of range.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_play(
    stream: *mut ddpm_stream,
    desc: *const ddpm_playback_desc,
) -> ddpm_result {
    guard("ddpm_stream_play", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        // SAFETY: the host passes NULL or a descriptor as large as its struct_size says.
        let desc = unsafe { descriptor::read(desc, "desc") }?;
        let easing = choose("desc.easing", desc.easing, &EASINGS)?;
        expect_zero("desc.reserved", desc.reserved.into(), "in this version")?;
        let config =
            PlaybackConfig { duration: desc.duration, easing, fewest_steps: desc.fewest_steps };
        stream.stream.play(config).map_err(by_field)?;
        Ok(DDPM_OK)
    })
}

/// Lets `seconds` pass, those since the last tick, and asks for the steps that are due: by the easing,
/// and by how long steps are measured to take. Call it once a frame. On a slow machine it asks early, and
/// drops steps where there is no time for all of them, so that the picture is finished on time; the
/// status then has fewer `steps`.
///
/// Returns OK while the picture is under way, PAUSED during a pause, in which no time passes, DONE when no
/// step is left. Errors of a step come back as from `ddpm_step`. Does not block or allocate. Any
/// thread. Errors: INVALID_ARGUMENT for NULL, for a stream that does not play, and for `seconds` below 0 or
/// not finite; else as `ddpm_step`.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_tick(stream: *mut ddpm_stream, seconds: f64) -> ddpm_result {
    guard("ddpm_stream_tick", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        Ok(match stream.stream.tick(seconds)? {
            StepOutcome::Accepted => DDPM_OK,
            StepOutcome::Busy => DDPM_BUSY,
            StepOutcome::Done => DDPM_DONE,
            StepOutcome::Paused => DDPM_PAUSED,
        })
    })
}

/// Begins a pause: the step that runs is finished, and no other begins until `ddpm_stream_resume`;
/// `ddpm_step` and `ddpm_stream_tick` return PAUSED. A seek works all the same.
///
/// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_pause(stream: *mut ddpm_stream) -> ddpm_result {
    guard("ddpm_stream_pause", || {
        // SAFETY: the host passes NULL or a live handle.
        unsafe { borrow(stream, "stream") }?.stream.pause();
        Ok(DDPM_OK)
    })
}

/// Ends a pause, if there is one.
///
/// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_resume(stream: *mut ddpm_stream) -> ddpm_result {
    guard("ddpm_stream_resume", || {
        // SAFETY: the host passes NULL or a live handle.
        unsafe { borrow(stream, "stream") }?.stream.resume();
        Ok(DDPM_OK)
    })
}
