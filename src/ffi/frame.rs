//! Frames: the newest picture of a stream, as pixels.

use std::ffi::c_void;
use std::slice;

use super::descriptor::{self, Versioned};
use super::guard::{address_size, borrow, guard, null};
use super::result::{DDPM_NO_NEW_FRAME, DDPM_OK, ddpm_result};
use super::stream::ddpm_stream;
use crate::engine::FrameFormat;

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

/// Copies the newest frame as RGBA8: four bytes a pixel in the order red, green, blue, alpha, the top
/// row first, `row_stride` bytes from row to row. The model's values -1..1 become 0..255 with no
/// gamma change; gray is repeated in red, green and blue; alpha is 255 unless the model has one.
///
/// `row_stride` 0 stands for rows without gaps, width * 4. `dst` needs
/// (height - 1) * row_stride + width * 4 bytes; bytes between rows are left alone. `info` may be
/// NULL. Returns OK, or NO_NEW_FRAME when there is none newer than the last one copied; `dst` and
/// `*info` are written on OK only. Does not block or allocate: one copy of pixels that the worker has
/// converted. Any thread; of several threads on one stream each frame goes to one of them.
/// Errors: INVALID_ARGUMENT for a NULL `stream` or `dst`, a stride shorter than a row, or a `dst_size`
/// that is too small.
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
        let stride = match address_size("row_stride", row_stride, 1)? {
            0 => stream.row_bytes,
            stride => stride,
        };
        // SAFETY: the host declares `dst_size` writable bytes at `dst`, which is not NULL; the size
        // fits the address space (just checked).
        let pixels = unsafe { slice::from_raw_parts_mut(dst.cast::<u8>(), size) };
        let Some(frame) = stream.stream.copy_frame(pixels, stride, FrameFormat::Rgba8)? else {
            return Ok(DDPM_NO_NEW_FRAME);
        };
        if !info.is_null() {
            let value = ddpm_frame_info {
                struct_size: 0,
                width: frame.width,
                height: frame.height,
                step: frame.step,
                steps: frame.steps,
                reserved: 0,
                generation: frame.generation,
            };
            // SAFETY: checked above.
            unsafe { descriptor::write(&value, info, "info") }?;
        }
        Ok(DDPM_OK)
    })
}
