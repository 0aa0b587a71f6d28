//! What the header promises of itself: silent in every standard, and exactly what is exported.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::host::{ROOT, SCRATCH, WARNINGS, shared_library};

#[test]
fn header_is_silent_in_every_standard() {
    for (compiler, standard, language) in [
        ("CC", "-std=c99", "c"),
        ("CC", "-std=c11", "c"),
        ("CXX", "-std=c++11", "c++"),
        ("CXX", "-std=c++20", "c++"),
    ] {
        let source = Path::new(SCRATCH).join(format!("c_api_header{standard}.{language}"));
        let structs = [
            "engine_desc",
            "engine_info",
            "stream_desc",
            "stream_status",
            "frame_info",
            "frame_view",
        ];
        let mut text = "#include <ddpm.h>\n".to_owned();
        for name in structs {
            let upper = name.to_uppercase();
            text +=
                &format!("extern ddpm_{name} {name};\nddpm_{name} {name} = DDPM_{upper}_INIT;\n");
        }
        fs::write(&source, text).unwrap();
        let usual = if compiler == "CC" { "cc" } else { "c++" };
        let mut command = Command::new(env::var(compiler).unwrap_or(usual.to_owned()));
        command.current_dir(ROOT).args(["-x", language, standard, "-Iinclude"]).args(WARNINGS);
        command.args(["-Wsign-conversion", "-Wcast-qual", "-Wmissing-declarations"]);
        match language {
            "c" => command.args(["-Wstrict-prototypes", "-Wmissing-prototypes"]),
            _ => command.args(["-Wold-style-cast", "-Wzero-as-null-pointer-constant"]),
        };
        let output = command.arg("-fsyntax-only").arg(&source).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{standard}: {said}");
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
