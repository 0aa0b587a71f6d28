//! `ddpm_stream`: one picture that is being revealed.

use super::descriptor::{self, Versioned};
use super::engine::{ddpm_engine, timeout};
use super::frame::BYTES_PER_PIXEL;
use super::guard::{borrow, choose, expect_zero, guard, null};
use super::result::{DDPM_BUSY, DDPM_DONE, DDPM_OK, DDPM_TIMEOUT, ddpm_result};
use crate::engine::{Preview, StepOutcome, Stream, StreamConfig, StreamState};
use crate::error::{Error, Result};
use crate::model::ModelConfig;
use crate::run::RunStart;
use crate::sampler::{Sampler, SamplerConfig, Thresholding, VarianceType};
use crate::timesteps::TimestepSpacing;

/// One picture that is being revealed, one reverse step at a time. Made by `ddpm_stream_create`,
/// ended by `ddpm_stream_destroy`.
pub struct ddpm_stream {
    pub(super) stream: Stream,
    /// Bytes of a row of its frames without gaps.
    pub(super) row_bytes: usize,
}

/// `sampler`: the library's choice; DDPM in this version.
pub const DDPM_SAMPLER_DEFAULT: u32 = 0;
/// Ho et al. 2020, algorithm 2: fresh noise in every step.
pub const DDPM_SAMPLER_DDPM: u32 = 1;
/// Song et al. 2021: `eta` 0 draws no noise, 1 as much as DDPM.
pub const DDPM_SAMPLER_DDIM: u32 = 2;

/// `spacing`: the library's choice; trailing in this version.
pub const DDPM_SPACING_DEFAULT: u32 = 0;
/// Counts up from the clean end in whole strides.
pub const DDPM_SPACING_LEADING: u32 = 1;
/// Counts down from the noisy end, which it always includes.
pub const DDPM_SPACING_TRAILING: u32 = 2;
/// Evenly from the clean end to the noisy end, both included.
pub const DDPM_SPACING_LINSPACE: u32 = 3;

/// `preview`: the library's choice; the prediction in this version.
pub const DDPM_PREVIEW_DEFAULT: u32 = 0;
/// Frames show what the model takes the finished picture to be.
pub const DDPM_PREVIEW_PREDICTION: u32 = 1;
/// Frames show the noisy sample itself.
pub const DDPM_PREVIEW_SAMPLE: u32 = 2;

/// `clip`: what the model's metadata says.
pub const DDPM_CLIP_DEFAULT: u32 = 0;
/// The predicted picture is used as it is.
pub const DDPM_CLIP_OFF: u32 = 1;
/// The predicted picture is held to -clip_range .. clip_range.
pub const DDPM_CLIP_RANGE: u32 = 2;

/// `variance_type`: what the model's metadata says.
pub const DDPM_VARIANCE_DEFAULT: u32 = 0;
/// DDPM's noise has the variance of the posterior.
pub const DDPM_VARIANCE_FIXED_SMALL: u32 = 1;
/// DDPM's noise has the variance beta.
pub const DDPM_VARIANCE_FIXED_LARGE: u32 = 2;

const SAMPLERS: [(u32, &str, Sampler); 3] = [
    (DDPM_SAMPLER_DEFAULT, "DDPM_SAMPLER_DEFAULT", Sampler::Ddpm),
    (DDPM_SAMPLER_DDPM, "DDPM_SAMPLER_DDPM", Sampler::Ddpm),
    (DDPM_SAMPLER_DDIM, "DDPM_SAMPLER_DDIM", Sampler::Ddim),
];

const SPACINGS: [(u32, &str, TimestepSpacing); 4] = [
    (DDPM_SPACING_DEFAULT, "DDPM_SPACING_DEFAULT", TimestepSpacing::Trailing),
    (DDPM_SPACING_LEADING, "DDPM_SPACING_LEADING", TimestepSpacing::Leading),
    (DDPM_SPACING_TRAILING, "DDPM_SPACING_TRAILING", TimestepSpacing::Trailing),
    (DDPM_SPACING_LINSPACE, "DDPM_SPACING_LINSPACE", TimestepSpacing::Linspace),
];

const PREVIEWS: [(u32, &str, Preview); 3] = [
    (DDPM_PREVIEW_DEFAULT, "DDPM_PREVIEW_DEFAULT", Preview::PredOriginalSample),
    (DDPM_PREVIEW_PREDICTION, "DDPM_PREVIEW_PREDICTION", Preview::PredOriginalSample),
    (DDPM_PREVIEW_SAMPLE, "DDPM_PREVIEW_SAMPLE", Preview::Sample),
];

const VARIANCES: [(u32, &str, Option<VarianceType>); 3] = [
    (DDPM_VARIANCE_DEFAULT, "DDPM_VARIANCE_DEFAULT", None),
    (DDPM_VARIANCE_FIXED_SMALL, "DDPM_VARIANCE_FIXED_SMALL", Some(VarianceType::FixedSmall)),
    (DDPM_VARIANCE_FIXED_LARGE, "DDPM_VARIANCE_FIXED_LARGE", Some(VarianceType::FixedLarge)),
];

/// How a picture is to be revealed. Initialise it with `DDPM_STREAM_DESC_INIT`; everything may stay
/// zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_stream_desc {
    /// sizeof(ddpm_stream_desc); `DDPM_STREAM_DESC_INIT` sets it.
    pub struct_size: u32,
    /// The update rule: one of `DDPM_SAMPLER_*`.
    pub sampler: u32,
    /// Reverse steps from noise to picture, 1 to the model's `num_train_timesteps`. 0: 50, or all
    /// of those where there are fewer.
    pub steps: u32,
    /// How the steps are spread over the noise levels: one of `DDPM_SPACING_*`.
    pub spacing: u32,
    /// The picture's number: the same seed gives the same picture. All 64 bits count.
    pub seed: u64,
    /// DDIM only: how much noise a step draws, from 0 (none); 1 is as much as DDPM.
    pub eta: f32,
    /// With `DDPM_CLIP_RANGE`: the limit, above 0; the picture's own range is 1. Else 0.
    pub clip_range: f32,
    /// Whether the predicted picture is held to a range: one of `DDPM_CLIP_*`.
    pub clip: u32,
    /// The variance of DDPM's noise: one of `DDPM_VARIANCE_*`.
    pub variance_type: u32,
    /// What frames show: one of `DDPM_PREVIEW_*`.
    pub preview: u32,
    /// Kept for later versions; 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; numbers only.
unsafe impl Versioned for ddpm_stream_desc {
    const NAME: &'static str = "ddpm_stream_desc";
    const INIT: &'static str = "DDPM_STREAM_DESC_INIT";
}

/// `state`: waits to be asked for a step.
pub const DDPM_STREAM_IDLE: u32 = 0;
/// A step is queued or runs.
pub const DDPM_STREAM_STEPPING: u32 = 1;
/// The picture is finished.
pub const DDPM_STREAM_DONE: u32 = 2;
/// `ddpm_stream_cancel` ended the run.
pub const DDPM_STREAM_CANCELLED: u32 = 3;
/// A step failed; `ddpm_step` tells why. `ddpm_stream_reset` starts over.
pub const DDPM_STREAM_FAILED: u32 = 4;

/// Where a stream is. Initialise it with `DDPM_STREAM_STATUS_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_stream_status {
    /// sizeof(ddpm_stream_status); `DDPM_STREAM_STATUS_INIT` sets it.
    pub struct_size: u32,
    /// One of `DDPM_STREAM_*`.
    pub state: u32,
    /// Steps finished, 0 to `steps`.
    pub step: u32,
    /// Steps of the whole run.
    pub steps: u32,
    /// The number of this run's newest frame; 0 before its first step is finished.
    pub generation: u64,
    /// The noise level given to the model in the step that runs or comes next; after the last step,
    /// that of the last.
    pub timestep: f64,
}

// SAFETY: repr(C), begins with struct_size; numbers only.
unsafe impl Versioned for ddpm_stream_status {
    const NAME: &'static str = "ddpm_stream_status";
    const INIT: &'static str = "DDPM_STREAM_STATUS_INIT";
}

/// Makes a stream on a loaded engine, ready for its first `ddpm_step`.
///
/// `*stream` is written on success only. Does not block, and runs no model. Allocates all memory the
/// stream will use. Any thread. Errors: INVALID_ARGUMENT for a NULL, a descriptor that is not
/// initialised, or a value out of range; ENGINE_LOADING until the engine is ready; what went wrong
/// with the engine's loading, as from `ddpm_engine_wait`; OUT_OF_MEMORY.
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
        let made = engine.engine.stream(&stream_config(&desc, &info.model)?)?;
        let row_bytes = info.model.width * BYTES_PER_PIXEL;
        let handle = Box::new(ddpm_stream { stream: made, row_bytes });
        // SAFETY: not NULL, so the host's variable. Ownership goes to the host.
        unsafe { stream.write(Box::into_raw(handle)) };
        Ok(DDPM_OK)
    })
}

fn stream_config(desc: &ddpm_stream_desc, model: &ModelConfig) -> Result<StreamConfig> {
    expect_zero("desc.reserved", desc.reserved)?;
    let kind = choose("desc.sampler", desc.sampler, &SAMPLERS)?;
    let steps = match desc.steps {
        0 => model.sampler.steps,
        steps => steps as usize,
    };
    let own = model.sampler_config(kind, steps);
    let sampler = SamplerConfig {
        eta: (desc.eta != 0.0).then_some(desc.eta.into()),
        spacing: choose("desc.spacing", desc.spacing, &SPACINGS)?,
        thresholding: clip(desc)?.unwrap_or(own.thresholding),
        variance_type: choose("desc.variance_type", desc.variance_type, &VARIANCES)?
            .unwrap_or(own.variance_type),
        ..own
    };
    Ok(StreamConfig {
        sampler: Some(sampler),
        start: RunStart { seed: desc.seed, ..RunStart::default() },
        preview: choose("desc.preview", desc.preview, &PREVIEWS)?,
    })
}

fn clip(desc: &ddpm_stream_desc) -> Result<Option<Thresholding>> {
    let range = Some(Thresholding::Clip(desc.clip_range.into()));
    let choices = [
        (DDPM_CLIP_DEFAULT, "DDPM_CLIP_DEFAULT", None),
        (DDPM_CLIP_OFF, "DDPM_CLIP_OFF", Some(Thresholding::Off)),
        (DDPM_CLIP_RANGE, "DDPM_CLIP_RANGE", range),
    ];
    let clip = choose("desc.clip", desc.clip, &choices)?;
    if clip != range && desc.clip_range != 0.0 {
        return Err(Error::invalid_argument(format!(
            "desc.clip_range: found {}, expected 0 unless desc.clip is DDPM_CLIP_RANGE",
            desc.clip_range
        )));
    }
    Ok(clip)
}

/// Asks for one reverse step and returns at once; the worker thread runs it. Call it once a frame.
///
/// Returns OK when the step was accepted, BUSY when the last one still runs or the engine has too
/// many waiting (this call then asked for nothing), DONE when there is none left. An error of a step comes back from every call after
/// it until `ddpm_stream_reset`. Does not block, allocate, or wait for a lock that a model run holds
/// (but an error's message allocates, and so does, once, the first step asked for by a
/// thread that never made a stream). Any thread. Errors: INVALID_ARGUMENT for NULL; INFERENCE,
/// NON_FINITE or OUT_OF_MEMORY from the step before; ENGINE_CLOSED.
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
        };
        // SAFETY: the host passes NULL or a struct as large as its struct_size says.
        unsafe { descriptor::write(&value, status, "status") }?;
        Ok(DDPM_OK)
    })
}

/// Waits until no step runs on this stream, or `timeout_ms` is over; `DDPM_WAIT_FOREVER` has no end.
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
/// that runs is thrown away, and an error of an earlier step is forgotten.
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

/// Ends the run: the result of a step that runs is thrown away, `ddpm_step` returns DONE and the
/// status is CANCELLED until `ddpm_stream_reset`. The last frame can still be copied.
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

/// Ends the stream. A step that runs is finished by the worker and thrown away; its memory is freed
/// then.
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
