//! Programs that use the library, compiled and run.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use ddpm::engine::{Engine, EngineConfig};

pub const ROOT: &str = env!("CARGO_MANIFEST_DIR");
pub const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

/// Far longer than any program takes on a slow machine: what reaches it hangs.
pub const TIME_LIMIT: Duration = Duration::from_secs(300);

pub const WARNINGS: [&str; 7] =
    ["-pedantic-errors", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Wundef", "-Werror"];

/// Where cargo put the library when it built it for this test: beside this program.
///
/// To ask cargo for it (`cargo build`) would build a second one, with the features that the
/// dependencies have in another selection of packages, over the one that the tests are linked with.
pub fn built(name: &str) -> PathBuf {
    let program = env::current_exe().expect("this program has a path");
    let file = program.with_file_name(name);
    assert!(file.exists(), "{}: not there, where cargo is known to put it", file.display());
    file
}

pub fn shared_library() -> PathBuf {
    built(&format!("{}ddpm{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX))
}

/// The ONNX Runtime that the library finds by itself.
pub fn runtime() -> &'static Path {
    static RUNTIME: OnceLock<PathBuf> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let engine = Engine::new(EngineConfig::new(models().join("lin.onnx"))).unwrap();
        engine.wait(None).unwrap();
        engine.info().unwrap().runtime_library.clone()
    })
}

pub fn models() -> PathBuf {
    Path::new(ROOT).join("tests/models")
}

/// How a program is linked with the library.
pub enum Link {
    Shared,
    Static,
    /// Not at all: it loads the library while it runs.
    None,
}

/// Compiles `source`, a path from the root, to a program named `name`.
pub fn compile(name: &str, source: &str, link: Link, options: &[&str]) -> PathBuf {
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
pub fn helper_object(name: &str) -> PathBuf {
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
pub fn run(command: &mut Command) -> Output {
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

pub fn expect_code(command: &mut Command, code: i32) -> Output {
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
pub fn holds(name: &str, arguments: &[&str]) -> Output {
    let program = compile(&name.replace('.', "_"), &format!("tests/c/{name}"), Link::Shared, &[]);
    expect_code(Command::new(program).arg(models()).args(arguments), 0)
}
