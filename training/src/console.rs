//! What the program says. Where nobody listens, because a log has filled its disk or a pager was closed,
//! the words are lost and not the work.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

use anyhow::{Context, Result};

/// Says a line on standard error, formatted as of `eprintln!`; never fails.
#[macro_export]
macro_rules! say {
    ($($arguments:tt)*) => { $crate::console::line(::std::format_args!($($arguments)*)) };
}

/// Writes a line to standard error.
pub fn line(line: impl Display) {
    // In one piece, so that two processes with one log do not mix their words.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// Writes a result to standard output. Whoever closed it, a pager say, has seen enough.
///
/// Errors: where it cannot be written otherwise.
pub fn print(result: impl Display) -> Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{result}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write the standard output")
        }
        _ => Ok(()),
    }
}

/// A path as a shell takes it.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || "/\\._-:".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
