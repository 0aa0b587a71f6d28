//! Faults reported of comparable samplers, each as a small model with an exact answer, for every sampler
//! that the report could be about.

mod batches;
mod classes;
mod finite;
mod learned_variance;
mod linear;
mod models;
mod oracle;
mod pixels;
mod refusals;
#[path = "../common/samplers.rs"]
mod samplers;
mod seeds;
mod starts;
mod timesteps;
