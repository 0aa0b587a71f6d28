//! Flags that say what runs a model, and how.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use ddpm::error::{Error, Result};
use ddpm::onnx::{ConvSearch, CudaOptions, CudaStream, PluginOptions, Provider};

use crate::describe::provider_name;

#[derive(Args)]
pub struct ProviderOptions {
    /// What runs the model; auto is CUDA where it can be used, else the CPU
    #[arg(long, default_value = "auto", value_parser = provider())]
    pub provider: Provider,
    /// How CUDA runs it: device=N, memory-limit=MIB, search=heuristic|exhaustive|default, tf32=on|off,
    /// nhwc=on|off, stream=low|high|runtime, libraries=DIR; separated by commas
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    cuda: Vec<String>,
    /// The library of a provider that is none of the runtime's [default: beside the runtime or the program]
    #[arg(long, value_name = "FILE")]
    provider_library: Option<PathBuf>,
    /// What such a provider is told, under its own names for it
    #[arg(long, value_name = "KEY=VALUE", value_delimiter = ',')]
    provider_option: Vec<String>,
}

impl ProviderOptions {
    /// Whether any of them is.
    pub fn are_given(&self) -> bool {
        self.provider != Provider::Auto
            || !self.cuda.is_empty()
            || self.provider_library.is_some()
            || !self.provider_option.is_empty()
    }

    /// The options of `--cuda`. Errors: `InvalidArgument`.
    pub fn cuda(&self) -> Result<CudaOptions> {
        let mut options = CudaOptions::default();
        for pair in &self.cuda {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let refuse = |expected: &str| {
                Error::invalid_argument(format!(
                    "cuda {key}: found \"{value}\", expected {expected}"
                ))
            };
            let number = || value.parse::<u32>().map_err(|_| refuse("a number"));
            let switch = || match value {
                "on" => Ok(true),
                "off" => Ok(false),
                _ => Err(refuse("on or off")),
            };
            match key {
                "device" => options.device = number()?,
                "memory-limit" => options.memory_limit = u64::from(number()?) << 20,
                "search" => {
                    options.conv_search = match value {
                        "heuristic" => ConvSearch::Heuristic,
                        "exhaustive" => ConvSearch::Exhaustive,
                        "default" => ConvSearch::Default,
                        _ => return Err(refuse("heuristic, exhaustive or default")),
                    };
                }
                "tf32" => options.tf32 = switch()?,
                "nhwc" => options.prefer_nhwc = switch()?,
                "stream" => {
                    options.stream = match value {
                        "low" => CudaStream::Low,
                        "high" => CudaStream::High,
                        "runtime" => CudaStream::Runtime,
                        _ => return Err(refuse("low, high or runtime")),
                    };
                }
                "libraries" => options.libraries = Some(PathBuf::from(value)),
                _ => {
                    return Err(Error::invalid_argument(format!(
                        "cuda: found \"{pair}\", expected KEY=VALUE with one of device, memory-limit, search, tf32, nhwc, stream, libraries"
                    )));
                }
            }
        }
        Ok(options)
    }

    /// Those of a provider that is a library of its own. Errors: `InvalidArgument`.
    pub fn plugin(&self) -> Result<PluginOptions> {
        let pair = |text: &String| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(Error::invalid_argument(format!(
                "provider-option: found \"{text}\", expected KEY=VALUE"
            ))),
        };
        Ok(PluginOptions {
            library: self.provider_library.clone(),
            device: 0,
            options: self.provider_option.iter().map(pair).collect::<Result<_>>()?,
        })
    }
}

fn provider() -> impl TypedValueParser<Value = Provider> {
    const PROVIDERS: [Provider; 7] = [
        Provider::Auto,
        Provider::Cpu,
        Provider::Cuda,
        Provider::WebGpu,
        Provider::TensorRtRtx,
        Provider::DirectMl,
        Provider::CoreMl,
    ];
    PossibleValuesParser::new(PROVIDERS.map(provider_name)).map(|name| {
        PROVIDERS.into_iter().find(|&provider| provider_name(provider) == name).unwrap_or_default()
    })
}
