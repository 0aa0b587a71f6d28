//! Where the pictures are, as the configuration says it: relative to its file.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// `folder` as seen from the folder of the file `path`, with `/` between its parts.
///
/// Errors: a folder that is not there; a file, or a working folder, among the pictures: what a run writes
/// would be read as pictures then.
pub fn from_file(path: &Path, folder: &Path) -> Result<String> {
    let shown = folder.display();
    let real = |path: &Path| std::fs::canonicalize(path);
    let pictures = real(folder).with_context(|| format!("{shown}: cannot open the folder"))?;
    let beside = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let beside = beside.unwrap_or(Path::new("."));
    let start = real(beside).with_context(|| format!("{}: cannot open it", beside.display()))?;
    ensure!(
        !start.starts_with(&pictures),
        "{} would lie among the pictures of {shown}; choose another place with -o",
        path.display()
    );
    let here = std::env::current_dir().and_then(|here| real(&here));
    ensure!(
        here.map_or(true, |here| !here.starts_with(&pictures)),
        "{shown} is the working folder, and what a run writes would lie among the pictures; go out of it \
         first"
    );
    let text = between(&start, &pictures).to_str().map(str::to_string);
    let text = text.with_context(|| format!("{shown}: the name is not UTF-8"))?;
    Ok(if cfg!(windows) { text.replace('\\', "/") } else { text })
}

/// The way from one folder to another, both absolute; `to` itself where they have no root in common.
fn between(from: &Path, to: &Path) -> PathBuf {
    let shared = from.components().zip(to.components()).take_while(|(a, b)| a == b).count();
    let rooted = to.components().take(shared).any(|part| matches!(part, Component::RootDir));
    if !rooted {
        return to.to_path_buf();
    }
    let up = from.components().skip(shared).map(|_| Component::ParentDir);
    up.chain(to.components().skip(shared)).collect()
}

/// The name of a folder, fit to be that of a file: letters, digits, `-` and `_`.
pub fn name(folder: &Path) -> Result<String> {
    let real = std::fs::canonicalize(folder).context("cannot open the folder")?;
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let kept = |c: char| if c.is_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = name.chars().map(kept).collect();
    Ok(if name.is_empty() { "pictures".to_string() } else { name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_lead_down_and_up() {
        for (from, to, expected) in [
            ("/a/b", "/a/b/c/d", "c/d"),
            ("/a/b", "/a/c", "../c"),
            ("/a/b/c", "/x", "../../../x"),
            ("/a", "/a", ""),
        ] {
            assert_eq!(between(Path::new(from), Path::new(to)), Path::new(expected), "{from} {to}");
        }
    }
}
