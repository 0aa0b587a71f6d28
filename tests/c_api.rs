//! The C API as C and C++ hosts meet it: the programs of `tests/c` and the examples, compiled with
//! the system's compiler against the header and the library, each run in a process of its own.
//!
//! Unix only. `CC` and `CXX` name other compilers.
#![cfg(unix)]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use ddpm::engine::{Engine, EngineConfig};

#[path = "../examples/reveal.rs"]
#[allow(dead_code, reason = "an example is a program, and its main is not called here")]
mod reveal;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// Far longer than any program takes on a slow machine: what reaches it hangs.
const TIME_LIMIT: Duration = Duration::from_secs(300);

const WARNINGS: [&str; 7] =
    ["-pedantic-errors", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef", "-Werror"];

/// Where cargo put the library when it built it for this test: beside this program.
///
/// To ask cargo for it (`cargo build`) would build a second one, with the features that the
/// dependencies have in another selection of packages, over the one that the tests are linked with.
fn built(name: &str) -> PathBuf {
    let program = env::current_exe().expect("this program has a path");
    let file = program.with_file_name(name);
    assert!(file.exists(), "{}: not there, where cargo is known to put it", file.display());
    file
}

fn shared_library() -> PathBuf {
    built(&format!("{}ddpm{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX))
}

/// The ONNX Runtime that the library finds by itself.
fn runtime() -> &'static Path {
    static RUNTIME: OnceLock<PathBuf> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let engine = Engine::new(EngineConfig::new(models().join("lin.onnx"))).unwrap();
        engine.wait(None).unwrap();
        engine.info().unwrap().runtime_library.clone()
    })
}

fn models() -> PathBuf {
    Path::new(ROOT).join("tests/models")
}

/// How a program is linked with the library.
enum Link {
    Shared,
    Static,
    /// Not at all: it loads the library while it runs.
    None,
}

/// Compiles `source`, a path from the root, to a program named `name`.
fn compile(name: &str, source: &str, link: Link, options: &[&str]) -> PathBuf {
    let program = Path::new(SCRATCH).join("c_api").join(name);
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let cpp = source.ends_with(".cpp");
    let (variable, usual) = if cpp { ("CXX", "c++") } else { ("CC", "cc") };
    let compiler = env::var(variable).unwrap_or(usual.to_owned());
    let mut command = Command::new(&compiler);
    command.current_dir(ROOT).args(["-g", "-O1"]).args(WARNINGS);
    command.arg(if cpp { "-std=c++17" } else { "-std=c99" });
    command
        .args(options)
        .args(["-Iinclude", "-Ibindings/cpp", "-Itests/c", source, "-o"])
        .arg(&program);
    if source.starts_with("examples/reveal") {
        command.args(["film", "frame_clock", "png"].map(helper_object));
    }
    match link {
        Link::Shared => {
            let library = shared_library();
            let folder = library.parent().unwrap();
            command.arg("-L").arg(folder).arg("-lddpm");
            command.arg(format!("-Wl,-rpath,{}", folder.display()));
        }
        Link::Static => {
            command.arg(built("libddpm.a"));
            if cfg!(target_os = "linux") {
                command.args(["-lgcc_s", "-lutil", "-lrt"]);
            }
        }
        Link::None => {}
    }
    command.args(["-lpthread", "-ldl", "-lm"]);
    let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{source}:\n{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// The helpers of the reveal example are C, whatever language uses them.
fn helper_object(name: &str) -> PathBuf {
    let object = Path::new(SCRATCH).join("c_api").join(format!("{name}.o"));
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        for name in ["film", "frame_clock", "png"] {
            let object = Path::new(SCRATCH).join("c_api").join(format!("{name}.o"));
            let source = format!("examples/common/{name}.c");
            let mut command = Command::new(env::var("CC").unwrap_or("cc".to_owned()));
            command.current_dir(ROOT).args(WARNINGS).args(["-std=c99", "-O1", "-c"]);
            let output = command.arg(&source).arg("-o").arg(object).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
    });
    object
}

/// Runs to the end, or to the time limit, which fails.
fn run(command: &mut Command) -> Output {
    // Cargo's own search paths would put an older library of `cargo build` before this one.
    command.env_remove("LD_LIBRARY_PATH").env_remove("DYLD_FALLBACK_LIBRARY_PATH");
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > TIME_LIMIT {
            child.kill().unwrap();
            panic!("{command:?} was still running after {TIME_LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn expect_code(command: &mut Command, code: i32) -> Output {
    let output = run(command);
    assert!(
        output.status.code() == Some(code),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Compiles `tests/c/<name>` and runs it with the folder of the models and `arguments`.
fn holds(name: &str, arguments: &[&str]) {
    let program = compile(&name.replace('.', "_"), &format!("tests/c/{name}"), Link::Shared, &[]);
    expect_code(Command::new(program).arg(models()).args(arguments), 0);
}

#[test]
fn wrong_arguments_are_errors_that_name_them() {
    holds("arguments.c", &[]);
}

#[test]
fn what_cannot_be_loaded_is_an_error_that_names_it() {
    let text = format!("{ROOT}/Cargo.toml");
    // Any library that is not ONNX Runtime.
    let other = shared_library();
    holds("load_failures.c", &[runtime().to_str().unwrap(), &text, other.to_str().unwrap()]);
}

#[test]
fn frames_go_from_noise_to_picture() {
    holds("frames.c", &[]);
}

#[test]
fn every_sampler_and_setting_reaches_c() {
    holds("samplers.c", &[]);
}

#[test]
fn handles_end_in_any_order_at_any_time() {
    holds("lifetimes.c", &["40"]);
}

#[test]
fn any_function_from_any_thread() {
    holds("threads.c", &[]);
}

#[test]
fn log_callback_cannot_call_back() {
    holds("log_callback.c", &[]);
}

#[test]
fn signals_locale_and_rounding_stay_the_hosts() {
    holds("process_state.c", &[]);
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn frame_path_allocates_nothing() {
    holds("frame_path.c", &[]);
}

#[test]
fn leaving_in_mid_step_keeps_the_exit_code() {
    let program = compile("leave_mid_step", "tests/c/leave_mid_step.c", Link::Shared, &[]);
    expect_code(Command::new(&program).arg(models()).arg("exit"), 42);
    expect_code(Command::new(&program).arg(models()).arg("return"), 43);
}

#[test]
fn plugin_from_another_folder_loads_and_unloads() {
    let program = compile("plugin", "tests/c/plugin.c", Link::None, &[]);
    let mut command = Command::new(program);
    command.arg(models()).arg(shared_library()).arg("20");
    expect_code(&mut command, 0);
}

#[test]
fn a_runtime_of_the_hosts_own_is_no_trouble() {
    let ours = runtime();
    let folder = Path::new(SCRATCH).join("c_api/host");
    fs::create_dir_all(&folder).unwrap();
    let own = folder.join(ours.file_name().unwrap());
    fs::copy(ours, &own).unwrap();
    for when in ["before", "after"] {
        holds("other_runtime.c", &[ours.to_str().unwrap(), own.to_str().unwrap(), when]);
    }
}

#[test]
fn global_constructor_may_create_an_engine() {
    let source = "tests/c/global_constructor.cpp";
    let program = compile("global_constructor", source, Link::Shared, &[]);
    let model = models().join("lin.onnx");
    expect_code(Command::new(program).env("DDPM_TEST_MODEL", model), 0);
}

#[test]
fn cpp_owners_return_or_throw_errors() {
    for (name, options) in [
        ("wrapper_returning", &["-fno-exceptions", "-fno-rtti"][..]),
        ("wrapper_throwing", &["-DDDPM_EXCEPTIONS"]),
        ("wrapper_cpp20", &["-std=c++20"]),
    ] {
        let program = compile(name, "tests/c/wrapper.cpp", Link::Shared, options);
        expect_code(Command::new(program).arg(models()), 0);
    }
}

#[test]
fn hello_paints_the_picture_linked_either_way() {
    let model = models().join("lin.onnx");
    let painted = |program: PathBuf| expect_code(Command::new(program).arg(&model), 0).stdout;
    let shared = painted(compile("hello", "examples/hello.c", Link::Shared, &[]));
    assert_eq!(shared.iter().filter(|&&byte| byte == b'\n').count(), 8);
    assert_eq!(painted(compile("hello_static", "examples/hello.c", Link::Static, &[])), shared);
    assert_eq!(painted(compile("hello_cpp", "examples/hello.cpp", Link::Shared, &[])), shared);
}

/// The frames of a PNG or APNG, with its width.
fn frames(path: &Path) -> (u32, Vec<Vec<u8>>) {
    let file = std::io::BufReader::new(fs::File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let count = reader.info().animation_control().map_or(1, |control| control.num_frames);
    let frames = (0..count).map(|_| {
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    });
    let frames = frames.collect();
    (reader.info().width, frames)
}

#[test]
fn reveal_writes_the_same_pictures_in_every_language() {
    let scratch = Path::new(SCRATCH).join("c_api");
    let model = models().join("open_size.onnx");
    let arguments = |out: &Path| {
        let options = "--steps 12 --seed 5 --sampler ddim --scale 3 --width 10 --height 6 --provider cpu --threads 1";
        let mut arguments = vec![model.to_str().unwrap().to_owned(), "--out".to_owned()];
        arguments.push(out.to_str().unwrap().to_owned());
        arguments.extend(options.split(' ').map(str::to_owned));
        arguments
    };
    let mut written = Vec::new();
    for (name, source) in [("reveal", "examples/reveal.c"), ("reveal_cpp", "examples/reveal.cpp")] {
        let out = scratch.join(format!("{name}.out"));
        let program = compile(name, source, Link::Shared, &[]);
        let output = expect_code(Command::new(&program).args(arguments(&out)), 0);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("engine stepping: p50 "), "{said}");
        assert!(said.contains(out.join("reveal-sheet.png").to_str().unwrap()), "{said}");
        assert!(said.contains(out.join("reveal.png").to_str().unwrap()), "{said}");
        written.push(out);
    }
    let out = scratch.join("reveal_rust.out");
    reveal::reveal(reveal::parse(arguments(&out).into_iter()).unwrap()).unwrap();
    written.push(out);

    let pictures = written
        .iter()
        .map(|out| (frames(&out.join("reveal-sheet.png")), frames(&out.join("reveal.png"))));
    let pictures: Vec<_> = pictures.collect();
    let (sheet, animation) = &pictures[0];
    assert_eq!(sheet.0, 10 * (30 + 4) + 4);
    // A frame for each step, none lost, however quick the steps.
    assert_eq!((animation.0, animation.1.len()), (30, 12));
    assert!(pictures.iter().all(|others| *others == pictures[0]));
}

#[test]
fn examples_refuse_what_they_do_not_know() {
    let program = compile("reveal_usage", "examples/reveal.c", Link::Shared, &[]);
    for (arguments, expected) in [
        (&["m.onnx", "--steps", "many"][..], "--steps: found \"many\""),
        (&["m.onnx", "--sampler", "best"], "sampler: found \"best\", expected one of ddpm, ddim,"),
        (&["m.onnx", "--speed", "9"], "unknown option --speed"),
        (&[], "usage: reveal MODEL"),
    ] {
        let output = expect_code(Command::new(&program).args(arguments), 2);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    let output = expect_code(Command::new(&program).arg("/nowhere/m.onnx"), 1);
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere/m.onnx"));
}

#[test]
fn header_is_silent_in_every_standard() {
    for (compiler, standard, language) in [
        ("CC", "-std=c99", "c"),
        ("CC", "-std=c11", "c"),
        ("CXX", "-std=c++11", "c++"),
        ("CXX", "-std=c++20", "c++"),
    ] {
        let source = Path::new(SCRATCH).join(format!("c_api_header{standard}.{language}"));
        let structs = ["engine_desc", "engine_info", "stream_desc", "stream_status", "frame_info"];
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
