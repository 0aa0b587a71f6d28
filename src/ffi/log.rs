//! The log callback: the one way in which the library calls the host.

use std::ffi::{c_char, c_void};
use std::sync::Arc;

use super::guard::in_callback;
use super::last_error::to_c_text;
use crate::log::{LogLevel, LogSink};

/// Takes one log message. `level` is one of `DDPM_LOG_*`; `message` is UTF-8, one line, and is valid
/// until the callback returns.
///
/// Called from the library's own threads, and from the thread that is inside a call; several threads
/// may call it at once if several engines share it. It is not called any more once
/// `ddpm_engine_destroy` of its engine has returned. It must not call back into the library (such a
/// call returns DDPM_ERROR_UNSUPPORTED), throw, or `longjmp` out.
pub type ddpm_log_callback =
    Option<unsafe extern "C" fn(user_data: *mut c_void, level: u32, message: *const c_char)>;

/// `log_level`: the library's choice; warnings and errors in this version.
pub const DDPM_LOG_DEFAULT: u32 = 0;
/// What failed.
pub const DDPM_LOG_ERROR: u32 = 1;
/// Also what was not as asked, but has a substitute (the CPU for the GPU).
pub const DDPM_LOG_WARNING: u32 = 2;
/// Also what was chosen: the library file, the provider, defaults taken for the model.
pub const DDPM_LOG_INFO: u32 = 3;
/// Also details for a bug report.
pub const DDPM_LOG_DEBUG: u32 = 4;

/// Accepted values of `log_level`.
pub(super) const LOG_LEVELS: [(u32, &str, LogLevel); 5] = [
    (DDPM_LOG_DEFAULT, "DDPM_LOG_DEFAULT", LogLevel::Warning),
    (DDPM_LOG_ERROR, "DDPM_LOG_ERROR", LogLevel::Error),
    (DDPM_LOG_WARNING, "DDPM_LOG_WARNING", LogLevel::Warning),
    (DDPM_LOG_INFO, "DDPM_LOG_INFO", LogLevel::Info),
    (DDPM_LOG_DEBUG, "DDPM_LOG_DEBUG", LogLevel::Debug),
];

struct HostLog {
    callback: unsafe extern "C" fn(*mut c_void, u32, *const c_char),
    user_data: *mut c_void,
}

// SAFETY: the function pointer is plain data, and `user_data` is never followed here, only handed
// back; the header tells the host that it is handed back on other threads.
unsafe impl Send for HostLog {}
// SAFETY: as for Send; the header says that several threads may call at once.
unsafe impl Sync for HostLog {}

impl HostLog {
    fn write(&self, level: LogLevel, message: &str) {
        let message = to_c_text(message);
        let level = match level {
            LogLevel::Error => DDPM_LOG_ERROR,
            LogLevel::Warning => DDPM_LOG_WARNING,
            LogLevel::Info => DDPM_LOG_INFO,
            LogLevel::Debug => DDPM_LOG_DEBUG,
        };
        // SAFETY: the host gave a function of this signature that is callable, with its user_data,
        // until the engine is destroyed (contract of ddpm_engine_desc.log); the engine's worker,
        // which owns this, is joined by then. The text outlives the call.
        in_callback(|| unsafe { (self.callback)(self.user_data, level, message.as_ptr()) });
    }
}

/// The engine's log over the host's callback; none where there is no callback.
pub(super) fn host_log(callback: ddpm_log_callback, user_data: *mut c_void) -> Option<LogSink> {
    let log = HostLog { callback: callback?, user_data };
    Some(Arc::new(move |level, message: &str| log.write(level, message)))
}
