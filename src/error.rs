//! The one error type of the crate: a kind to act on and a message to read.
//!
//! This module must not know what any other part of the crate does.

use std::fmt;
use std::sync::Arc;

/// What went wrong, coarse enough to act on. Each kind has one code in the C ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value given by the caller is out of range or does not fit the model.
    InvalidArgument,
    /// Memory could not be had.
    OutOfMemory,
    /// The ONNX Runtime library was not found, is not one, or has the wrong version.
    RuntimeLibrary,
    /// The model file cannot be read or is not a model this crate can run.
    Model,
    /// A known feature that this version does not have.
    Unsupported,
    /// The execution provider asked for could not be used.
    Provider,
    /// The runtime failed while it ran the model.
    Inference,
    /// The model or the sampler produced NaN or infinity.
    NonFinite,
    /// What the call needs is in use, by the caller or by another thread: ask again later.
    Busy,
    /// The engine still loads its model.
    EngineLoading,
    /// The engine was closed.
    EngineClosed,
    /// A file could not be read or written.
    Io,
    /// A fault of this library.
    Internal,
}

/// An error: a kind and a message that names the thing, what was found and what was expected.
///
/// Cloning does not allocate, so that an error may be handed out again on a host's frame path.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: Arc<str>,
}

/// The result of every fallible function of the crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of `kind` whose whole text is `message`.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: Arc::from(message.into()) }
    }

    /// Shorthand for the commonest kind, [`ErrorKind::InvalidArgument`].
    pub fn invalid_argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// What went wrong, to act on.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The full text, the same as `Display` gives.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.kind, self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_is_the_message_and_debug_adds_the_kind() {
        let error = Error::invalid_argument("steps: found 0, expected 1 to 1000");
        assert_eq!(error.to_string(), "steps: found 0, expected 1 to 1000");
        assert_eq!(format!("{error:?}"), "InvalidArgument: steps: found 0, expected 1 to 1000");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }

    #[test]
    fn error_crosses_threads() {
        fn needs<T: Clone + Send + Sync + std::error::Error>() {}
        needs::<Error>();
    }
}
