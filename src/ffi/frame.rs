//! Frames: the newest picture of a stream, as pixels.

use std::ffi::c_void;
use std::ptr;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::descriptor::{self, Versioned};
use super::guard::{address_size, borrow, guard, null};
use super::result::{DDPM_BUSY, DDPM_NO_NEW_FRAME, DDPM_OK, ddpm_result};
use super::stream::ddpm_stream;
use crate::engine::{FrameGuard, FrameInfo};
use crate::error::Error;

/// Which frame was copied. Initialise it with `DDPM_FRAME_INFO_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_frame_info {
    /// sizeof(ddpm_frame_info); `DDPM_FRAME_INFO_INIT` sets it.
    pub struct_size: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Steps finished when the frame was made, 1 to `steps`; 0 in a run without steps.
    pub step: u32,
    /// Steps of the whole run.
    pub steps: u32,
    /// Kept for later versions; written as 0.
    pub reserved: u32,
    /// The frame's number; the next frame of this stream has a greater one.
    pub generation: u64,
}

// SAFETY: repr(C), begins with struct_size; integers only.
unsafe impl Versioned for ddpm_frame_info {
    const NAME: &'static str = "ddpm_frame_info";
    const INIT: &'static str = "DDPM_FRAME_INFO_INIT";
}

/// A frame that was acquired. Initialise it with `DDPM_FRAME_VIEW_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_frame_view {
    /// sizeof(ddpm_frame_view); `DDPM_FRAME_VIEW_INIT` sets it.
    pub struct_size: u32,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Steps finished when the frame was made, 1 to `steps`; 0 in a run without steps.
    pub step: u32,
    /// Steps of the whole run.
    pub steps: u32,
    /// Kept for later versions; written as 0.
    pub reserved: u32,
    /// The frame's number; the next frame of this stream has a greater one.
    pub generation: u64,
    /// The pixels in the stream's `frame_format`, aligned to 64 bytes. Read only, until the release.
    pub pixels: *const c_void,
    /// The number of bytes at `pixels`.
    pub size: u64,
    /// Bytes from row to row; there are no gaps.
    pub row_stride: u64,
}

// SAFETY: repr(C), begins with struct_size; integers and a raw pointer, for all of which zero is valid.
unsafe impl Versioned for ddpm_frame_view {
    const NAME: &'static str = "ddpm_frame_view";
    const INIT: &'static str = "DDPM_FRAME_VIEW_INIT";
}

/// The frame that the host has acquired, where it has one.
#[derive(Default)]
pub(super) struct Acquired(Mutex<Option<FrameGuard>>);

impl Acquired {
    fn lock(&self) -> MutexGuard<'_, Option<FrameGuard>> {
        // Whole at any time, whoever panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies the newest frame in the stream's `frame_format`, the top row first, `row_stride` bytes from row
/// to row; DDPM_FRAME_PLANAR_F32 has a row for each line of each channel, channel after channel. Float
/// destinations need not be aligned.
///
/// `row_stride` 0 stands for rows without gaps: width * 4 bytes, or width * 16 with DDPM_FRAME_RGBA32F.
/// `dst` needs (rows - 1) * row_stride + one row without gaps, where rows is the height, or channels *
/// height with DDPM_FRAME_PLANAR_F32; bytes between rows are left alone. `info` may be NULL.
/// Returns OK; NO_NEW_FRAME when there is none newer than the last one copied or acquired; or BUSY while
/// a frame is acquired. `dst` and `*info` are written on OK only. Does not block or allocate: one copy of
/// pixels that the worker has converted. Any thread; of several threads on one stream each frame goes
/// to one of them.
/// Errors: INVALID_ARGUMENT for a NULL `stream` or `dst`, a stride shorter than a row, or a `dst_size`
/// that is too small; the frame stays available then.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_copy_frame(
    stream: *mut ddpm_stream,
    dst: *mut c_void,
    dst_size: u64,
    row_stride: u64,
    info: *mut ddpm_frame_info,
) -> ddpm_result {
    guard("ddpm_stream_copy_frame", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        if dst.is_null() {
            return Err(null("dst"));
        }
        if !info.is_null() {
            // SAFETY: not NULL, so a struct as large as its struct_size says.
            unsafe { descriptor::check_out(info, "info") }?;
        }
        let size = address_size("dst_size", dst_size, 1)?;
        let stride = address_size("row_stride", row_stride, 1)?;
        let acquired = stream.acquired.lock();
        if acquired.is_some() {
            return Ok(DDPM_BUSY);
        }
        // SAFETY: the host declares `dst_size` writable bytes at `dst`, which is not NULL; the size
        // fits the address space (just checked).
        let pixels = unsafe { slice::from_raw_parts_mut(dst.cast::<u8>(), size) };
        let Some(frame) = stream.stream.copy_frame(pixels, stride)? else {
            return Ok(DDPM_NO_NEW_FRAME);
        };
        if !info.is_null() {
            let FrameInfo { width, height, step, steps, generation } = frame;
            let value = ddpm_frame_info {
                struct_size: 0,
                width,
                height,
                step,
                steps,
                reserved: 0,
                generation,
            };
            // SAFETY: checked above.
            unsafe { descriptor::write(&value, info, "info") }?;
        }
        Ok(DDPM_OK)
    })
}

/// Gives the newest frame without a copy, in the stream's `frame_format`, rows without gaps.
///
/// The pixels stay where they are and as they are until `ddpm_stream_release_frame` or the stream's
/// destroy, whatever else is done meanwhile: steps, reset, cancel, the engine's destroy. The worker
/// never waits for the release; release soon all the same, since newer frames are had only after it.
/// `*view` is written on OK only. Returns OK; NO_NEW_FRAME when there is none newer than the last one
/// copied or acquired; or BUSY while a frame is acquired already. Does not block or allocate. Any
/// thread; the release may come from another. Errors: INVALID_ARGUMENT for a NULL or a `view` that is
/// not initialised; the frame stays available then.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_acquire_frame(
    stream: *mut ddpm_stream,
    view: *mut ddpm_frame_view,
) -> ddpm_result {
    guard("ddpm_stream_acquire_frame", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        // SAFETY: the host passes NULL or a struct as large as its struct_size says.
        unsafe { descriptor::check_out(view, "view") }?;
        let mut acquired = stream.acquired.lock();
        if acquired.is_some() {
            return Ok(DDPM_BUSY);
        }
        let Some(frame) = stream.stream.acquire_frame()? else {
            return Ok(DDPM_NO_NEW_FRAME);
        };
        let FrameInfo { width, height, step, steps, generation } = frame.info();
        let value = ddpm_frame_view {
            struct_size: 0,
            width,
            height,
            step,
            steps,
            reserved: 0,
            generation,
            pixels: ptr::from_ref::<[u8]>(&frame).cast(),
            size: frame.len() as u64,
            row_stride: stream.stream.row_bytes() as u64,
        };
        // SAFETY: checked above.
        unsafe { descriptor::write(&value, view, "view") }?;
        // The pixels are on the heap and stay there when their owner is moved.
        *acquired = Some(frame);
        Ok(DDPM_OK)
    })
}

/// Gives an acquired frame back; its pixels must not be read any more.
///
/// Does not block or allocate. Any thread. Errors: INVALID_ARGUMENT for NULL, or where no frame is
/// acquired.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_release_frame(stream: *mut ddpm_stream) -> ddpm_result {
    guard("ddpm_stream_release_frame", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        match stream.acquired.lock().take() {
            Some(frame) => drop(frame),
            None => {
                return Err(Error::invalid_argument(
                    "stream: found no acquired frame, expected one from ddpm_stream_acquire_frame",
                ));
            }
        }
        Ok(DDPM_OK)
    })
}
