//! Where an ONNX Runtime library may be: a list of absolute paths, in order.
//!
//! Nothing is opened here, and no system search path is used: what would be found there depends on
//! the host's environment, and may be any version.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The environment variable that names the library.
pub(super) const LIBRARY_VARIABLE: &str = "DDPM_ONNXRUNTIME";

/// How the cache's folders begin that have a runtime, before the version.
const PLAIN: &str = "onnxruntime-";
const WITH_CUDA: &str = "onnxruntime-cuda-";

/// How a file came to be a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Asked for by the caller: it or nothing.
    Given,
    /// Asked for by the environment: it or nothing.
    Variable,
    /// Found beside our own library or the host's executable.
    Beside,
    /// Found in the project's cache.
    Cache,
}

impl Origin {
    /// Whether someone named this very file, so that no other may stand in for it.
    pub(super) fn is_named(self) -> bool {
        matches!(self, Self::Given | Self::Variable)
    }
}

/// A file to try, or a place that has none and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Candidate {
    File { origin: Origin, path: PathBuf },
    Nothing { place: String },
}

/// What to try, best first. `own_folders` are those of our library and of the executable; with `cuda` the
/// cache's runtime that has it comes first there.
pub(super) fn candidates(
    given: Option<&Path>,
    own_folders: &[PathBuf],
    cuda: bool,
) -> Vec<Candidate> {
    let named = |origin, path: &Path| Candidate::File {
        origin,
        // Fails only for an empty path, which is then reported as it is.
        path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
    };
    if let Some(path) = given {
        return vec![named(Origin::Given, path)];
    }
    if let Some(path) = env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty()) {
        return vec![named(Origin::Variable, Path::new(&path))];
    }
    let mut found = vec![Candidate::Nothing { place: format!("{LIBRARY_VARIABLE}: not set") }];
    for folder in own_folders {
        push_all(&mut found, Origin::Beside, folder, libraries_in(folder));
    }
    match cache_root() {
        Some(root) => {
            let kinds = if cuda { [WITH_CUDA, PLAIN] } else { [PLAIN, WITH_CUDA] };
            let libraries = kinds.iter().flat_map(|kind| cached(&root, kind));
            let libraries = libraries.flat_map(|folder| libraries_in(&folder)).collect();
            push_all(&mut found, Origin::Cache, &root, libraries);
        }
        None => found.push(Candidate::Nothing {
            place: "cache: none of DDPM_CACHE, XDG_CACHE_HOME and HOME is set".to_owned(),
        }),
    }
    found
}

fn push_all(into: &mut Vec<Candidate>, origin: Origin, folder: &Path, paths: Vec<PathBuf>) {
    if paths.is_empty() {
        let what = match origin {
            Origin::Cache => "onnxruntime-<version> folder with a library",
            _ => "ONNX Runtime library",
        };
        into.push(Candidate::Nothing { place: format!("{}: no {what}", folder.display()) });
    }
    into.extend(paths.into_iter().map(|path| Candidate::File { origin, path }));
}

/// The project's cache folder, the same as `.ci/fetch_onnxruntime.py` and `.ci/fetch_cuda.py` fill.
fn cache_root() -> Option<PathBuf> {
    let folder =
        |variable: &str| env::var_os(variable).filter(|v| !v.is_empty()).map(PathBuf::from);
    let root = if let Some(root) = folder("DDPM_CACHE") {
        root
    } else if let Some(caches) = folder("XDG_CACHE_HOME") {
        caches.join("libddpm")
    } else if let Some(caches) = folder("LOCALAPPDATA").filter(|_| cfg!(windows)) {
        caches.join("libddpm")
    } else {
        let caches = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
        folder("HOME")?.join(caches).join("libddpm")
    };
    std::path::absolute(root).ok()
}

/// The cache's folders of runtimes with CUDA, and NVIDIA's libraries in them, newest version first.
pub(super) fn cuda_cached() -> Vec<PathBuf> {
    cache_root().map(|root| cached(&root, WITH_CUDA)).unwrap_or_default()
}

/// The folders `<kind><version>` under `root`, newest version first.
fn cached(root: &Path, kind: &str) -> Vec<PathBuf> {
    let mut folders: Vec<(Vec<u32>, PathBuf)> = entries(root)
        .filter_map(|path| {
            let version = path.file_name()?.to_str()?.strip_prefix(kind)?;
            let is_version = version.starts_with(|c: char| c.is_ascii_digit());
            is_version.then(|| (numbers(version), path.clone()))
        })
        .collect();
    folders.sort_by_key(|(version, _)| Reverse(version.clone()));
    folders.into_iter().map(|(_, folder)| folder).collect()
}

/// The files in `folder` that are named like the runtime, highest version first.
fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = entries(folder).filter(|path| is_library_name(path)).collect();
    found.sort_by_key(|path| Reverse(path.file_name().and_then(|name| name.to_str()).map(numbers)));
    found
}

/// `libonnxruntime.so[.1.31.1]`, `libonnxruntime[.1.31.1].dylib`, `onnxruntime.dll`: not the
/// provider libraries, which lie beside it.
fn is_library_name(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let digits = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    if cfg!(windows) {
        name.eq_ignore_ascii_case("onnxruntime.dll")
    } else if cfg!(target_os = "macos") {
        let inner = name.strip_prefix("libonnxruntime").and_then(|n| n.strip_suffix(".dylib"));
        inner.is_some_and(digits)
    } else {
        name.strip_prefix("libonnxruntime.so").is_some_and(digits)
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The numbers in a name, so that 1.31 sorts above 1.9.
fn numbers(name: &str) -> Vec<u32> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_path_is_the_only_candidate_and_absolute() {
        let found = candidates(Some(Path::new("relative/lib.so")), &[], false);
        let [Candidate::File { origin: Origin::Given, path }] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert!(path.is_absolute() && path.ends_with("relative/lib.so"), "{path:?}");
    }

    #[test]
    fn versions_sort_as_numbers() {
        assert!(numbers("1.31.1") > numbers("1.9.2"));
        assert!(numbers("libonnxruntime.so.1.31.1") > numbers("libonnxruntime.so.1"));
    }

    #[cfg(all(unix, not(target_os = "macos")))]
    #[test]
    fn only_the_runtime_itself_is_taken_for_the_runtime() {
        for name in ["libonnxruntime.so", "libonnxruntime.so.1", "libonnxruntime.so.1.31.1"] {
            assert!(is_library_name(Path::new(name)), "{name}");
        }
        for name in ["libonnxruntime_providers_shared.so", "libonnxruntime.a", "onnxruntime.dll"] {
            assert!(!is_library_name(Path::new(name)), "{name}");
        }
    }
}
