//! Files that are written: as a whole or not at all, and not over what is needed still.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::checkpoint::is_checkpoint;

/// What ends the names of files that are being written.
pub const PARTIAL: &str = "partial";

/// Refuses, before any work is done, a file that a command is to write: where its name does not end in
/// `extension`, it cannot be written, is one of the `inputs` of the command, or is a checkpoint, which
/// may be all that is left of days.
pub fn check(path: &Path, extension: &str, inputs: &[&Path]) -> Result<()> {
    let shown = path.display();
    ensure!(
        path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension)),
        "{shown}: expected a name that ends in .{extension}"
    );
    let own = identity(path);
    if let Some(input) = inputs.iter().find(|input| own.is_some() && identity(input) == own) {
        bail!(
            "{shown}: would be written over {}, which is read; choose another name",
            input.display()
        );
    }
    ensure!(
        !is_checkpoint(path),
        "{shown}: is a checkpoint, which is not written over; choose another name, or remove it first"
    );
    check_writable(path)
}

/// Sees that a file can be written, without doing it.
pub fn check_writable(path: &Path) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let beside = Beside::create(path).with_context(cannot)?;
    fs::remove_file(&beside.partial).with_context(cannot)
}

/// As [`check`], for a file that must not be there yet.
pub fn check_new(path: &Path, extension: &str) -> Result<()> {
    // A link to nothing is there too.
    let exists = fs::symlink_metadata(path).is_ok();
    ensure!(!exists, "{} exists; choose another name with -o", path.display());
    check(path, extension, &[])
}

/// Makes a folder, with those that it is in, where it is not there.
pub fn make_folder(folder: &Path) -> Result<()> {
    let shown = folder.display();
    // A link to nothing is there too.
    let is_other = fs::symlink_metadata(folder).is_ok() && !folder.is_dir();
    ensure!(!is_other, "cannot make {shown}: something that is no folder is there");
    fs::create_dir_all(folder).with_context(|| format!("cannot make {shown}"))
}

/// What two names of one file have in common; none for what is not there.
fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().and_then(|found| identity_of(&found, path))
}

#[cfg(unix)]
type Identity = (u64, u64);
#[cfg(not(unix))]
type Identity = PathBuf;

#[cfg(unix)]
fn identity_of(found: &Metadata, _: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt;
    Some((found.dev(), found.ino()))
}

#[cfg(not(unix))]
fn identity_of(_: &Metadata, path: &Path) -> Option<Identity> {
    fs::canonicalize(path).ok()
}

/// Whether an open file is the one that lies at `path` still; where that cannot be told, whether one does.
pub fn is_at(file: &File, path: &Path) -> bool {
    let own = file.metadata().ok().and_then(|found| identity_of(&found, path));
    own.is_some() && own == identity(path)
}

/// Replaces a file as a whole: written beside it, flushed to disk, then renamed over it. Whatever happens
/// meanwhile, the file is the old one or the new one. A link stays, and what it leads to is replaced.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let beside = Beside::create(path)?;
        let partial = beside.partial.clone();
        beside.fill(bytes).inspect_err(|_| {
            // Nothing can be done about a file that does not go away either.
            let _ = fs::remove_file(partial);
        })
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A file on its way to another's place: a rename within a folder replaces a file as a whole.
struct Beside {
    target: PathBuf,
    partial: PathBuf,
    file: File,
}

impl Beside {
    /// Makes it, empty. It is this process's own, so that two that write the same file do not mix.
    fn create(path: &Path) -> io::Result<Self> {
        let is_link = fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        let target = if is_link { fs::canonicalize(path)? } else { path.to_owned() };
        let found = fs::metadata(&target);
        match &found {
            // A device, say, which a rename would do away with.
            Ok(found) if !found.is_file() => return Err(io::Error::other("not a file")),
            Ok(found) if found.permissions().readonly() => {
                return Err(io::Error::other("it may not be written"));
            }
            _ => {}
        }
        let mut name = OsString::from(target.file_name().unwrap_or_default());
        name.push(format!(".{}.{PARTIAL}", std::process::id()));
        let partial = target.with_file_name(name);
        let file = File::create(&partial)?;
        if let Ok(found) = found {
            // Whoever may not read the old one may not read the new one. Not every file system can.
            let _ = file.set_permissions(found.permissions());
        }
        Ok(Self { target, partial, file })
    }

    fn fill(mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_all()?;
        // Not every system renames a file that is open.
        drop(self.file);
        fs::rename(&self.partial, &self.target)?;
        let folder = self.target.parent().filter(|folder| !folder.as_os_str().is_empty());
        // The rename itself is on disk only when the folder is; not every system can do this.
        let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
        Ok(())
    }
}
