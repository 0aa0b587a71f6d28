//! What tells one model from another: a hash of its file, and of those that hold its weights.

use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use twox_hash::XxHash3_128;

use crate::error::Result;

use super::interrupt::Interrupt;
use super::reading::{DiskFile, room_for, stream};
use super::source::ModelFile;

/// Hashed between two looks at the interrupt.
const BLOCK: usize = 1 << 20;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Fingerprint {
    /// 32 hexadecimal digits: XXH3-128 of the model file. Of one with more files, of the digests of them all
    /// instead, in the order in which they were read.
    pub(super) hex: String,
    /// The files as they were.
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

/// What of a file changes when its contents do.
#[derive(Debug, PartialEq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
}

impl Fingerprint {
    /// Whether the files are as they were when they were read.
    pub(super) fn still_holds(&self) -> bool {
        self.seen.iter().all(|(path, seen)| stamp(path) == *seen)
    }
}

/// Takes a fingerprint, file by file.
pub(super) struct Fingerprinting<'a> {
    interrupt: &'a Interrupt,
    /// Told which part of what is to be read was read, 0 to 1, as far as that is known.
    progress: &'a dyn Fn(f32),
    expected: u64,
    read: u64,
    digests: Vec<u128>,
    seen: Vec<(PathBuf, Option<Stamp>)>,
}

impl<'a> Fingerprinting<'a> {
    pub(super) fn new(interrupt: &'a Interrupt, progress: &'a dyn Fn(f32)) -> Self {
        let (digests, seen) = (Vec::new(), Vec::new());
        Self { interrupt, progress, expected: 0, read: 0, digests, seen }
    }

    /// There will be so many bytes more.
    pub(super) fn expect(&mut self, bytes: u64) {
        self.expected = self.expected.saturating_add(bytes);
    }

    /// Notes how a file on disk is, before it is read.
    pub(super) fn see(&mut self, path: &Path) {
        self.seen.push((path.to_owned(), stamp(path)));
    }

    /// Takes in bytes. Errors: `EngineClosed` once interrupted.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let mut hash = XxHash3_128::new();
        for block in bytes.chunks(BLOCK) {
            self.interrupt.check()?;
            hash.write(block);
            self.advance(block.len());
        }
        self.digests.push(hash.finish_128());
        Ok(())
    }

    /// Takes in a file on disk. Errors: `Io`; `EngineClosed` once interrupted.
    pub(super) fn file(&mut self, path: &Path) -> Result<()> {
        self.read(&mut DiskFile::open(path)?, &path.display().to_string(), &mut |_| {})
    }

    /// Takes in a file, and keeps its bytes. Errors: as [`file`](Self::file); `OutOfMemory`.
    pub(super) fn keep(&mut self, file: &mut dyn ModelFile, name: &str) -> Result<Vec<u8>> {
        let mut bytes = room_for(file.size(), name)?;
        self.read(file, name, &mut |block| bytes.extend_from_slice(block))?;
        Ok(bytes)
    }

    fn read(
        &mut self,
        file: &mut dyn ModelFile,
        name: &str,
        take: &mut dyn FnMut(&[u8]),
    ) -> Result<()> {
        let mut hash = XxHash3_128::new();
        let interrupt = self.interrupt;
        stream(file, name, interrupt, &mut |block| {
            hash.write(block);
            take(block);
            self.advance(block.len());
        })?;
        self.digests.push(hash.finish_128());
        Ok(())
    }

    fn advance(&mut self, bytes: usize) {
        self.read += bytes as u64;
        (self.progress)(self.read as f32 / self.expected.max(self.read) as f32);
    }

    pub(super) fn finish(self) -> Fingerprint {
        let hex = match self.digests[..] {
            [one] => hex(one),
            _ => {
                let digests = self.digests.iter().flat_map(|digest| digest.to_be_bytes());
                hex(XxHash3_128::oneshot(&digests.collect::<Vec<u8>>()))
            }
        };
        Fingerprint { hex, seen: self.seen }
    }
}

/// A digest in writing.
pub(super) fn hex(digest: u128) -> String {
    format!("{digest:032x}")
}

fn stamp(path: &Path) -> Option<Stamp> {
    let of = |found: Metadata| Stamp { size: found.len(), modified: found.modified().ok() };
    std::fs::metadata(path).ok().map(of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_fingerprint_is_xxh3_of_the_bytes_and_can_be_broken_off() {
        let interrupt = Interrupt::new();
        let bytes = vec![7; 2 * BLOCK + 3];
        let expected = hex(XxHash3_128::oneshot(&bytes));
        let parts = std::cell::RefCell::new(Vec::new());
        let progress = |part: f32| parts.borrow_mut().push(part);
        let mut print = Fingerprinting::new(&interrupt, &progress);
        print.expect(bytes.len() as u64);
        print.bytes(&bytes).unwrap();
        assert_eq!(print.finish().hex, expected);
        assert!(parts.borrow().is_sorted() && parts.borrow().len() == 3);
        interrupt.stop();
        let error = Fingerprinting::new(&interrupt, &|_| {}).bytes(&bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EngineClosed);
    }
}
