//! Back and forth along the run of a stream: seek, branch.

use super::descriptor::{self, Versioned};
use super::frame::Acquired;
use super::guard::{borrow, expect_zero, guard, null};
use super::result::{DDPM_OK, ddpm_result};
use super::stream::ddpm_stream;
use super::stream_desc::{by_field, decimal};
use crate::engine::Branch;
use crate::error::Error;

/// Where a run is left for another. Initialise it with `DDPM_BRANCH_DESC_INIT`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_branch_desc {
    /// sizeof(ddpm_branch_desc); `DDPM_BRANCH_DESC_INIT` sets it.
    pub struct_size: u32,
    /// The last step that both have in common: 0 to the run's steps less one.
    pub step: u32,
    /// From there on the noise of steps is drawn with this seed.
    pub seed: u64,
    /// How much of the noise in the sample is drawn anew at that step, 0 (nothing) to 1 (all). A sampler
    /// that draws no noise goes the same way with any seed: there it has to be above 0.
    pub variation: f32,
    /// Kept for later versions; 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; numbers only, for all of which zero is valid.
unsafe impl Versioned for ddpm_branch_desc {
    const NAME: &'static str = "ddpm_branch_desc";
    const INIT: &'static str = "DDPM_BRANCH_DESC_INIT";
}

/// Goes to `step` of the run, 0 to its steps, back or forth, whatever the stream was doing: a step that runs
/// is thrown away, and a cancelled or failed run is taken up again. The worker makes the steps that it
/// takes from the nearest state it kept (`ddpm_stream_desc.checkpoint_bytes`) and shows the frame of `step`
/// only, which is that of the straight run, bit for bit at the same batch size. At step 0 there is no frame.
///
/// The state is STEPPING until it is there; `ddpm_stream_wait` waits for it. Does not block or allocate. Any
/// thread. Errors: INVALID_ARGUMENT for NULL, and where the run has no such step; ENGINE_CLOSED.
///
/// # Safety
/// `stream` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_seek(stream: *mut ddpm_stream, step: u32) -> ddpm_result {
    guard("ddpm_stream_seek", || {
        // SAFETY: the host passes NULL or a live handle.
        unsafe { borrow(stream, "stream") }?.stream.seek(step)?;
        Ok(DDPM_OK)
    })
}

/// Makes another stream, which is this one's run up to `desc->step` and another after it. It begins by
/// seeking to that step, shows frames as this one does, and does not play. This one goes on as it was.
///
/// `*branch` is written on success only; it is destroyed like any stream. Allocates all that the new stream will use, and
/// blocks for as long as the worker takes a step's result (with a fused step, for a run of the model). Any thread. Errors:
/// INVALID_ARGUMENT, with the field, for a NULL, a descriptor that is not initialised, a step that the run does
/// not make, or where nothing would differ (another seed
/// without a variation, and a sampler that draws no noise from there on); ENGINE_CLOSED; OUT_OF_MEMORY.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_stream_branch(
    stream: *mut ddpm_stream,
    desc: *const ddpm_branch_desc,
    branch: *mut *mut ddpm_stream,
) -> ddpm_result {
    guard("ddpm_stream_branch", || {
        // SAFETY: the host passes NULL or a live handle.
        let stream = unsafe { borrow(stream, "stream") }?;
        // SAFETY: the host passes NULL or a descriptor as large as its struct_size says.
        let desc = unsafe { descriptor::read(desc, "desc") }?;
        if branch.is_null() {
            return Err(null("branch"));
        }
        expect_zero("desc.reserved", desc.reserved.into(), "in this version")?;
        let from = Branch { step: desc.step, seed: desc.seed, variation: decimal(desc.variation) };
        let made = stream.stream.branch(from).map_err(in_branch_desc)?;
        let handle = Box::new(ddpm_stream { stream: made, acquired: Acquired::default() });
        // SAFETY: not NULL, so the host's variable. Ownership goes to the host.
        unsafe { branch.write(Box::into_raw(handle)) };
        Ok(DDPM_OK)
    })
}

/// An error of the run's list of branches, by the field of the one that is new.
fn in_branch_desc(error: Error) -> Error {
    let field = error.message().strip_prefix("branches[").and_then(|rest| rest.split_once("]."));
    match field {
        Some((_, rest)) => Error::new(error.kind(), format!("desc.{rest}")),
        None => by_field(error),
    }
}
