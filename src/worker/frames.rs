//! The frames of one stream: drawn by whoever makes its steps, taken by the host.
//!
//! Three slots are handed around without either side waiting for the other (see
//! [`triple_buffer`](super::triple_buffer)). A frame that the host acquired is out of its slot until it
//! is released; the drawing side has the two other slots. This module must not know runs, steps or why
//! a picture is drawn: it is told the epoch and the step of each.

use std::fmt;
use std::mem;
use std::ops::Deref;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::model::ModelConfig;

use super::frame_format::{ALIGNMENT, FrameFormat, Layout};
use super::internal;
use super::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use super::triple_buffer::{Reader, Writer, triple_buffer};

/// Which frame was copied or acquired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameInfo {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// The number of finished steps the frame shows: 0 for a start picture in a run without steps,
    /// else at least 1.
    pub step: u32,
    /// The steps of the whole run.
    pub steps: u32,
    /// Counts the stream's frames, over resets too; later frames have higher numbers.
    pub generation: u64,
}

/// The default is a frame without pixels, which stands where one was taken out. It allocates nothing.
#[derive(Default)]
struct Frame {
    /// The pixels, and up to [`ALIGNMENT`] bytes in front of them. Never grows, so never moves.
    memory: Vec<u8>,
    /// Where the pixels begin.
    start: usize,
    epoch: u32,
    info: FrameInfo,
}

impl Frame {
    /// Errors: `OutOfMemory`.
    fn new(bytes: usize) -> Result<Self> {
        let mut memory = Vec::<u8>::new();
        memory.try_reserve_exact(bytes + ALIGNMENT).map_err(|_| {
            let text = format!("frame: {bytes} bytes for its pixels could not be had");
            Error::new(ErrorKind::OutOfMemory, text)
        })?;
        // An interpreter may not know; the pixels are merely unaligned then.
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        memory.resize(start + bytes, 0);
        Ok(Self { memory, start, ..Self::default() })
    }

    fn pixels(&self) -> &[u8] {
        &self.memory[self.start..]
    }
}

/// The drawing side. One thread draws at a time, so that its lock is never contended.
struct Easel {
    slots: Writer<Frame>,
    /// That of the newest published frame.
    generation: u64,
}

/// The host's side.
struct Gallery {
    slots: Reader<Frame>,
    /// The host has the front slot's frame.
    lent: bool,
}

/// See the module's text.
pub(super) struct Frames {
    layout: Layout,
    easel: Mutex<Easel>,
    gallery: Arc<Mutex<Gallery>>,
    /// Epoch (high half) and generation (low half) of the newest frame.
    published: AtomicU64,
    /// The generation of the newest frame or of one about to be published.
    generation: AtomicU64,
}

/// A frame that is drawn and not published. Dropped, it was never there.
pub(super) struct Drawn<'a> {
    frames: &'a Frames,
    easel: MutexGuard<'a, Easel>,
    epoch: u32,
}

/// While it lives nobody takes a frame.
pub(super) struct Closed<'a>(#[expect(dead_code, reason = "held")] MutexGuard<'a, Gallery>);

/// A frame that its stream does not touch until this is dropped: its pixels, as a slice of bytes, and
/// which frame it is.
///
/// It keeps its memory alive by itself, also where stream and engine are gone, and may be given to
/// another thread. Dropping it does not block or allocate. One that is forgotten is never released.
pub struct FrameGuard {
    gallery: Arc<Mutex<Gallery>>,
    frame: Frame,
}

impl Frames {
    /// Allocates the three slots. Errors: `InvalidArgument` where a frame is larger than the address
    /// space; `OutOfMemory`.
    pub(super) fn new(format: FrameFormat, model: &ModelConfig) -> Result<Self> {
        let layout = Layout::new(format, model)?;
        let slot = || Frame::new(layout.bytes());
        let (writer, reader) = triple_buffer([slot()?, slot()?, slot()?]);
        Ok(Self {
            layout,
            easel: Mutex::new(Easel { slots: writer, generation: 0 }),
            gallery: Arc::new(Mutex::new(Gallery { slots: reader, lent: false })),
            published: AtomicU64::new(0),
            generation: AtomicU64::new(0),
        })
    }

    /// Worker: draws a planar sample [C, H, W] into a slot of its own; [`Drawn::publish`] makes it the
    /// newest frame. Does not wait for the host, whatever it holds.
    ///
    /// Errors: `InvalidArgument` where the sample is not of the model's size.
    pub(super) fn draw(
        &self,
        picture: &[f32],
        epoch: u32,
        step: u32,
        steps: u32,
    ) -> Result<Drawn<'_>> {
        let mut easel = self.easel.lock();
        let generation = easel.generation + 1;
        let mut frame = easel.slots.back().ok_or_else(|| internal("frame slot taken"))?;
        let Frame { memory, start, .. } = &mut *frame;
        self.layout.draw(picture, &mut memory[*start..])?;
        frame.epoch = epoch;
        frame.info = FrameInfo {
            width: self.layout.width as u32,
            height: self.layout.height as u32,
            step,
            steps,
            generation,
        };
        drop(frame);
        Ok(Drawn { frames: self, easel, epoch })
    }

    /// The generation of the newest frame of this epoch; 0 where it has none.
    pub(super) fn generation_of(&self, epoch: u32) -> u64 {
        let published = self.published.load(Ordering::Acquire);
        if (published >> 32) as u32 != epoch {
            return 0;
        }
        // The word has the lower half. The whole number was written before the word and only grows, so
        // the frame's is the greatest with that lower half that is not above it.
        let newest = self.generation.load(Ordering::Relaxed);
        newest.wrapping_sub(u64::from((newest as u32).wrapping_sub(published as u32)))
    }

    /// Host: copies the newest frame, if it is of the epoch that `current` gives and was not taken
    /// before.
    ///
    /// Errors: `InvalidArgument` where it does not fit; `Busy` while a frame is acquired.
    pub(super) fn copy(
        &self,
        target: &mut [u8],
        row_stride: usize,
        current: impl FnOnce() -> u32,
    ) -> Result<Option<FrameInfo>> {
        let stride = self.layout.stride(row_stride, target.len())?;
        self.gallery.lock().take(current, |frame| {
            self.layout.copy(frame.pixels(), target, stride);
            frame.info
        })
    }

    /// Host: takes the newest frame out, if it is of the epoch that `current` gives and was not taken
    /// before.
    ///
    /// Errors: `Busy` while a frame is acquired.
    pub(super) fn acquire(&self, current: impl FnOnce() -> u32) -> Result<Option<FrameGuard>> {
        let mut gallery = self.gallery.lock();
        let Some(frame) = gallery.take(current, mem::take)? else {
            return Ok(None);
        };
        gallery.lent = true;
        Ok(Some(FrameGuard { gallery: Arc::clone(&self.gallery), frame }))
    }

    /// Bytes of a row without gaps.
    pub(super) fn row_bytes(&self) -> usize {
        self.layout.row
    }

    /// Host: keeps frames from being taken, so that a change of the epoch and the frame that belongs to
    /// it are seen together. Waits for a copy in progress, not for a release.
    pub(super) fn close(&self) -> Closed<'_> {
        Closed(self.gallery.lock())
    }
}

impl Gallery {
    /// What `view` makes of the newest frame.
    fn take<T>(
        &mut self,
        current: impl FnOnce() -> u32,
        view: impl FnOnce(&mut Frame) -> T,
    ) -> Result<Option<T>> {
        if self.lent {
            return Err(Error::new(
                ErrorKind::Busy,
                "frame: the one that was acquired is not released yet",
            ));
        }
        let Some(mut frame) = self.slots.take_newest() else {
            return Ok(None);
        };
        // A frame of an earlier run, overtaken by a reset, is no news. The epoch is asked for after the
        // frame was taken: one from before may be older than the frame's, which would then be lost.
        Ok((frame.epoch == current()).then(|| view(&mut frame)))
    }
}

impl Drawn<'_> {
    /// Makes it the newest frame.
    pub(super) fn publish(mut self) {
        let generation = self.easel.generation + 1;
        self.easel.generation = generation;
        self.easel.slots.publish();
        self.frames.generation.store(generation, Ordering::Relaxed);
        let word = u64::from(self.epoch) << 32 | (generation & u64::from(u32::MAX));
        self.frames.published.store(word, Ordering::Release);
    }
}

impl FrameGuard {
    /// Which frame it is.
    pub fn info(&self) -> FrameInfo {
        self.frame.info
    }
}

impl Deref for FrameGuard {
    type Target = [u8];

    /// The pixels, rows without gaps in the stream's format, the first byte at a multiple of 64.
    fn deref(&self) -> &[u8] {
        self.frame.pixels()
    }
}

impl Drop for FrameGuard {
    fn drop(&mut self) {
        let mut gallery = self.gallery.lock();
        gallery.slots.put_back(mem::take(&mut self.frame));
        gallery.lent = false;
    }
}

impl fmt::Debug for FrameGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameGuard").field("info", &self.info()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames() -> Frames {
        Frames::new(FrameFormat::Rgba8, &ModelConfig::ddpm(1, 1, 1)).unwrap()
    }

    fn publish(frames: &Frames, epoch: u32) {
        frames.draw(&[0.0], epoch, 1, 9).unwrap().publish();
    }

    #[test]
    fn a_frame_that_is_drawn_and_not_published_was_never_there() {
        let frames = frames();
        drop(frames.draw(&[0.0], 0, 1, 9).unwrap());
        assert!(frames.acquire(|| 0).unwrap().is_none());
        publish(&frames, 0);
        assert_eq!(frames.acquire(|| 0).unwrap().unwrap().info().generation, 1);
    }

    #[test]
    fn generations_go_on_where_the_published_half_wraps() {
        let frames = frames();
        let wrap = 1 << 32;
        frames.easel.lock().generation = wrap - 2;
        for generation in wrap - 1..wrap + 2 {
            publish(&frames, 3);
            assert_eq!(frames.generation_of(3), generation);
            assert_eq!(frames.acquire(|| 3).unwrap().unwrap().info().generation, generation);
        }
        // A look between a frame and its word gives the frame before.
        frames.generation.store(wrap + 9, Ordering::Relaxed);
        assert_eq!(frames.generation_of(3), wrap + 1);
        assert_eq!(frames.generation_of(2), 0);
    }
}
