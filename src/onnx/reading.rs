//! Reads files to their end, in blocks, wherever they are.
//!
//! Between two blocks a load can be broken off. This module must not know what is in them.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

use super::interrupt::Interrupt;
use super::source::ModelFile;

/// Read at once.
const BLOCK: usize = 1 << 20;

/// A file on disk.
pub(super) struct DiskFile {
    file: File,
    at: u64,
    size: u64,
}

impl DiskFile {
    /// Errors: `Io`, by the file's name.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let open = || {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok(Self { file, at: 0, size })
        };
        open().map_err(|error| fault(&path.display().to_string(), &error))
    }

    /// The file itself, at its start.
    pub(super) fn into_inner(self) -> File {
        self.file
    }
}

impl ModelFile for DiskFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&mut self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        if self.at != offset {
            self.file.seek(SeekFrom::Start(offset))?;
            self.at = offset;
        }
        let read = self.file.read(into)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Gives all of a file to `take`, block after block. `name` is what messages call it.
///
/// Errors: `Io` where it cannot be read or ends early; `EngineClosed` once interrupted.
pub(super) fn stream(
    file: &mut dyn ModelFile,
    name: &str,
    interrupt: &Interrupt,
    take: &mut dyn FnMut(&[u8]),
) -> Result<()> {
    let size = file.size();
    let refuse = |reason: String| Error::new(ErrorKind::Io, format!("{name}: {reason}"));
    let mut block = vec![0; usize::try_from(size).unwrap_or(BLOCK).min(BLOCK)];
    let mut at = 0;
    while at < size {
        interrupt.check()?;
        let room = usize::try_from(size - at).unwrap_or(BLOCK).min(BLOCK);
        let read = match file.read_at(at, &mut block[..room]) {
            Ok(0) => return Err(refuse(format!("ended after {at} of {size} bytes"))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(fault(name, &error)),
        };
        let found = block.get(..read).filter(|_| read <= room);
        take(found.ok_or_else(|| {
            refuse(format!("reading gave {read} bytes at {at}, expected at most {room}"))
        })?);
        at += read as u64;
    }
    interrupt.check()
}

/// Room for so many bytes. Errors: `OutOfMemory`.
pub(super) fn room_for(size: u64, name: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let fits = usize::try_from(size).is_ok_and(|size| bytes.try_reserve_exact(size).is_ok());
    if !fits {
        let text = format!("{name}: memory for its {size} bytes could not be had");
        return Err(Error::new(ErrorKind::OutOfMemory, text));
    }
    Ok(bytes)
}

/// What went wrong with a file, behind its name.
pub(super) fn fault(name: &str, error: &io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("{name}: {error}"))
}
