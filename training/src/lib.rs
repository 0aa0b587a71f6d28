//! `ddpm-train`: fits a noise predictor to images and exports it to ONNX.

pub mod forward;
pub mod network;
pub mod ops;
pub mod parameters;
