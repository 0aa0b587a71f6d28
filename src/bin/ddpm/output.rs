//! The file a command writes: refused before any work is done where it cannot be written, and the old
//! one or the new one whatever happens meanwhile.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ddpm::error::{Error, ErrorKind, Result};

pub struct Output {
    named: PathBuf,
    /// The same, or the file that a link points to.
    target: PathBuf,
}

impl Output {
    /// Checks that `path` ends in one of `extensions`, is none of the `inputs` of the command, and that a
    /// file can be made beside it.
    ///
    /// Errors: `InvalidArgument` for another ending or an input, `Io` for the rest.
    pub fn new(path: &Path, extensions: &[&str], inputs: &[Option<&Path>]) -> Result<Self> {
        if !extensions.iter().any(|extension| ends_in(path, extension)) {
            let expected: Vec<String> =
                extensions.iter().map(|extension| format!(".{extension}")).collect();
            return Err(Error::invalid_argument(format!(
                "--output: found {}, expected a name that ends in {}",
                path.display(),
                expected.join(" or ")
            )));
        }
        let mut output = Self { named: path.to_owned(), target: path.to_owned() };
        if fs::symlink_metadata(path).is_ok() {
            // Fails for a link to nothing, which a rename would replace.
            output.target = fs::canonicalize(path).map_err(|error| output.fault(error))?;
        }
        for input in inputs.iter().flatten() {
            if fs::canonicalize(input).is_ok_and(|input| input == output.target) {
                return Err(Error::invalid_argument(format!(
                    "--output: {} would be written over {}, which is read; expected another name",
                    path.display(),
                    input.display()
                )));
            }
        }
        match fs::metadata(path) {
            Ok(found) if !found.is_file() => return Err(output.fault("not a file")),
            Ok(found) if found.permissions().readonly() => {
                return Err(output.fault("may not be written"));
            }
            _ => {}
        }
        let (partial, _) = output.partial().map_err(|error| output.fault(error))?;
        fs::remove_file(partial).map_err(|error| output.fault(error))?;
        Ok(output)
    }

    pub fn ends_in(&self, extension: &str) -> bool {
        ends_in(&self.named, extension)
    }

    pub fn path(&self) -> &Path {
        &self.named
    }

    /// Puts `bytes` in the place of what the file held. Errors: `Io`; the file is as it was then.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        let (partial, mut file) = self.partial().map_err(|error| self.fault(error))?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&partial, &self.target));
        written.map_err(|error| {
            // Nothing can be done about a file that does not go away either.
            let _ = fs::remove_file(&partial);
            self.fault(error)
        })
    }

    /// A new file beside the target: a rename within a folder replaces a file as a whole.
    fn partial(&self) -> io::Result<(PathBuf, File)> {
        let mut name = OsString::from(".");
        name.push(self.target.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let path = self.target.with_file_name(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok((path, file))
    }

    fn fault(&self, reason: impl std::fmt::Display) -> Error {
        let message = format!("{}: cannot be written: {reason}", self.named.display());
        Error::new(ErrorKind::Io, message)
    }
}

fn ends_in(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
}
