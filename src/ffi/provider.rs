//! What runs a model, and how: `ddpm_engine_desc.provider`, `ddpm_cuda_desc` and `ddpm_provider_option`.

use std::ffi::{c_char, c_void};
use std::path::PathBuf;

use super::descriptor::{self, Versioned};
use super::guard::{choose, expect_zero, null, optional_text, required_text};
use crate::engine::{ConvSearch, CudaOptions, CudaStream, HostStream, PluginOptions, Provider};
use crate::error::{Error, Result};

/// `provider`: CUDA where it can be used, the CPU elsewhere; which one it was, and why, is in
/// `ddpm_engine_info` and in the log.
pub const DDPM_PROVIDER_AUTO: u32 = 0;
/// The CPU.
pub const DDPM_PROVIDER_CPU: u32 = 1;
/// CUDA, or an error where it cannot be used.
pub const DDPM_PROVIDER_CUDA: u32 = 2;
/// WebGPU, or an error. This and the following come as libraries of their own: see
/// `ddpm_engine_desc.provider_library_path`.
pub const DDPM_PROVIDER_WEBGPU: u32 = 3;
/// NVIDIA's TensorRT for RTX, or an error.
pub const DDPM_PROVIDER_TENSORRT_RTX: u32 = 4;
/// DirectML, or an error.
pub const DDPM_PROVIDER_DIRECTML: u32 = 5;
/// Apple's CoreML, or an error.
pub const DDPM_PROVIDER_COREML: u32 = 6;

pub(super) const PROVIDERS: [(u32, &str, Provider); 7] = [
    (DDPM_PROVIDER_AUTO, "DDPM_PROVIDER_AUTO", Provider::Auto),
    (DDPM_PROVIDER_CPU, "DDPM_PROVIDER_CPU", Provider::Cpu),
    (DDPM_PROVIDER_CUDA, "DDPM_PROVIDER_CUDA", Provider::Cuda),
    (DDPM_PROVIDER_WEBGPU, "DDPM_PROVIDER_WEBGPU", Provider::WebGpu),
    (DDPM_PROVIDER_TENSORRT_RTX, "DDPM_PROVIDER_TENSORRT_RTX", Provider::TensorRtRtx),
    (DDPM_PROVIDER_DIRECTML, "DDPM_PROVIDER_DIRECTML", Provider::DirectMl),
    (DDPM_PROVIDER_COREML, "DDPM_PROVIDER_COREML", Provider::CoreMl),
];

/// `conv_search`: cuDNN chooses its algorithms by a heuristic; a new batch size costs no search.
pub const DDPM_CONV_SEARCH_HEURISTIC: u32 = 0;
/// It tries all of them at the first run of each batch size: seconds, and memory meanwhile.
pub const DDPM_CONV_SEARCH_EXHAUSTIVE: u32 = 1;
/// It always takes the same one.
pub const DDPM_CONV_SEARCH_DEFAULT: u32 = 2;

const CONV_SEARCHES: [(u32, &str, ConvSearch); 3] = [
    (DDPM_CONV_SEARCH_HEURISTIC, "DDPM_CONV_SEARCH_HEURISTIC", ConvSearch::Heuristic),
    (DDPM_CONV_SEARCH_EXHAUSTIVE, "DDPM_CONV_SEARCH_EXHAUSTIVE", ConvSearch::Exhaustive),
    (DDPM_CONV_SEARCH_DEFAULT, "DDPM_CONV_SEARCH_DEFAULT", ConvSearch::Default),
];

/// `stream`: a CUDA stream of the engine's own, of the lowest priority that the device has, so that what
/// else is on it goes first.
pub const DDPM_CUDA_STREAM_LOW: u32 = 0;
/// One of the engine's own, of the highest priority.
pub const DDPM_CUDA_STREAM_HIGH: u32 = 1;
/// The one that ONNX Runtime makes.
pub const DDPM_CUDA_STREAM_RUNTIME: u32 = 2;

const CUDA_STREAMS: [(u32, &str, CudaStream); 3] = [
    (DDPM_CUDA_STREAM_LOW, "DDPM_CUDA_STREAM_LOW", CudaStream::Low),
    (DDPM_CUDA_STREAM_HIGH, "DDPM_CUDA_STREAM_HIGH", CudaStream::High),
    (DDPM_CUDA_STREAM_RUNTIME, "DDPM_CUDA_STREAM_RUNTIME", CudaStream::Runtime),
];

/// How CUDA runs a model. Initialise it with `DDPM_CUDA_DESC_INIT`; everything may stay zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_cuda_desc {
    /// sizeof(ddpm_cuda_desc); `DDPM_CUDA_DESC_INIT` sets it.
    pub struct_size: u32,
    /// The device's number, 0 to 63, as CUDA counts: CUDA_VISIBLE_DEVICES counts.
    pub device: u32,
    /// The most bytes that ONNX Runtime's arena takes on the device, from 64 MiB on; cuDNN's workspace and
    /// CUDA itself come on top. 0: no limit.
    pub memory_limit: u64,
    /// How cuDNN chooses its algorithms: one of `DDPM_CONV_SEARCH_*`.
    pub conv_search: u32,
    /// 1: matrix products and convolutions may round to the 10 bits of TF32, which is faster. 0: they do not.
    pub tf32: u32,
    /// 1: convolutions run with the channels last, which suits tensor cores. 0: they do not.
    pub prefer_nhwc: u32,
    /// The stream that the model runs on, where `host_stream` is NULL: one of `DDPM_CUDA_STREAM_*`.
    pub stream: u32,
    /// A stream of the host's to run on, a cudaStream_t or CUstream of that device; it has to live until
    /// `ddpm_engine_destroy` returned. NULL: see `stream`.
    pub host_stream: *mut c_void,
    /// A folder with NVIDIA's libraries, a CUDA toolkit, or a site-packages folder of Python that has
    /// them, UTF-8. NULL looks at the folders in the environment variable DDPM_CUDA_LIBRARIES, beside
    /// ONNX Runtime, in the copy fetched by the project's script, and where the system's loader looks;
    /// these also come after a folder given here.
    pub library_path: *const c_char,
}

// SAFETY: repr(C), begins with struct_size; integers and raw pointers, for which zero is valid.
unsafe impl Versioned for ddpm_cuda_desc {
    const NAME: &'static str = "ddpm_cuda_desc";
    const INIT: &'static str = "DDPM_CUDA_DESC_INIT";
}

/// What a provider that comes as a library of its own is told, under its own name for it.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ddpm_provider_option {
    /// UTF-8.
    pub key: *const c_char,
    /// UTF-8.
    pub value: *const c_char,
}

/// The options of `desc.cuda`.
///
/// # Safety
/// `cuda` is NULL, or valid for reads as its struct_size says, its strings are terminated, and its stream
/// is one.
pub(super) unsafe fn cuda_options(cuda: *const ddpm_cuda_desc) -> Result<CudaOptions> {
    if cuda.is_null() {
        return Ok(CudaOptions::default());
    }
    // SAFETY: not NULL, and by this function's contract.
    let desc = unsafe { descriptor::read(cuda, "desc.cuda") }?;
    // SAFETY: NULL or a terminated string, by this function's contract.
    let libraries = unsafe { optional_text(desc.library_path, "desc.cuda.library_path") }?;
    let switch =
        |field: &str, value: u32| choose(field, value, &[(0, "off", false), (1, "on", true)]);
    let mut stream = choose("desc.cuda.stream", desc.stream, &CUDA_STREAMS)?;
    if !desc.host_stream.is_null() {
        expect_zero("desc.cuda.stream", desc.stream.into(), "beside desc.cuda.host_stream")?;
        // SAFETY: the host passes a stream that lives as long as the engine.
        stream = CudaStream::Host(unsafe { HostStream::new(desc.host_stream) });
    }
    if libraries == Some("") {
        return Err(Error::invalid_argument("desc.cuda.library_path: found an empty path"));
    }
    let options = CudaOptions {
        device: desc.device,
        memory_limit: desc.memory_limit,
        conv_search: choose("desc.cuda.conv_search", desc.conv_search, &CONV_SEARCHES)?,
        tf32: switch("desc.cuda.tf32", desc.tf32)?,
        prefer_nhwc: switch("desc.cuda.prefer_nhwc", desc.prefer_nhwc)?,
        stream,
        libraries: libraries.map(PathBuf::from),
    };
    let in_c = |error: Error| Error::new(error.kind(), format!("desc.{}", error.message()));
    options.validate().map_err(in_c)?;
    Ok(options)
}

/// More options than this are a mistake.
const MAX_OPTIONS: u32 = 1024;

/// The options of a provider that comes as a library of its own.
///
/// # Safety
/// Strings are NULL or terminated; `options` is NULL or has `count` entries.
pub(super) unsafe fn plugin_options(
    library: *const c_char,
    options: *const ddpm_provider_option,
    count: u32,
) -> Result<PluginOptions> {
    // SAFETY: by this function's contract.
    let library = unsafe { optional_text(library, "desc.provider_library_path") }?;
    if count > MAX_OPTIONS {
        return Err(Error::invalid_argument(format!(
            "desc.provider_option_count: found {count}, expected 0 to {MAX_OPTIONS}"
        )));
    }
    if options.is_null() && count > 0 {
        return Err(null("desc.provider_options"));
    }
    let mut pairs = Vec::new();
    for at in 0..count as usize {
        // SAFETY: not NULL, and `count` entries by this function's contract; a script's buffer need not be
        // aligned. The strings are NULL or terminated, by the same.
        let (key, value) = unsafe {
            let option = options.add(at).read_unaligned();
            (
                required_text(option.key, "desc.provider_options: key")?,
                required_text(option.value, "desc.provider_options: value")?,
            )
        };
        pairs.push((key.to_owned(), value.to_owned()));
    }
    Ok(PluginOptions { library: library.map(PathBuf::from), device: 0, options: pairs })
}
