//! One picture being revealed, a step at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::worker::{FrameGuard, FrameInfo, Link, StepOutcome, StreamCore, StreamStatus};

use super::Known;

/// One picture being revealed. Made by [`Engine::stream`](super::Engine::stream).
///
/// Every call may come from any thread, also from several at once. `step`, `status`, `copy_frame`,
/// `acquire_frame`, `cancel` and `reset` neither block on inference nor allocate. The stream outlives its engine:
/// after the engine is closed `step` and `reset` give `EngineClosed`, and the last frame can still
/// be taken. Dropping a stream does not wait for a step in flight.
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

    /// Copies the newest frame of this run to `target`, if it was not copied or acquired before; else
    /// gives `None` and leaves `target` alone. There is no frame before the first step is finished, but
    /// a run without steps (strength 0) has its start image as the frame from the start, as step 0.
    ///
    /// The pixels are in the stream's [`FrameFormat`](super::FrameFormat), which says how many rows
    /// of how many bytes there are; floats come as their bytes, and `target` need not be aligned for
    /// them. Row y begins at byte y x `row_stride`; bytes between the rows are left alone. 0 stands
    /// for rows without gaps. Blocks only while another thread copies a frame of the same stream; does
    /// not allocate.
    ///
    /// Errors: `InvalidArgument` where `row_stride` is below a row and not 0, or `target` ends before
    /// the last row; the frame stays available then. `Busy` while a frame is acquired.
    pub fn copy_frame(&self, target: &mut [u8], row_stride: usize) -> Result<Option<FrameInfo>> {
        self.core.copy_frame(target, row_stride)
    }

    /// Takes the newest frame of this run without a copy, if it was not copied or acquired before: its
    /// pixels, in rows without gaps, until the guard is dropped. They stay as they are whatever else is
    /// done meanwhile, and the engine's thread does not wait for them; but newer frames are had only
    /// after that. Blocks only while another thread copies a frame of the same stream; does not
    /// allocate.
    ///
    /// Errors: `Busy` while a frame is acquired.
    pub fn acquire_frame(&self) -> Result<Option<FrameGuard>> {
        self.core.acquire_frame()
    }

    /// Bytes of a row of this stream's frames without gaps.
    pub fn row_bytes(&self) -> usize {
        self.core.row_bytes()
    }

    /// Blocks until no step is in flight: true; or until `timeout` has passed: false. `None` waits
    /// as long as it takes. For tools; a frame loop looks at [`status`](Self::status).
    ///
    /// Errors: until a reset, the error of a step that failed, `EngineClosed` among them.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.core.wait(timeout)
    }

    /// Starts again at step 0, with another seed or the same. A step in flight is discarded, and so
    /// is a frame that was not taken. Does not block or allocate; a run without steps has its image
    /// as a new frame at once, which costs one conversion of its pixels.
    ///
    /// Errors: `EngineClosed`.
    pub fn reset(&self, seed: Option<u64>) -> Result<()> {
        self.link.check_open()?;
        self.core.reset(seed)
    }

    /// Ends the run: a step in flight is discarded, and `step` gives `Done` until a reset. The last
    /// frame can still be taken. A finished or failed run stays what it is. Does not block or
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
