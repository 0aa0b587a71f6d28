//! Which execution provider runs a model, and why not the one that was asked for.

use std::fmt;

use ort::ep::{self, ExecutionProvider};
use ort::session::builder::SessionBuilder;

use crate::error::Result;
use crate::log::Logger;

use super::OnnxOptions;
use super::cuda::{Cuda, CudaOptions, DeviceInfo, refuse};
use super::cuda_libraries::explain;
use super::library::Runtime;
use super::library::nvidia::ComputeStream;
use super::lookup::cuda_cached;
use super::plugin::Plugin;

/// What runs a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Provider {
    /// CUDA where it can be used, else the CPU; which of the two and why is logged and reported.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// CUDA, or an error.
    Cuda,
    /// WebGPU, or an error. This and the following come as libraries of their own: see
    /// [`PluginOptions`](super::PluginOptions).
    WebGpu,
    /// NVIDIA's TensorRT for RTX, or an error.
    TensorRtRtx,
    /// DirectML, or an error.
    DirectMl,
    /// Apple's CoreML, or an error.
    CoreMl,
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
            Self::WebGpu => "WebGPU",
            Self::TensorRtRtx => "TensorRT RTX",
            Self::DirectMl => "DirectML",
            Self::CoreMl => "CoreML",
        })
    }
}

/// What a session has of its device; it has to be kept until after the session.
#[derive(Default)]
pub(super) struct Device {
    /// Kept for the session and dropped after it.
    _stream: Option<ComputeStream>,
    cuda: Option<Cuda>,
    /// Of a provider that is a library of its own.
    other: Option<DeviceInfo>,
}

impl Device {
    /// Its number in CUDA; none for others.
    pub(super) fn number(&self) -> Option<i32> {
        self.cuda.as_ref().map(Cuda::number)
    }

    /// The device as it is now; none where that is the CPU.
    pub(super) fn info(&self, log: &Logger) -> Option<DeviceInfo> {
        self.cuda.as_ref().map(|cuda| cuda.device(log)).or_else(|| self.other.clone())
    }

    /// What the runtime said of it, and what that means.
    pub(super) fn explain(&self, text: &str) -> String {
        match &self.cuda {
            Some(cuda) => explain(text, &cuda.wants),
            None => text.trim_end().to_owned(),
        }
    }
}

/// Has a session to be run by `provider`, which is not `Auto`. Errors: `Provider`.
pub(super) fn register(
    provider: Provider,
    builder: SessionBuilder,
    runtime: &Runtime,
    options: &OnnxOptions,
) -> Result<(SessionBuilder, Device)> {
    let log = &options.log;
    match Plugin::of(provider) {
        Some(plugin) => {
            let (builder, info) = plugin.register(builder, runtime, &options.plugin, log)?;
            Ok((builder, Device { other: Some(info), ..Device::default() }))
        }
        None if provider == Provider::Cuda => register_cuda(builder, runtime, &options.cuda, log),
        None => Ok((builder, Device::default())),
    }
}

/// Registers CUDA with a session to be.
///
/// Looks first whether the runtime has it at all, because a runtime without it gives a message about
/// a missing symbol. Errors: `Provider` with what is missing, or with the runtime's reason.
fn register_cuda(
    builder: SessionBuilder,
    runtime: &Runtime,
    options: &CudaOptions,
    log: &Logger,
) -> Result<(SessionBuilder, Device)> {
    let built_in = ep::CUDA::is_available()
        .map_err(|error| refuse(format!("the runtime does not list its providers: {error}")))?;
    if !built_in {
        let path = runtime.path().display();
        let hint = match cuda_cached().first() {
            Some(folder) => format!(
                "; there is one in {}, but a process has one runtime, that of its first engine",
                folder.display()
            ),
            None => String::new(),
        };
        return Err(refuse(format!(
            "{path} (ONNX Runtime {}) is built without it; a build with CUDA is needed, such as that of the package onnxruntime-gpu{hint}",
            runtime.version()
        )));
    }
    let cuda = Cuda::prepare(runtime, options, log)?;
    let stream = cuda.stream(options.stream)?;
    let provider = options.provider(stream.as_ref());
    let device = Device { _stream: stream, cuda: Some(cuda), other: None };
    match builder.with_execution_providers([provider]) {
        Ok(builder) => Ok((builder, device)),
        Err(error) => Err(refuse(device.explain(error.message()))),
    }
}
