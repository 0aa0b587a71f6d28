//! One picture being revealed, a step at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::onnx::write_blob;
use crate::run::Branch;
use crate::worker::{
    FrameGuard, FrameInfo, Link, PlaybackConfig, StepOutcome, StreamCore, StreamStatus,
};

use super::Known;

/// One picture being revealed. Made by [`Engine::stream`](super::Engine::stream).
///
/// Every call may come from any thread, also from several at once. Unless they say otherwise, calls
/// neither block on inference nor allocate. The stream outlives its engine: after the engine is closed
/// what needs it gives `EngineClosed`, and the last frame can still be taken. Dropping a stream does not
/// wait for a step in flight; a run of the model that is for this stream only is broken off.
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
    /// Errors: `EngineClosed`; and, until a reset or a seek, the error of a step that failed.
    pub fn step(&self) -> Result<StepOutcome> {
        self.link.step(&self.core)
    }

    /// From now on [`tick`](Self::tick) asks for the steps: what is left of the run is to take a time. Called
    /// again, it takes another. A reset or a seek goes on playing from where it leads: what is left then
    /// takes its share of the duration. Does not block or allocate.
    ///
    /// Errors: `InvalidArgument` for a duration that is not above 0 and up to a day.
    pub fn play(&self, config: PlaybackConfig) -> Result<()> {
        self.core.play(config)
    }

    /// Lets `seconds` pass in the playback, those since the last tick, and asks for the steps that are due
    /// now by the easing and the time that steps are measured to take. Call it once a frame. Where the
    /// machine is too slow for all steps, those that are left become fewer, so that the picture is finished
    /// on time. `Accepted` while the picture is under way. Does not block or allocate.
    ///
    /// Errors: `InvalidArgument` where the stream does not play, or `seconds` is below 0 or not finite;
    /// else as [`step`](Self::step).
    pub fn tick(&self, seconds: f64) -> Result<StepOutcome> {
        self.link.tick(&self.core, seconds)
    }

    /// No step is begun until [`resume`](Self::resume): the one in flight is finished, `step` and `tick` give
    /// `Paused`, and no time passes in a playback. A seek works all the same. Does not block or allocate.
    pub fn pause(&self) {
        self.core.set_paused(true);
    }

    /// Ends a pause. Does not block or allocate.
    pub fn resume(&self) {
        self.core.set_paused(false);
    }

    /// Goes to `step` of the run, 0 to the number of steps, back or forth, whatever the state of the stream;
    /// a step in flight is discarded. The worker makes what rows it takes from the nearest state it has, and
    /// shows the frame of that step only: that of the straight run, bit for bit where the runs of the model
    /// have the same batch size. Until then the stream is `Stepping`; see [`wait`](Self::wait). Does not block
    /// or allocate.
    ///
    /// Errors: `InvalidArgument` where the run has no such step; `EngineClosed`.
    pub fn seek(&self, step: u32) -> Result<()> {
        self.link.seek(&self.core, step)
    }

    /// Another stream, which is this run up to `branch.step` and draws other noise after it, as
    /// [`Branch`] says. It begins by seeking to that step, and plays no playback. Allocates what it will
    /// use; blocks while the worker takes a step's result, with a fused step for a run of the model.
    ///
    /// Errors: `InvalidArgument` where the run has no such step to make, or nothing would differ: the
    /// sampler draws no noise from there on and `variation` is 0; `EngineClosed`; `OutOfMemory`.
    pub fn branch(&self, branch: Branch) -> Result<Self> {
        let step = branch.step;
        let (run, options) = self.link.branch(&self.core, branch)?;
        let core = StreamCore::new(self.core.model(), run, options)?;
        self.core.share_checkpoints(&core, step);
        let made = Self::new(Arc::new(core), self.link.another()?);
        if made.status().step < step {
            made.seek(step)?;
        }
        Ok(made)
    }

    /// The run as it stands after its last finished step, for
    /// [`Engine::load_stream`](super::Engine::load_stream): a safetensors file. For tools: allocates, and blocks
    /// while the worker takes a step's result; with a fused step, for a run of the model. A step or a seek in
    /// flight goes on.
    ///
    /// Errors: `InvalidArgument` before the first step of a stream with a director, whose timesteps are
    /// still to be chosen; `EngineClosed`; `OutOfMemory`.
    pub fn save(&self) -> Result<Vec<u8>> {
        let known = self.link.info()?;
        let (model, fingerprint) = (&known.info.model, &known.info.fingerprint);
        self.link.look_at_run(&self.core, |run| write_blob(run, model, fingerprint))
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

    /// Blocks until no step or seek is in flight: true; or until `timeout` has passed: false. `None` waits
    /// as long as it takes. For tools; a frame loop looks at [`status`](Self::status).
    ///
    /// Errors: until a reset or a seek, the error of a step that failed, `EngineClosed` among them.
    pub fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.link.wait(&self.core, timeout)
    }

    /// Starts again at step 0, with another seed or the same, and without the branches of the run. What is
    /// in flight is discarded, and so is a frame that was not taken. Does not block or allocate; a run without
    /// steps has its image as a new frame at once, which costs one conversion of its pixels.
    ///
    /// Errors: `EngineClosed`.
    pub fn reset(&self, seed: Option<u64>) -> Result<()> {
        self.link.reset(&self.core, seed)
    }

    /// Ends the run: what is in flight is discarded, the run of the model broken off if no other stream
    /// shares it, and `step` gives `Done` until a reset or a seek. The last frame can still be taken. A
    /// finished or failed run stays what it is. Does not block or allocate.
    pub fn cancel(&self) {
        self.link.cancel(&self.core);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // So that the worker does not make a step that nobody will see.
        self.link.cancel(&self.core);
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("status", &self.status()).finish()
    }
}
