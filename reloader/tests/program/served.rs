//! What nginx serves is what was published.

use std::fs;
use std::path::Path;

use e2e::nginx::{Nginx, Setup};
use e2e::programs::{command, run};
use e2e::wait_for;
use nix::sys::signal::Signal;

use crate::run::{Place, Reloader};

/// A server whose answer is a part of its configuration, on the watched volume: another one is
/// given only after a reload.
fn server(place: &Place) -> Nginx {
    answer(place, "one");
    let include = format!("include {};", place.file().display());
    Nginx::start(&Setup { server: include, ..Setup::default() })
}

fn answer(place: &Place, text: &str) {
    fs::write(place.file(), format!("location / {{ return 200 '{text}'; }}")).expect("written");
}

fn reloader(nginx: &Nginx, directory: &Path) -> Reloader {
    let title = nginx.title();
    let reloader = Reloader::start(&["--process", &title, "--verify-timeout", "20"], directory);
    // What was changed before it started is unknown: there is a signal at the start.
    wait_for("the start", || reloader.get("/readyz").0 == 200);
    reloader
}

fn wait_for_answer(nginx: &Nginx, text: &str) {
    wait_for(text, || nginx.get("/").is_ok_and(|answer| answer == text));
}

#[test]
fn new_content_is_served_and_that_is_proved() {
    let place = Place::new();
    let nginx = server(&place);
    let reloader = reloader(&nginx, &place.data());
    let before = reloader.reloads();
    answer(&place, "two");
    wait_for_answer(&nginx, "two");
    wait_for("the proof", || reloader.reloads() > before);
    wait_for("the line", || reloader.stdout().contains("reloaded: file, "));
    assert!(reloader.stdout().contains("replaced"), "{}", reloader.stdout());
}

#[test]
fn a_broken_configuration_is_a_failure_until_it_is_mended() {
    let place = Place::new();
    let nginx = server(&place);
    let title = nginx.title();
    let args = ["--process", &title, "--verify-timeout", "2"];
    let reloader = Reloader::start(&args, &place.data());
    wait_for("the start", || reloader.get("/readyz").0 == 200);
    let successful = || reloader.metric("reloader_last_reload_successful");
    assert_eq!(successful(), Some(1.0));
    fs::write(place.file(), "nonsense").expect("written");
    wait_for("the failure", || successful() == Some(0.0));
    assert_eq!(nginx.get("/").expect("an answer"), "one");
    assert!(reloader.stderr().contains("kept its old workers"), "{}", reloader.stderr());
    answer(&place, "two");
    wait_for_answer(&nginx, "two");
    wait_for("the success", || successful() == Some(1.0));
}

#[test]
fn a_change_that_nobody_has_seen_is_made_up_for_at_the_start() {
    let place = Place::new();
    let nginx = server(&place);
    let mut first = reloader(&nginx, &place.data());
    first.signal(Signal::SIGKILL);
    first.ended();
    answer(&place, "two");
    assert_eq!(nginx.get("/").expect("an answer"), "one");
    let _second = reloader(&nginx, &place.data());
    wait_for_answer(&nginx, "two");
}

#[test]
fn of_many_publications_the_last_is_served() {
    let (place, source) = (Place::new(), Place::new());
    answer(&source, "one");
    fs::remove_file(place.file()).expect("removed");
    let publish = || {
        let mut provisioner = command("provisioner");
        provisioner.args(["--grace", "0", "--keep", "0", "--source"]).arg(source.data());
        let outcome = run(provisioner.arg("--target").arg(place.data()), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    };
    publish();
    let include = format!("include {};", place.file().display());
    let nginx = Nginx::start(&Setup { server: include, ..Setup::default() });
    let reloader = reloader(&nginx, &place.data());
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
    let status = run(command("provisioner").args(["status", "--target"]).arg(place.data()), b"");
    let applied = reloader.get("/metrics").1;
    let digest = status.stdout.split_whitespace().find(|word| word.starts_with("sha256:"));
    assert!(applied.contains(digest.expect("a digest").trim_end_matches(',')), "{status:?}");
}
