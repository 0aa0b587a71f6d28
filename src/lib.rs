//! `ddpm`: an embeddable, streaming denoising engine.

pub mod error;
pub mod model;
pub mod noise_schedule;
pub mod prediction;
pub mod rng;
pub mod sampler;
pub mod timesteps;
