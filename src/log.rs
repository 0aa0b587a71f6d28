//! Log messages on their way to the host: a level, a text, and a sink that the host gave.
//!
//! There is no global logger. Each engine carries its own sink, and without one nothing is
//! written anywhere.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How serious a message is, the most serious first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something was asked for and could not be done.
    Error,
    /// Something other than what was asked for is used, such as the CPU in place of CUDA.
    #[default]
    Warning,
    /// What was loaded, and every default taken.
    Info,
    /// Details for whoever works on the library itself.
    Debug,
}

/// The host's sink. It may be called from the library's own thread, and must not call the library.
pub type LogSink = Arc<dyn Fn(LogLevel, &str) + Send + Sync>;

/// A sink together with the least serious level that reaches it.
#[derive(Clone, Default)]
pub struct Logger {
    sink: Option<LogSink>,
    level: LogLevel,
}

impl Logger {
    /// Messages at `level` and more serious ones go to `sink`; with `None` all are dropped.
    pub fn new(sink: Option<LogSink>, level: LogLevel) -> Self {
        Self { sink, level }
    }

    /// True where a message at `level` would reach the host, so that its text is worth making.
    pub fn accepts(&self, level: LogLevel) -> bool {
        self.sink.is_some() && level <= self.level
    }

    /// Hands `text` to the host. A sink that panics loses its message and nothing else.
    pub fn log(&self, level: LogLevel, text: impl AsRef<str>) {
        let Some(sink) = self.sink.as_ref().filter(|_| level <= self.level) else {
            return;
        };
        // The message may be on its way through ONNX Runtime's own logger, and a panic must not
        // unwind through foreign frames.
        let _ = catch_unwind(AssertUnwindSafe(|| sink(level, text.as_ref())));
    }
}

impl fmt::Debug for Logger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logger")
            .field("sink", &self.sink.is_some())
            .field("level", &self.level)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    fn recording(level: LogLevel) -> (Logger, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let sink: LogSink = Arc::new(move |_, text: &str| {
            kept.lock().unwrap().push(text.to_owned());
        });
        (Logger::new(Some(sink), level), seen)
    }

    #[test]
    fn only_messages_at_the_level_or_above_reach_the_sink() {
        let (logger, seen) = recording(LogLevel::Warning);
        logger.log(LogLevel::Error, "error");
        logger.log(LogLevel::Warning, "warning");
        logger.log(LogLevel::Info, "info");
        assert_eq!(*seen.lock().unwrap(), ["error", "warning"]);
        assert!(logger.accepts(LogLevel::Error) && !logger.accepts(LogLevel::Info));
    }

    #[test]
    fn a_panicking_sink_is_contained() {
        let logger = Logger::new(Some(Arc::new(|_, _: &str| panic!("host"))), LogLevel::Debug);
        logger.log(LogLevel::Error, "text");
    }
}
