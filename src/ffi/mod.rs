//! The C ABI: opaque handles, descriptor structs, result codes. One file per object.
//!
//! Everything here translates and nothing decides: C values become the safe types of `engine`, its
//! errors become codes and a thread-local message. This is the home of `unsafe`; it must not know
//! threads, models or ONNX Runtime. The header `include/ddpm.h` is generated from these files.

// Names are those of the C header, which is their only reader.
#![allow(non_camel_case_types)]

mod descriptor;
mod engine;
mod engine_info;
mod engine_status;
mod files;
mod float_state;
mod frame;
mod guard;
mod last_error;
mod log;
mod playback;
mod provider;
mod result;
mod sampler;
mod saved_run;
mod stream;
mod stream_desc;
mod trajectory;
mod version;
