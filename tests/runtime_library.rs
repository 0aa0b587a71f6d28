//! Which ONNX Runtime a process gets, and what it is told when it gets none.
//!
//! The runtime is loaded once a process, so each case runs in a process of its own: this test
//! binary again, under an alarm. A loader that hangs fails the test.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use common::{Folder, model};
use ddpm::engine::{Engine, EngineConfig, StepOutcome, StreamConfig};
use ddpm::error::ErrorKind;
use ddpm::onnx::{ModelSource, OnnxDenoiser, OnnxOptions, Provider};

const ALARM: Duration = Duration::from_secs(10);
const CASE: &str = "DDPM_TEST_CASE";
const BAD: &str = "DDPM_TEST_BAD";
const GOOD: &str = "DDPM_TEST_GOOD";
const LIBRARY: &str = "DDPM_ONNXRUNTIME";

fn load(runtime_library: Option<&Path>) -> ddpm::error::Result<OnnxDenoiser> {
    let options = OnnxOptions {
        runtime_library: runtime_library.map(Path::to_owned),
        provider: Provider::Cpu,
        ..OnnxOptions::default()
    };
    OnnxDenoiser::load(&ModelSource::from(&model("lin")), &options)
}

/// The library that the usual lookup finds, as every other test uses it.
fn good() -> &'static Path {
    static GOOD: OnceLock<PathBuf> = OnceLock::new();
    GOOD.get_or_init(|| load(None).unwrap().info().runtime_library.clone())
}

fn case(executable: &Path, name: &str) -> Command {
    let mut command = Command::new(executable);
    command.args(["--exact", "child", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(CASE, name).env(GOOD, good()).env_remove(LIBRARY);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs to its end and gives the exit code and what it wrote; fails the test at the alarm.
fn run(mut command: Command) -> (Option<i32>, String) {
    let started = Instant::now();
    let mut child: Child = command.spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > ALARM {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("still running after {ALARM:?}: {}", String::from_utf8_lossy(&output.stdout));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let output = child.wait_with_output().unwrap();
    let text =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    (output.status.code(), text.concat())
}

fn passes(command: Command) {
    let (code, text) = run(command);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 passed"), "the case did not run: {text}");
}

fn refused_file(bad: &Path) {
    let mut command = case(&std::env::current_exe().unwrap(), "refused");
    command.env(BAD, bad);
    passes(command);
    let mut command = case(&std::env::current_exe().unwrap(), "refused_variable");
    command.env(BAD, bad).env(LIBRARY, bad);
    passes(command);
}

#[test]
fn an_absent_file_is_refused_by_name_twice_and_a_good_one_then_works() {
    refused_file(Path::new("/nowhere/libonnxruntime.so"));
}

#[test]
fn a_text_file_is_refused_by_name_twice_and_a_good_one_then_works() {
    let folder = Folder::new("text");
    let path = folder.0.join("libonnxruntime.so");
    std::fs::write(&path, "this is text, not a library\n").unwrap();
    refused_file(&path);
}

#[test]
fn a_folder_is_refused_by_name_twice_and_a_good_file_then_works() {
    refused_file(&std::env::temp_dir());
}

#[cfg(target_os = "linux")]
#[test]
fn another_library_is_refused_by_name_twice_and_a_good_one_then_works() {
    // Whichever libm this very process has loaded.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libm =
        maps.split_whitespace().find(|word| word.contains("libm.so") || word.contains("libm-"));
    refused_file(Path::new(libm.expect("no libm is loaded")));
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting_for_a_writer() {
    let folder = Folder::new("pipe");
    let path = folder.0.join("libonnxruntime.so");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    refused_file(&path);
}

#[cfg(unix)]
#[test]
fn a_runtime_that_is_too_old_is_refused_with_both_versions() {
    let folder = Folder::new("old");
    let source = folder.0.join("old.c");
    let path = folder.0.join("libonnxruntime.so");
    std::fs::write(
        &source,
        "static const void *api(unsigned v) { (void)v; return 0; }\n\
         static const char *version(void) { return \"1.4.0\"; }\n\
         static const struct { const void *(*a)(unsigned); const char *(*v)(void); } base = { api, version };\n\
         const void *OrtGetApiBase(void) { return &base; }\n",
    )
    .unwrap();
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-o"]).arg(&path).arg(&source);
    assert!(compiler.status().unwrap().success());
    refused_file(&path);
    let mut command = case(&std::env::current_exe().unwrap(), "old");
    command.env(BAD, &path);
    passes(command);
}

#[test]
fn every_place_that_was_looked_at_is_in_the_error() {
    let folder = Folder::new("nothing");
    let cache = folder.0.join("onnxruntime-1.99.0");
    std::fs::create_dir_all(&cache).unwrap();
    let name = good().file_name().unwrap();
    std::fs::write(cache.join(name), "text").unwrap();
    let mut command = case(&std::env::current_exe().unwrap(), "nothing");
    command.env("DDPM_CACHE", &folder.0).env(BAD, cache.join(name));
    passes(command);
}

#[cfg(unix)]
#[test]
fn the_cache_is_found_and_its_newest_version_taken() {
    let folder = Folder::new("cache");
    for (version, target) in [("1.31.1", Path::new("/nowhere")), ("1.101.0", good())] {
        let cache = folder.0.join(format!("onnxruntime-{version}"));
        std::fs::create_dir_all(&cache).unwrap();
        std::os::unix::fs::symlink(target, cache.join(good().file_name().unwrap())).unwrap();
    }
    let mut command = case(&std::env::current_exe().unwrap(), "found");
    command.env("DDPM_CACHE", &folder.0);
    command.env(BAD, folder.0.join("onnxruntime-1.101.0").join(good().file_name().unwrap()));
    passes(command);
}

#[cfg(unix)]
#[test]
fn the_caches_runtime_with_cuda_is_taken_unless_the_cpu_is_asked_for() {
    let folder = Folder::new("cache-cuda");
    let name = good().file_name().unwrap();
    for kind in ["onnxruntime", "onnxruntime-cuda"] {
        let cache = folder.0.join(format!("{kind}-1.31.1"));
        std::fs::create_dir_all(&cache).unwrap();
        std::os::unix::fs::symlink(good(), cache.join(name)).unwrap();
    }
    for (name_of_case, kind) in [("found", "onnxruntime"), ("found_auto", "onnxruntime-cuda")] {
        let mut command = case(&std::env::current_exe().unwrap(), name_of_case);
        command.env("DDPM_CACHE", &folder.0).env("CUDA_VISIBLE_DEVICES", "");
        command.env(BAD, folder.0.join(format!("{kind}-1.31.1")).join(name));
        passes(command);
    }
}

#[cfg(unix)]
#[test]
fn a_library_beside_the_executable_is_found_from_any_folder() {
    let folder = Folder::new("beside");
    let executable = folder.0.join("host");
    std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
    let beside = folder.0.join(good().file_name().unwrap());
    std::os::unix::fs::symlink(good(), &beside).unwrap();
    let mut command = case(&executable, "found");
    command.env("DDPM_CACHE", folder.0.join("none")).env(BAD, &beside).current_dir("/");
    passes(command);
}

#[test]
fn a_process_keeps_the_runtime_it_has() {
    passes(case(&std::env::current_exe().unwrap(), "second"));
}

/// Holds for a runtime that is built with CUDA and for one that is not.
#[test]
fn cuda_without_a_device_is_an_error_or_the_cpu_with_the_reason() {
    let mut command = case(&std::env::current_exe().unwrap(), "no_device");
    command.env("CUDA_VISIBLE_DEVICES", "");
    passes(command);
}

#[test]
fn the_hosts_exit_code_survives_an_exit_during_a_step() {
    let started = Instant::now();
    let (code, text) = run(case(&std::env::current_exe().unwrap(), "exit"));
    assert_eq!(code, Some(7), "{text}");
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
}

#[test]
fn an_exit_while_the_model_loads_is_clean() {
    let (code, text) = run(case(&std::env::current_exe().unwrap(), "exit_loading"));
    assert_eq!(code, Some(7), "{text}");
}

/// Not a test of its own: what the others run in processes of their own.
#[test]
#[ignore = "run by the other tests, with a case to run"]
fn child() {
    let Ok(case) = std::env::var(CASE) else {
        return;
    };
    let path = |variable| PathBuf::from(std::env::var_os(variable).unwrap_or_default());
    let (bad, good) = (path(BAD), path(GOOD));
    match case.as_str() {
        "refused" | "refused_variable" => {
            let given = (case == "refused").then_some(bad.as_path());
            let first = load(given).unwrap_err();
            assert_eq!(first.kind(), ErrorKind::RuntimeLibrary);
            assert!(first.to_string().contains(bad.to_str().unwrap()), "{first}");
            assert_eq!(first.to_string().contains(LIBRARY), given.is_none(), "{first}");
            assert_eq!(load(given).unwrap_err(), first);
            load(Some(&good)).unwrap();
        }
        "old" => {
            let error = load(Some(&bad)).unwrap_err().to_string();
            assert!(error.contains("1.4.0 is too old, expected 1."), "{error}");
        }
        "nothing" => {
            let error = load(None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RuntimeLibrary);
            let text = error.to_string();
            let own = std::env::current_exe().unwrap();
            for part in [
                "DDPM_ONNXRUNTIME: not set",
                own.parent().unwrap().to_str().unwrap(),
                bad.to_str().unwrap(),
            ] {
                assert!(text.contains(part), "{text} does not contain {part:?}");
            }
            assert_eq!(load(None).unwrap_err(), error);
        }
        "found_auto" => {
            let source = ModelSource::from(&model("lin"));
            let loaded = OnnxDenoiser::load(&source, &OnnxOptions::default()).unwrap();
            assert_eq!(loaded.info().runtime_library, bad);
        }
        "found" => assert_eq!(load(None).unwrap().info().runtime_library, bad),
        "second" => {
            load(Some(&good)).unwrap();
            load(Some(&good)).unwrap();
            load(None).unwrap();
            let error = load(Some(Path::new("/nowhere/libonnxruntime.so"))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RuntimeLibrary);
            let text = error.to_string();
            assert!(text.contains("/nowhere") && text.contains(good.to_str().unwrap()), "{text}");
        }
        "no_device" => {
            let with = |provider| {
                let options = OnnxOptions {
                    runtime_library: Some(good.clone()),
                    provider,
                    ..OnnxOptions::default()
                };
                OnnxDenoiser::load(&ModelSource::from(&model("lin")), &options)
            };
            let error = with(Provider::Cuda).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Provider);
            assert_eq!(with(Provider::Cuda).unwrap_err(), error);
            let info = with(Provider::Auto).unwrap().info().clone();
            assert_eq!(info.provider, Provider::Cpu);
            assert_eq!(info.fallback_reason.as_deref(), Some(error.message()));
        }
        "exit" | "exit_loading" => {
            let name = if case == "exit" { "endless" } else { "endless_load" };
            let mut config = EngineConfig::new(model(name));
            config.runtime_library = Some(good);
            let engine = Engine::new(config).unwrap();
            if case == "exit" {
                engine.wait(None).unwrap();
                let stream = engine.stream(&StreamConfig::default()).unwrap();
                assert_eq!(stream.step().unwrap(), StepOutcome::Accepted);
            }
            std::thread::sleep(Duration::from_millis(100));
            std::process::exit(7);
        }
        other => panic!("no case {other}"),
    }
}
