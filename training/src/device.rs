//! What networks are computed on: the CPU, or a GPU where the program was built for one.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, Result};
use burn::backend::DispatchDevice;
use burn::tensor::Device;

/// `cpu`, `gpu`, or `gpu:N` for the GPU of that number.
///
/// A GPU is reached by CUDA in a build with the feature `cuda`, by Vulkan, Metal or DirectX 12 in one with
/// the feature `wgpu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    Cpu,
    /// Without a number the one that burn prefers.
    Gpu(Option<usize>),
}

impl Default for Choice {
    /// The GPU, in a build that can use one.
    fn default() -> Self {
        if cfg!(feature = "_gpu") { Self::Gpu(None) } else { Self::Cpu }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("gpu:").map(str::parse)) {
            ("cpu", _) => Ok(Self::Cpu),
            ("gpu", _) => Ok(Self::Gpu(None)),
            (_, Some(Ok(number))) => Ok(Self::Gpu(Some(number))),
            _ => Err("expected cpu, gpu or gpu:N, N from 0".into()),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(None) => f.write_str("gpu"),
            Self::Gpu(Some(number)) => write!(f, "gpu:{number}"),
        }
    }
}

/// The device; a GPU once in a process. May take seconds there, as its driver starts.
///
/// Errors: where the build has no GPUs, where none is found, and where it is open already.
pub fn open(choice: Choice) -> Result<Device> {
    match choice {
        Choice::Cpu => Ok(Device::flex()),
        Choice::Gpu(number) => open_gpu(number).with_context(|| format!("--device {choice}")),
    }
}

#[cfg(feature = "cuda")]
fn open_gpu(number: Option<usize>) -> Result<Device> {
    // burn panics where there is no driver or no such device.
    let open = || {
        let device = Device::cuda(number.unwrap_or(0));
        device.identity();
        device
    };
    let opened = std::panic::catch_unwind(open);
    opened.map_err(|_| anyhow::anyhow!("no such GPU is found: CUDA does not start"))
}

#[cfg(all(feature = "wgpu", not(feature = "cuda")))]
fn open_gpu(number: Option<usize>) -> Result<Device> {
    use burn::tensor::DeviceKind;

    let kind = number.map_or(DeviceKind::DefaultDevice, DeviceKind::DiscreteGpu);
    Device::wgpu_options().device_kind(kind).init().context("no such GPU is found")
}

#[cfg(not(feature = "_gpu"))]
fn open_gpu(_: Option<usize>) -> Result<Device> {
    anyhow::bail!(
        "this ddpm-train was built for the CPU; for a GPU build it with \
         `cargo build --release -p ddpm-train --features wgpu`"
    )
}

/// Whether the device is the CPU with the kernels of this crate.
pub fn is_cpu(device: &Device) -> bool {
    matches!(device.as_dispatch(), DispatchDevice::Flex(_))
}

/// How many threads may give the device work at a time: on the CPU those of the current rayon pool, each
/// computing a share of a batch; a GPU is given all of a batch at once.
pub fn threads(device: &Device) -> usize {
    if is_cpu(device) { rayon::current_num_threads() } else { 1 }
}

/// Its name, for people.
pub fn name(device: &Device) -> String {
    #[cfg(feature = "_gpu")]
    if let Some(identity) = device.identity() {
        return identity.name;
    }
    if is_cpu(device) { "the CPU".into() } else { "the GPU".into() }
}
