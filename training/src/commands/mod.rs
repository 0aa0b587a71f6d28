//! The commands, one a file: their arguments and what they do with the library.

pub mod export;
pub mod fit;
pub mod import;
pub mod likelihood;
pub mod new;
pub mod noise;
pub mod sample;
pub mod time;
