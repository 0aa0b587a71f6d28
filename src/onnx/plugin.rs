//! Providers that come as a library of their own, which the runtime's plug-in interface takes in: one table
//! of them, and one way to ask for any.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ort::device::Device as EpDevice;
use ort::memory::DeviceType;
use ort::session::builder::SessionBuilder;

use crate::error::{Error, ErrorKind, Result};
use crate::log::{LogLevel, Logger};

use super::cuda::DeviceInfo;
use super::library::{Runtime, own_folders};
use super::provider::Provider;

/// A provider that comes as a library.
pub(super) struct Plugin {
    pub(super) provider: Provider,
    /// How messages call it.
    title: &'static str,
    /// What the runtime calls it; its options are asked for under this name too.
    name: &'static str,
    /// Its library, without what systems put before and behind.
    library: &'static str,
    /// Where it is to be had.
    source: &'static str,
}

/// DirectML and CoreML are part of some builds of the runtime in place of a library; they are asked for in
/// the same way, without one.
const PLUGINS: [Plugin; 4] = [
    Plugin {
        provider: Provider::WebGpu,
        title: "WebGPU",
        name: "WebGpuExecutionProvider",
        library: "onnxruntime_providers_webgpu",
        source: "package onnxruntime-ep-webgpu",
    },
    Plugin {
        provider: Provider::TensorRtRtx,
        title: "TensorRT RTX",
        name: "NvTensorRTRTXExecutionProvider",
        library: "onnxruntime_providers_nv_tensorrt_rtx",
        source: "package onnxruntime-ep-nv-tensorrt-rtx",
    },
    Plugin {
        provider: Provider::DirectMl,
        title: "DirectML",
        name: "DmlExecutionProvider",
        library: "onnxruntime_providers_dml",
        source: "it is part of builds of ONNX Runtime such as that of the package onnxruntime-directml",
    },
    Plugin {
        provider: Provider::CoreMl,
        title: "CoreML",
        name: "CoreMLExecutionProvider",
        library: "onnxruntime_providers_coreml",
        source: "it is part of builds of ONNX Runtime for Apple's systems",
    },
];

/// How a provider that comes as a library is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PluginOptions {
    /// The library. `None` looks for it under its usual name beside the runtime, beside this library and
    /// beside the executable; a provider that is part of the runtime needs none. The first that a process
    /// loads of a provider is the one for all its engines.
    pub library: Option<PathBuf>,
    /// Which of the devices that the provider shows, from 0.
    pub device: u32,
    /// What the provider is told, under its own names for it.
    pub options: Vec<(String, String)>,
}

/// The libraries that the runtime has taken in, with the names of their providers. It keeps them.
static REGISTERED: Mutex<Vec<(&str, PathBuf)>> = Mutex::new(Vec::new());

impl Plugin {
    /// None for those that are a part of the runtime.
    pub(super) fn of(provider: Provider) -> Option<&'static Self> {
        PLUGINS.iter().find(|plugin| plugin.provider == provider)
    }

    fn refuse(&self, reason: &str) -> Error {
        Error::new(ErrorKind::Provider, format!("{}: {reason}", self.title))
    }

    fn file_name(&self) -> String {
        format!("{}{}{}", std::env::consts::DLL_PREFIX, self.library, std::env::consts::DLL_SUFFIX)
    }

    /// Has the session to be run on one of the provider's devices. Errors: `Provider`.
    pub(super) fn register(
        &self,
        builder: SessionBuilder,
        runtime: &Runtime,
        options: &PluginOptions,
        log: &Logger,
    ) -> Result<(SessionBuilder, DeviceInfo)> {
        let looked_in = self.take_in(runtime, options.library.as_deref(), log)?;
        let environment = runtime.environment();
        let of_provider = |device: &EpDevice<'_>| device.ep().is_ok_and(|name| name == self.name);
        let count = environment.devices().filter(of_provider).count();
        if count == 0 {
            let mut text = match &looked_in {
                None => "its library is there, and shows no device that it could use".to_owned(),
                Some(folders) => {
                    format!("{} not found ({}); looked in {folders}", self.file_name(), self.source)
                }
            };
            let mut others: Vec<&str> =
                environment.devices().filter_map(|device| device.ep().ok()).collect();
            others.dedup();
            // Writing to a string does not fail.
            let _ = write!(text, "; the runtime has devices of {}", others.join(", "));
            return Err(self.refuse(&text));
        }
        let chosen = environment.devices().filter(of_provider).nth(options.device as usize);
        let Some(device) = chosen else {
            let found = options.device;
            return Err(self.refuse(&format!(
                "device: found {found}, expected 0 to {}: that many it shows",
                count - 1
            )));
        };
        let hardware = device.hardware_device();
        let kind = match hardware.ty() {
            DeviceType::CPU => "CPU",
            DeviceType::NPU => "NPU",
            _ => "GPU",
        };
        let vendor = hardware.vendor().unwrap_or_default();
        let name = format!("{vendor} {kind}").trim_start().to_owned();
        let pairs: Vec<(String, String)> = options
            .options
            .iter()
            .map(|(key, value)| (format!("{}.{key}", self.name), value.clone()))
            .collect();
        match builder.with_devices([device], Some(&pairs)) {
            Ok(builder) => Ok((builder, DeviceInfo { name, memory: 0, free_memory: 0 })),
            Err(error) => Err(self.refuse(error.message().trim_end())),
        }
    }

    /// Gives the library to the runtime, unless it has it. Where there is none: the folders looked in.
    fn take_in(
        &self,
        runtime: &Runtime,
        given: Option<&Path>,
        log: &Logger,
    ) -> Result<Option<String>> {
        // A panic under the lock leaves no state of ours half made.
        let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
        let before = registered.iter().find(|(name, _)| *name == self.name).map(|(_, path)| path);
        let path = match (given, before) {
            (None, Some(_)) => return Ok(None),
            (None, None) => {
                let mut folders: Vec<PathBuf> =
                    runtime.path().parent().map(Path::to_owned).into_iter().collect();
                folders.extend(own_folders());
                folders.dedup();
                let name = self.file_name();
                match folders.iter().map(|folder| folder.join(&name)).find(|path| path.is_file()) {
                    Some(path) => path,
                    None => {
                        let shown: Vec<String> =
                            folders.iter().map(|folder| folder.display().to_string()).collect();
                        return Ok(Some(shown.join(", ")));
                    }
                }
            }
            (Some(path), before) => {
                let shown = path.display();
                let found = path
                    .canonicalize()
                    .map_err(|error| self.refuse(&format!("{shown}: {error} ({})", self.source)))?;
                if !found.is_file() {
                    return Err(self.refuse(&format!("{shown}: not a file")));
                }
                match before {
                    Some(before) if *before == found => return Ok(None),
                    Some(before) => {
                        return Err(self.refuse(&format!(
                            "{shown}: this process already has {} for it, and can have only one",
                            before.display()
                        )));
                    }
                    None => found,
                }
            }
        };
        let shown = path.display().to_string();
        runtime.environment().register_ep_library(self.name, &path).map_err(|error| {
            self.refuse(&format!(
                "{shown}: not a provider library that ONNX Runtime {} takes: {}",
                runtime.version(),
                error.message().trim_end()
            ))
        })?;
        log.log(LogLevel::Info, format!("{} from {shown}", self.title));
        registered.push((self.name, path));
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_one_provider_each() {
        for plugin in &PLUGINS {
            assert_eq!(Plugin::of(plugin.provider).unwrap().name, plugin.name);
            assert_eq!(PLUGINS.iter().filter(|other| other.name == plugin.name).count(), 1);
        }
        for provider in [Provider::Auto, Provider::Cpu, Provider::Cuda] {
            assert!(Plugin::of(provider).is_none());
        }
    }
}
