//! `ddpm`: an embeddable, streaming denoising engine.

pub mod engine;
pub mod error;
mod ffi;
pub mod image;
pub mod log;
pub mod model;
pub mod noise_schedule;
pub mod onnx;
pub mod prediction;
pub mod rng;
pub mod run;
pub mod sampler;
pub mod step;
pub mod timesteps;
mod worker;
