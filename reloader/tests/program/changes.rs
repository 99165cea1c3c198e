//! Changes of content, and what only looks like one.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::programs::{command, run};
use e2e::wait_for;
use nix::sys::signal::Signal;

use crate::run::{Place, Reloader};

#[test]
fn a_change_is_acted_upon_once_and_told() {
    let place = Place::new();
    let reloader = Reloader::start(&["--exec", &place.note()], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    assert_eq!(place.noted(), [""; 0], "a command waits for a change");
    fs::write(place.file(), "two").expect("written");
    place.wait_for_note("two");
    wait_for("the metric", || reloader.reloads() == 1);
    wait_for("the line", || reloader.stdout().contains("\nreloaded: "));
    let said = reloader.stdout();
    let line = said.lines().find(|line| line.starts_with("reloaded: ")).expect("a line");
    assert!(line.starts_with("reloaded: file, sha256:"), "{line}");
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(1.0));
    let (_, metrics) = reloader.get("/metrics");
    let info =
        metrics.lines().find(|line| line.starts_with("reloader_content_info{")).expect("one");
    let digests: Vec<_> = info.split('"').filter(|text| text.starts_with("sha256:")).collect();
    assert!(digests.len() == 2 && digests[0] == digests[1], "{info}");
    reloader.wait_for_looks(2);
    assert_eq!((place.noted(), reloader.stderr()), (vec!["two".to_owned()], String::new()));
}

#[test]
fn the_same_size_and_time_do_not_hide_a_change() {
    let place = Place::new();
    let reloader = Reloader::start(&["--poll", "0.3", "--exec", &place.note()], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    let time = fs::metadata(place.file()).expect("there").modified().expect("a time");
    fs::write(place.file(), "two").expect("written");
    File::options().write(true).open(place.file()).expect("open").set_modified(time).expect("set");
    place.wait_for_note("two");
    reloader.wait_for_looks(3);
    assert_eq!(place.noted(), ["two"]);
}

#[test]
fn touching_and_reading_are_no_change() {
    let place = Place::new();
    let reloader = Reloader::start(&["--poll", "0.3", "--exec", &place.note()], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    for _ in 0..1000 {
        fs::read(place.file()).expect("read");
    }
    File::options().write(true).open(place.file()).expect("open").write_all(b"").expect("written");
    fs::write(place.file(), "one").expect("written");
    fs::set_permissions(place.file(), Permissions::from_mode(0o640)).expect("set");
    fs::set_permissions(place.data(), Permissions::from_mode(0o711)).expect("set");
    reloader.wait_for_looks(4);
    assert_eq!((reloader.reloads(), place.noted().len()), (0, 0));
}

#[test]
fn reading_wakes_nobody() {
    let place = Place::new();
    for n in 0..500 {
        fs::write(place.data().join(n.to_string()), "x").expect("written");
    }
    let reloader = Reloader::start(&["--exec", "true"], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    let looks = || reloader.metric("reloader_scans_total{result=\"success\"}").expect("there");
    let before = looks();
    sleep(Duration::from_secs(2));
    // The next one is due after a minute.
    assert!(looks() <= before + 1.0, "{} looks since", looks() - before);
}

#[test]
fn of_a_hundred_swaps_the_last_is_used() {
    let place = Place::new();
    let data = place.data();
    fs::remove_file(place.file()).expect("removed");
    let publish = |n: usize| {
        fs::create_dir(data.join(format!("..{n}"))).expect("made");
        fs::write(data.join(format!("..{n}/file")), n.to_string()).expect("written");
        symlink(format!("..{n}"), data.join("..next")).expect("linked");
        fs::rename(data.join("..next"), data.join("..data")).expect("renamed");
    };
    publish(0);
    symlink("..data/file", place.file()).expect("linked");
    let reloader = Reloader::start(&["--exec", &place.note()], &data);
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    for n in 1..=100 {
        publish(n);
        sleep(Duration::from_millis(50));
    }
    place.wait_for_note("100");
    reloader.wait_for_looks(2);
    let last = place.noted().iter().filter(|text| *text == "100").count();
    assert!(last <= 3, "{:?}", place.noted());
}

#[test]
fn what_is_half_written_is_not_used() {
    let place = Place::new();
    let reloader = Reloader::start(&["--exec", &place.note()], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    let start = Instant::now();
    let mut file = File::create(place.data().join("large")).expect("created");
    while start.elapsed() < Duration::from_secs(3) {
        file.write_all(b"a piece ").expect("written");
        sleep(Duration::from_millis(20));
    }
    // The debounce is five times the pause; a machine that rests longer may be forgiven one.
    assert!(place.noted().len() <= 1, "{:?}", place.noted());
    drop(file);
    let noted = place.noted().len();
    wait_for("the whole", || place.noted().len() > noted || noted == 1);
}

#[test]
fn a_change_during_a_reload_makes_another() {
    let place = Place::new();
    let (note, gate) = (place.note(), place.at("gate"));
    let wait = format!("sh -c 'while [ ! -e {} ]; do sleep 0.05; done'", gate.display());
    let reloader = Reloader::start(&["--exec", &note, "--exec", &wait], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    fs::write(place.file(), "two").expect("written");
    place.wait_for_note("two");
    fs::write(place.file(), "three").expect("written");
    reloader.wait_for_looks(1);
    assert_eq!(place.noted(), ["two"], "one at a time");
    fs::write(&gate, "").expect("written");
    place.wait_for_note("three");
    wait_for("both", || reloader.reloads() == 2);
}

#[test]
fn a_failure_is_told_and_tried_again_until_what_was_before_is_back() {
    let place = Place::new();
    let check = format!("sh -c 'grep -q -e one -e three {}'", place.file().display());
    let reloader = Reloader::start(&["--at-start", "--exec", &check], &place.data());
    wait_for("the start", || reloader.reloads() == 1);
    fs::write(place.file(), "two").expect("written");
    let failures = || reloader.metric("reloader_reloads_total{result=\"failure\"}").expect("there");
    wait_for("two failures", || failures() >= 2.0);
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(0.0));
    assert_eq!(reloader.get("/readyz").0, 200, "the application runs on");
    assert!(reloader.stderr().starts_with("reloader: reload failed: file, sha256:"));
    fs::write(place.file(), "three").expect("written");
    wait_for("new content", || reloader.reloads() >= 2);
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(1.0));
}

#[test]
fn what_was_killed_in_between_is_made_up_for_at_the_start() {
    let place = Place::new();
    let args = ["--at-start", "--exec", &place.note()];
    let mut reloader = Reloader::start_with_debounce("5", &args, &place.data());
    place.wait_for_note("one");
    fs::write(place.file(), "two").expect("written");
    reloader.signal(Signal::SIGKILL);
    reloader.ended();
    drop(reloader);
    assert_eq!(place.noted(), ["one"]);
    let _reloader = Reloader::start(&args, &place.data());
    place.wait_for_note("two");
}

#[test]
fn a_published_tree_is_used_when_it_is_live() {
    let (place, target) = (Place::new(), Place::new());
    fs::remove_file(target.file()).expect("removed");
    let provision = || {
        let mut provisioner = command("provisioner");
        provisioner.args(["--grace", "0", "--source"]).arg(place.data());
        let outcome = run(provisioner.arg("--target").arg(target.data()), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    provision();
    let reloader = Reloader::start(&["--exec", &target.note()], &target.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    provision();
    fs::write(place.file(), "two").expect("written");
    let said = provision();
    target.wait_for_note("two");
    let digest = said.split_whitespace().find(|word| word.starts_with("sha256:")).expect("one");
    wait_for("the line", || reloader.stdout().contains(digest.trim_end_matches(',')));
    assert_eq!(target.noted(), ["two"], "nothing changed the first time");
}
