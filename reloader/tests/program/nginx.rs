//! nginx serves published content.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use e2e::nginx::{Nginx, Setup};
use e2e::programs::{command, run};
use e2e::wait_for;
use nix::sys::signal::Signal;

use crate::run::{Fixture, Reloader};

/// A server whose answer is a part of its configuration in the watched directory: it changes only
/// by a reload.
fn server(fixture: &Fixture) -> Nginx {
    answer(fixture, "one");
    let include = format!("include {};", fixture.file().display());
    // One byte a second.
    let slow = format!("location /slow {{ limit_rate 1; return 200 {}; }}", "x".repeat(600));
    Nginx::start(&Setup { server: format!("{include}\n{slow}"), ..Setup::default() })
}

fn answer(fixture: &Fixture, text: &str) {
    fs::write(fixture.file(), format!("location / {{ return 200 '{text}'; }}")).expect("written");
}

fn reloader(nginx: &Nginx, directory: &Path) -> Reloader {
    let title = nginx.title();
    let reloader = Reloader::start(&["--process", &title, "--verify-timeout", "20"], directory);
    // There is a signal at the start.
    wait_for("the start", || reloader.get("/readyz").0 == 200);
    reloader
}

fn wait_for_answer(nginx: &Nginx, text: &str) {
    wait_for(text, || nginx.get("/").is_ok_and(|answer| answer == text));
}

#[test]
fn new_content_is_served_and_proved() {
    let fixture = Fixture::new();
    let nginx = server(&fixture);
    let reloader = reloader(&nginx, &fixture.data());
    let before = reloader.reloads();
    answer(&fixture, "two");
    wait_for_answer(&nginx, "two");
    wait_for("the proof", || reloader.reloads() > before);
    wait_for("the line", || reloader.stdout().contains("reloaded: file, "));
    assert!(reloader.stdout().contains("replaced"), "{}", reloader.stdout());
}

#[test]
fn a_broken_configuration_is_a_failure_until_it_is_mended() {
    let fixture = Fixture::new();
    let nginx = server(&fixture);
    let title = nginx.title();
    let args = ["--process", &title, "--verify-timeout", "2"];
    let reloader = Reloader::start(&args, &fixture.data());
    wait_for("the start", || reloader.get("/readyz").0 == 200);
    let successful = || reloader.metric("reloader_last_reload_successful");
    assert_eq!(successful(), Some(1.0));
    fs::write(fixture.file(), "nonsense").expect("written");
    wait_for("the failure", || successful() == Some(0.0));
    assert_eq!(nginx.get("/").expect("an answer"), "one");
    assert!(reloader.stderr().contains("kept its old workers"), "{}", reloader.stderr());
    answer(&fixture, "two");
    wait_for_answer(&nginx, "two");
    wait_for("the success", || successful() == Some(1.0));
}

#[test]
fn old_workers_with_a_held_connection_are_counted_until_they_end() {
    let fixture = Fixture::new();
    let nginx = server(&fixture);
    let reloader = reloader(&nginx, &fixture.data());
    let shutting_down = || reloader.metric("reloader_nginx_workers_shutting_down");
    wait_for("the workers before the start", || shutting_down() == Some(0.0));
    let mut held = nginx.connect().expect("a connection");
    held.write_all(b"GET /slow HTTP/1.0\r\n\r\n").expect("sent");
    held.read_exact(&mut [0]).expect("the first byte of an answer that takes minutes");
    answer(&fixture, "two");
    wait_for("the line", || reloader.stdout().contains(" replaced, 1 shutting down; "));
    assert_eq!(shutting_down(), Some(1.0));
    drop(held);
    wait_for("the end of the old worker", || shutting_down() == Some(0.0));
}

#[test]
fn a_change_while_reloader_is_down_is_served_after_its_start() {
    let fixture = Fixture::new();
    let nginx = server(&fixture);
    let mut first = reloader(&nginx, &fixture.data());
    first.signal(Signal::SIGKILL);
    first.ended();
    answer(&fixture, "two");
    assert_eq!(nginx.get("/").expect("an answer"), "one");
    let _second = reloader(&nginx, &fixture.data());
    wait_for_answer(&nginx, "two");
}

#[test]
fn the_last_of_many_publications_is_served() {
    let (fixture, source) = (Fixture::new(), Fixture::new());
    answer(&source, "one");
    fs::remove_file(fixture.file()).expect("removed");
    let publish = || {
        let mut provisioner = command("provisioner");
        provisioner.args(["--grace", "0", "--keep", "0", "--source"]).arg(source.data());
        let outcome = run(provisioner.arg("--target").arg(fixture.data()), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    };
    publish();
    let include = format!("include {};", fixture.file().display());
    let nginx = Nginx::start(&Setup { server: include, ..Setup::default() });
    let reloader = reloader(&nginx, &fixture.data());
    for n in 2..=20 {
        answer(&source, &n.to_string());
        publish();
    }
    wait_for_answer(&nginx, "20");
    wait_for("the proof", || {
        let (_, metrics) = reloader.get("/metrics");
        let info = metrics.lines().find(|line| line.starts_with("reloader_content_info{"));
        let digests: Vec<_> =
            info.expect("one").split('"').filter(|text| text.starts_with("sha256:")).collect();
        digests.len() == 2 && digests[0] == digests[1]
    });
    let status = run(command("provisioner").args(["status", "--target"]).arg(fixture.data()), b"");
    let applied = reloader.get("/metrics").1;
    let digest = status.stdout.split_whitespace().find(|word| word.starts_with("sha256:"));
    assert!(applied.contains(digest.expect("a digest").trim_end_matches(',')), "{status:?}");
}
