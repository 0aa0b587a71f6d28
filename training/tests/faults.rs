//! Runs that are interrupted, killed, or have the ground taken from under them.

#![cfg(unix)]

mod common;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::program::{checkpoint, command, succeed, weights};
use common::{folder, write_run};
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
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
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
    let mut child = command(&config).stderr(Stdio::null()).spawn().unwrap();
    let started = Instant::now();
    while !folder.join("out/loss.csv").exists() {
        assert!(started.elapsed() < Duration::from_secs(60), "the run does not start");
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(300));
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
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!folder.join("out/checkpoint.safetensors").exists());
}
