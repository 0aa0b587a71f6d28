//! `ddpm_stream`: one picture that is being revealed.

use super::descriptor::{self, Versioned};
use super::engine::{ddpm_engine, timeout};
use super::frame::Acquired;
use super::guard::{borrow, guard, null};
use super::result::{DDPM_BUSY, DDPM_DONE, DDPM_OK, DDPM_PAUSED, DDPM_TIMEOUT, ddpm_result};
use super::stream_desc::{by_field, ddpm_stream_desc, stream_config};
use crate::engine::{StepOutcome, Stream, StreamState};

/// One picture that is being revealed, one reverse step at a time. Made by `ddpm_stream_create`,
/// ended by `ddpm_stream_destroy`.
pub struct ddpm_stream {
    pub(super) stream: Stream,
    pub(super) acquired: Acquired,
}

/// `state`: waits to be asked for a step.
pub const DDPM_STREAM_IDLE: u32 = 0;
/// A step or a seek is queued or runs.
pub const DDPM_STREAM_STEPPING: u32 = 1;
/// The picture is finished.
pub const DDPM_STREAM_DONE: u32 = 2;
/// `ddpm_stream_cancel` ended the run. `ddpm_stream_reset` starts over, `ddpm_stream_seek` takes it up again.
pub const DDPM_STREAM_CANCELLED: u32 = 3;
/// A step failed; `ddpm_step` tells why. `ddpm_stream_reset` and `ddpm_stream_seek` as above.
pub const DDPM_STREAM_FAILED: u32 = 4;

/// Where a stream is. Initialise it with `DDPM_STREAM_STATUS_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_stream_status {
    /// sizeof(ddpm_stream_status); `DDPM_STREAM_STATUS_INIT` sets it.
    pub struct_size: u32,
    /// One of `DDPM_STREAM_*`.
    pub state: u32,
    /// Steps finished, 0 to `steps`; while it seeks, the step it goes to.
    pub step: u32,
    /// Steps of the whole run: calls of `ddpm_step` that are accepted. 0 where `strength` leaves none. A
    /// playback that would end late makes them fewer.
    pub steps: u32,
    /// The number of this run's newest frame; 0 before its first step is finished, if it has any.
    pub generation: u64,
    /// The noise level given to the model in the step that runs or comes next; after the last step,
    /// that of the last.
    pub timestep: f64,
    /// 1 during a pause.
    pub is_paused: u32,
    /// Kept for later versions; written as 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; numbers only.
unsafe impl Versioned for ddpm_stream_status {
    const NAME: &'static str = "ddpm_stream_status";
    const INIT: &'static str = "DDPM_STREAM_STATUS_INIT";
}

/// Makes a stream on a loaded engine, ready for its first `ddpm_step`. There is no frame before that step
/// is finished, whatever the picture starts from; but a run without steps (an image and `strength` 0) is
/// DONE, and its image is its frame, with `step` 0.
///
/// `*stream` is written on success only. Does not block, and runs no model. Allocates all memory the
/// stream will use. Any thread. Errors: INVALID_ARGUMENT, with the field, for a NULL, a descriptor that
/// is not initialised, a value out of range, or one that the sampler or the model has no use for;
/// ENGINE_LOADING until the engine is ready; what went wrong with the engine's loading, as from
/// `ddpm_engine_wait`; OUT_OF_MEMORY.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_create(
    engine: *mut ddpm_engine,
    desc: *const ddpm_stream_desc,
    stream: *mut *mut ddpm_stream,
) -> ddpm_result {
    guard("ddpm_stream_create", || {
        // SAFETY: the host passes NULL or a live handle.
        let engine = unsafe { borrow(engine, "engine") }?;
        // SAFETY: the host passes NULL or a descriptor as large as its struct_size says.
        let desc = unsafe { descriptor::read(desc, "desc") }?;
        if stream.is_null() {
            return Err(null("stream"));
        }
        let info = engine.engine.info()?;
        // SAFETY: the descriptor's pointers are NULL or valid during this call, as the header asks.
        let config = unsafe { stream_config(&desc, &info.model) }?;
        let made = engine.engine.stream(&config).map_err(by_field)?;
        let handle = Box::new(ddpm_stream { stream: made, acquired: Acquired::default() });
        // SAFETY: not NULL, so the host's variable. Ownership goes to the host.
        unsafe { stream.write(Box::into_raw(handle)) };
        Ok(DDPM_OK)
    })
}

/// Asks for one reverse step and returns at once; the worker thread runs it. Call it once a frame.
///
/// Returns OK when the step was accepted, BUSY when the last one, or a seek, still runs (this call then
/// asked for nothing), PAUSED during a pause, DONE when there is none left. An error of a step comes back
/// from every call after it until `ddpm_stream_reset` or `ddpm_stream_seek`. Does not block, allocate, or wait
/// for a lock that a model run holds (but an error's message allocates, and so does, once, the first step
/// asked for by a thread that never made a stream). Any thread. Errors: INVALID_ARGUMENT for NULL;
/// INFERENCE, NON_FINITE or OUT_OF_MEMORY from the step before; ENGINE_CLOSED.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_step(stream: *mut ddpm_stream) -> ddpm_result {
    guard("ddpm_step", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        Ok(match stream.stream.step()? {
            StepOutcome::Accepted => DDPM_OK,
            StepOutcome::Busy => DDPM_BUSY,
            StepOutcome::Paused => DDPM_PAUSED,
            StepOutcome::Done => DDPM_DONE,
        })
    })
}

/// Tells where the stream is. A failed stream is a status, not an error of this call.
///
/// `*status` is written on success only. Does not block or allocate. Any thread. Errors:
/// INVALID_ARGUMENT for a NULL or a `status` that is not initialised.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_get_status(
    stream: *mut ddpm_stream,
    status: *mut ddpm_stream_status,
) -> ddpm_result {
    guard("ddpm_stream_get_status", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        let found = stream.stream.status();
        let value = ddpm_stream_status {
            struct_size: 0,
            state: match found.state {
                StreamState::Idle => DDPM_STREAM_IDLE,
                StreamState::Stepping => DDPM_STREAM_STEPPING,
                StreamState::Done => DDPM_STREAM_DONE,
                StreamState::Cancelled => DDPM_STREAM_CANCELLED,
                StreamState::Failed => DDPM_STREAM_FAILED,
            },
            step: found.step,
            steps: found.steps,
            generation: found.generation,
            timestep: found.timestep,
            is_paused: found.is_paused.into(),
            reserved: 0,
        };
        // SAFETY: the host passes NULL or a struct as large as its struct_size says.
        unsafe { descriptor::write(&value, status, "status") }?;
        Ok(DDPM_OK)
    })
}

/// Waits until no step or seek runs on this stream, or `timeout_ms` is over; `DDPM_WAIT_FOREVER` has no end.
/// For tools and tests: a host with frames to draw calls `ddpm_step` and goes on.
///
/// Returns OK when no step runs, TIMEOUT while one does. Blocks for up to `timeout_ms`. Does not
/// allocate. Any thread. Errors: INVALID_ARGUMENT for NULL; an error of the step waited for, as from
/// `ddpm_step`.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_wait(
    stream: *mut ddpm_stream,
    timeout_ms: u32,
) -> ddpm_result {
    guard("ddpm_stream_wait", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        let idle = stream.stream.wait(timeout(timeout_ms))?;
        Ok(if idle { DDPM_OK } else { DDPM_TIMEOUT })
    })
}

/// Starts the stream over with this seed: the next `ddpm_step` is its first. The result of a step
/// that runs is thrown away, and an error of an earlier step is forgotten. A run without steps has its
/// image as a new frame.
///
/// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL; ENGINE_CLOSED.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_reset(stream: *mut ddpm_stream, seed: u64) -> ddpm_result {
    guard("ddpm_stream_reset", || {
        // SAFETY: the host passes NULL or a live handle.
        unsafe { borrow(stream, "stream") }?.stream.reset(Some(seed))?;
        Ok(DDPM_OK)
    })
}

/// Ends the run: a step in flight is thrown away, and the model's run broken off if no other stream
/// shares it. `ddpm_step` returns DONE and the status is CANCELLED until `ddpm_stream_reset` or
/// `ddpm_stream_seek`. The last frame can still be copied or acquired.
///
/// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_cancel(stream: *mut ddpm_stream) -> ddpm_result {
    guard("ddpm_stream_cancel", || {
        // SAFETY: the host passes NULL or a live handle.
        unsafe { borrow(stream, "stream") }?.stream.cancel();
        Ok(DDPM_OK)
    })
}

/// Ends the stream, and releases its acquired frame. A step in flight is thrown away, the model's run broken
/// off if no other stream shares it; the stream's memory is freed once the worker has let go of it.
///
/// Must be the last call on this handle: no other call on it may be running, and the pointer is dead
/// afterwards, so a second destroy is undefined. Before or after its engine's destroy. Does not
/// block or allocate. Any thread, but not from the log callback, which returns
/// DDPM_ERROR_UNSUPPORTED and leaves the stream alive. Errors: INVALID_ARGUMENT for NULL.
///
/// # Safety
/// `stream` is NULL or a live handle that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_destroy(stream: *mut ddpm_stream) -> ddpm_result {
    guard("ddpm_stream_destroy", || {
        if stream.is_null() {
            return Err(null("stream"));
        }
        // SAFETY: a live handle from ddpm_stream_create, given back for good.
        drop(unsafe { Box::from_raw(stream) });
        Ok(DDPM_OK)
    })
}
