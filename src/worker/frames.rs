//! The frames of one stream: drawn by whoever makes its steps, taken by the host.
//!
//! Three slots are handed around without either side waiting for the other (see
//! [`triple_buffer`](super::triple_buffer)). This module must not know runs, steps or why a picture is
//! drawn: it is told the epoch and the step of each.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::error::{Error, Result};
use crate::image;
use crate::model::{Color, ModelConfig};

use super::internal;
use super::triple_buffer::{Reader, Writer, triple_buffer};

/// How the pixels of a copied frame are laid out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameFormat {
    /// Four bytes a pixel, red green blue alpha, top row first; alpha is 255 unless the model has
    /// its own. No gamma change: [-1, 1] of the model becomes [0, 255].
    #[default]
    Rgba8,
}

/// Which frame was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

struct Frame {
    pixels: Vec<u8>,
    epoch: u32,
    step: u32,
    steps: u32,
    generation: u64,
}

/// The drawing side: one thread at a time, and whoever draws is alone already, so its lock is never
/// contended.
struct Easel {
    slots: Writer<Frame>,
    /// That of the newest published frame.
    generation: u64,
}

/// See the module's text.
pub(super) struct Frames {
    easel: Mutex<Easel>,
    viewer: Mutex<Reader<Frame>>,
    /// Epoch (high half) and generation (low half) of the newest frame.
    published: AtomicU64,
    width: usize,
    height: usize,
    color: Color,
}

/// A frame that is drawn and not published. Dropped, it was never there.
pub(super) struct Drawn<'a> {
    frames: &'a Frames,
    easel: MutexGuard<'a, Easel>,
    epoch: u32,
}

/// While it lives nobody takes a frame.
pub(super) struct NoViewer<'a>(#[expect(dead_code, reason = "held")] MutexGuard<'a, Reader<Frame>>);

impl Frames {
    /// Allocates the three slots. Errors: `InvalidArgument` where a frame is larger than the address
    /// space.
    pub(super) fn new(model: &ModelConfig) -> Result<Self> {
        let bytes = model
            .width
            .checked_mul(model.height)
            .and_then(|pixels| pixels.checked_mul(image::BYTES_PER_PIXEL))
            .ok_or_else(|| Error::invalid_argument("frame size: width x height x 4 overflows"))?;
        let empty = || Frame { pixels: vec![0; bytes], epoch: 0, step: 0, steps: 0, generation: 0 };
        let (writer, reader) = triple_buffer(empty);
        Ok(Self {
            easel: Mutex::new(Easel { slots: writer, generation: 0 }),
            viewer: Mutex::new(reader),
            published: AtomicU64::new(0),
            width: model.width,
            height: model.height,
            color: model.color,
        })
    }

    /// Worker: draws a planar sample [C, H, W] into a slot of its own; [`Drawn::publish`] makes it the
    /// newest frame. Does not wait for the host, whatever it holds.
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
        let stride = self.width * image::BYTES_PER_PIXEL;
        let pixels = &mut frame.pixels;
        image::to_rgba8(picture, self.color, self.height, self.width, pixels, stride)?;
        frame.epoch = epoch;
        frame.step = step;
        frame.steps = steps;
        frame.generation = generation;
        drop(frame);
        Ok(Drawn { frames: self, easel, epoch })
    }

    /// The generation of the newest frame of this epoch; 0 where it has none.
    pub(super) fn generation_of(&self, epoch: u32) -> u64 {
        let published = self.published.load(Ordering::Acquire);
        if (published >> 32) as u32 == epoch { published & u64::from(u32::MAX) } else { 0 }
    }

    /// Host: copies the newest frame, if it is of the epoch that `current` gives and was not taken
    /// before.
    pub(super) fn copy(
        &self,
        target: &mut [u8],
        row_stride: usize,
        format: FrameFormat,
        current: impl FnOnce() -> u32,
    ) -> Result<Option<FrameInfo>> {
        let FrameFormat::Rgba8 = format;
        let row = self.width * image::BYTES_PER_PIXEL;
        check_target(target.len(), row_stride, row, self.height)?;
        let mut viewer = self.viewer.lock();
        let Some(frame) = viewer.take_newest() else {
            return Ok(None);
        };
        // A frame of an earlier run, overtaken by a reset, is no news. Asked after the frame was taken:
        // the epoch of before may be older than the frame's, which is then gone for nothing.
        if frame.epoch != current() {
            return Ok(None);
        }
        let lines = frame.pixels.chunks_exact(row).zip(target.chunks_mut(row_stride));
        for (source, line) in lines {
            line[..row].copy_from_slice(source);
        }
        Ok(Some(FrameInfo {
            width: self.width as u32,
            height: self.height as u32,
            step: frame.step,
            steps: frame.steps,
            generation: frame.generation,
        }))
    }

    /// Host: keeps frames from being taken, so that a change of the epoch and the frame that belongs to
    /// it are seen together.
    pub(super) fn shut_viewers_out(&self) -> NoViewer<'_> {
        NoViewer(self.viewer.lock())
    }
}

impl Drawn<'_> {
    /// Makes it the newest frame.
    pub(super) fn publish(mut self) {
        self.easel.generation += 1;
        self.easel.slots.publish();
        let generation = self.easel.generation & u64::from(u32::MAX);
        let word = u64::from(self.epoch) << 32 | generation;
        self.frames.published.store(word, Ordering::Release);
    }
}

fn check_target(len: usize, row_stride: usize, row: usize, height: usize) -> Result<()> {
    if row_stride < row {
        return Err(Error::invalid_argument(format!(
            "row_stride: found {row_stride} bytes, expected at least {row} for a row of pixels"
        )));
    }
    // The last row needs no padding behind it.
    let needed =
        row_stride.checked_mul(height.saturating_sub(1)).and_then(|rows| rows.checked_add(row));
    match needed {
        Some(needed) if needed <= len => Ok(()),
        _ => Err(Error::invalid_argument(format!(
            "frame buffer: found {len} bytes, expected at least {row_stride} x {} + {row}",
            height.saturating_sub(1)
        ))),
    }
}
