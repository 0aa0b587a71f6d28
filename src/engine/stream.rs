//! One picture being revealed, a step at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::worker::{FrameFormat, FrameInfo, Link, StepOutcome, StreamCore, StreamStatus};

use super::Known;

/// One picture being revealed. Made by [`Engine::stream`](super::Engine::stream).
///
/// Every call may come from any thread, also from several at once. `step`, `status`, `copy_frame`,
/// `cancel` and `reset` neither block on inference nor allocate. The stream outlives its engine:
/// after the engine is closed `step` and `reset` give `EngineClosed`, and the last frame can still
/// be copied. Dropping a stream does not wait for a step in flight.
pub struct Stream {
    core: Arc<StreamCore>,
    link: Link<Known>,
}

impl Stream {
    pub(super) fn new(core: Arc<StreamCore>, link: Link<Known>) -> Self {
        Self { core, link }
    }

    /// Asks for one reverse step; the engine's thread makes it. Does not block or allocate.
    ///
    /// Errors: `EngineClosed`; and, until a reset, the error of a step that failed.
    pub fn step(&self) -> Result<StepOutcome> {
        self.link.step(&self.core)
    }

    /// Where the stream stands. Does not block or allocate.
    pub fn status(&self) -> StreamStatus {
        self.core.status()
    }

    /// Copies the newest frame of this run to `target`, if it was not copied before; else gives
    /// `None` and leaves `target` alone. There is no frame before the first step is finished, but a
    /// run without steps (strength 0) has its start image as the frame from the start, as step 0.
    ///
    /// Row y begins at byte y x `row_stride`; bytes between the rows are left alone. Blocks only
    /// while another thread copies a frame of the same stream; does not allocate.
    ///
    /// Errors: `InvalidArgument` where `row_stride` is below 4 bytes x width or `target` ends
    /// before the last row; the frame stays available then.
    pub fn copy_frame(
        &self,
        target: &mut [u8],
        row_stride: usize,
        format: FrameFormat,
    ) -> Result<Option<FrameInfo>> {
        self.core.copy_frame(target, row_stride, format)
    }

    /// Blocks until no step is in flight: true; or until `timeout` has passed: false. `None` waits
    /// as long as it takes. For tools; a frame loop looks at [`status`](Self::status).
    ///
    /// Errors: until a reset, the error of a step that failed, `EngineClosed` among them.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.core.wait(timeout)
    }

    /// Starts again at step 0, with another seed or the same. A step in flight is discarded, and so
    /// is a frame that was not copied. Does not block or allocate; a run without steps has its image
    /// as a new frame at once, which costs one conversion of its pixels.
    ///
    /// Errors: `EngineClosed`.
    pub fn reset(&self, seed: Option<u64>) -> Result<()> {
        self.link.check_open()?;
        self.core.reset(seed)
    }

    /// Ends the run: a step in flight is discarded, and `step` gives `Done` until a reset. The last
    /// frame can still be copied. A finished or failed run stays what it is. Does not block or
    /// allocate.
    pub fn cancel(&self) {
        self.core.cancel();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // So that the worker does not make a step that nobody will see.
        self.core.cancel();
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("status", &self.status()).finish()
    }
}
