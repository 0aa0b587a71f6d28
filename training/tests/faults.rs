//! Runs that are interrupted, killed, or have the ground taken from under them.

#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::program::{checkpoint, command, has_partial, refuse, succeed, weights};
use common::{contents, folder, write_run};
use ddpm_train::checkpoint::Checkpoint;
use ddpm_train::loss_log::read_losses;

/// Waits until the run has logged so many steps.
#[track_caller]
fn wait_for_steps(child: &mut Child, log: &Path, steps: usize) {
    let started = Instant::now();
    while std::fs::read_to_string(log).map_or(0, |text| text.lines().count()) <= steps {
        assert!(started.elapsed() < Duration::from_secs(120), "the run does not get on");
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[track_caller]
fn wait_for_file(path: &Path) {
    let started = Instant::now();
    while !path.exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "{} does not come", path.display());
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn written(log: &Path) -> Option<SystemTime> {
    std::fs::metadata(log).and_then(|found| found.modified()).ok()
}

/// Goes on with a run that may have a log already, and waits until it has begun to write to it: what
/// was there before are not its steps.
#[track_caller]
fn start(command: &mut Command, log: &Path) -> Child {
    let before = written(log);
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    while written(log) == before {
        assert!(started.elapsed() < Duration::from_secs(120), "the run does not start");
        assert!(child.try_wait().unwrap().is_none(), "the run ended by itself");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[track_caller]
fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn interrupted_run_saves_the_step_it_is_in_and_goes_on_as_if_it_had_not_been() {
    const STEPS: usize = 120;
    let whole = folder("faults_whole");
    let change = |c: &mut ddpm_train::config::Config| {
        c.train.steps = STEPS;
        c.train.accumulate = 2;
        c.train.batch = 4;
        c.report.checkpoint_every = STEPS;
    };
    let config = write_run(&whole, 21, change);
    succeed(&config, &[]);
    let expected = read_losses(&whole.join("out/loss.csv")).unwrap();

    let cut = folder("faults_interrupted");
    let config = write_run(&cut, 21, change);
    let log = cut.join("out/loss.csv");
    let mut last = 0;
    for (name, resume) in [("-INT", false), ("-TERM", true)] {
        let mut command = command(&config);
        if resume {
            command.arg("--resume");
        }
        let mut child = start(command.stderr(Stdio::piped()), &log);
        wait_for_steps(&mut child, &log, last + 20);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{message}");
        let step = checkpoint(&cut).step;
        assert!((last + 20..STEPS).contains(&step), "stopped at {step}");
        assert_eq!(read_losses(&log).unwrap(), expected[..step]);
        let says = format!("stopped at step {step} of {STEPS}");
        assert!(message.contains(&says) && message.contains("--resume"), "{message}");
        assert!(message.contains("stopping after this step"), "{message}");
        last = step;
    }
    succeed(&config, &["--resume"]);
    assert_eq!(read_losses(&log).unwrap(), expected);
    assert_eq!(weights(&cut), weights(&whole));
}

#[test]
fn second_interrupt_ends_a_run_at_once() {
    let folder = folder("faults_twice");
    let config = write_run(&folder, 4, |c| {
        // A step of minutes.
        (c.train.batch, c.train.accumulate) = (64, 65536);
    });
    let mut child = command(&config).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_file(&folder.join("out/loss.csv"));
    std::thread::sleep(Duration::from_millis(300));
    // Those that come at once, from `timeout` or a terminal, are one.
    for _ in 0..3 {
        signal(&child, "-INT");
    }
    std::thread::sleep(Duration::from_millis(1500));
    assert!(child.try_wait().unwrap().is_none(), "the first is waited for");
    signal(&child, "-INT");
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > Duration::from_secs(30) {
            child.kill().unwrap();
            panic!("the second is not heard");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(message.contains("stopped at once") && message.contains("not saved"), "{message}");
    assert!(!folder.join("out/checkpoint.safetensors").exists());
}

#[test]
fn two_runs_do_not_write_to_one_folder() {
    let folder = folder("faults_both");
    let config = write_run(&folder, 4, |c| {
        c.train.steps = 5000;
        c.report.checkpoint_every = 1;
    });
    let log = folder.join("out/loss.csv");
    let mut first = start(command(&config).stderr(Stdio::null()), &log);
    wait_for_steps(&mut first, &log, 3);
    for arguments in [&[][..], &["--resume"]] {
        let message = refuse(&config, arguments);
        let expected = format!("another run is writing there (process {})", first.id());
        assert!(message.contains(&expected) && message.contains("--out"), "{message}");
    }
    signal(&first, "-INT");
    assert_eq!(first.wait().unwrap().code(), Some(130));
    // It leaves its claim with its end, however that comes; and what it was writing is put away.
    let steps = checkpoint(&folder).step;
    let mut again = start(command(&config).arg("--resume").stderr(Stdio::null()), &log);
    wait_for_steps(&mut again, &log, steps + 2);
    again.kill().unwrap();
    again.wait().unwrap();
    let left = ["checkpoint.safetensors.12345.partial", "samples_000003.png.7.partial"];
    let others = ["mine.png.7.partial", "checkpoint.safetensors.partial"];
    for name in left.iter().chain(&others) {
        std::fs::write(folder.join("out").join(name), "half").unwrap();
    }
    let mut again = start(command(&config).arg("--resume").stderr(Stdio::null()), &log);
    signal(&again, "-INT");
    again.wait().unwrap();
    assert!(left.iter().all(|name| !folder.join("out").join(name).exists()));
    assert!(others.iter().all(|name| folder.join("out").join(name).exists()));
}

#[test]
fn run_killed_again_and_again_while_it_saves_goes_on_from_its_last_checkpoint() {
    const STEPS: usize = 60;
    let whole = folder("faults_not_killed");
    let change = |c: &mut ddpm_train::config::Config| {
        c.train.steps = STEPS;
        c.report.checkpoint_every = 1;
    };
    let config = write_run(&whole, 21, change);
    succeed(&config, &[]);

    let cut = folder("faults_killed");
    let config = write_run(&cut, 21, change);
    let (log, path) = (cut.join("out/loss.csv"), cut.join("out/checkpoint.safetensors"));
    let mut last = 0;
    for round in 0..12 {
        let mut command = command(&config);
        if path.exists() {
            command.arg("--resume");
        }
        let mut child = start(command.stderr(Stdio::null()), &log);
        wait_for_steps(&mut child, &log, last + 1 + round % 3);
        if round % 2 == 0 {
            // In the middle of a save, as far as it can be met.
            let name = format!("out/checkpoint.safetensors.{}.partial", child.id());
            let partial = cut.join(name);
            let started = Instant::now();
            while !partial.exists() && started.elapsed() < Duration::from_secs(1) {
                std::hint::spin_loop();
            }
        }
        std::thread::sleep(Duration::from_micros(round as u64 * 1700 % 9000));
        child.kill().unwrap();
        child.wait().unwrap();
        if path.exists() {
            let step = checkpoint(&cut).step;
            assert!((last..STEPS).contains(&step), "of step {step} after {last}");
            checkpoint(&cut).state(&burn::tensor::Device::flex()).unwrap();
            last = step;
        }
    }
    assert!(last > 0, "it was always killed before its first checkpoint");
    succeed(&config, &["--resume"]);
    assert_eq!(read_losses(&log).unwrap(), read_losses(&whole.join("out/loss.csv")).unwrap());
    assert_eq!(weights(&cut), weights(&whole));
    assert!(!has_partial(&cut.join("out")));
}

/// Runs a shell script with a file system of its own, `mount`ed by it, where the system allows that;
/// arguments are $1, $2, ...
fn in_own_mounts(script: &str, arguments: &[&Path]) -> Option<std::process::Output> {
    let mut unshare = Command::new("unshare");
    unshare.args([
        "-rm",
        "sh",
        "-c",
        &format!("mount -t tmpfs tmpfs /mnt || exit 99; {script}"),
        "sh",
    ]);
    let output = unshare.args(arguments).output().ok();
    let allowed = output.filter(|output| {
        output.status.code() != Some(99) && !output.stderr.starts_with(b"unshare")
    });
    if allowed.is_none() {
        eprintln!("not tested: file systems cannot be mounted here");
    }
    allowed
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_ddpm-train"))
}

#[test]
fn full_disk_ends_a_run_and_keeps_its_last_checkpoint() {
    let whole = folder("faults_space");
    let config = write_run(&whole, 4, |_| {});
    succeed(&config, &[]);
    let size = std::fs::metadata(whole.join("out/checkpoint.safetensors")).unwrap().len();

    let cut = folder("faults_full");
    let config = write_run(&cut, 4, |_| {});
    let room = (size * 3 / 2).to_string();
    // Room for one checkpoint and a half.
    let script = "mount -t tmpfs -o size=$1 tmpfs /mnt && \
        $2 fit --config $3 --out /mnt/out; code=$?; cp -r /mnt/out $4; exit $code";
    let arguments = [Path::new(&room), program(), &config, &cut];
    if let Some(output) = in_own_mounts(script, &arguments) {
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let names = message.contains("cannot write /mnt/out/checkpoint.safetensors");
        assert!(names && message.contains("No space left"), "{message}");
        assert_eq!(checkpoint(&cut).step, 5);
        assert!(!has_partial(&cut.join("out")));
        succeed(&config, &["--resume"]);
        assert_eq!(weights(&cut), weights(&whole));
    }
}

#[test]
fn configuration_that_does_not_fit_on_the_disk_leaves_nothing() {
    let folder = folder("faults_new");
    image::RgbImage::new(8, 8).save(folder.join("a.png")).unwrap();
    let script = "cp -r $2 /mnt/pictures && cd /mnt && head -c 1000000 /dev/zero > full 2> /dev/null; \
        $1 new pictures; code=$?; ls; exit $code";
    let script = format!("mount -t tmpfs -o size=64k tmpfs /mnt && {script}");
    if let Some(output) = in_own_mounts(&script, &[program(), &folder]) {
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let names = message.contains("cannot write config.toml");
        assert!(names && message.contains("No space left"), "{message}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "full\npictures\n");
    }
}

#[test]
fn checkpoint_is_judged_where_nothing_can_be_written_beside_it() {
    let folder = folder("faults_eval");
    let config = write_run(&folder, 40, |c| c.train.steps = 2);
    succeed(&config, &[]);
    let script = "cp -r $2/. /mnt && mount -o remount,ro /mnt && $1 eval /mnt/out/checkpoint.safetensors \
        -o $2/report --count 10 --sample-steps 2 --curve-count 0 --classifier-steps 4 --groups 3 && \
        ! $1 eval /mnt/out/checkpoint.safetensors -o /mnt/report";
    if let Some(output) = in_own_mounts(script, &[program(), &folder]) {
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{message}");
        assert!(message.contains("classifier: not kept, cannot write /mnt/out"), "{message}");
        assert!(folder.join("report/report.html").exists());
        // Refused before any work.
        let last = message.lines().last().unwrap();
        assert!(last.contains("cannot make /mnt/report"), "{message}");
        assert_eq!(message.matches("classifier: not kept").count(), 1, "{message}");
    }
}

#[test]
fn checkpoint_that_cannot_be_written_whole_leaves_the_one_before() {
    let whole = folder("faults_no_limit");
    let config = write_run(&whole, 4, |c| c.report.keep_checkpoints = 9);
    succeed(&config, &[]);
    let (out, expected) = (whole.join("out"), weights(&whole));
    let path = out.join("checkpoint.safetensors");
    std::fs::copy(out.join("checkpoint_000005.safetensors"), &path).unwrap();
    // No file of more than a quarter of a checkpoint, or half, by how large the shell's blocks are.
    let blocks = std::fs::metadata(&path).unwrap().len() / 4 / 512;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
    let mut limited = Command::new("sh");
    limited.args(["-c", &script, "sh"]).arg(program()).args(["fit", "--resume", "--config"]);
    let output = limited.arg(&config).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    let names = format!("cannot write {}: File too large", path.display());
    assert!(message.contains(&names), "{message}");
    assert_eq!(checkpoint(&whole).step, 5);
    assert!(!has_partial(&out));
    succeed(&config, &["--resume"]);
    assert_eq!(weights(&whole), expected);
}

#[test]
fn folder_that_cannot_be_written_is_named() {
    let folder = folder("faults_read_only");
    let config = write_run(&folder, 4, |_| {});
    let below_a_file = folder.join("sheet.png/out");
    let output = command(&config).arg("--out").arg(&below_a_file).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains(&format!("cannot make {}", below_a_file.display())), "{message}");

    let script = "mkdir /mnt/out && mount -o remount,ro /mnt && $1 fit --config $2 --out /mnt/out";
    if let Some(output) = in_own_mounts(script, &[program(), &config]) {
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let names = message.contains("cannot write /mnt/out/.lock");
        assert!(names && message.contains("Read-only"), "{message}");
    }
}

#[test]
fn folder_removed_on_the_way_is_made_again() {
    let whole = folder("faults_not_removed");
    let change = |c: &mut ddpm_train::config::Config| c.train.steps = 60;
    let config = write_run(&whole, 4, change);
    succeed(&config, &[]);

    let cut = folder("faults_removed");
    let config = write_run(&cut, 4, change);
    let out = cut.join("out");
    let mut child = command(&config).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_steps(&mut child, &out.join("loss.csv"), 7);
    signal(&child, "-STOP");
    std::fs::remove_dir_all(&out).unwrap();
    signal(&child, "-CONT");
    let output = child.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{message}");
    assert!(message.contains("was removed or moved; the folder is made again"), "{message}");
    let losses = |folder: &Path| read_losses(&folder.join("out/loss.csv")).unwrap();
    assert_eq!(losses(&cut), losses(&whole));
    assert_eq!(weights(&cut), weights(&whole));
}

#[test]
fn run_whose_folder_was_moved_leaves_the_next_one_alone() {
    let folder = folder("faults_moved");
    let change = |c: &mut ddpm_train::config::Config| {
        (c.train.steps, c.report.checkpoint_every) = (5000, 5);
    };
    let config = write_run(&folder, 4, change);
    let (out, moved) = (folder.join("out"), folder.join("moved"));
    let mut first = command(&config).stderr(Stdio::piped()).spawn().unwrap();
    wait_for_steps(&mut first, &out.join("loss.csv"), 7);
    signal(&first, "-STOP");
    std::fs::rename(&out, &moved).unwrap();
    let next = write_run(&folder, 4, |c| (c.seed, c.train.steps) = (9, 3));
    succeed(&next, &[]);
    let finished = contents(&out);
    signal(&first, "-CONT");
    let output = first.wait_with_output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert!(message.contains("another run has written there since"), "{message}");
    assert_eq!(contents(&out), finished);
    // What it saved goes on where it is.
    write_run(&folder, 4, |c| {
        change(c);
        c.out = moved.clone();
    });
    assert!(Checkpoint::read(&moved.join("checkpoint.safetensors")).unwrap().step >= 5);

    // A lock alone that is gone is made again.
    let mut again =
        start(command(&config).arg("--resume").stderr(Stdio::piped()), &moved.join("loss.csv"));
    std::fs::remove_file(moved.join(".lock")).unwrap();
    wait_for_file(&moved.join(".lock"));
    assert!(refuse(&config, &["--resume"]).contains("another run is writing there"));
    signal(&again, "-INT");
    assert_eq!(again.wait().unwrap().code(), Some(130));
}

#[cfg(target_os = "linux")]
#[test]
fn memory_of_a_run_of_two_thousand_steps_stays_flat() {
    const STEPS: usize = 2000;
    let folder = folder("faults_memory");
    let config = write_run(&folder, 4, |c| {
        c.model.channels = vec![8];
        (c.train.steps, c.train.batch) = (STEPS, 1);
        c.report.checkpoint_every = 250;
        c.report.sample_every = 250;
    });
    let mut child = command(&config).stderr(Stdio::null()).spawn().unwrap();
    let log = folder.join("out/loss.csv");
    // Kilobytes in memory after so many steps.
    let resident = |child: &mut Child, steps| -> usize {
        wait_for_steps(child, &log, steps);
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let early = resident(&mut child, 600);
    let late = resident(&mut child, STEPS - 100);
    assert!(child.wait().unwrap().success());
    // A leak of a batch's activations each step would be hundreds of megabytes.
    assert!(late < early + 4096, "{early} kB after 600 steps, {late} kB after {}", STEPS - 100);
}
