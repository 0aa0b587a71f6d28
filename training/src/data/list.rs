//! The files of a folder, in an order that is the same on every machine.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// What lies in a folder and in the folders in it.
#[derive(Default)]
pub struct Listing {
    /// In natural order: 2 before 10, a folder's files where its name stands.
    pub files: Vec<PathBuf>,
    /// The folders directly in it, in the same order.
    pub folders: Vec<PathBuf>,
    /// Folders that could not be read, and why.
    pub unreadable: Vec<(PathBuf, String)>,
    /// Files and folders left out because the system keeps them, not the user.
    pub hidden: usize,
    /// Real folders entered: each once, so that links that lead in a circle end.
    seen: HashSet<PathBuf>,
}

impl Listing {
    /// Lists a folder. Links are followed; each folder is read once, whatever leads to it.
    pub fn read(folder: &Path) -> Result<Self> {
        let metadata = fs::metadata(folder).context("cannot open the folder")?;
        ensure!(
            metadata.is_dir(),
            "is a file, expected a folder of pictures (a sheet of tiles is given as data.sheet)"
        );
        let mut listing = Self::default();
        listing.enter(folder, true).context("cannot read the folder")?;
        Ok(listing)
    }

    fn enter(&mut self, folder: &Path, top: bool) -> std::io::Result<()> {
        if !self.seen.insert(fs::canonicalize(folder)?) {
            return Ok(());
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default();
            if is_hidden(name) {
                self.hidden += 1;
            } else {
                entries.push(path);
            }
        }
        entries.sort_by(|a, b| {
            let [a, b] = [a, b].map(|path| path.file_name().unwrap_or_default());
            natural(&a.to_string_lossy(), &b.to_string_lossy()).then_with(|| a.cmp(b))
        });
        for path in entries {
            if !path.is_dir() {
                // A link to nothing too: it is listed with the bad files then.
                self.files.push(path);
                continue;
            }
            if top {
                self.folders.push(path.clone());
            }
            if let Err(error) = self.enter(&path, false) {
                self.unreadable.push((path, format!("cannot read the folder: {error}")));
            }
        }
        Ok(())
    }
}

/// What systems and programs leave in folders of pictures.
fn is_hidden(name: &OsStr) -> bool {
    const LEFT_BY_SYSTEMS: [&str; 8] = [
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "picasa.ini",
        "__macosx",
        "@eadir",
        "$recycle.bin",
        "system volume information",
    ];
    let name = name.to_string_lossy().to_lowercase();
    name.starts_with('.') || LEFT_BY_SYSTEMS.contains(&name.as_str())
}

/// Compares names as people count: runs of digits by their value, letters whatever their case.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut rest_a, mut rest_b) = (a, b);
    while let (Some(x), Some(y)) = (rest_a.chars().next(), rest_b.chars().next()) {
        let order;
        if x.is_ascii_digit() && y.is_ascii_digit() {
            let (digits_a, digits_b) = (take_digits(&mut rest_a), take_digits(&mut rest_b));
            order = digits_a.len().cmp(&digits_b.len()).then_with(|| digits_a.cmp(digits_b));
        } else {
            order = x.to_lowercase().cmp(y.to_lowercase());
            rest_a = &rest_a[x.len_utf8()..];
            rest_b = &rest_b[y.len_utf8()..];
        }
        if order.is_ne() {
            return order;
        }
    }
    rest_a.len().cmp(&rest_b.len())
}

/// The digits at the start, without leading zeros, and `text` moved behind them.
fn take_digits<'a>(text: &mut &'a str) -> &'a str {
    let whole = *text;
    let end = whole.find(|c: char| !c.is_ascii_digit()).unwrap_or(whole.len());
    *text = &whole[end..];
    whole[..end].trim_start_matches('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_ordered_as_people_count() {
        let sorted = ["0", "1", "2", "10", "a", "B1", "b2", "b010", "b10x", "c 9", "c 10", "é"];
        for (i, a) in sorted.iter().enumerate() {
            for (j, b) in sorted.iter().enumerate() {
                assert_eq!(natural(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(natural("99999999999999999999998", "99999999999999999999999"), Ordering::Less);
    }
}
