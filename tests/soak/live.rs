//! A stream, what is known of it, and its frames held against the book.

use ddpm::engine::{FrameGuard, FrameInfo, Stream, StreamState};
use ddpm::error::{Error, ErrorKind};

use super::HANG;
use super::recipes::{Book, Family};

/// What lies between the rows of a copy, where nothing may be written.
const GAP: u8 = 0xa5;

/// A frame that was acquired, and of which run it is.
pub struct Held {
    guard: FrameGuard,
    family: usize,
    seed: usize,
}

pub struct Live {
    pub stream: Stream,
    pub family: usize,
    /// The number of the engine in its place.
    pub engine: u64,
    /// Of the family's seeds, the one of the run that the stream is in.
    seed: usize,
    is_cancelled: bool,
    /// The newest frame of this run that was seen, and its generation.
    step: u32,
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
    pub fn new(stream: Stream, family: usize, seed: usize, engine: u64) -> Self {
        Self {
            stream,
            family,
            engine,
            seed,
            is_cancelled: false,
            step: 0,
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
        self.note(family, info);
        let expected = frame(family, self.seed, info);
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
                self.note(family, guard.info());
                self.held = Some(Held { guard, family: self.family, seed: self.seed });
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
    fn note(&mut self, family: &Family, info: FrameInfo) {
        let at = || format!("step {} of {}", info.step, family.name());
        assert_eq!(info.steps as usize, family.run(self.seed).steps, "{}", at());
        assert!(info.step > self.step, "{} after step {}", at(), self.step);
        assert!(info.generation > self.generation, "{}", at());
        (self.step, self.generation) = (info.step, info.generation);
    }

    /// A run of which `step` says that it is over: what it has come to. `pixels` as for
    /// [`copy`](Self::copy); it counts the frames that it looks at.
    pub fn finished(&mut self, book: &Book, pixels: &mut Vec<u8>) -> (End, u64) {
        // The last frame, unless it was seen.
        let mut frames = u64::from(self.take_held().is_some_and(|held| held.release(book)));
        frames += u64::from(self.copy(book, 0, pixels));
        let family = book.family(self.family);
        let status = self.stream.status();
        if self.is_cancelled {
            assert_eq!(status.state, StreamState::Cancelled, "{}", family.name());
            return (End::Cancelled, frames);
        }
        assert_eq!(status.state, StreamState::Done, "{}", family.name());
        assert_eq!(family.run(self.seed).error, None, "{}: alone it fails", family.name());
        assert_eq!((status.step, self.step), (status.steps, status.steps), "{}", family.name());
        (End::Picture, frames)
    }

    /// An error that a call gave, other than that the engine was closed: whether the run fails there
    /// alone too.
    pub fn failed(&self, book: &Book, error: &Error) -> End {
        if error.kind() == ErrorKind::EngineClosed {
            return End::Closed;
        }
        let family = book.family(self.family);
        let (run, status) = (family.run(self.seed), self.stream.status());
        assert_eq!(Some(error.kind()), run.error, "{}: {error}", family.name());
        assert_eq!(status.state, StreamState::Failed, "{}: {error}", family.name());
        assert_eq!(status.step as usize, run.frames.len(), "{}: {error}", family.name());
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
        self.stream.reset(Some(book.family(self.family).run(seed).seed))?;
        (self.seed, self.step, self.is_cancelled) = (seed, 0, false);
        Ok(())
    }

    /// True if that ended the run; one that is over already stays what it is.
    pub fn cancel(&mut self) -> bool {
        self.stream.cancel();
        self.is_cancelled = self.stream.status().state == StreamState::Cancelled;
        self.is_cancelled
    }
}

impl Held {
    /// Gives the frame back, after whatever was done meanwhile. Always true.
    pub fn release(self, book: &Book) -> bool {
        let family = book.family(self.family);
        let expected = frame(family, self.seed, self.guard.info());
        let step = self.guard.info().step;
        assert!(family.is_same(&self.guard, expected), "step {step} of {}: held", family.name());
        true
    }
}

/// What the solo run has at this step.
fn frame(family: &Family, seed: usize, info: FrameInfo) -> &[u8] {
    let frame = (info.step as usize).checked_sub(1).and_then(|i| family.run(seed).frames.get(i));
    let at = || format!("step {} of {}: alone there is none", info.step, family.name());
    frame.unwrap_or_else(|| panic!("{}", at()))
}
