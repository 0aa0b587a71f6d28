//! A stream's run written down, and taken up again.

use std::ffi::c_void;
use std::{ptr, slice};

use super::descriptor;
use super::engine::ddpm_engine;
use super::frame::Acquired;
use super::guard::{address_size, borrow, guard, null};
use super::result::{DDPM_OK, ddpm_result};
use super::stream::ddpm_stream;
use super::stream_desc::{ddpm_stream_desc, saved_config};
use crate::engine::StreamConfig;
use crate::error::Error;

/// Writes the run as it stands after its last finished step to `dst`, a safetensors file that
/// `ddpm_stream_load` takes: any later step is the same from there. Its playback, pause and frames are not in it. A step that
/// runs goes on.
///
/// `*size` is the number of bytes. `dst` may be NULL: then that is all this call tells. It stays the same while no
/// step is finished and grows by little with each; `dst_size` may be larger. Allocates, and blocks for as long
/// as the worker takes a step's result (with a fused step, for a run of the model): for tools, not for a frame.
/// Outputs are written on success only. Any thread. Errors: INVALID_ARGUMENT for NULL,
/// where `dst_size` is below `*size`, and before the first step of a stream with a director, whose timesteps are
/// still to be chosen; ENGINE_CLOSED; OUT_OF_MEMORY.
///
/// # Safety
/// `stream` is NULL or a live handle; `dst` is NULL or valid for writes of `dst_size` bytes; `size` is NULL
/// or valid for writes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_save(
    stream: *mut ddpm_stream,
    dst: *mut c_void,
    dst_size: u64,
    size: *mut u64,
) -> ddpm_result {
    guard("ddpm_stream_save", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        if size.is_null() {
            return Err(null("size"));
        }
        let saved = stream.stream.save()?;
        let needed = saved.len() as u64;
        if !dst.is_null() {
            if dst_size < needed {
                return Err(Error::invalid_argument(format!(
                    "dst_size: found {dst_size} bytes, expected at least {needed}"
                )));
            }
            // SAFETY: not NULL, and the host declares `dst_size` writable bytes there, which are as many or
            // more; what was just allocated is elsewhere.
            unsafe { ptr::copy_nonoverlapping(saved.as_ptr(), dst.cast::<u8>(), saved.len()) };
        }
        // SAFETY: not NULL, so the host's variable. Unaligned, as a script's byte buffer may be.
        unsafe { size.write_unaligned(needed) };
        Ok(DDPM_OK)
    })
}

/// Makes a stream of a run that `ddpm_stream_save` wrote, as it stood, with its frame. `desc` says how it is
/// served and shown, and has `preview`, `frame_format`, `priority` and `checkpoint_bytes`; a saved run has
/// all else of its own, so that has to be 0. `desc` may be NULL: all default. `data` needs to live no longer
/// than this call.
///
/// `*stream` is written on success only. Does not block, and runs no model. Allocates all memory the
/// stream will use. Any thread. Errors: as `ddpm_stream_create`; INVALID_ARGUMENT too where the bytes are no
/// saved run, or one of another model, and UNSUPPORTED where a later version wrote them.
///
/// # Safety
/// Pointers are valid or NULL, as the header says; `data` is NULL or valid for reads of `size` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_load(
    engine: *mut ddpm_engine,
    data: *const c_void,
    size: u64,
    desc: *const ddpm_stream_desc,
    stream: *mut *mut ddpm_stream,
) -> ddpm_result {
    guard("ddpm_stream_load", || {
        // SAFETY: the host passes NULL or a live handle.
        let engine = unsafe { borrow(engine, "engine") }?;
        if data.is_null() {
            return Err(null("data"));
        }
        let config = if desc.is_null() {
            StreamConfig::default()
        } else {
            // SAFETY: not NULL, so a descriptor as large as its struct_size says.
            let desc = unsafe { descriptor::read(desc, "desc") }?;
            // SAFETY: the descriptor's pointers are NULL or valid during this call, as the header asks.
            unsafe { saved_config(&desc, &engine.engine.info()?.model) }?
        };
        if stream.is_null() {
            return Err(null("stream"));
        }
        let len = address_size("size", size, 1)?;
        // SAFETY: not NULL, and the host declares `size` readable bytes, which fit the address space.
        let saved = unsafe { slice::from_raw_parts(data.cast::<u8>(), len) };
        let made = engine.engine.load_stream(saved, &config)?;
        let handle = Box::new(ddpm_stream { stream: made, acquired: Acquired::default() });
        // SAFETY: not NULL, so the host's variable. Ownership goes to the host.
        unsafe { stream.write(Box::into_raw(handle)) };
        Ok(DDPM_OK)
    })
}
