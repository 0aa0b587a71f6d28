//! How often what happened.

use std::fmt;

#[derive(Clone, Copy)]
pub enum Event {
    Picture,
    Frame,
    Held,
    Failed,
    Closed,
    Reset,
    Cancel,
    Seek,
    Branch,
    Load,
    Tick,
    Pause,
    Stream,
    Engine,
}

const NAMES: [&str; 14] = [
    "pictures as alone",
    "frames as alone",
    "frames held",
    "failures as alone",
    "broken off by a close",
    "resets",
    "cancels",
    "seeks",
    "branches",
    "saved and loaded",
    "ticks",
    "pauses",
    "streams",
    "engines replaced",
];

#[derive(Default)]
pub struct Tally([u64; NAMES.len()]);

impl Tally {
    pub fn count(&mut self, event: Event) {
        self.0[event as usize] += 1;
    }

    pub fn plus(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count += more);
        self
    }

    /// That enough was looked at in `steps` steps for the rest to mean something. What is rare may be
    /// missing in few steps.
    pub fn check(&self, steps: u64) {
        let all = self.0.iter().all(|&count| count > 0);
        assert!(all || steps < 20_000, "something never happened: {self}");
        let [pictures, frames, ..] = self.0;
        assert!(pictures > steps / 100 && frames > steps / 20, "hardly anything was seen: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (count, name)) in self.0.iter().zip(NAMES).enumerate() {
            write!(f, "{}{count} {name}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}
