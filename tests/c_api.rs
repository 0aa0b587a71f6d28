//! The C API as C and C++ hosts meet it: the programs of `tests/c` and the examples, compiled with
//! the system's compiler against the header and the library, each run in a process of its own.
//!
//! Unix only. `CC` and `CXX` name other compilers.
#![cfg(unix)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use host::{Link, ROOT, SCRATCH, compile, expect_code, holds, models, runtime, shared_library};

#[path = "c_api/every_function.rs"]
mod every_function;
#[path = "c_api/header.rs"]
mod header;
#[path = "c_api/host.rs"]
mod host;
#[path = "../examples/reveal.rs"]
#[allow(dead_code, reason = "an example is a program, and its main is not called here")]
mod reveal;

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
fn acquired_frames_are_the_copied_ones_and_stay() {
    holds("frame_views.c", &[]);
}

#[test]
fn runs_go_back_and_forth_are_put_away_and_branch_off() {
    holds("trajectory.c", &[]);
}

#[test]
fn reveals_take_the_time_they_are_given() {
    holds("playback.c", &[]);
}

#[test]
fn every_sampler_and_setting_reaches_c() {
    holds("samplers.c", &[]);
}

#[test]
fn handles_end_in_any_order_at_any_time() {
    holds("lifetimes.c", &["100", "1000"]);
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn runs_broken_off_at_any_moment_leave_nothing_behind() {
    holds("break_off.c", &["300"]);
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_system_without_threads_is_an_error() {
    holds("no_threads.c", &[]);
}

/// Picture size and threads; of the MB that are left the least, the most, and from one to the next.
#[test]
#[cfg(target_os = "linux")]
fn a_process_without_memory_gets_errors() {
    holds("address_limit.c", &["8", "1", "4", "304", "25"]);
    holds("address_limit.c", &["8", "16", "4", "1604", "160"]);
    holds("address_limit.c", &["512", "1", "180", "480", "30"]);
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn memory_is_flat_and_given_back() {
    holds("memory.c", &["21"]);
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn the_gaps_between_steps_cost_next_to_nothing() {
    holds("idle.c", &["15"]);
}

#[test]
fn any_function_from_any_thread() {
    holds("threads.c", &[]);
}

#[test]
fn log_callback_cannot_call_back() {
    holds("log_callback.c", &["40"]);
}

#[test]
fn an_optimised_graph_is_kept_and_taken_again() {
    let folder = Path::new(SCRATCH).join("c_api/graphs");
    let _ = fs::remove_dir_all(&folder);
    holds("cache.c", &[folder.to_str().unwrap(), &format!("{ROOT}/Cargo.toml")]);
}

#[test]
fn a_model_may_come_from_memory_and_from_callbacks_with_other_weights() {
    let folder = Path::new(SCRATCH).join("c_api/sources");
    let _ = fs::remove_dir_all(&folder);
    holds("model_source.c", &[folder.to_str().unwrap()]);
}

#[test]
#[cfg(target_os = "linux")]
fn an_engines_threads_have_names_and_a_priority_and_end_with_it() {
    holds("own_threads.c", &[]);
}

#[test]
fn signals_and_the_working_folder_stay_the_hosts() {
    holds("signals.c", &[]);
}

#[test]
fn what_belongs_to_the_process_stays_the_hosts() {
    let folder = Path::new(SCRATCH).join("c_api/process");
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    holds("process_state.c", &[folder.to_str().unwrap(), runtime().to_str().unwrap()]);
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
    command.arg(models()).arg(shared_library()).arg("100");
    expect_code(&mut command, 0);
}

/// Two files of the library, and a library of somebody else's that is in Rust as well.
#[test]
fn two_copies_and_another_rust_library_live_in_one_process() {
    let folder = Path::new(SCRATCH).join("c_api/two");
    fs::create_dir_all(&folder).unwrap();
    let copy = folder.join("libddpm_copy");
    fs::copy(shared_library(), &copy).unwrap();
    let neighbour = folder.join("libneighbour");
    let rustc = env::var("RUSTC").unwrap_or("rustc".to_owned());
    let mut compiler = Command::new(rustc);
    compiler.current_dir(ROOT).args(["--edition", "2024", "-O", "--crate-type", "cdylib", "-o"]);
    expect_code(compiler.arg(&neighbour).arg("tests/c/neighbour.rs"), 0);
    let program = compile("copies", "tests/c/copies.c", Link::None, &[]);
    let mut command = Command::new(program);
    command.arg(models()).arg(shared_library()).arg(copy).arg(neighbour).arg("5");
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
fn a_host_may_release_its_own_environment_of_our_runtime_in_mid_step() {
    for when in ["before", "after"] {
        holds("host_environment.c", &[runtime().to_str().unwrap(), when]);
    }
}

#[test]
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn a_host_may_use_our_runtime_after_us() {
    let program = compile("closed_library", "tests/c/closed_library.c", Link::None, &[]);
    expect_code(Command::new(program).arg(models()).arg(shared_library()).arg(runtime()), 0);
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

/// What the example writes in C, C++ and Rust: the sheet and the animation, as `frames` gives them.
fn revealed(name: &str, options: &str) -> Vec<[(u32, Vec<Vec<u8>>); 2]> {
    let scratch = Path::new(SCRATCH).join("c_api");
    let model = models().join("open_size.onnx");
    let arguments = |out: &Path| {
        let always =
            "--seed 5 --sampler ddim --scale 3 --width 10 --height 6 --provider cpu --threads 1";
        let mut arguments = vec![model.to_str().unwrap().to_owned(), "--out".to_owned()];
        arguments.push(out.to_str().unwrap().to_owned());
        arguments.extend(always.split(' ').chain(options.split(' ')).map(str::to_owned));
        arguments
    };
    let mut written = Vec::new();
    for (language, source) in [("c", "examples/reveal.c"), ("cpp", "examples/reveal.cpp")] {
        let out = scratch.join(format!("{name}_{language}.out"));
        let program = compile(&format!("{name}_{language}"), source, Link::Shared, &[]);
        let output = expect_code(Command::new(&program).args(arguments(&out)), 0);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains("engine stepping: p50 "), "{said}");
        assert!(said.contains(out.join("reveal-sheet.png").to_str().unwrap()), "{said}");
        assert!(said.contains(out.join("reveal.png").to_str().unwrap()), "{said}");
        written.push(out);
    }
    let out = scratch.join(format!("{name}_rust.out"));
    reveal::reveal(reveal::parse(arguments(&out).into_iter()).unwrap()).unwrap();
    written.push(out);
    let pictures = written
        .iter()
        .map(|out| ["reveal-sheet.png", "reveal.png"].map(|name| frames(&out.join(name))));
    pictures.collect()
}

#[test]
fn reveal_writes_the_same_pictures_in_every_language() {
    let pictures = revealed("reveal", "--steps 12 --even");
    let [sheet, animation] = &pictures[0];
    assert_eq!(sheet.0, 10 * (30 + 4) + 4);
    // A frame for each step, none lost, however quick the steps.
    assert_eq!((animation.0, animation.1.len()), (30, 12));
    assert!(pictures.iter().all(|others| *others == pictures[0]));
}

#[test]
fn reveal_in_a_given_time_ends_in_the_same_picture() {
    // As many steps as are made on the slowest machine; how many frames are seen of them is its affair.
    let pictures = revealed("reveal_timed", "--steps 8 --easing ease-in-out --duration 0.4");
    let last = |pictures: &[(u32, Vec<Vec<u8>>); 2]| pictures[1].1.last().unwrap().clone();
    for each in &pictures {
        assert!((1..=8).contains(&each[1].1.len()), "{} frames", each[1].1.len());
        assert_eq!(last(each), last(&pictures[0]));
    }
}

#[test]
fn examples_refuse_what_they_do_not_know() {
    let program = compile("reveal_usage", "examples/reveal.c", Link::Shared, &[]);
    for (arguments, expected) in [
        (&["m.onnx", "--steps", "many"][..], "--steps: found \"many\""),
        (&["m.onnx", "--sampler", "best"], "sampler: found \"best\", expected one of ddpm, ddim,"),
        (&["m.onnx", "--speed", "9"], "unknown option --speed"),
        (&["m.onnx", "--duration", "0"], "--duration: found \"0\""),
        (&["m.onnx", "--even", "--easing", "bouncy"], "--easing: found \"bouncy\""),
        (&[], "usage: reveal MODEL"),
    ] {
        let output = expect_code(Command::new(&program).args(arguments), 2);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
    }
    let output = expect_code(Command::new(&program).arg("/nowhere/m.onnx"), 1);
    assert!(String::from_utf8(output.stderr).unwrap().contains("/nowhere/m.onnx"));
}
