//! When a reveal makes its rows, and which timesteps make a picture appear evenly.
//!
//! Pure maths: a [`Playback`] says how many rows are due after so many seconds, [`thin`] drops rows
//! that a slow machine has no time for, and a [`VisibleChange`] spreads timesteps so that every frame
//! brings the picture nearer by about the same amount. This module must not know threads, models or
//! clocks: time comes in as seconds, pictures as numbers.

mod curve;
mod easing;
mod pace;
mod thinning;
mod visible;

pub use easing::Easing;
pub use pace::{MAX_DURATION, Playback, even_shares, should_shorten};
pub use thinning::{kept_rows, kept_shares, thin};
pub use visible::{DEFAULT_FLOOR, PILOT_ROWS, Shown, VisibleChange};
