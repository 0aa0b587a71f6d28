//! `ddpm-train`: fits a noise predictor to images and exports it to ONNX.
//!
//! The network is defined once, in [`network`]; [`parameters`], [`forward`] and [`export`] walk that
//! definition. [`fit`] trains it, [`ops`] holds the kernels that make that fast on a CPU.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod batches;
pub mod canvas;
pub mod checkpoint;
pub mod config;
pub mod console;
pub mod curves;
pub mod data;
pub mod device;
pub mod divergence;
pub mod export;
pub mod fit;
pub mod forward;
pub mod hash;
pub mod import;
pub mod interrupt;
pub mod judge;
pub mod likelihood;
pub mod loss_log;
pub mod memory;
pub mod network;
pub mod new;
pub mod noise;
pub mod objective;
pub mod ops;
pub mod optimizer;
pub mod output;
pub mod parameters;
pub mod picture;
pub mod progress;
pub mod resume;
pub mod run_files;
pub mod sample;
pub mod step;
pub mod tensorboard;
pub mod torch_layout;
pub mod unet_config;
pub mod workers;
