//! How CUDA runs a model, and what has to be there before it can.

use std::fmt;
use std::path::{Path, PathBuf};

use ort::ep::{self, ArbitrarilyConfigurableExecutionProvider, ArenaExtendStrategy};

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};

use super::cuda_libraries::{Folders, Wants, locate};
use super::library::Runtime;
use super::library::nvidia::{ComputeStream, CudaRuntime, DRIVER, DeviceFacts, Driver, NoDriver};

pub use super::library::nvidia::HostStream;

/// More devices than this no machine has.
const MAX_DEVICES: u32 = 64;

/// Less than this holds no model and no workspace of cuDNN's.
const LEAST_MEMORY: u64 = 64 << 20;

/// How cuDNN finds its way to compute a convolution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConvSearch {
    /// By a heuristic: a new batch size costs no search.
    #[default]
    Heuristic,
    /// By trying all of them, at the first run of each batch size: seconds, and memory meanwhile.
    Exhaustive,
    /// Always the same one.
    Default,
}

/// The CUDA stream that a model runs on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CudaStream {
    /// One of our own, of the lowest priority that the device has, so that what else is on it goes first.
    #[default]
    Low,
    /// One of our own, of the highest priority.
    High,
    /// The one that the runtime makes.
    Runtime,
    /// The host's.
    Host(HostStream),
}

/// How CUDA runs a model. The default is what suits a program that draws meanwhile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CudaOptions {
    /// The device's number, as CUDA counts them: `CUDA_VISIBLE_DEVICES` counts.
    pub device: u32,
    /// The most bytes that the runtime's arena takes on the device; 0 is no limit. cuDNN's workspace and
    /// CUDA itself come on top. From 64 MiB on.
    pub memory_limit: u64,
    /// How cuDNN finds its way.
    pub conv_search: ConvSearch,
    /// Whether matrix products and convolutions may round to the 10 bits of TF32, which is faster.
    pub tf32: bool,
    /// Whether convolutions run with the channels last, which suits tensor cores.
    pub prefer_nhwc: bool,
    /// The stream it runs on.
    pub stream: CudaStream,
    /// A folder with NVIDIA's libraries, a CUDA toolkit, or the site-packages folder of a Python that has
    /// them. `None` looks at the folders in the variable `DDPM_CUDA_LIBRARIES`, beside the runtime, in the
    /// cache that the fetch script fills, and where the system's loader looks; these also come after the
    /// folder given here.
    pub libraries: Option<PathBuf>,
}

impl CudaOptions {
    /// Errors: `InvalidArgument`.
    pub fn validate(&self) -> Result<()> {
        if self.device >= MAX_DEVICES {
            return Err(Error::invalid_argument(format!(
                "cuda.device: found {}, expected 0 to {}",
                self.device,
                MAX_DEVICES - 1
            )));
        }
        if (1..LEAST_MEMORY).contains(&self.memory_limit)
            || usize::try_from(self.memory_limit).is_err()
        {
            return Err(Error::invalid_argument(format!(
                "cuda.memory_limit: found {} bytes, expected 0 (none) or {LEAST_MEMORY} or more",
                self.memory_limit
            )));
        }
        if let Some(folder) = &self.libraries
            && folder.as_os_str().is_empty()
        {
            return Err(Error::invalid_argument("cuda.libraries: found an empty path"));
        }
        Ok(())
    }

    /// What the provider is told. Without error_on_failure the runtime would go on with the CPU and say
    /// nothing.
    pub(super) fn provider(&self, stream: Option<&ComputeStream>) -> ep::ExecutionProviderDispatch {
        let search = match self.conv_search {
            ConvSearch::Heuristic => ep::cuda::ConvAlgorithmSearch::Heuristic,
            ConvSearch::Exhaustive => ep::cuda::ConvAlgorithmSearch::Exhaustive,
            ConvSearch::Default => ep::cuda::ConvAlgorithmSearch::Default,
        };
        let mut cuda = ep::CUDA::default()
            // Fits an i32: `validate` was called.
            .with_device_id(self.device as i32)
            .with_conv_algorithm_search(search)
            .with_tf32(self.tf32)
            .with_prefer_nhwc(self.prefer_nhwc)
            // The other way takes up to twice of what is used, and a game has textures to keep.
            .with_arena_extend_strategy(ArenaExtendStrategy::SameAsRequested);
        if self.memory_limit > 0 {
            cuda = cuda.with_memory_limit(self.memory_limit as usize);
        }
        match stream {
            Some(stream) => cuda = stream.give_to(cuda),
            // One thread runs the session, so it needs one stream, as with a stream of ours.
            None => cuda = cuda.with_arbitrary_config("use_ep_level_unified_stream", "1"),
        }
        cuda.build().error_on_failure()
    }
}

/// What there is to run a model with.
pub(super) struct Cuda {
    pub(super) wants: Wants,
    runtime: CudaRuntime,
    device: u32,
    facts: DeviceFacts,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("facts", &self.facts).finish_non_exhaustive()
    }
}

impl Cuda {
    /// Looks for driver, device, provider and NVIDIA's libraries, and loads these for good where all are
    /// there: what is missing is known before hundreds of megabytes are read. Errors: `Provider`, with a
    /// line for each thing that is missing.
    pub(super) fn prepare(runtime: &Runtime, options: &CudaOptions, log: &Logger) -> Result<Self> {
        let provider = beside(runtime.path(), "onnxruntime_providers_cuda");
        let wants = Wants::of(&provider);
        let mut missing = Vec::new();
        for file in [beside(runtime.path(), "onnxruntime_providers_shared"), provider] {
            if !file.exists() {
                missing.push(format!(
                    "{} not found; it belongs to {}, is part of the package onnxruntime-gpu {}, and the runtime looks nowhere else",
                    file.display(),
                    runtime.path().display(),
                    runtime.version()
                ));
            }
        }
        let driver = Driver::open().map_err(|reason| no_driver(&reason, wants.cuda)).and_then(|driver| {
            match (driver.serves, driver.devices) {
                ((major, minor), _) if major < wants.cuda => Err(format!(
                    "the NVIDIA driver is too old: it serves CUDA {major}.{minor}, expected {}.0 or newer ({})",
                    wants.cuda,
                    driver_for(wants.cuda)
                )),
                (_, 0) => Err(no_device()),
                _ => Ok(driver),
            }
        });
        let folders = Folders::new(options.libraries.as_deref(), runtime.path());
        let located = locate(&wants, &folders).map_err(|lines| missing.extend(lines));
        let (driver, located) = match (driver, located) {
            (Ok(driver), Ok(located)) if missing.is_empty() => (driver, located),
            (driver, _) => {
                missing.splice(..0, driver.err());
                return Err(refuse(missing.join("\n  ")));
            }
        };
        if options.device >= driver.devices {
            return Err(refuse(format!(
                "cuda.device: found {}, expected 0 to {}: the driver shows {} of them",
                options.device,
                driver.devices - 1,
                driver.devices
            )));
        }
        let facts =
            driver.facts(options.device).map_err(|text| refuse(format!("{DRIVER}: {text}")))?;
        let runtime = CudaRuntime::new(located.load().map_err(refuse)?);
        runtime
            .select(options.device)
            .map_err(|text| refuse(super::cuda_libraries::explain(&text, &wants)))?;
        let (major, minor) = driver.serves;
        log.log(
            LogLevel::Info,
            format!(
                "CUDA device {}: {}, driver for CUDA {major}.{minor}",
                options.device, facts.name
            ),
        );
        Ok(Self { wants, runtime, device: options.device, facts })
    }

    /// As CUDA counts.
    pub(super) fn number(&self) -> i32 {
        // Below `MAX_DEVICES`: the options were validated.
        self.device as i32
    }

    /// The stream for a session; none where the runtime makes one. Errors: `Provider`.
    pub(super) fn stream(&self, kind: CudaStream) -> Result<Option<ComputeStream>> {
        let own = |high| self.runtime.stream(high).map(Some).map_err(refuse);
        match kind {
            CudaStream::Low => own(false),
            CudaStream::High => own(true),
            CudaStream::Runtime => Ok(None),
            CudaStream::Host(stream) => Ok(Some(ComputeStream::of_host(stream))),
        }
    }

    /// The device as it is now. Where it does not say how much is free, that is 0.
    pub(super) fn device(&self, log: &Logger) -> DeviceInfo {
        let free = self.runtime.memory().map(|(free, _)| free).unwrap_or_else(|reason| {
            log.log(LogLevel::Warning, format!("CUDA device {}: {reason}", self.device));
            0
        });
        DeviceInfo { name: self.facts.name.clone(), memory: self.facts.memory, free_memory: free }
    }
}

/// The device that runs a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    /// As its driver calls it.
    pub name: String,
    /// Its memory in bytes; 0 where that is not known.
    pub memory: u64,
    /// What of it was free after the load; 0 where that is not known.
    pub free_memory: u64,
}

pub(super) fn refuse(reason: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Provider, format!("CUDA: {reason}"))
}

/// The file of a library that has to lie beside the runtime.
fn beside(runtime: &Path, library: &str) -> PathBuf {
    let name = if cfg!(windows) { format!("{library}.dll") } else { format!("lib{library}.so") };
    runtime.with_file_name(name)
}

/// The first branch of NVIDIA's driver for Linux that serves a CUDA.
fn driver_for(cuda: u32) -> &'static str {
    match cuda {
        ..=12 => "driver 525 or newer",
        13 => "driver 580 or newer",
        _ => "a newer driver",
    }
}

/// The numbers of `CUresult` that have a cause worth telling.
fn no_driver(reason: &NoDriver, cuda: u32) -> String {
    match reason {
        NoDriver::Missing(text) => {
            format!("{text}; {DRIVER} comes with NVIDIA's driver ({})", driver_for(cuda))
        }
        NoDriver::Refused(100, _) => no_device(),
        NoDriver::Refused(number, name) => {
            let hint = match number {
                803 | 804 => {
                    ": the driver's library and its kernel module are of different versions; a restart of the machine loads the new one"
                }
                802 => ": the machine's fabric manager does not run",
                999 => ": the device may be in use by another user, or lost",
                _ => "",
            };
            format!("the NVIDIA driver does not start: {name} ({number}){hint}")
        }
    }
}

fn no_device() -> String {
    match std::env::var("CUDA_VISIBLE_DEVICES") {
        Ok(visible) => format!(
            "the NVIDIA driver shows no device; CUDA_VISIBLE_DEVICES is \"{visible}\", which hides those that it does not name"
        ),
        Err(_) => "the NVIDIA driver shows no device".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_refused_by_name() {
        let good = CudaOptions { device: 63, memory_limit: 64 << 20, ..CudaOptions::default() };
        good.validate().unwrap();
        CudaOptions::default().validate().unwrap();
        for (options, text) in [
            (CudaOptions { device: 64, ..good.clone() }, "cuda.device: found 64, expected 0 to 63"),
            (
                CudaOptions { memory_limit: 1, ..good.clone() },
                "cuda.memory_limit: found 1 bytes, expected 0 (none) or 67108864 or more",
            ),
            (
                CudaOptions { libraries: Some(PathBuf::new()), ..good.clone() },
                "cuda.libraries: found an empty path",
            ),
        ] {
            let error = options.validate().unwrap_err();
            assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidArgument, text));
        }
    }

    #[test]
    fn a_driver_that_says_no_is_told_apart() {
        let text = |reason: NoDriver| no_driver(&reason, 13);
        for (reason, part) in [
            #[cfg(not(windows))]
            (
                NoDriver::Missing("cannot open".to_owned()),
                "cannot open; libcuda.so.1 comes with NVIDIA's driver (driver 580 or newer)",
            ),
            (NoDriver::Refused(100, "CUDA_ERROR_NO_DEVICE".to_owned()), "shows no device"),
            (
                NoDriver::Refused(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH".to_owned()),
                "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH (803): the driver's library",
            ),
            (
                NoDriver::Refused(1, "CUDA_ERROR_INVALID_VALUE".to_owned()),
                "does not start: CUDA_ERROR_INVALID_VALUE (1)",
            ),
        ] {
            assert!(text(reason.clone()).contains(part), "{}", text(reason));
        }
    }
}
