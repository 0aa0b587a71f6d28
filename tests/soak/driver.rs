//! One host thread: streams of its own, and what it does with them.

use std::fmt;
use std::sync::atomic::Ordering;
use std::thread;

use ddpm::engine::{StepOutcome, Stream, StreamConfig, StreamState};
use ddpm::error::{Error, ErrorKind};
use ddpm::sampler::SamplerConfig;

use super::dice::Dice;
use super::pool::{self, Placed};
use super::recipes::{KINDS, SEEDS};
use super::{HANG, Soak};

/// Streams of one driver.
const STREAMS: usize = 12;

/// What came of it all.
#[derive(Default)]
pub struct Tally {
    pub pictures: u64,
    pub frames: u64,
    errors: u64,
    closed: u64,
    resets: u64,
    cancels: u64,
    streams: u64,
    engines: u64,
}

impl Tally {
    pub fn plus(self, other: Self) -> Self {
        Self {
            pictures: self.pictures + other.pictures,
            frames: self.frames + other.frames,
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
        let seen = [self.errors, self.closed, self.resets, self.cancels, self.engines];
        assert!(seen.iter().all(|&count| count > 0), "something never happened: {self}");
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} pictures and {} frames as alone, {} steps failed as alone, {} broken off by a close, \
             {} resets, {} cancels, {} streams, {} engines replaced",
            self.pictures,
            self.frames,
            self.errors,
            self.closed,
            self.resets,
            self.cancels,
            self.streams,
            self.engines
        )
    }
}

/// A stream, and what is known of it.
struct Live {
    stream: Stream,
    family: usize,
    /// The seed that its newest reset asked for.
    seed: usize,
    engine: u64,
    is_cancelled: bool,
    /// The newest frame seen since the reset.
    step: u32,
    generation: u64,
}

pub struct Driver<'a> {
    soak: &'a Soak,
    index: u64,
    dice: Dice,
    streams: Vec<Option<Live>>,
    tally: Tally,
    pixels: Vec<u8>,
}

/// Ends the others when a driver panics, and says where it was.
struct Alarm<'a>(&'a Soak, u64);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.failed.store(true, Ordering::Relaxed);
            eprintln!("soak: driver {} failed; seed {}", self.1, self.0.seed);
        }
    }
}

impl<'a> Driver<'a> {
    pub fn new(soak: &'a Soak, index: u64) -> Self {
        Self {
            soak,
            index,
            dice: Dice::new(soak.seed, index as u32),
            streams: (0..STREAMS).map(|_| None).collect(),
            tally: Tally::default(),
            pixels: Vec::new(),
        }
    }

    /// Plays until the steps are made, then brings every stream to its end.
    pub fn run(mut self) -> Tally {
        let _alarm = Alarm(self.soak, self.index);
        while !self.soak.is_over() {
            self.turn();
        }
        for slot in 0..STREAMS {
            while self.streams[slot].is_some() && !self.soak.failed.load(Ordering::Relaxed) {
                self.wait(slot);
                self.step(slot);
            }
        }
        self.tally
    }

    /// One move. Which it is, and of which stream, does not depend on what came of the others.
    fn turn(&mut self) {
        let slot = self.dice.below(STREAMS);
        let (what, more) = (self.dice.below(10_000), self.dice.below(1 << 16));
        if self.streams[slot].is_none() {
            self.streams[slot] = self.new_stream();
            return;
        }
        match what {
            0..6000 => self.step(slot),
            6000..8500 => self.look(slot),
            8500..9300 => self.wait(slot),
            9300..9500 => self.reset(slot, more % SEEDS),
            9500..9600 => self.cancel(slot),
            9600..9800 => {
                // With a step in flight or not.
                self.streams[slot] = None;
            }
            9800..9990 => self.refused(slot),
            9990..9998 => {
                self.tally.engines += 1;
                self.soak.pool.replace(more % KINDS.len(), more.is_multiple_of(2));
            }
            _ => pool::fail_to_load(),
        }
    }

    fn new_stream(&mut self) -> Option<Live> {
        let family = self.soak.book.any(&mut self.dice);
        let seed = self.dice.below(SEEDS);
        let patient = self.dice.once_in(2);
        let recipe = self.soak.book.family(family);
        let Placed { engine, generation } = self.soak.pool.engine(recipe.kind);
        if patient {
            match engine.wait(Some(HANG)) {
                Ok(loaded) => assert!(loaded, "{} still loads", KINDS[recipe.kind].name),
                Err(error) => self.check_closed(recipe.kind, generation, &error),
            }
        }
        match engine.stream(&recipe.config(seed)) {
            Ok(stream) => {
                self.tally.streams += 1;
                Some(Live {
                    stream,
                    family,
                    seed,
                    engine: generation,
                    is_cancelled: false,
                    step: 0,
                    generation: 0,
                })
            }
            Err(error) if error.kind() == ErrorKind::EngineLoading && !patient => None,
            Err(error) => {
                self.check_closed(recipe.kind, generation, &error);
                None
            }
        }
    }

    /// That an engine that says it is closed was.
    fn check_closed(&self, kind: usize, generation: u64, error: &Error) {
        let name = KINDS[kind].name;
        assert_eq!(error.kind(), ErrorKind::EngineClosed, "{name}: {error}");
        let now = self.soak.pool.generation(kind);
        assert!(now > generation, "{name}: nobody closed it, and it says: {error}");
    }

    fn step(&mut self, slot: usize) {
        let Some(live) = &self.streams[slot] else { return };
        match live.stream.step() {
            Ok(StepOutcome::Accepted) => {
                self.soak.steps.fetch_add(1, Ordering::Relaxed);
            }
            Ok(StepOutcome::Busy) => thread::yield_now(),
            Ok(StepOutcome::Done) => self.finished(slot),
            Err(error) => self.failed(slot, &error),
        }
    }

    /// Copies the newest frame, if there is one, and holds it against the solo run's.
    fn look(&mut self, slot: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        let family = self.soak.book.family(live.family);
        let run = family.run(live.seed);
        // Bytes between the rows are nobody's business.
        let stride = family.width * 4 + 4 * (self.dice.below(3));
        self.pixels.clear();
        self.pixels.resize(stride * family.height, 0xa5);
        let Some(info) = live.stream.copy_frame(&mut self.pixels, stride).unwrap() else {
            return;
        };
        let at = || format!("step {} of {}", info.step, family.name());
        assert_eq!(info.steps as usize, run.steps, "{}", at());
        assert!(info.step > live.step, "{} after step {}", at(), live.step);
        assert!(info.generation > live.generation, "{}", at());
        let expected = run.frames.get(info.step as usize - 1);
        let expected = expected.unwrap_or_else(|| panic!("{}: alone it fails before", at()));
        let tolerance = KINDS[family.kind].tolerance;
        for (line, expected) in self.pixels.chunks(stride).zip(expected.chunks(family.width * 4)) {
            let (found, rest) = line.split_at(family.width * 4);
            let same = found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= tolerance);
            assert!(same, "{}: not as alone, seed {}", at(), run.seed);
            assert!(rest.iter().all(|&byte| byte == 0xa5), "{}: wrote between rows", at());
        }
        (live.step, live.generation) = (info.step, info.generation);
        self.tally.frames += 1;
    }

    fn wait(&mut self, slot: usize) {
        let Some(live) = &self.streams[slot] else { return };
        match live.stream.wait(Some(HANG)) {
            Ok(settled) => assert!(settled, "stuck: {}", self.soak.book.family(live.family).name()),
            Err(error) => self.failed(slot, &error),
        }
    }

    /// A run that says it is over.
    fn finished(&mut self, slot: usize) {
        self.look(slot);
        let Some(live) = &self.streams[slot] else { return };
        let family = self.soak.book.family(live.family);
        let (run, status) = (family.run(live.seed), live.stream.status());
        if live.is_cancelled {
            assert_eq!(status.state, StreamState::Cancelled, "{}", family.name());
        } else {
            assert_eq!(status.state, StreamState::Done, "{}", family.name());
            assert_eq!(run.error, None, "{}: alone it fails", family.name());
            assert_eq!((status.step, live.step), (status.steps, status.steps), "{}", family.name());
            self.tally.pictures += 1;
        }
        let seed = self.dice.below(SEEDS);
        if self.dice.once_in(4) || self.soak.is_over() {
            self.streams[slot] = None;
        } else {
            self.reset(slot, seed);
        }
    }

    /// A stream that gives an error: its engine was closed, or the run fails there alone too.
    fn failed(&mut self, slot: usize, error: &Error) {
        let Some(live) = &self.streams[slot] else { return };
        let family = self.soak.book.family(live.family);
        if error.kind() == ErrorKind::EngineClosed {
            self.check_closed(family.kind, live.engine, error);
            self.tally.closed += 1;
            self.streams[slot] = None;
            return;
        }
        let (run, status) = (family.run(live.seed), live.stream.status());
        assert_eq!(Some(error.kind()), run.error, "{}: {error}", family.name());
        assert_eq!(status.state, StreamState::Failed, "{}", family.name());
        assert_eq!(status.step as usize, run.frames.len(), "{}: {error}", family.name());
        self.tally.errors += 1;
        let seed = self.dice.below(SEEDS);
        if self.dice.once_in(4) || self.soak.is_over() {
            self.streams[slot] = None;
        } else {
            self.reset(slot, seed);
        }
    }

    fn reset(&mut self, slot: usize, seed: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        let family = self.soak.book.family(live.family);
        match live.stream.reset(Some(family.run(seed).seed)) {
            Ok(()) => {
                (live.seed, live.step, live.is_cancelled) = (seed, 0, false);
                self.tally.resets += 1;
            }
            Err(error) => self.failed(slot, &error),
        }
    }

    fn cancel(&mut self, slot: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        live.stream.cancel();
        // A run that is over already stays what it is.
        live.is_cancelled = live.stream.status().state == StreamState::Cancelled;
        self.tally.cancels += u64::from(live.is_cancelled);
    }

    /// What is refused leaves nothing behind.
    fn refused(&mut self, slot: usize) {
        let Some(live) = &self.streams[slot] else { return };
        let kind = self.soak.book.family(live.family).kind;
        let Placed { engine, generation } = self.soak.pool.engine(kind);
        let none = SamplerConfig { steps: 0, ..SamplerConfig::default() };
        let error = engine.stream(&StreamConfig::new(none, 0)).expect_err("a run of no steps");
        match error.kind() {
            ErrorKind::InvalidArgument | ErrorKind::EngineLoading => {}
            _ => self.check_closed(kind, generation, &error),
        }
        let mut short = [0; 3];
        let error = live.stream.copy_frame(&mut short, 4).expect_err("3 bytes");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    }
}
