//! One host thread: streams of its own, and what it does with them.

use std::sync::atomic::Ordering;
use std::thread;

use ddpm::engine::{StepOutcome, StreamConfig};
use ddpm::error::{Error, ErrorKind};
use ddpm::sampler::SamplerConfig;

use super::dice::Dice;
use super::live::{End, Held, Live};
use super::pool::{self, Placed};
use super::recipes::{KINDS, SEEDS};
use super::tally::{Event, Tally};
use super::{HANG, Soak};

/// Streams of one driver.
const STREAMS: usize = 12;

/// Frames that may outlive their streams, and engines.
const KEPT: usize = 4;

pub struct Driver<'a> {
    soak: &'a Soak,
    index: u64,
    dice: Dice,
    streams: Vec<Option<Live>>,
    kept: Vec<Held>,
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
            kept: Vec::new(),
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
        for held in self.kept.drain(..) {
            held.release(&self.soak.book);
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
            6000..8000 => self.copy(slot, more % 3),
            8000..8500 => self.acquire(slot),
            8500..9300 => self.wait(slot),
            9300..9500 => self.reset(slot, more % SEEDS),
            9500..9600 => self.cancel(slot),
            9600..9700 => self.end(slot),
            9700..9800 => self.seek(slot, more),
            9800..9840 => self.branch(slot, more % STREAMS),
            9840..9860 => self.pause(slot),
            9860..9900 => self.save_and_load(slot, more),
            9900..9970 => self.play(slot, more % 8),
            9970..9990 => self.refused(slot),
            9990..9998 => {
                self.tally.count(Event::Engine);
                self.soak.pool.replace(more % KINDS.len(), more.is_multiple_of(2));
            }
            _ => pool::fail_to_load(),
        }
    }

    /// Puts what is loaded from one stream's bytes in the place of another; they are refused by an engine
    /// with another model.
    fn save_and_load(&mut self, slot: usize, more: usize) {
        let Some(live) = &self.streams[slot] else { return };
        let blob = match live.save(&self.soak.book) {
            Ok(Some(blob)) => blob,
            Ok(None) => return,
            Err(error) => return self.failed(slot, &error),
        };
        let (own, _) = live.engine;
        let kind = if more.is_multiple_of(4) { more / 4 % KINDS.len() } else { own };
        let Placed { engine, generation } = self.soak.pool.engine(kind);
        match live.load(&self.soak.book, &engine, &blob, (kind, generation)) {
            Ok(made) => {
                assert_eq!(KINDS[kind].name, KINDS[own].name, "loaded by another model");
                let to = more % STREAMS;
                self.end(to);
                self.streams[to] = Some(made);
                self.tally.count(Event::Load);
            }
            Err(error) if error.kind() == ErrorKind::EngineLoading => {}
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                assert_ne!(KINDS[kind].name, KINDS[own].name, "{error}");
            }
            Err(error) => self.check_closed(kind, generation, &error),
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
                self.tally.count(Event::Stream);
                Some(Live::new(stream, family, seed, (recipe.kind, generation)))
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
        let Some(live) = &mut self.streams[slot] else { return };
        match live.stream.step() {
            Ok(StepOutcome::Accepted) => {
                self.soak.steps.fetch_add(1, Ordering::Relaxed);
            }
            outcome => self.answered(slot, outcome),
        }
    }

    /// What a request for steps came to.
    fn answered(&mut self, slot: usize, outcome: Result<StepOutcome, Error>) {
        let Some(live) = &mut self.streams[slot] else { return };
        match outcome {
            Ok(StepOutcome::Accepted) => {}
            Ok(StepOutcome::Busy) => thread::yield_now(),
            Ok(StepOutcome::Paused) => {
                assert!(live.stream.status().is_paused);
                // Most pauses are short.
                if self.dice.once_in(4) || self.soak.is_over() {
                    live.stream.resume();
                }
            }
            Ok(StepOutcome::Done) => {
                // The last frame may be the one that is held.
                if let Some(held) = live.take_held() {
                    held.release(&self.soak.book);
                }
                if live.copy(&self.soak.book, 0, &mut self.pixels) {
                    self.tally.count(Event::Frame);
                }
                let end = live.finished(&self.soak.book);
                self.over(slot, end);
            }
            Err(error) => self.failed(slot, &error),
        }
    }

    fn play(&mut self, slot: usize, milliseconds: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        let outcome = live.play(&self.soak.book, milliseconds);
        self.tally.count(Event::Tick);
        self.answered(slot, outcome);
    }

    fn pause(&mut self, slot: usize) {
        let Some(live) = &self.streams[slot] else { return };
        live.stream.pause();
        assert!(live.stream.status().is_paused);
        self.tally.count(Event::Pause);
    }

    fn seek(&mut self, slot: usize, more: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        match live.seek(&self.soak.book, more, 7) {
            Ok(true) => self.tally.count(Event::Seek),
            Ok(false) => {}
            Err(error) => self.failed(slot, &error),
        }
    }

    /// Puts a branch of one stream in the place of another.
    fn branch(&mut self, slot: usize, to: usize) {
        let Some(live) = &self.streams[slot] else { return };
        match live.branch(&self.soak.book) {
            Ok(None) => {}
            Ok(Some(made)) => {
                self.end(to);
                self.streams[to] = Some(made);
                self.tally.count(Event::Branch);
            }
            Err(error) => self.failed(slot, &error),
        }
    }

    fn copy(&mut self, slot: usize, gap: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        if live.copy(&self.soak.book, gap, &mut self.pixels) {
            self.tally.count(Event::Frame);
        }
    }

    /// Takes a frame; or gives back the one that is held.
    fn acquire(&mut self, slot: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        if let Some(held) = live.take_held() {
            held.release(&self.soak.book);
        } else if live.acquire(&self.soak.book) {
            self.tally.count(Event::Held);
        }
    }

    fn wait(&mut self, slot: usize) {
        let Some(live) = &self.streams[slot] else { return };
        if let Err(error) = live.wait(&self.soak.book) {
            self.failed(slot, &error);
        }
    }

    fn reset(&mut self, slot: usize, seed: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        match live.reset(&self.soak.book, seed) {
            Ok(()) => self.tally.count(Event::Reset),
            Err(error) => self.failed(slot, &error),
        }
    }

    fn cancel(&mut self, slot: usize) {
        let Some(live) = &mut self.streams[slot] else { return };
        if live.cancel() {
            self.tally.count(Event::Cancel);
        }
    }

    /// Drops the stream, with a step in flight or not. A frame that it lent is kept for a while.
    fn end(&mut self, slot: usize) {
        let Some(mut live) = self.streams[slot].take() else { return };
        self.kept.extend(live.take_held());
        if self.kept.len() > KEPT {
            self.kept.remove(0).release(&self.soak.book);
        }
    }

    fn failed(&mut self, slot: usize, error: &Error) {
        let Some(live) = &self.streams[slot] else { return };
        let end = live.failed(&self.soak.book, error);
        if end == End::Closed {
            let (kind, generation) = live.engine;
            self.check_closed(kind, generation, error);
        }
        self.over(slot, end);
    }

    /// A run came to its end: the stream starts another, or is dropped.
    fn over(&mut self, slot: usize, end: End) {
        let seed = self.dice.below(SEEDS);
        let again = !self.dice.once_in(4) && !self.soak.is_over() && end != End::Closed;
        match end {
            End::Picture => self.tally.count(Event::Picture),
            End::Failed => self.tally.count(Event::Failed),
            End::Closed => self.tally.count(Event::Closed),
            End::Cancelled => {}
        }
        if again { self.reset(slot, seed) } else { self.end(slot) }
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
        let error = live.stream.copy_frame(&mut [0; 3], 0).expect_err("3 bytes");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}
