//! What tells one model from another: a hash of its file, and of those that hold its weights.

use std::fs::{File, Metadata};
use std::io::{Cursor, Read};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use twox_hash::XxHash3_128;

use crate::error::{Error, ErrorKind, Result};

use super::ModelSource;
use super::external_data::locations;
use super::interrupt::Interrupt;

/// Read at once; between two of them a load can be broken off.
const BLOCK: usize = 1 << 20;

/// See the module's text.
#[derive(Debug)]
pub(super) struct Fingerprint {
    /// 32 hexadecimal digits: XXH3-128 of the model file. Where it keeps weights in other files, of the
    /// digests of them all instead: its own, then theirs in the order of their names.
    pub(super) hex: String,
    /// The files of weights that were hashed.
    pub(super) external: Vec<PathBuf>,
    /// Why some of the weights are not in it.
    pub(super) missing: Option<String>,
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
    /// Reads all of the model. `progress` is told which part of it was read, 0 to 1, as far as that is
    /// known. Errors: `Io`; `EngineClosed` once interrupted.
    pub(super) fn of(
        source: &ModelSource,
        interrupt: &Interrupt,
        progress: &dyn Fn(f32),
    ) -> Result<Self> {
        let mut made =
            Self { hex: String::new(), external: Vec::new(), missing: None, seen: Vec::new() };
        let path = match source {
            ModelSource::Bytes(bytes) => {
                let mut hash = XxHash3_128::new();
                for (block, read) in bytes.chunks(BLOCK).zip(1usize..) {
                    interrupt.check()?;
                    hash.write(block);
                    progress((read * BLOCK) as f32 / bytes.len() as f32);
                }
                made.hex = hex(hash.finish_128());
                if !locations(Cursor::new(bytes), bytes.len() as u64).is_empty() {
                    made.missing = Some("a model in memory has weights in other files".to_owned());
                }
                return Ok(made);
            }
            ModelSource::Path(path) => path,
        };
        let refuse = |path: &Path, error: std::io::Error| {
            Error::new(ErrorKind::Io, format!("{}: {error}", path.display()))
        };
        let size = std::fs::metadata(path).map_err(|error| refuse(path, error))?.len();
        let file = File::open(path).map_err(|error| refuse(path, error))?;
        let names = locations(file, size);
        let folder = path.parent().unwrap_or(Path::new(""));
        for name in names {
            let place = folder.join(&name);
            match std::fs::metadata(&place) {
                _ if !stays_below(&name) => {
                    made.missing = Some(format!("its weights in {name:?} lie outside its folder"));
                }
                Ok(found) if found.is_file() => made.external.push(place),
                Ok(_) => made.missing = Some(format!("its weights in {name:?} are not in a file")),
                Err(error) => made.missing = Some(format!("its weights in {name:?}: {error}")),
            }
        }
        let files: Vec<PathBuf> =
            std::iter::once(path.clone()).chain(made.external.iter().cloned()).collect();
        made.seen = files.iter().map(|path| (path.clone(), stamp(path))).collect();
        let sizes = made.seen.iter().filter_map(|(_, stamp)| Some(stamp.as_ref()?.size));
        let total = sizes.sum::<u64>() as f32;
        let mut read = 0u64;
        let mut digests = Vec::new();
        let mut block = vec![0; BLOCK];
        for path in &files {
            let mut file = File::open(path).map_err(|error| refuse(path, error))?;
            let mut hash = XxHash3_128::new();
            loop {
                interrupt.check()?;
                match file.read(&mut block) {
                    Ok(0) => break,
                    Ok(length) => {
                        hash.write(&block[..length]);
                        read += length as u64;
                        progress(read as f32 / total);
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(refuse(path, error)),
                }
            }
            digests.push(hash.finish_128());
        }
        made.hex = match digests[..] {
            [one] => hex(one),
            _ => {
                let bytes: Vec<u8> =
                    digests.iter().flat_map(|digest| digest.to_be_bytes()).collect();
                hex(XxHash3_128::oneshot(&bytes))
            }
        };
        Ok(made)
    }

    /// Whether the files are as they were when they were read.
    pub(super) fn still_holds(&self) -> bool {
        self.seen.iter().all(|(path, seen)| stamp(path) == *seen)
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

/// Whether a model's word for another file cannot lead out of its folder.
fn stays_below(location: &str) -> bool {
    let mut parts = Path::new(location).components().peekable();
    parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_location_leads_out_of_the_folder() {
        for inside in ["weights", "a/b.bin", "./a", "a..b"] {
            assert!(stays_below(inside), "{inside}");
        }
        for outside in ["", "/etc/passwd", "..", "../a", "a/../../b", "a/.."] {
            assert!(!stays_below(outside), "{outside}");
        }
    }

    #[test]
    fn a_fingerprint_is_xxh3_of_the_bytes_and_can_be_broken_off() {
        let interrupt = Interrupt::new();
        let bytes = vec![7; 2 * BLOCK + 3];
        let expected = hex(XxHash3_128::oneshot(&bytes));
        let source = ModelSource::Bytes(bytes.into());
        let parts = std::cell::RefCell::new(Vec::new());
        let progress = |part: f32| parts.borrow_mut().push(part);
        let found = Fingerprint::of(&source, &interrupt, &progress).unwrap();
        assert_eq!(found.hex, expected);
        assert!(parts.borrow().is_sorted() && parts.borrow().len() == 3);
        interrupt.stop();
        let error = Fingerprint::of(&source, &interrupt, &|_| {}).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::EngineClosed);
    }
}
