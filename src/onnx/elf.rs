//! Which libraries an ELF library needs, as its dynamic section lists them.
//!
//! So the versions that a CUDA provider wants are known before anything of it is loaded. 64 bits,
//! little-endian; of any other file nothing is known, which is no fault of the file.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;

/// More than this is no dynamic section, and no list of names.
const LARGEST: u64 = 1 << 20;

/// A part of the file, and where the loader puts it.
#[derive(Clone, Copy)]
struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

/// The names, `libcudart.so.13` say; none where the file is not of the kind that this reads.
pub(super) fn needed(path: &Path) -> Vec<String> {
    File::open(path).ok().and_then(|mut file| read(&mut file)).unwrap_or_default()
}

fn read(file: &mut File) -> Option<Vec<String>> {
    let header = bytes(file, 0, 64)?;
    // The magic, 64 bits, little-endian.
    if header.get(..6)? != [0x7F, b'E', b'L', b'F', 2, 1] {
        return None;
    }
    let (table, size, count) =
        (long(&header, 32)?, u64::from(short(&header, 54)?), u64::from(short(&header, 56)?));
    let headers = bytes(file, table, size.checked_mul(count)?)?;
    let segments: Vec<Segment> = headers
        .chunks_exact(usize::try_from(size).ok().filter(|&size| size >= 56)?)
        .filter_map(|entry| {
            Some(Segment {
                kind: u32::from_le_bytes(entry.get(..4)?.try_into().ok()?),
                offset: long(entry, 8)?,
                address: long(entry, 16)?,
                size: long(entry, 32)?,
            })
        })
        .collect();
    let dynamic = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
    let dynamic = bytes(file, dynamic.offset, dynamic.size)?;
    let entries: Vec<(u64, u64)> = dynamic
        .chunks_exact(16)
        .filter_map(|entry| Some((long(entry, 0)?, long(entry, 8)?)))
        .take_while(|&(tag, _)| tag != 0)
        .collect();
    let (_, strings) = entries.iter().find(|(tag, _)| *tag == DT_STRTAB)?;
    let holder = segments.iter().find(|segment| {
        segment.kind == PT_LOAD
            && strings.checked_sub(segment.address).is_some_and(|at| at < segment.size)
    })?;
    let start = (strings - holder.address).checked_add(holder.offset)?;
    let names = entries.iter().filter(|(tag, _)| *tag == DT_NEEDED);
    Some(names.filter_map(|(_, at)| text(file, start.checked_add(*at)?)).collect())
}

/// The text at `offset`, which ends in NUL.
fn text(file: &mut File, offset: u64) -> Option<String> {
    let mut found = Vec::new();
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.take(256).read_to_end(&mut found).ok()?;
    let end = found.iter().position(|&byte| byte == 0)?;
    found.truncate(end);
    String::from_utf8(found).ok()
}

fn bytes(file: &mut File, offset: u64, size: u64) -> Option<Vec<u8>> {
    if size > LARGEST {
        return None;
    }
    let mut found = vec![0; usize::try_from(size).ok()?];
    file.seek(SeekFrom::Start(offset)).ok()?;
    file.read_exact(&mut found).ok()?;
    Some(found)
}

fn short(from: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(from.get(at..at + 2)?.try_into().ok()?))
}

fn long(from: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(from.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(all(target_os = "linux", target_env = "gnu", target_pointer_width = "64"))]
    #[test]
    fn this_program_needs_the_c_library() {
        let needed = needed(&std::env::current_exe().unwrap());
        assert!(needed.iter().any(|name| name == "libc.so.6"), "{needed:?}");
    }

    #[test]
    fn of_other_files_nothing_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        let mut header = vec![0x7F, b'E', b'L', b'F', 2, 1];
        header.resize(64, 0xFF);
        for content in [&b"text"[..], b"", &header] {
            std::fs::write(&file, content).unwrap();
            assert!(needed(&file).is_empty());
        }
        assert!(needed(folder.path()).is_empty());
    }
}
