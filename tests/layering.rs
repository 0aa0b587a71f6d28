//! The layers of the crate: a module uses earlier ones only, and some names live in one place.

use std::fs;
use std::path::{Path, PathBuf};

/// The modules of `src`, lowest first; a module may use those before it. Those of one entry are
/// side by side and must not use each other.
const ORDER: [&[&str]; 9] = [
    // L0
    &["error", "rng", "log"],
    // L1: pure maths
    &["noise_schedule", "timesteps", "image", "step", "pacing"],
    &["prediction"],
    &["sampler"],
    // L2
    &["model"],
    &["run"],
    // L3
    &["onnx", "worker"],
    // L4
    &["engine"],
    // L5
    &["ffi"],
];

/// Names, and the only paths below `src` whose files may say them.
struct Home {
    names: &'static [&'static str],
    paths: &'static [&'static str],
    /// Whether unit tests elsewhere may say them: a test may start a thread to see what it sees.
    tests_may: bool,
}

const HOMES: [Home; 4] = [
    Home { names: &["ort", "safetensors"], paths: &["onnx"], tests_may: false },
    Home { names: &["clap", "indicatif", "png"], paths: &["bin"], tests_may: false },
    Home {
        names: &["crossbeam_channel", "parking_lot", "std::thread"],
        paths: &["worker"],
        tests_may: true,
    },
    Home {
        names: &["unsafe"],
        paths: &["ffi", "onnx/library.rs", "onnx/library"],
        tests_may: false,
    },
];

struct Source {
    /// Relative to `src`, with forward slashes.
    path: String,
    /// Without comments.
    code: String,
}

impl Source {
    /// The top-level module the file belongs to.
    fn module(&self) -> &str {
        let first = self.path.split('/').next().unwrap();
        first.strip_suffix(".rs").unwrap_or(first)
    }

    /// The folder of the program the file belongs to; none for a file of the library.
    fn program(&self) -> Option<&str> {
        let rest = self.path.strip_prefix("bin/")?;
        let len = rest.find('/').map_or("bin".len(), |end| "bin/".len() + end);
        Some(&self.path[..len])
    }

    /// The code before the unit tests, which stand at the foot of a file.
    fn without_tests(&self) -> &str {
        self.code.split("#[cfg(test)]\nmod tests {").next().unwrap()
    }

    /// The modules named right after `crate::`, alone or in braces.
    fn used_modules(&self) -> Vec<String> {
        let mut used = Vec::new();
        for (at, matched) in self.code.match_indices("crate::") {
            let rest = &self.code[at + matched.len()..];
            for path in first_level(rest) {
                let name = path.trim().split(|c: char| !(c.is_alphanumeric() || c == '_')).next();
                used.extend(name.filter(|name| !name.is_empty()).map(str::to_owned));
            }
        }
        used
    }
}

/// Whether `name` stands in the code as a whole word, or as a whole path.
fn says(code: &str, name: &str) -> bool {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(name).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        let after = code[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// The paths of a use tree: itself, or the entries of its outermost braces.
fn first_level(tree: &str) -> Vec<&str> {
    let Some(inner) = tree.strip_prefix('{') else {
        return vec![tree];
    };
    let (mut depth, mut start, mut paths) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                paths.push(&inner[start..at]);
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap()).collect::<Vec<_>>().join("\n")
}

/// The files below `folder` of the project.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let relative =
                    path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
                let code = without_comments(&fs::read_to_string(&path).unwrap())
                    // Asking how many cores there are makes no thread.
                    .replace("std::thread::available_parallelism", "");
                found.push(Source { path: relative, code });
            }
        }
    }
    found.retain(|source| source.path != "lib.rs");
    found
}

fn place(module: &str) -> Option<usize> {
    ORDER.iter().position(|entry| entry.contains(&module))
}

#[test]
fn every_module_uses_earlier_ones_only() {
    let sources = sources("src");
    assert!(sources.len() >= 12, "{} files found", sources.len());
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.program().is_none()) {
        let Some(own) = place(source.module()) else {
            faults.push(format!(
                "src/{}: module {} has no place in ORDER",
                source.path,
                source.module()
            ));
            continue;
        };
        for used in source.used_modules() {
            let earlier = place(&used).is_some_and(|place| place < own);
            if used != source.module() && !earlier {
                faults.push(format!("src/{}: uses crate::{used}", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A program is above all layers and has the library's public API only: what it calls `crate` is
/// itself.
#[test]
fn programs_use_the_public_api_only() {
    let sources = sources("src");
    let files: Vec<&str> = sources.iter().map(|source| &*source.path).collect();
    let programs: Vec<&Source> = sources.iter().filter(|s| s.program().is_some()).collect();
    assert!(programs.len() >= 8, "{} files found", programs.len());
    let mut faults = Vec::new();
    for source in programs {
        let folder = source.program().unwrap();
        let main = sources.iter().find(|s| s.path == format!("{folder}/main.rs")).unwrap();
        for used in source.used_modules() {
            let is_own = files.contains(&&*format!("{folder}/{used}.rs"))
                || main.code.contains(&format!("\nfn {used}("));
            if !is_own {
                faults.push(format!("src/{}: uses crate::{used}", source.path));
            }
        }
        // A file of the library taken in by its path would be a second copy of it.
        if says(&source.code, "#[path") || says(&source.code, "include!") {
            faults.push(format!("src/{}: takes in another file", source.path));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn names_stay_in_their_homes() {
    let mut faults = Vec::new();
    for source in sources("src") {
        for Home { names, paths, tests_may } in HOMES {
            let at_home = paths
                .iter()
                .any(|home| source.path == *home || source.path.starts_with(&format!("{home}/")));
            let code = if tests_may { source.without_tests() } else { &source.code };
            // The help of a program is full of words: a crate is used by a path.
            let is_word_only = |name: &str| {
                let path = format!("{name}::");
                source.program().is_some() && name != "unsafe" && !code.contains(&path)
            };
            let said = names.iter().filter(|name| says(code, name) && !is_word_only(name));
            for name in said.filter(|_| !at_home) {
                faults
                    .push(format!("src/{}: says {name}, expected in {paths:?} only", source.path));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn use_trees_are_read_to_the_end() {
    let source = Source {
        path: "step.rs".to_owned(),
        code: "use crate::error::{Error, Result};\nuse crate::{rng, model::{A, B}, onnx::C};"
            .to_owned(),
    };
    assert_eq!(source.used_modules(), ["error", "rng", "model", "onnx"]);
}

#[test]
fn names_are_whole_words_and_tests_are_set_apart() {
    assert!(says("use std::thread;", "std::thread") && !says("use std::thread;", "thread::spawn"));
    assert!(says("unsafe { f() }", "unsafe") && !says("#![forbid(unsafe_code)]", "unsafe"));
    let code = "fn f() {}\n\n#[cfg(test)]\nmod tests {\n use std::thread; }".to_owned();
    let source = Source { path: "run.rs".to_owned(), code };
    assert!(says(&source.code, "std::thread") && !says(source.without_tests(), "std::thread"));
}

#[test]
fn training_has_unsafe_code_in_its_operations_only() {
    let sources = sources("training/src");
    assert!(sources.iter().any(|source| says(&source.code, "unsafe")));
    for source in sources {
        let at_home = source.path.starts_with("ops/");
        assert!(at_home || !says(&source.code, "unsafe"), "training/src/{}", source.path);
    }
}
