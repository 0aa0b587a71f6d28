//! Which execution provider runs a model, and why not the one that was asked for.

use std::fmt;

use ort::ep::{self, ExecutionProvider};
use ort::session::builder::SessionBuilder;

use crate::error::{Error, ErrorKind, Result};

use super::library::Runtime;

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
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "CPU",
            Self::Cuda => "CUDA",
        })
    }
}

/// Registers CUDA with a session to be.
///
/// Looks first whether the runtime has it at all, because a runtime without it gives a message about
/// a missing symbol. Errors: `Provider` with the runtime's reason.
pub(super) fn register_cuda(builder: SessionBuilder, runtime: &Runtime) -> Result<SessionBuilder> {
    let refuse = |reason: String| Error::new(ErrorKind::Provider, reason);
    let built_in = ep::CUDA::is_available().map_err(|error| {
        refuse(format!("CUDA: the runtime does not list its providers: {error}"))
    })?;
    if !built_in {
        return Err(refuse(format!(
            "CUDA: {} (ONNX Runtime {}) is built without it; a build with CUDA is needed, such as that of the package onnxruntime-gpu",
            runtime.path().display(),
            runtime.version()
        )));
    }
    // Without error_on_failure the runtime would go on with the CPU and say nothing. An exhaustive
    // search would stall every new shape; TF32 would round to 10 bits of mantissa.
    let cuda = ep::CUDA::default()
        .with_conv_algorithm_search(ep::cuda::ConvAlgorithmSearch::Heuristic)
        .with_tf32(false)
        .build()
        .error_on_failure();
    builder.with_execution_providers([cuda]).map_err(|error| refuse(format!("CUDA: {error}")))
}
