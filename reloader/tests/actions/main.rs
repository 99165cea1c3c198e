//! Requests, commands, rolling restarts and verifications, against servers on loopback, real
//! processes, and a fake Kubernetes API.

mod cluster;
mod exec;
mod http;
mod http_faults;
mod leftovers;
mod rollout;
mod rollout_faults;
mod rollout_wait;
mod server;
mod verify;

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use reloader::testing::Stop;
use reloader::testing::{Content, Failure};

/// The content in all tests.
fn content() -> Content {
    let directories = vec![PathBuf::from("/srv/a"), PathBuf::from("/srv/b")];
    Content { digest: "0123abcd".repeat(8), directories, files: None }
}

/// The message of a failure, which must be one line, and whether it is without effect.
fn failure<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> (String, bool) {
    let failure = outcome.expect_err("a failure");
    let message = format!("{:#}", failure.error);
    assert!(!message.contains(char::is_control), "{message:?}");
    (message, failure.is_without_effect)
}

/// Another test of this program, which is ignored otherwise, as a separate process.
fn alone(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test's own path"));
    command.args(["--exact", test, "--ignored", "--nocapture"]);
    command
}

/// Calls `run` and sets its stop once `is_time` returns true.
fn stopped<T: Send>(is_time: impl Fn() -> bool + Send, run: impl FnOnce(&Stop) -> T + Send) -> T {
    let stop = Stop::default();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run(&stop));
        e2e::wait_for("the wait to begin", is_time);
        let asked = Instant::now();
        stop.set();
        let outcome = running.join().expect("no panic");
        assert!(asked.elapsed() < Duration::from_secs(20), "it ends soon");
        outcome
    })
}
