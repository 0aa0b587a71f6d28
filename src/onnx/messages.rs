//! Where ONNX Runtime's messages go: to the engine they are about, and never to the standard streams.
//!
//! A session has a logger of its own. What the runtime says outside of any session, of a provider's library
//! that it cannot load for one, it says on the thread that asked; there it goes to the load that is going
//! on, and what is said elsewhere is dropped. Where the host had the runtime first, it all goes to the host.

use std::cell::RefCell;

use crate::log::{LogLevel, Logger};

thread_local! {
    static LOADING: RefCell<Option<Logger>> = const { RefCell::new(None) };
}

/// What the runtime says of every graph that it writes. The cache's key is about just that.
const WRITES_A_GRAPH: &str = "Serializing optimized model with Graph Optimization level";

/// Calls `load`; meanwhile the runtime's own messages on this thread go to `log`.
pub(super) fn collect<T>(log: &Logger, load: impl FnOnce() -> T) -> T {
    /// Also where `load` panics.
    struct Outer(Option<Logger>);
    impl Drop for Outer {
        fn drop(&mut self) {
            let outer = self.0.take();
            // A thread that ends has no logger any more.
            let _ = LOADING.try_with(|loading| loading.replace(outer));
        }
    }
    let _outer = Outer(LOADING.with(|loading| loading.replace(Some(log.clone()))));
    load()
}

/// A message of the runtime that belongs to no session. There are some of every level: the level is that
/// of the whole process, where the host may use the same runtime, and not for us to set.
pub(super) fn of_the_process(level: ort::logging::LogLevel, text: &str) {
    if matches!(level, ort::logging::LogLevel::Info | ort::logging::LogLevel::Verbose) {
        return;
    }
    // Not borrowed while the message is handed out: the host's code may come back here.
    let log = LOADING.try_with(|loading| loading.borrow().clone());
    if let Ok(Some(log)) = log {
        forward(&log, level, text);
    }
}

/// A message of a session.
pub(super) fn forward(log: &Logger, level: ort::logging::LogLevel, text: &str) {
    use ort::logging::LogLevel as Level;
    let level = match level {
        _ if text.starts_with(WRITES_A_GRAPH) => LogLevel::Debug,
        Level::Fatal | Level::Error => LogLevel::Error,
        Level::Warning => LogLevel::Warning,
        Level::Info | Level::Verbose => LogLevel::Debug,
    };
    if log.accepts(level) {
        log.log(level, format!("ONNX Runtime: {text}"));
    }
}
