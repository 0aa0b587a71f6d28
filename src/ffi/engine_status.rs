//! `ddpm_engine_status`: how far an engine is.

use super::descriptor::{self, Versioned};
use super::engine::ddpm_engine;
use super::guard::{borrow, guard};
use super::result::{DDPM_OK, ddpm_result};
use crate::engine::{EngineState, LoadStage};

/// `state`: the model is being loaded.
pub const DDPM_ENGINE_LOADING: u32 = 0;
/// Streams can be made.
pub const DDPM_ENGINE_READY: u32 = 1;
/// The load failed, or the worker did; `ddpm_engine_wait` tells why.
pub const DDPM_ENGINE_FAILED: u32 = 2;
/// Another thread is in `ddpm_engine_destroy`.
pub const DDPM_ENGINE_CLOSED: u32 = 3;

/// `stage`: looks for the ONNX Runtime library and starts it.
pub const DDPM_LOAD_RUNTIME: u32 = 0;
/// Reads the model file.
pub const DDPM_LOAD_MODEL: u32 = 1;
/// ONNX Runtime optimises the model for this machine.
pub const DDPM_LOAD_OPTIMISE: u32 = 2;
/// Runs the model for the first time.
pub const DDPM_LOAD_FIRST_RUNS: u32 = 3;
/// The load is over, and the engine ready.
pub const DDPM_LOAD_DONE: u32 = 4;

/// How far an engine is. Initialise it with `DDPM_ENGINE_STATUS_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_engine_status {
    /// sizeof(ddpm_engine_status); `DDPM_ENGINE_STATUS_INIT` sets it.
    pub struct_size: u32,
    /// One of `DDPM_ENGINE_*`.
    pub state: u32,
    /// What the load is doing, one of `DDPM_LOAD_*`; where the engine is FAILED or CLOSED, what it was
    /// doing last.
    pub stage: u32,
    /// The part of the load that is done, for a progress bar: 0 to 1, and 1 once the engine has been
    /// READY. It never goes back. It follows how long the stages usually take and moves in steps: no
    /// promise about time.
    pub progress: f32,
    /// How often the sample of a stream, or all that its sampler keeps, has been copied between the memory
    /// of the host and where the model runs. Twice a step where steps are not fused
    /// (`ddpm_engine_info.fused_step`); else only where streams join, leave or seek, or a state is kept for
    /// that. Pictures do not count.
    pub host_copies: u64,
    /// Kept for later versions; written as 0.
    pub reserved: [u32; 2],
}

// SAFETY: repr(C), begins with struct_size; numbers only.
unsafe impl Versioned for ddpm_engine_status {
    const NAME: &'static str = "ddpm_engine_status";
    const INIT: &'static str = "DDPM_ENGINE_STATUS_INIT";
}

/// Tells how far the engine is, while it loads and afterwards. May be called each frame.
///
/// `*status` is written on success only, and a failed load is no failure of this call. Does not block or
/// allocate, except for the message of an error. Any thread. Errors: INVALID_ARGUMENT for a NULL or a
/// `status` that is not initialised.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_engine_get_status(
    engine: *mut ddpm_engine,
    status: *mut ddpm_engine_status,
) -> ddpm_result {
    guard("ddpm_engine_get_status", || {
        // SAFETY: the host passes NULL or a live handle.
        let engine = unsafe { borrow(engine, "engine") }?;
        let found = engine.engine.progress();
        let value = ddpm_engine_status {
            struct_size: 0,
            state: match found.state {
                EngineState::Loading => DDPM_ENGINE_LOADING,
                EngineState::Ready => DDPM_ENGINE_READY,
                EngineState::Failed => DDPM_ENGINE_FAILED,
                EngineState::Closed => DDPM_ENGINE_CLOSED,
            },
            stage: match found.stage {
                LoadStage::Runtime => DDPM_LOAD_RUNTIME,
                LoadStage::Model => DDPM_LOAD_MODEL,
                LoadStage::Optimise => DDPM_LOAD_OPTIMISE,
                LoadStage::FirstRuns => DDPM_LOAD_FIRST_RUNS,
                LoadStage::Done => DDPM_LOAD_DONE,
            },
            progress: found.fraction,
            host_copies: engine.engine.host_copies(),
            reserved: [0; 2],
        };
        // SAFETY: the host passes NULL or a struct as large as its struct_size says.
        unsafe { descriptor::write(&value, status, "status") }?;
        Ok(DDPM_OK)
    })
}
