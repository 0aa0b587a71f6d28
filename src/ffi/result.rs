//! Result codes. A number once given away is never used again for something else.

use std::ffi::c_char;

use crate::error::ErrorKind;

/// What a function returns. Zero and above is success, below zero is an error whose text
/// `ddpm_last_error` gives. Test with `result < 0`: later versions may add codes on both sides.
pub type ddpm_result = i32;

/// Done as asked.
pub const DDPM_OK: i32 = 0;
/// `ddpm_step`: the last step still runs, so this call asked for nothing. Frames: one is acquired and not
/// released. Try again next frame.
pub const DDPM_BUSY: i32 = 1;
/// `ddpm_step`: there is no step left. The picture is finished, or the run was cancelled.
pub const DDPM_DONE: i32 = 2;
/// `ddpm_stream_copy_frame`, `ddpm_stream_acquire_frame`: nothing newer than the last frame taken. The
/// destination is untouched.
pub const DDPM_NO_NEW_FRAME: i32 = 3;
/// A wait reached its timeout.
pub const DDPM_TIMEOUT: i32 = 4;
/// `ddpm_step`, `ddpm_stream_tick`: the stream is paused, so this call asked for nothing.
pub const DDPM_PAUSED: i32 = 5;

/// A value is out of range, a pointer is NULL, or a value does not fit the model.
pub const DDPM_ERROR_INVALID_ARGUMENT: i32 = -1;
/// Memory could not be had.
pub const DDPM_ERROR_OUT_OF_MEMORY: i32 = -2;
/// The ONNX Runtime library was not found, is not one, or has the wrong version.
pub const DDPM_ERROR_RUNTIME_LIBRARY: i32 = -3;
/// The model cannot be read, or is not one that this library can run.
pub const DDPM_ERROR_MODEL: i32 = -4;
/// A known feature that this version does not have, or a call that is not allowed here.
pub const DDPM_ERROR_UNSUPPORTED: i32 = -5;
/// The execution provider asked for could not be used.
pub const DDPM_ERROR_PROVIDER: i32 = -6;
/// ONNX Runtime failed while it ran the model.
pub const DDPM_ERROR_INFERENCE: i32 = -7;
/// The model produced NaN or infinity.
pub const DDPM_ERROR_NON_FINITE: i32 = -8;
/// The engine still loads its model. Not a failure: ask again later.
pub const DDPM_ERROR_ENGINE_LOADING: i32 = -9;
/// The stream's engine was destroyed.
pub const DDPM_ERROR_ENGINE_CLOSED: i32 = -10;
/// A file could not be read.
pub const DDPM_ERROR_IO: i32 = -11;
/// A fault of this library. Please report it with the message.
pub const DDPM_ERROR_INTERNAL: i32 = -12;

/// The code that stands for an error of this kind.
pub(super) fn code_of(kind: ErrorKind) -> ddpm_result {
    match kind {
        ErrorKind::InvalidArgument => DDPM_ERROR_INVALID_ARGUMENT,
        ErrorKind::OutOfMemory => DDPM_ERROR_OUT_OF_MEMORY,
        ErrorKind::RuntimeLibrary => DDPM_ERROR_RUNTIME_LIBRARY,
        ErrorKind::Model => DDPM_ERROR_MODEL,
        ErrorKind::Unsupported => DDPM_ERROR_UNSUPPORTED,
        ErrorKind::Provider => DDPM_ERROR_PROVIDER,
        ErrorKind::Inference => DDPM_ERROR_INFERENCE,
        ErrorKind::NonFinite => DDPM_ERROR_NON_FINITE,
        // Not an error in C; the frame functions answer it before it comes to one.
        ErrorKind::Busy => DDPM_BUSY,
        ErrorKind::EngineLoading => DDPM_ERROR_ENGINE_LOADING,
        ErrorKind::EngineClosed => DDPM_ERROR_ENGINE_CLOSED,
        ErrorKind::Io => DDPM_ERROR_IO,
        ErrorKind::Internal => DDPM_ERROR_INTERNAL,
    }
}

/// The name of a result code, such as "DDPM_BUSY"; "unknown ddpm_result" for any other number.
///
/// Never NULL; the text lives as long as the library is loaded. Does not block or allocate. Any
/// thread, and the log callback too.
#[unsafe(no_mangle)]
pub extern "C" fn ddpm_result_name(result: ddpm_result) -> *const c_char {
    let name = match result {
        DDPM_OK => c"DDPM_OK",
        DDPM_BUSY => c"DDPM_BUSY",
        DDPM_DONE => c"DDPM_DONE",
        DDPM_NO_NEW_FRAME => c"DDPM_NO_NEW_FRAME",
        DDPM_TIMEOUT => c"DDPM_TIMEOUT",
        DDPM_PAUSED => c"DDPM_PAUSED",
        DDPM_ERROR_INVALID_ARGUMENT => c"DDPM_ERROR_INVALID_ARGUMENT",
        DDPM_ERROR_OUT_OF_MEMORY => c"DDPM_ERROR_OUT_OF_MEMORY",
        DDPM_ERROR_RUNTIME_LIBRARY => c"DDPM_ERROR_RUNTIME_LIBRARY",
        DDPM_ERROR_MODEL => c"DDPM_ERROR_MODEL",
        DDPM_ERROR_UNSUPPORTED => c"DDPM_ERROR_UNSUPPORTED",
        DDPM_ERROR_PROVIDER => c"DDPM_ERROR_PROVIDER",
        DDPM_ERROR_INFERENCE => c"DDPM_ERROR_INFERENCE",
        DDPM_ERROR_NON_FINITE => c"DDPM_ERROR_NON_FINITE",
        DDPM_ERROR_ENGINE_LOADING => c"DDPM_ERROR_ENGINE_LOADING",
        DDPM_ERROR_ENGINE_CLOSED => c"DDPM_ERROR_ENGINE_CLOSED",
        DDPM_ERROR_IO => c"DDPM_ERROR_IO",
        DDPM_ERROR_INTERNAL => c"DDPM_ERROR_INTERNAL",
        _ => c"unknown ddpm_result",
    };
    name.as_ptr()
}
