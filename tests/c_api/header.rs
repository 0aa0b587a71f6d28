//! What the header promises of itself: silent in every standard, and exactly what is exported.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::{ROOT, SCRATCH, WARNINGS, shared_library};

/// The header, and every struct initialised by its macro.
fn source(language: &str) -> PathBuf {
    let header = fs::read_to_string(Path::new(ROOT).join("include/ddpm.h")).unwrap();
    let macros = header.lines().filter_map(|line| line.strip_prefix("#define DDPM_"));
    let structs: Vec<&str> =
        macros.filter_map(|line| line.split_whitespace().next()?.strip_suffix("_INIT")).collect();
    assert!(structs.contains(&"FRAME_INFO"), "{structs:?}");
    let mut text = "#include <ddpm.h>\n".to_owned();
    for upper in structs {
        let name = upper.to_lowercase();
        text += &format!("extern ddpm_{name} {name};\nddpm_{name} {name} = DDPM_{upper}_INIT;\n");
    }
    let source = Path::new(SCRATCH).join(format!("c_api_header.{language}"));
    fs::write(&source, text).unwrap();
    source
}

fn is_silent(compiler: &str, standard: &str, language: &str, options: &[&str]) {
    let mut command = Command::new(compiler);
    command.current_dir(ROOT).args(["-x", language, standard, "-Iinclude"]).args(WARNINGS);
    command.args(["-Wsign-conversion", "-Wcast-qual"]).args(options);
    match language {
        "c" => command.args(["-Wstrict-prototypes", "-Wmissing-prototypes"]),
        _ => command.args(["-Wold-style-cast", "-Wzero-as-null-pointer-constant"]),
    };
    let output = command.arg("-fsyntax-only").arg(source(language)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{command:?}: {said}");
}

const STANDARDS: [(&str, &str); 6] = [
    ("-std=c99", "c"),
    ("-std=c11", "c"),
    ("-std=c17", "c"),
    ("-std=c++11", "c++"),
    ("-std=c++17", "c++"),
    ("-std=c++20", "c++"),
];

#[test]
fn header_is_silent_in_every_standard() {
    for (standard, language) in STANDARDS {
        let (variable, usual) = if language == "c" { ("CC", "cc") } else { ("CXX", "c++") };
        let compiler = env::var(variable).unwrap_or(usual.to_owned());
        is_silent(&compiler, standard, language, &["-Wmissing-declarations"]);
    }
    // Another opinion, and what Visual C++ makes of it, where there is clang. `make hosts` says whether.
    if Command::new("clang").arg("--version").output().is_ok() {
        for (standard, language) in STANDARDS {
            is_silent("clang", standard, language, &[]);
            // Without Windows' own headers: ours needs none but the compiler's.
            let target = "--target=x86_64-pc-windows-msvc";
            is_silent("clang", standard, language, &[target, "-DDDPM_DLL"]);
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn exactly_the_api_is_exported() {
    let output =
        Command::new("nm").args(["-D", "--defined-only"]).arg(shared_library()).output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let exported: BTreeSet<&str> =
        listed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let header = fs::read_to_string(Path::new(ROOT).join("include/ddpm.h")).unwrap();
    let code: Vec<&str> =
        header.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let code = code.join(" ");
    // A declaration is DDPM_API, a type, the name, and a parenthesis.
    let declared: BTreeSet<&str> = code
        .split("DDPM_API ")
        .skip(1)
        .filter_map(|rest| rest.split('(').next()?.split([' ', '*']).next_back())
        .filter(|name| name.starts_with("ddpm_"))
        .collect();
    assert!(declared.contains("ddpm_step"), "{declared:?}");
    assert_eq!(exported, declared);
}
