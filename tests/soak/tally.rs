//! What came of it all.

use std::fmt;

#[derive(Default)]
pub struct Tally {
    pub pictures: u64,
    pub frames: u64,
    pub acquired: u64,
    pub errors: u64,
    pub closed: u64,
    pub resets: u64,
    pub cancels: u64,
    pub streams: u64,
    pub engines: u64,
}

impl Tally {
    pub fn plus(self, other: Self) -> Self {
        Self {
            pictures: self.pictures + other.pictures,
            frames: self.frames + other.frames,
            acquired: self.acquired + other.acquired,
            errors: self.errors + other.errors,
            closed: self.closed + other.closed,
            resets: self.resets + other.resets,
            cancels: self.cancels + other.cancels,
            streams: self.streams + other.streams,
            engines: self.engines + other.engines,
        }
    }

    /// That enough was looked at in `steps` steps for the rest to mean something.
    pub fn check(&self, steps: u64) {
        assert!(self.pictures > steps / 100, "only {} pictures were finished", self.pictures);
        assert!(self.frames > steps / 20, "only {} frames were seen", self.frames);
        let seen =
            [self.acquired, self.errors, self.closed, self.resets, self.cancels, self.engines];
        assert!(seen.iter().all(|&count| count > 0), "something never happened: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pictures and {} frames as alone ({} frames held), {} steps failed as alone, {} broken off by a close, \
             {} resets, {} cancels, {} streams, {} engines replaced",
            self.pictures,
            self.frames,
            self.acquired,
            self.errors,
            self.closed,
            self.resets,
            self.cancels,
            self.streams,
            self.engines
        )
    }
}
