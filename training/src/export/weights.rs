//! The weights of a network as a safetensors file that PyTorch's modules load.

use std::collections::HashMap;
use std::path::Path;

use anyhow::Result;

use crate::config::Config;
use crate::output::write_atomically;
use crate::parameters::{Parameters, StoredTensor};
use crate::torch_layout;

/// Writes the weights to `path`, with the names and layouts of `training/pytorch/unet.py`, and in the
/// metadata, as JSON, what that needs to build the network (`network`) and what the network predicts
/// (`diffusion`). Returns the bytes written.
pub fn export_weights(path: &Path, config: &Config, parameters: &Parameters) -> Result<usize> {
    let mut tensors = Vec::new();
    for spec in parameters.specs() {
        let values = torch_layout::to_torch(spec, &parameters.values(&spec.name)?);
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let shape = torch_layout::shape(spec);
        tensors.push((torch_layout::name(spec), StoredTensor { shape, bytes }));
    }
    let network = config.network();
    let description = serde_json::json!({
        "model": network.unet,
        "channels_in": network.channels_in,
        "channels_out": network.channels_out,
        "labels": network.labels,
        "height": config.data.height,
        "width": config.data.width,
        "class_names": config.data.class_names,
    });
    let metadata = HashMap::from([
        ("format".to_string(), "pt".to_string()),
        ("network".to_string(), description.to_string()),
        ("diffusion".to_string(), serde_json::to_string(&config.diffusion)?),
    ]);
    let views = tensors.iter().map(|(name, tensor)| (name, tensor));
    let bytes = safetensors::serialize(views, Some(metadata))?;
    write_atomically(path, &bytes)?;
    Ok(bytes.len())
}
