//! `ddpm-train`: fits a noise predictor to images and exports it to ONNX.

pub mod ops;
