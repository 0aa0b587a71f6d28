//! `ddpm`: an embeddable, streaming denoising engine.
//!
//! Layers, lowest first; a module uses earlier ones only (`tests/layering.rs` holds the order):
//!
//! - L0 [`error`], [`rng`], [`log`]
//! - L1 [`noise_schedule`], [`timesteps`], [`prediction`], [`sampler`], [`step`], [`image`],
//!   [`pacing`]: pure maths
//! - L2 [`model`], [`run`]: what a model is, and one denoising run on one thread
//! - L3 [`onnx`]: the only place that names ONNX Runtime; `worker`: the only one that names threads
//! - L4 [`engine`]: the safe API
//! - L5 `ffi`: the C ABI

pub mod engine;
pub mod error;
mod ffi;
pub mod image;
pub mod log;
pub mod model;
pub mod noise_schedule;
pub mod onnx;
pub mod pacing;
pub mod prediction;
pub mod rng;
pub mod run;
pub mod sampler;
pub mod step;
pub mod timesteps;
mod worker;
