//! A stream, what is known of it, and its frames held against the book.

use ddpm::engine::{
    Easing, Engine, FrameGuard, FrameInfo, PlaybackConfig, StepOutcome, Stream, StreamState,
};
use ddpm::error::{Error, ErrorKind};

use super::HANG;
use super::recipes::{Book, Family, Likeness, SoloRun};

/// What lies between the rows of a copy, where nothing may be written.
const GAP: u8 = 0xa5;

/// A frame that was acquired, and of which run it is.
pub struct Held {
    guard: FrameGuard,
    family: usize,
    seed: usize,
    is_branch: bool,
}

pub struct Live {
    pub stream: Stream,
    pub family: usize,
    /// The engine: the kind, and the number of its place. Two kinds may have one model.
    pub engine: (usize, u64),
    /// Of the family's seeds, the one of the run that the stream is in.
    seed: usize,
    is_branch: bool,
    is_cancelled: bool,
    /// Since the last reset. The step of a run that failed is then not known.
    has_sought: bool,
    is_playing: bool,
    /// The step of the next frame at the least, and of the newest that was seen.
    least: u32,
    seen: Option<u32>,
    /// Of the newest frame that was seen.
    generation: u64,
    held: Option<Held>,
}

/// What a stream that will not step any more has come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    Picture,
    Cancelled,
    /// It fails here alone too.
    Failed,
    Closed,
}

impl Live {
    pub fn new(stream: Stream, family: usize, seed: usize, engine: (usize, u64)) -> Self {
        Self {
            stream,
            family,
            engine,
            seed,
            is_branch: false,
            is_cancelled: false,
            has_sought: false,
            is_playing: false,
            least: 1,
            seen: None,
            generation: 0,
            held: None,
        }
    }

    /// Copies the newest frame, if there is one, into rows with gaps of `gap` pixels; true if there was.
    pub fn copy(&mut self, book: &Book, gap: usize, pixels: &mut Vec<u8>) -> bool {
        let family = book.family(self.family);
        let stride = family.row + 4 * gap;
        pixels.clear();
        pixels.resize(stride * family.rows, GAP);
        let info = match self.stream.copy_frame(pixels, stride) {
            Ok(Some(info)) => info,
            Ok(None) => return false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                assert!(self.held.is_some(), "{}: {error}", family.name());
                return false;
            }
        };
        assert!(self.held.is_none(), "{}: a frame beside one that is held", family.name());
        self.note(book, info);
        let Some(expected) = frame(family, self.run(book), info) else { return true };
        for (line, expected) in pixels.chunks(stride).zip(expected.chunks(family.row)) {
            let (found, rest) = line.split_at(family.row);
            let same = family.is_same(found, expected);
            assert!(same, "step {} of {}: not as alone", info.step, family.name());
            assert!(rest.iter().all(|&byte| byte == GAP), "{}: wrote between rows", family.name());
        }
        true
    }

    /// Acquires the newest frame and keeps it; true if there was one.
    pub fn acquire(&mut self, book: &Book) -> bool {
        let family = book.family(self.family);
        match self.stream.acquire_frame() {
            Ok(Some(guard)) => {
                assert!(self.held.is_none(), "{}: a frame beside one that is held", family.name());
                self.note(book, guard.info());
                self.held = Some(Held {
                    guard,
                    family: self.family,
                    seed: self.seed,
                    is_branch: self.is_branch,
                });
                true
            }
            Ok(None) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
                assert!(self.held.is_some(), "{}: {error}", family.name());
                false
            }
        }
    }

    /// The frame that is held, whose release is the caller's.
    pub fn take_held(&mut self) -> Option<Held> {
        self.held.take()
    }

    /// Notes a new frame's number, and that it is a later one.
    fn note(&mut self, book: &Book, info: FrameInfo) {
        let at = || format!("step {} of {}", info.step, book.family(self.family).name());
        let (found, expected) = (info.steps as usize, self.run(book).steps);
        let fewer = book.family(self.family).likeness() == Likeness::Last && found < expected;
        assert!(found == expected || fewer, "{}: {found} steps", at());
        assert!(info.step >= self.least, "{}, expected {} or later", at(), self.least);
        assert!(info.generation > self.generation, "{}", at());
        (self.least, self.seen) = (info.step + 1, Some(info.step));
        self.generation = info.generation;
    }

    fn run<'a>(&self, book: &'a Book) -> &'a SoloRun {
        book.family(self.family).run(self.seed, self.is_branch)
    }

    /// A run of which `step` says that it is over, and whose last frame was looked for: what it has
    /// come to.
    pub fn finished(&self, book: &Book) -> End {
        let family = book.family(self.family);
        let status = self.stream.status();
        if self.is_cancelled {
            assert_eq!(status.state, StreamState::Cancelled, "{}", family.name());
            return End::Cancelled;
        }
        assert_eq!(status.state, StreamState::Done, "{}", family.name());
        assert_eq!(self.run(book).error, None, "{}: alone it fails", family.name());
        let last = (status.step, self.seen);
        assert_eq!(last, (status.steps, Some(status.steps)), "{}", family.name());
        End::Picture
    }

    /// An error that a call gave, other than that the engine was closed: whether the run fails there
    /// alone too.
    pub fn failed(&self, book: &Book, error: &Error) -> End {
        if error.kind() == ErrorKind::EngineClosed {
            return End::Closed;
        }
        let family = book.family(self.family);
        let (run, status) = (self.run(book), self.stream.status());
        assert_eq!(Some(error.kind()), run.error, "{}: {error}", family.name());
        assert_eq!(status.state, StreamState::Failed, "{}: {error}", family.name());
        let made = status.step as usize + 1;
        assert!(self.has_sought || made == run.frames.len(), "{}: {error}", family.name());
        End::Failed
    }

    /// Waits until no step is in flight. Errors: as `Stream::wait`.
    pub fn wait(&self, book: &Book) -> Result<(), Error> {
        let settled = self.stream.wait(Some(HANG))?;
        assert!(settled, "stuck: {}", book.family(self.family).name());
        Ok(())
    }

    /// Goes back to the start with another of the family's seeds. Errors: as `Stream::reset`.
    pub fn reset(&mut self, book: &Book, seed: usize) -> Result<(), Error> {
        self.stream.reset(Some(book.family(self.family).run(seed, false).seed))?;
        (self.seed, self.is_branch) = (seed, false);
        (self.least, self.seen) = (1, None);
        (self.is_cancelled, self.has_sought) = (false, false);
        Ok(())
    }

    /// Goes to a step of the run, back or forth: this share of `shares`. False where the engine made the
    /// run shorter. Errors: as `Stream::seek`.
    pub fn seek(&mut self, book: &Book, share: usize, shares: usize) -> Result<bool, Error> {
        let step = (share % shares * self.run(book).steps).div_ceil(shares - 1) as u32;
        if self.is_refused(book, self.stream.seek(step))?.is_none() {
            return Ok(false);
        }
        (self.least, self.seen) = (step, None);
        (self.is_cancelled, self.has_sought) = (false, true);
        Ok(true)
    }

    /// The branch that the book has of this run, if it has one and this is none itself. Errors: as
    /// `Stream::branch`.
    pub fn branch(&self, book: &Book) -> Result<Option<Self>, Error> {
        let Some(branch) = book.family(self.family).branch(self.seed).filter(|_| !self.is_branch)
        else {
            return Ok(None);
        };
        let Some(stream) = self.is_refused(book, self.stream.branch(branch))? else {
            return Ok(None);
        };
        let made = Self::new(stream, self.family, self.seed, self.engine);
        // Where it begins is seen by its first frame.
        Ok(Some(Self { is_branch: true, has_sought: true, least: 0, ..made }))
    }

    /// The run's bytes; none after a step that failed in the middle, and none while the engine has still to
    /// choose its timesteps. Errors: as `Stream::save`.
    pub fn save(&self, book: &Book) -> Result<Option<Vec<u8>>, Error> {
        match self.stream.save() {
            Err(error) if error.kind() == ErrorKind::InvalidArgument => {
                let is_undirected = error.message().starts_with("director: found a run whose");
                assert!(is_undirected || self.run(book).error.is_some(), "{error}");
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// The stream of those bytes on another engine, or the same. Errors: as `Engine::load_stream`.
    pub fn load(
        &self,
        book: &Book,
        engine: &Engine,
        blob: &[u8],
        place: (usize, u64),
    ) -> Result<Self, Error> {
        let stream = engine.load_stream(blob, &book.family(self.family).config_of_saved())?;
        let made = Self::new(stream, self.family, self.seed, place);
        // It stands where this one stood, or on the way of a seek.
        Ok(Self { is_branch: self.is_branch, least: 0, ..made })
    }

    /// None where the run has no such step, which may be where the engine chooses the timesteps.
    fn is_refused<T>(&self, book: &Book, outcome: Result<T, Error>) -> Result<Option<T>, Error> {
        let is_free = book.family(self.family).likeness() == Likeness::Last;
        match outcome {
            Err(error) if error.kind() == ErrorKind::InvalidArgument && is_free => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Lets so many milliseconds pass in a playback; without one, begins one of twenty times that, of all
    /// the run's steps where the book knows no others. Errors: as `Stream::tick`.
    pub fn play(&mut self, book: &Book, milliseconds: usize) -> Result<StepOutcome, Error> {
        let seconds = milliseconds as f64 / 1e3;
        if !self.is_playing {
            let duration = (20.0 * seconds).max(1e-3);
            let is_free = book.family(self.family).likeness() == Likeness::Last;
            let fewest_steps = if is_free { 1 } else { u32::MAX };
            self.stream.play(PlaybackConfig {
                duration,
                easing: Easing::default(),
                fewest_steps,
            })?;
            self.is_playing = true;
        }
        self.stream.tick(seconds)
    }

    /// True if that ended the run; one that is over already stays what it is.
    pub fn cancel(&mut self) -> bool {
        self.stream.cancel();
        self.is_cancelled = self.stream.status().state == StreamState::Cancelled;
        self.is_cancelled
    }
}

impl Held {
    /// Gives the frame back, unchanged whatever was done meanwhile.
    pub fn release(self, book: &Book) {
        let family = book.family(self.family);
        let run = family.run(self.seed, self.is_branch);
        let info = self.guard.info();
        let same = frame(family, run, info).is_none_or(|frame| family.is_same(&self.guard, frame));
        assert!(same, "step {} of {}: held", info.step, family.name());
    }
}

/// What the solo run has at this step; none where it had others on the way.
fn frame<'a>(family: &Family, run: &'a SoloRun, info: FrameInfo) -> Option<&'a [u8]> {
    if family.likeness() == Likeness::Last {
        return run.frames.last().filter(|_| info.step == info.steps).map(Vec::as_slice);
    }
    let at = || format!("step {} of {}: alone there is none", info.step, family.name());
    Some(run.frames.get(info.step as usize).unwrap_or_else(|| panic!("{}", at())))
}
