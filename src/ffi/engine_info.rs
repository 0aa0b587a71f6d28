//! `ddpm_engine_info`: what a loaded engine turned out to be.

use std::ffi::{CString, c_char};

use super::descriptor::{self, Versioned};
use super::engine::{PREDICTIONS, ddpm_engine};
use super::guard::{borrow, guard, null};
use super::last_error::to_c_text;
use super::provider::PROVIDERS;
use super::result::{DDPM_OK, ddpm_result};
use crate::engine::{CacheUse, EngineInfo};
use crate::error::Error;
use crate::model::Color;

/// `color`: one channel.
pub const DDPM_COLOR_GRAY: u32 = 1;
/// Three channels.
pub const DDPM_COLOR_RGB: u32 = 2;
/// Four channels; alpha is not premultiplied.
pub const DDPM_COLOR_RGBA: u32 = 3;

/// `cache`: there is no cache folder.
pub const DDPM_CACHE_OFF: u32 = 0;
/// The optimised graph came from it.
pub const DDPM_CACHE_HIT: u32 = 1;
/// The graph was optimised, and is in it for the next load.
pub const DDPM_CACHE_WRITTEN: u32 = 2;
/// The graph was optimised and could not be kept; `cache_reason` tells why.
pub const DDPM_CACHE_UNUSED: u32 = 3;

/// The strings of `ddpm_engine_info`, kept so that the pointers live as long as the engine.
pub(super) struct InfoTexts {
    fallback_reason: CString,
    runtime_version: CString,
    runtime_path: CString,
    cache_reason: CString,
    fingerprint: CString,
    device_name: CString,
    classes: Vec<CString>,
}

/// What a loaded engine turned out to be. Initialise it with `DDPM_ENGINE_INFO_INIT`. The strings
/// are UTF-8, never NULL, and live until `ddpm_engine_destroy`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_engine_info {
    /// sizeof(ddpm_engine_info); `DDPM_ENGINE_INFO_INIT` sets it.
    pub struct_size: u32,
    /// What runs the model: one of `DDPM_PROVIDER_*`, not AUTO.
    pub provider: u32,
    /// Channels of the model's sample: 1, 3 or 4.
    pub channels: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Picture width in pixels.
    pub width: u32,
    /// What the channels mean: one of `DDPM_COLOR_*`.
    pub color: u32,
    /// What the model's output means: one of `DDPM_PREDICTION_*`, not DEFAULT.
    pub prediction_type: u32,
    /// T, the number of noise levels the model was trained with: the most steps a stream may have.
    pub num_train_timesteps: u32,
    /// CPU threads that run the model.
    pub threads: u32,
    /// The model's own sampler, one of `ddpm_sampler`: what `DDPM_SAMPLER_DEFAULT` stands for.
    pub sampler: u32,
    /// Why AUTO took the CPU; "" where it did not.
    pub fallback_reason: *const c_char,
    /// The version of the ONNX Runtime library in use, such as "1.31.1".
    pub runtime_version: *const c_char,
    /// The file of the ONNX Runtime library in use.
    pub runtime_path: *const c_char,
    /// The model's own number of steps: what `steps` 0 stands for.
    pub steps: u32,
    /// 1: the model gives the variance of DDPM's noise too, so that `DDPM_VARIANCE_LEARNED` and
    /// `DDPM_VARIANCE_LEARNED_RANGE` are possible. 0: it does not.
    pub gives_variance: u32,
    /// 1: the model takes a class label. 0: it has no classes.
    pub takes_class_label: u32,
    /// The number of classes; 0 where there are none, or the model does not say how many.
    pub class_count: u32,
    /// 1: the model has a label that stands for no class, so that pictures of no class, and guidance,
    /// are possible. 0: it has none.
    pub has_null_label: u32,
    /// What became of `ddpm_engine_desc.cache_path`: one of `DDPM_CACHE_*`.
    pub cache: u32,
    /// Why the optimised graph was not kept, where `cache` is UNUSED; else "".
    pub cache_reason: *const c_char,
    /// What tells the model from all others: 32 hexadecimal digits, XXH3-128 of its file. Of a model that
    /// keeps weights in other files, of the digests of them all: its own, then theirs in the order of
    /// their names.
    pub fingerprint: *const c_char,
    /// The device that runs the model, as its driver calls it; "" for the CPU.
    pub device_name: *const c_char,
    /// Its memory in bytes; 0 where that is not known.
    pub device_memory: u64,
    /// What of it was free after the load; 0 where that is not known.
    pub free_device_memory: u64,
    /// 1: a run of the model makes the whole step, see `ddpm_engine_desc.fused_step`. 0: it does not.
    pub fused_step: u32,
    /// Kept for later versions; written as 0.
    pub reserved: u32,
}

// SAFETY: repr(C), begins with struct_size; integers and raw pointers.
unsafe impl Versioned for ddpm_engine_info {
    const NAME: &'static str = "ddpm_engine_info";
    const INIT: &'static str = "DDPM_ENGINE_INFO_INIT";
}

/// The number of an info field in C, from one of the tables above.
fn number_of<T: PartialEq>(value: T, choices: &[(u32, &str, T)]) -> u32 {
    choices.iter().find(|(_, _, choice)| *choice == value).map_or(0, |(number, _, _)| *number)
}

fn info_texts(info: &EngineInfo) -> InfoTexts {
    InfoTexts {
        fallback_reason: to_c_text(info.fallback_reason.as_deref().unwrap_or_default()),
        runtime_version: to_c_text(&info.runtime_version),
        runtime_path: to_c_text(&info.runtime_library.to_string_lossy()),
        cache_reason: match &info.cache {
            CacheUse::Unused(reason) => to_c_text(reason),
            _ => CString::default(),
        },
        fingerprint: to_c_text(&info.fingerprint),
        device_name: info.device.as_ref().map(|d| to_c_text(&d.name)).unwrap_or_default(),
        classes: info.classes.iter().map(|name| to_c_text(name)).collect(),
    }
}

/// Tells what the engine turned out to be: provider in use, picture size, classes, versions.
///
/// `*info` is written on success only. Does not block. Allocates the strings on the first call.
/// Any thread. Errors: INVALID_ARGUMENT for a NULL or an `info` that is not initialised;
/// ENGINE_LOADING until the model is loaded; what went wrong with the loading, as from
/// `ddpm_engine_wait`.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_engine_get_info(
    engine: *mut ddpm_engine,
    info: *mut ddpm_engine_info,
) -> ddpm_result {
    guard("ddpm_engine_get_info", || {
        // SAFETY: the host passes NULL or a live handle.
        let engine = unsafe { borrow(engine, "engine") }?;
        // SAFETY: the host passes NULL or a struct as large as its struct_size says.
        unsafe { descriptor::check_out(info, "info") }?;
        let found = engine.engine.info()?;
        let texts = engine.texts.get_or_init(|| info_texts(&found));
        let model = &found.model;
        let value = ddpm_engine_info {
            struct_size: 0,
            provider: number_of(found.provider, &PROVIDERS),
            channels: model.channels as u32,
            height: model.height as u32,
            width: model.width as u32,
            color: match model.color {
                Color::Gray => DDPM_COLOR_GRAY,
                Color::Rgb => DDPM_COLOR_RGB,
                Color::Rgba => DDPM_COLOR_RGBA,
            },
            prediction_type: number_of(Some(model.prediction_type), &PREDICTIONS),
            num_train_timesteps: model.num_train_timesteps as u32,
            threads: found.threads,
            sampler: model.sampler.kind as u32,
            fallback_reason: texts.fallback_reason.as_ptr(),
            runtime_version: texts.runtime_version.as_ptr(),
            runtime_path: texts.runtime_path.as_ptr(),
            steps: model.sampler.steps as u32,
            gives_variance: model.gives_variance.into(),
            takes_class_label: model.classes.is_some().into(),
            class_count: model.classes.and_then(|classes| classes.count).unwrap_or(0) as u32,
            has_null_label: model.classes.is_some_and(|classes| classes.null.is_some()).into(),
            cache: match &found.cache {
                CacheUse::Off => DDPM_CACHE_OFF,
                CacheUse::Hit => DDPM_CACHE_HIT,
                CacheUse::Written => DDPM_CACHE_WRITTEN,
                CacheUse::Unused(_) => DDPM_CACHE_UNUSED,
            },
            cache_reason: texts.cache_reason.as_ptr(),
            fingerprint: texts.fingerprint.as_ptr(),
            device_name: texts.device_name.as_ptr(),
            device_memory: found.device.as_ref().map_or(0, |device| device.memory),
            free_device_memory: found.device.as_ref().map_or(0, |device| device.free_memory),
            fused_step: u32::from(found.is_fused),
            reserved: 0,
        };
        // SAFETY: checked above.
        unsafe { descriptor::write(&value, info, "info") }?;
        Ok(DDPM_OK)
    })
}

/// The name of a class of the model, for `ddpm_stream_desc.class_label`: 0 is the first.
///
/// `*name` is written on success only: UTF-8, and it lives until `ddpm_engine_destroy`. Does not block.
/// Allocates the names on the first call. Any thread. Errors: INVALID_ARGUMENT for a NULL, for a label
/// that is not one of the named ones, and for a model that names none; ENGINE_LOADING until the model is
/// loaded; what went wrong with the loading, as from `ddpm_engine_wait`.
///
/// # Safety
/// Pointers are valid or NULL, as the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ddpm_engine_get_class_name(
    engine: *mut ddpm_engine,
    label: i64,
    name: *mut *const c_char,
) -> ddpm_result {
    guard("ddpm_engine_get_class_name", || {
        // SAFETY: the host passes NULL or a live handle.
        let engine = unsafe { borrow(engine, "engine") }?;
        if name.is_null() {
            return Err(null("name"));
        }
        let found = engine.engine.info()?;
        let names = &engine.texts.get_or_init(|| info_texts(&found)).classes;
        let at = usize::try_from(label).ok().and_then(|label| names.get(label));
        let text = at.ok_or_else(|| {
            Error::invalid_argument(match names.len() {
                0 => format!("label: found {label}, but the model names no classes"),
                count => format!("label: found {label}, expected 0 to {}", count - 1),
            })
        })?;
        // SAFETY: not NULL, so the host's variable.
        unsafe { name.write(text.as_ptr()) };
        Ok(DDPM_OK)
    })
}
