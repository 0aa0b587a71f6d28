//! Providers that are not there: an error that names what is missing, and the CPU goes on.

use std::path::{Path, PathBuf};

use ddpm::error::ErrorKind;
use ddpm::onnx::{CudaOptions, ModelSource, OnnxDenoiser, OnnxOptions, PluginOptions, Provider};

use super::common::{Folder, model};
use super::cpu;

fn load(options: &OnnxOptions) -> ddpm::error::Result<OnnxDenoiser> {
    OnnxDenoiser::load(&ModelSource::from(&model("lin")), options)
}

#[test]
fn a_provider_library_that_is_absent_or_another_is_refused_by_name_again_and_again() {
    let folder = Folder::new("providers");
    let text = folder.0.join("text.so");
    std::fs::write(&text, "no library").unwrap();
    let runtime = load(&cpu()).unwrap().info().runtime_library.clone();
    let nowhere = Path::new("/nowhere/provider.so");
    for (provider, library, parts) in [
        (Provider::WebGpu, None, ["WebGPU: ", "onnxruntime_providers_webgpu", "not found"]),
        (Provider::CoreMl, None, ["CoreML: ", "Apple", "devices of CPUExecutionProvider"]),
        (Provider::TensorRtRtx, Some(nowhere), ["TensorRT RTX: ", "/nowhere/provider.so: ", "rtx"]),
        (Provider::DirectMl, Some(&*folder.0), ["DirectML: ", "providers", "not a file"]),
        (Provider::WebGpu, Some(&*text), ["WebGPU: ", "text.so", "not a provider library"]),
        (Provider::WebGpu, Some(&*runtime), ["WebGPU: ", "onnxruntime", "CreateEpFactories"]),
    ] {
        let plugin =
            PluginOptions { library: library.map(PathBuf::from), ..PluginOptions::default() };
        let options = OnnxOptions { provider, plugin, ..OnnxOptions::default() };
        let error = load(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Provider, "{error}");
        for part in parts {
            assert!(error.message().contains(part), "{error} does not contain {part:?}");
        }
        assert_eq!(load(&options).unwrap_err(), error);
    }
    load(&cpu()).unwrap();
}

#[test]
fn options_of_cuda_are_checked_before_anything_is_loaded() {
    let cuda = CudaOptions { device: 64, ..CudaOptions::default() };
    let runtime_library = Some(PathBuf::from("/nowhere/libonnxruntime.so"));
    let error = load(&OnnxOptions { cuda, runtime_library, ..cpu() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert_eq!(error.message(), "cuda.device: found 64, expected 0 to 63");
}
