//! `ddpm_engine`: a model and the worker thread that runs it.

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use std::{ptr, slice};

use super::descriptor::{self, Versioned};
use super::engine_info::InfoTexts;
use super::files::{
    HostFiles, ddpm_close_file_callback, ddpm_open_file_callback, ddpm_read_file_callback,
};
use super::guard::{address_size, borrow, choose, expect_zero, guard, null, optional_text};
use super::log::{LOG_LEVELS, ddpm_log_callback, host_log};
use super::provider::{
    PROVIDERS, cuda_options, ddpm_cuda_desc, ddpm_provider_option, plugin_options,
};
use super::result::{DDPM_OK, DDPM_TIMEOUT, ddpm_result};
use super::stream_desc::by_field;
use crate::engine::{Engine, EngineConfig, FusedStep, ModelSource, ThreadPriority};
use crate::error::{Error, Result};
use crate::prediction::PredictionType;

/// A model and the worker thread that runs it; its streams share both. Made by
/// `ddpm_engine_create`, ended by `ddpm_engine_destroy`.
pub struct ddpm_engine {
    pub(super) engine: Engine,
    pub(super) texts: OnceLock<InfoTexts>,
}

/// `prediction_type`: what the model's metadata says.
pub const DDPM_PREDICTION_DEFAULT: u32 = 0;
/// The output is the noise.
pub const DDPM_PREDICTION_EPSILON: u32 = 1;
/// The output is the clean sample.
pub const DDPM_PREDICTION_SAMPLE: u32 = 2;
/// The output is the velocity.
pub const DDPM_PREDICTION_V: u32 = 3;
/// The output is the mean of the reverse step.
pub const DDPM_PREDICTION_MEAN: u32 = 4;

pub(super) const PREDICTIONS: [(u32, &str, Option<PredictionType>); 5] = [
    (DDPM_PREDICTION_DEFAULT, "DDPM_PREDICTION_DEFAULT", None),
    (DDPM_PREDICTION_EPSILON, "DDPM_PREDICTION_EPSILON", Some(PredictionType::Epsilon)),
    (DDPM_PREDICTION_SAMPLE, "DDPM_PREDICTION_SAMPLE", Some(PredictionType::Sample)),
    (DDPM_PREDICTION_V, "DDPM_PREDICTION_V", Some(PredictionType::VPrediction)),
    (DDPM_PREDICTION_MEAN, "DDPM_PREDICTION_MEAN", Some(PredictionType::Mean)),
];

/// `thread_priority`: that of the thread that calls `ddpm_engine_create`.
pub const DDPM_PRIORITY_DEFAULT: u32 = 0;
/// Less than that, so that the host's threads come first where all cores are busy. Linux: 5 on the scale
/// of nice. Windows: below normal. Elsewhere it is as DEFAULT, with a warning in the log.
pub const DDPM_PRIORITY_LOW: u32 = 1;

const PRIORITIES: [(u32, &str, ThreadPriority); 2] = [
    (DDPM_PRIORITY_DEFAULT, "DDPM_PRIORITY_DEFAULT", ThreadPriority::Inherited),
    (DDPM_PRIORITY_LOW, "DDPM_PRIORITY_LOW", ThreadPriority::Low),
];

/// `fused_step`: as ON with CUDA where the model allows it, as OFF with the CPU, where it saves nothing.
pub const DDPM_FUSED_AUTO: u32 = 0;
/// The arithmetic of a step is part of the model's graph: a run of it makes the whole step, and the samples
/// of a stream stay where the model runs, while the same streams go on together. A model that does not
/// allow that is an error of the load.
pub const DDPM_FUSED_ON: u32 = 1;
/// The model predicts, and the library makes the step. The pictures are those of ON within 1e-5.
pub const DDPM_FUSED_OFF: u32 = 2;

const FUSED_STEPS: [(u32, &str, FusedStep); 3] = [
    (DDPM_FUSED_AUTO, "DDPM_FUSED_AUTO", FusedStep::Auto),
    (DDPM_FUSED_ON, "DDPM_FUSED_ON", FusedStep::On),
    (DDPM_FUSED_OFF, "DDPM_FUSED_OFF", FusedStep::Off),
];

/// A timeout that never comes.
pub const DDPM_WAIT_FOREVER: u32 = 0xFFFF_FFFF;

/// What an engine is made from. Initialise it with `DDPM_ENGINE_DESC_INIT`, then set either
/// `model_path`, or `model_data` and `model_size`; everything else may stay zero. Nothing in it needs
/// to live longer than the call to `ddpm_engine_create`, except what `log` and the file callbacks need, and
/// the model's bytes where `model_data_stays` says so.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_engine_desc {
    /// sizeof(ddpm_engine_desc); `DDPM_ENGINE_DESC_INIT` sets it.
    pub struct_size: u32,
    /// What runs the model: one of `DDPM_PROVIDER_*`.
    pub provider: u32,
    /// The ONNX file, UTF-8; with `open_file` set, the name that it is called with. NULL when `model_data` is
    /// set. What a model keeps in other files (external data) is looked for beside it and below, and nowhere
    /// else; both may be links into one other folder, as download tools make them.
    pub model_path: *const c_char,
    /// The bytes of an ONNX file, copied by the call unless `model_data_stays`. NULL when `model_path` is set.
    pub model_data: *const c_void,
    /// The number of bytes at `model_data`.
    pub model_size: u64,
    /// The ONNX Runtime library, UTF-8. NULL looks for it: the path in the environment variable
    /// DDPM_ONNXRUNTIME, beside this library, beside the program, then the copy fetched by the
    /// project's script.
    pub runtime_path: *const c_char,
    /// Picture width in pixels, for a model that leaves it open. 0: the model's own.
    pub width: u32,
    /// Picture height in pixels, for a model that leaves it open. 0: the model's own.
    pub height: u32,
    /// CPU threads that run the model. 0: the machine's cores less one, at least one.
    pub threads: u32,
    /// The least urgent messages that `log` is called with: one of `DDPM_LOG_*`.
    pub log_level: u32,
    /// Takes log messages; NULL for no log. See `ddpm_log_callback` for what it may do.
    pub log: ddpm_log_callback,
    /// Handed to `log`. Must be good for use from other threads until the engine is destroyed.
    pub log_user_data: *mut c_void,
    /// What the model's output means: one of `DDPM_PREDICTION_*`.
    pub prediction_type: u32,
    /// The most streams that one run of the model steps together, up to 256. 0: 8; 1: one after the
    /// other. A model that is fixed to a batch size is run with that.
    pub max_batch: u32,
    /// A folder for optimised graphs, UTF-8, made where there is none: a model that was loaded before by
    /// the same versions on the same kind of machine then loads faster. Engines and processes may share
    /// it. Entries are checked before use, what is damaged is made anew, and nothing that goes wrong with
    /// it is an error (`ddpm_engine_info.cache` tells). Nothing old is removed. Whoever can write to it
    /// decides what is run: keep it as safe as the program. NULL: no cache.
    pub cache_path: *const c_char,
    /// How urgent the engine's own threads are: one of `DDPM_PRIORITY_*`. No other thread is touched, and
    /// no thread's affinity.
    pub thread_priority: u32,
    /// 1: what `model_data` points to stays, unchanged, until `ddpm_engine_wait` has returned something else
    /// than DDPM_TIMEOUT, or `ddpm_engine_destroy` has returned; the call then does not copy it. ONNX Runtime
    /// makes weights of its own of it while it loads. 0: it is copied.
    pub model_data_stays: u32,
    /// The folder, UTF-8, that a model at `model_data` has its external data in, or below. NULL refuses a
    /// model that has any, naming the first file that it wants.
    pub external_data_path: *const c_char,
    /// A safetensors file, UTF-8, whose tensors take the place of the graph's initializers of the same names:
    /// one graph, many styles. With `open_file` set, the name that it is called with. Each tensor has the
    /// shape and type of what it replaces, where float32, float16 and bfloat16 go for float32 and float16, rounded
    /// to nearest where that is shorter; a tensor without an initializer is an error. It counts in
    /// `ddpm_engine_info.fingerprint`. NULL: the model's own weights.
    pub weights_path: *const c_char,
    /// Serves the model, its external data and the weights, as from an archive or decrypted, in place of files;
    /// set `read_file` too. Nothing of it is written to disk but what `cache_path` asks for. NULL: files.
    pub open_file: ddpm_open_file_callback,
    /// Reads from a file that `open_file` opened.
    pub read_file: ddpm_read_file_callback,
    /// Closes a file that `open_file` opened; NULL where nothing is to be done.
    pub close_file: ddpm_close_file_callback,
    /// Handed to the three. Must be good for use from another thread until the load has ended, see
    /// `ddpm_open_file_callback`.
    pub files_user_data: *mut c_void,
    /// How CUDA runs the model, where it does. NULL: as zeros.
    pub cuda: *const ddpm_cuda_desc,
    /// The library of a provider that comes as one, UTF-8. NULL looks for it under its usual name beside
    /// ONNX Runtime, beside this library and beside the program; a provider that is part of ONNX Runtime
    /// needs none.
    pub provider_library_path: *const c_char,
    /// What that provider is told. NULL: nothing.
    pub provider_options: *const ddpm_provider_option,
    /// How many there are at `provider_options`.
    pub provider_option_count: u32,
    /// Whether a run of the model makes the whole step: one of `DDPM_FUSED_*`.
    pub fused_step: u32,
}

// SAFETY: repr(C), begins with struct_size; integers, raw pointers and optional function pointers,
// for all of which zero is valid.
unsafe impl Versioned for ddpm_engine_desc {
    const NAME: &'static str = "ddpm_engine_desc";
    const INIT: &'static str = "DDPM_ENGINE_DESC_INIT";
}

/// Makes an engine and returns at once; the engine's worker thread then finds ONNX Runtime and loads
/// the model. Until that is done, calls that need the model return DDPM_ERROR_ENGINE_LOADING, and a
/// failure to load comes back from all of them. `ddpm_engine_wait` tells when and whether it worked.
///
/// `*engine` is written on success only. Does not block (no file is opened by this call). Allocates,
/// and starts a thread. Any thread. Errors: INVALID_ARGUMENT for a NULL, a descriptor that is not
/// initialised, an unknown value, not exactly one of `model_path` and `model_data`, or what goes with the
/// other of them; INTERNAL where the system gives no thread.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_engine_create(
    desc: *const ddpm_engine_desc,
    engine: *mut *mut ddpm_engine,
) -> ddpm_result {
    guard("ddpm_engine_create", || {
        // SAFETY: the host passes NULL or a descriptor as large as its struct_size says.
        let desc = unsafe { descriptor::read(desc, "desc") }?;
        if engine.is_null() {
            return Err(null("engine"));
        }
        // SAFETY: the descriptor's pointers are NULL or valid during this call, as the header asks.
        let config = unsafe { engine_config(&desc) }?;
        let handle = Box::new(ddpm_engine {
            engine: Engine::new(config).map_err(by_field)?,
            texts: OnceLock::new(),
        });
        // SAFETY: not NULL, so the host's variable. Ownership goes to the host.
        unsafe { engine.write(Box::into_raw(handle)) };
        Ok(DDPM_OK)
    })
}

/// # Safety
/// The pointers of `desc` are NULL or valid for reads of what they are documented to hold.
unsafe fn engine_config(desc: &ddpm_engine_desc) -> Result<EngineConfig> {
    // SAFETY: by this function's contract, for each of them.
    let (model, weights, external, runtime, cache, cuda, plugin) = unsafe {
        (
            model_source(desc)?,
            optional_text(desc.weights_path, "desc.weights_path")?,
            optional_text(desc.external_data_path, "desc.external_data_path")?,
            optional_text(desc.runtime_path, "desc.runtime_path")?,
            optional_text(desc.cache_path, "desc.cache_path")?,
            cuda_options(desc.cuda)?,
            plugin_options(
                desc.provider_library_path,
                desc.provider_options,
                desc.provider_option_count,
            )?,
        )
    };
    if let (Some(folder), true) = (external, desc.model_data.is_null()) {
        return Err(Error::invalid_argument(format!(
            "desc.external_data_path: found \"{folder}\" without desc.model_data, expected NULL as a model with a place of its own has that there"
        )));
    }
    let mut config = EngineConfig::new(model);
    config.weights = weights.map(|name| file_source(desc, name)).transpose()?;
    config.external_data_dir = external.map(PathBuf::from);
    config.provider = choose("desc.provider", desc.provider, &PROVIDERS)?;
    (config.cuda, config.plugin) = (cuda, plugin);
    config.runtime_library = runtime.map(PathBuf::from);
    config.overrides.width = unless_zero(desc.width);
    config.overrides.height = unless_zero(desc.height);
    config.threads = desc.threads;
    config.max_batch = desc.max_batch;
    config.cache_dir = cache.map(PathBuf::from);
    config.thread_priority = choose("desc.thread_priority", desc.thread_priority, &PRIORITIES)?;
    config.fused_step = choose("desc.fused_step", desc.fused_step, &FUSED_STEPS)?;
    config.log_level = choose("desc.log_level", desc.log_level, &LOG_LEVELS)?;
    config.log = host_log(desc.log, desc.log_user_data);
    config.overrides.prediction_type =
        choose("desc.prediction_type", desc.prediction_type, &PREDICTIONS)?;
    Ok(config)
}

/// # Safety
/// As for `engine_config`.
unsafe fn model_source(desc: &ddpm_engine_desc) -> Result<ModelSource> {
    // SAFETY: NULL or a terminated string, by this function's contract.
    let path = unsafe { optional_text(desc.model_path, "desc.model_path") }?;
    match (path, desc.model_data.is_null()) {
        (Some(path), true) => {
            let why = "without desc.model_data";
            expect_zero("desc.model_data_stays", desc.model_data_stays.into(), why)?;
            file_source(desc, path)
        }
        (None, false) => {
            let size = usize::try_from(desc.model_size)
                .ok()
                .filter(|&size| size > 0 && isize::try_from(size).is_ok());
            let size = size.ok_or_else(|| {
                Error::invalid_argument(format!(
                    "desc.model_size: found {}, expected the number of bytes at desc.model_data",
                    desc.model_size
                ))
            })?;
            let bytes = Lent { start: desc.model_data.cast(), size };
            match desc.model_data_stays {
                0 => Ok(ModelSource::Bytes(bytes.as_ref().into())),
                1 => Ok(ModelSource::Shared(Arc::new(bytes))),
                other => Err(Error::invalid_argument(format!(
                    "desc.model_data_stays: found {other}, expected 0 or 1"
                ))),
            }
        }
        (None, true) => Err(Error::invalid_argument(
            "desc.model_path: found NULL and desc.model_data is NULL too, expected one of them",
        )),
        (Some(_), false) => Err(Error::invalid_argument(
            "desc.model_path: found with desc.model_data, expected only one of them",
        )),
    }
}

/// A file of the host's: one that it serves, where it serves any.
fn file_source(desc: &ddpm_engine_desc, name: &str) -> Result<ModelSource> {
    match (desc.open_file, desc.read_file) {
        (None, None) => Ok(ModelSource::Path(PathBuf::from(name))),
        (Some(open), Some(read)) => {
            let (close, user_data) = (desc.close_file, desc.files_user_data);
            let files = Arc::new(HostFiles { open, read, close, user_data });
            Ok(ModelSource::Served { name: name.to_owned(), files })
        }
        (None, Some(_)) => Err(Error::invalid_argument(
            "desc.open_file: found NULL with desc.read_file, expected both or none",
        )),
        (Some(_), None) => Err(Error::invalid_argument(
            "desc.read_file: found NULL with desc.open_file, expected both or none",
        )),
    }
}

/// Bytes of the host's.
struct Lent {
    start: *const u8,
    size: usize,
}

// SAFETY: the host declares the bytes readable, and unchanged, by any thread while this value lives: during
// the call, or, with model_data_stays, until the load ends, which is when the engine drops it.
unsafe impl Send for Lent {}
// SAFETY: as for Send; nobody writes.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `size` readable bytes, which are there as long as this value; not NULL, and the size was
        // checked against what a slice may have.
        unsafe { slice::from_raw_parts(self.start, self.size) }
    }
}

/// Width and height: 0 stands for the model's own.
fn unless_zero(pixels: u32) -> Option<usize> {
    (pixels != 0).then_some(pixels as usize)
}

/// Waits until the model is loaded, or `timeout_ms` is over. A timeout of 0 only looks, so it may be
/// called each frame; `DDPM_WAIT_FOREVER` has no end.
///
/// Returns OK when the engine is ready, TIMEOUT while it is not, or what went wrong with the
/// loading: RUNTIME_LIBRARY, MODEL, UNSUPPORTED, PROVIDER, INFERENCE, IO, OUT_OF_MEMORY. Blocks for up to
/// `timeout_ms`. Does not allocate, except for the message of an error. Any thread.
///
/// # Safety
/// `engine` is NULL or a live handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_engine_wait(
    engine: *mut ddpm_engine,
    timeout_ms: u32,
) -> ddpm_result {
    guard("ddpm_engine_wait", || {
        // SAFETY: the host passes NULL or a live handle.
        let engine = unsafe { borrow(engine, "engine") }?;
        let ready = engine.engine.wait(timeout(timeout_ms))?;
        Ok(if ready { DDPM_OK } else { DDPM_TIMEOUT })
    })
}

/// A C timeout as the engine takes it.
pub(super) fn timeout(milliseconds: u32) -> Option<Duration> {
    (milliseconds != DDPM_WAIT_FOREVER).then(|| Duration::from_millis(milliseconds.into()))
}

/// Adds noise to a clean picture as the model's training did, x_t = sqrt(alpha_bar_t) x_0 +
/// sqrt(1 - alpha_bar_t) noise (Ho et al. 2020, eq. 4), with alpha_bar of the model's own noise schedule:
/// out[i] from x0[i] and noise[i], `count` values each, in any layout. `timestep` is 0 (least noise) to
/// the model's `num_train_timesteps` - 1.
///
/// `out` is written on success only; it may be `x0` or `noise` itself, but not overlap them otherwise.
/// Does not block or allocate, except for the message of an error. Any thread. Errors: INVALID_ARGUMENT
/// for a NULL, a count that no memory holds, or a timestep out of range; ENGINE_LOADING until the model
/// is loaded; what went wrong with the loading, as from `ddpm_engine_wait`.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_engine_add_noise(
    engine: *mut ddpm_engine,
    x0: *const f32,
    noise: *const f32,
    count: u64,
    timestep: u32,
    out: *mut f32,
) -> ddpm_result {
    guard("ddpm_engine_add_noise", || {
        // SAFETY: the host passes NULL or a live handle.
        let engine = unsafe { borrow(engine, "engine") }?;
        for (pointer, argument) in [(x0, "x0"), (noise, "noise"), (out.cast_const(), "out")] {
            if pointer.is_null() {
                return Err(null(argument));
            }
        }
        let count = address_size("count", count, size_of::<f32>())?;
        let schedule = engine.engine.noise_schedule()?;
        schedule.alpha_cumprod(timestep as usize)?;
        // In blocks of copies, so that no reference to what `out` may share with the inputs exists.
        let mut block = [[0f32; 256]; 3];
        let [clean, noisy, mixed] = &mut block;
        for start in (0..count).step_by(clean.len()) {
            let len = clean.len().min(count - start);
            // SAFETY: start + len <= count, and the host declares `count` readable floats at both; the
            // blocks are ours and as long.
            unsafe {
                ptr::copy_nonoverlapping(x0.add(start), clean.as_mut_ptr(), len);
                ptr::copy_nonoverlapping(noise.add(start), noisy.as_mut_ptr(), len);
            }
            schedule.add_noise(
                &clean[..len],
                &noisy[..len],
                timestep as usize,
                &mut mixed[..len],
            )?;
            // SAFETY: start + len <= count, and the host declares `count` writable floats.
            unsafe { ptr::copy_nonoverlapping(mixed.as_ptr(), out.add(start), len) };
        }
        Ok(DDPM_OK)
    })
}

/// Ends the engine: a model run is broken off, the worker thread ends, the model is freed. Its
/// streams stay valid handles: `ddpm_step` on one returns ENGINE_CLOSED, its last frame can still be
/// copied, and it has to be destroyed, before or after.
///
/// Must be the last call on this handle: no other call on it may be running, and the pointer is dead
/// afterwards, so a second destroy is undefined. Blocks until the worker has ended: a run stops
/// at its next operator, a load at its next stage. Does not allocate. Any thread, but not from the log callback, which
/// returns DDPM_ERROR_UNSUPPORTED and leaves the engine alive. Errors: INVALID_ARGUMENT for NULL.
///
/// # Safety
/// `engine` is NULL or a live handle that is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_engine_destroy(engine: *mut ddpm_engine) -> ddpm_result {
    guard("ddpm_engine_destroy", || {
        // SAFETY: the host passes NULL or a live handle.
        unsafe { borrow(engine, "engine") }?.engine.close()?;
        // SAFETY: a live handle from ddpm_engine_create, given back for good.
        drop(unsafe { Box::from_raw(engine) });
        Ok(DDPM_OK)
    })
}
