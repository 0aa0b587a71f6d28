//! The committed C header is what cbindgen makes of `src/ffi` today.

use std::path::Path;

/// The files that hold the C API, below `src`, in the order in which a reader of the header meets it.
const SOURCES: [&str; 17] = [
    "ffi/result",
    "ffi/version",
    "ffi/last_error",
    "ffi/log",
    "ffi/files",
    "ffi/provider",
    "ffi/engine",
    "ffi/engine_info",
    "ffi/engine_status",
    // The numbers of the samplers are the enum's own.
    "sampler/mod",
    "ffi/sampler",
    "ffi/stream_desc",
    "ffi/stream",
    "ffi/frame",
    "ffi/playback",
    "ffi/trajectory",
    "ffi/saved_run",
];

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config =
        cbindgen::Config::from_file(root.join("cbindgen.toml")).expect("cbindgen.toml is readable");
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root.join(format!("src/{source}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().expect("cbindgen understands src/ffi").write(&mut header);
    without_safety_sections(&String::from_utf8(header).expect("the header is UTF-8"))
}

/// Drops the `# Safety` sections, which speak to Rust's lints; C readers have the rules above them.
fn without_safety_sections(header: &str) -> String {
    let mut kept = Vec::new();
    let mut skipping = false;
    for line in header.lines() {
        if line.trim() == "// # Safety" {
            skipping = true;
            if kept.last().is_some_and(|last: &&str| last.trim() == "//") {
                kept.pop();
            }
        } else if !line.starts_with("//") {
            skipping = false;
        }
        if !skipping {
            kept.push(line);
        }
    }
    kept.join("\n") + "\n"
}

/// With `DDPM_UPDATE_HEADER=1` (which is `make header`) this writes the file in place of comparing.
#[test]
fn committed_header_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/ddpm.h");
    let expected = generate();
    if std::env::var_os("DDPM_UPDATE_HEADER").is_some() {
        std::fs::write(&path, expected).expect("include/ddpm.h can be written");
        return;
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = found.lines().zip(expected.lines()).position(|(a, b)| a != b);
    let line = differs.unwrap_or(found.lines().count().min(expected.lines().count())) + 1;
    assert!(
        found == expected,
        "include/ddpm.h is not what src/ffi and cbindgen.toml make (from line {line} on).\n\
         To update it, run: make header"
    );
}
