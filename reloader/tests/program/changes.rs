//! Changes of content, and events that are none.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::thread::sleep;
use std::time::{Duration, Instant};

use e2e::programs::{command, run};
use e2e::wait_for;
use nix::sys::signal::Signal;

use crate::run::{Fixture, Reloader};

#[test]
fn a_change_is_reloaded_once_and_reported() {
    let fixture = Fixture::new();
    let reloader = Reloader::start(&["--exec", &fixture.record_command()], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    assert_eq!(fixture.recorded(), [""; 0], "a command waits for a change");
    fs::write(fixture.file(), "two").expect("written");
    fixture.wait_for_record("two");
    wait_for("the metric", || reloader.reloads() == 1);
    wait_for("the line", || reloader.stdout().contains("\nreloaded: "));
    let stdout = reloader.stdout();
    let line = stdout.lines().find(|line| line.starts_with("reloaded: ")).expect("a line");
    assert!(line.starts_with("reloaded: file, sha256:"), "{line}");
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(1.0));
    let (_, metrics) = reloader.get("/metrics");
    let info =
        metrics.lines().find(|line| line.starts_with("reloader_content_info{")).expect("one");
    let digests: Vec<_> = info.split('"').filter(|text| text.starts_with("sha256:")).collect();
    assert!(digests.len() == 2 && digests[0] == digests[1], "{info}");
    reloader.wait_for_scans(2);
    assert_eq!((fixture.recorded(), reloader.stderr()), (vec!["two".to_owned()], String::new()));
}

#[test]
fn the_same_size_and_time_do_not_hide_a_change() {
    let fixture = Fixture::new();
    let reloader =
        Reloader::start(&["--poll", "0.3", "--exec", &fixture.record_command()], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    let time = fs::metadata(fixture.file()).expect("there").modified().expect("a time");
    fs::write(fixture.file(), "two").expect("written");
    File::options()
        .write(true)
        .open(fixture.file())
        .expect("open")
        .set_modified(time)
        .expect("set");
    fixture.wait_for_record("two");
    reloader.wait_for_scans(3);
    assert_eq!(fixture.recorded(), ["two"]);
}

#[test]
fn touching_and_reading_cause_no_reload() {
    let fixture = Fixture::new();
    let reloader =
        Reloader::start(&["--poll", "0.3", "--exec", &fixture.record_command()], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    for _ in 0..1000 {
        fs::read(fixture.file()).expect("read");
    }
    File::options()
        .write(true)
        .open(fixture.file())
        .expect("open")
        .write_all(b"")
        .expect("written");
    fs::write(fixture.file(), "one").expect("written");
    fs::set_permissions(fixture.file(), Permissions::from_mode(0o640)).expect("set");
    fs::set_permissions(fixture.data(), Permissions::from_mode(0o711)).expect("set");
    reloader.wait_for_scans(4);
    assert_eq!((reloader.reloads(), fixture.recorded().len()), (0, 0));
}

#[test]
fn reading_starts_no_scan() {
    let fixture = Fixture::new();
    for n in 0..500 {
        fs::write(fixture.data().join(n.to_string()), "x").expect("written");
    }
    let reloader = Reloader::start(&["--exec", "true"], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    let scans = || reloader.metric("reloader_scans_total{result=\"success\"}").expect("there");
    let before = scans();
    sleep(Duration::from_secs(2));
    // Without events, the next scan comes after a minute.
    assert!(scans() <= before + 1.0, "{} scans since", scans() - before);
}

#[test]
fn the_last_of_a_hundred_swaps_is_used() {
    let fixture = Fixture::new();
    let data = fixture.data();
    fs::remove_file(fixture.file()).expect("removed");
    let publish = |n: usize| {
        fs::create_dir(data.join(format!("..{n}"))).expect("made");
        fs::write(data.join(format!("..{n}/file")), n.to_string()).expect("written");
        symlink(format!("..{n}"), data.join("..next")).expect("linked");
        fs::rename(data.join("..next"), data.join("..data")).expect("renamed");
    };
    publish(0);
    symlink("..data/file", fixture.file()).expect("linked");
    let reloader = Reloader::start(&["--exec", &fixture.record_command()], &data);
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    for n in 1..=100 {
        publish(n);
        sleep(Duration::from_millis(50));
    }
    fixture.wait_for_record("100");
    reloader.wait_for_scans(2);
    let last = fixture.recorded().iter().filter(|text| *text == "100").count();
    assert!(last <= 3, "{:?}", fixture.recorded());
}

#[test]
fn a_file_that_is_being_written_is_not_used() {
    let fixture = Fixture::new();
    let reloader = Reloader::start(&["--exec", &fixture.record_command()], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    let start = Instant::now();
    let mut file = File::create(fixture.data().join("large")).expect("created");
    while start.elapsed() < Duration::from_secs(3) {
        file.write_all(b"a piece ").expect("written");
        sleep(Duration::from_millis(20));
    }
    // The debounce is ten times the pause; on a busy machine one pause may be longer than that.
    assert!(fixture.recorded().len() <= 1, "{:?}", fixture.recorded());
    drop(file);
    let recorded = fixture.recorded().len();
    wait_for("the complete file", || fixture.recorded().len() > recorded || recorded == 1);
}

#[test]
fn a_change_during_a_reload_causes_another() {
    let fixture = Fixture::new();
    let (record, gate) = (fixture.record_command(), fixture.at("gate"));
    let wait = format!("sh -c 'while [ ! -e {} ]; do sleep 0.05; done'", gate.display());
    let reloader = Reloader::start(&["--exec", &record, "--exec", &wait], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    fs::write(fixture.file(), "two").expect("written");
    fixture.wait_for_record("two");
    fs::write(fixture.file(), "three").expect("written");
    reloader.wait_for_scans(1);
    assert_eq!(fixture.recorded(), ["two"], "one at a time");
    fs::write(&gate, "").expect("written");
    fixture.wait_for_record("three");
    wait_for("both", || reloader.reloads() == 2);
}

#[test]
fn a_failure_is_reported_and_retried_and_new_content_ends_it() {
    let fixture = Fixture::new();
    let check = format!("sh -c 'grep -q -e one -e three {}'", fixture.file().display());
    let reloader = Reloader::start(&["--at-start", "--exec", &check], &fixture.data());
    wait_for("the start", || reloader.reloads() == 1);
    fs::write(fixture.file(), "two").expect("written");
    let failures = || reloader.metric("reloader_reloads_total{result=\"failure\"}").expect("there");
    wait_for("two failures", || failures() >= 2.0);
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(0.0));
    assert_eq!(reloader.get("/readyz").0, 200, "the application goes on");
    assert!(reloader.stderr().starts_with("reloader: reload failed: file, sha256:"));
    fs::write(fixture.file(), "three").expect("written");
    wait_for("new content", || reloader.reloads() >= 2);
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(1.0));
}

#[test]
fn a_change_before_a_kill_is_reloaded_at_the_next_start() {
    let fixture = Fixture::new();
    let args = ["--at-start", "--exec", &fixture.record_command()];
    let mut reloader = Reloader::start_with_debounce("5", &args, &fixture.data());
    fixture.wait_for_record("one");
    fs::write(fixture.file(), "two").expect("written");
    reloader.signal(Signal::SIGKILL);
    reloader.ended();
    drop(reloader);
    assert_eq!(fixture.recorded(), ["one"]);
    let _reloader = Reloader::start(&args, &fixture.data());
    fixture.wait_for_record("two");
}

#[test]
fn a_published_tree_is_used_once_it_is_live() {
    let (fixture, target) = (Fixture::new(), Fixture::new());
    fs::remove_file(target.file()).expect("removed");
    let provision = || {
        let mut provisioner = command("provisioner");
        provisioner.args(["--grace", "0", "--source"]).arg(fixture.data());
        let outcome = run(provisioner.arg("--target").arg(target.data()), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
        outcome.stdout
    };
    provision();
    let reloader = Reloader::start(&["--exec", &target.record_command()], &target.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    provision();
    fs::write(fixture.file(), "two").expect("written");
    let output = provision();
    target.wait_for_record("two");
    let digest = output.split_whitespace().find(|word| word.starts_with("sha256:")).expect("one");
    wait_for("the line", || reloader.stdout().contains(digest.trim_end_matches(',')));
    assert_eq!(target.recorded(), ["two"], "nothing changed the first time");
}

#[test]
fn a_check_that_fails_keeps_the_actions_from_running_until_it_passes() {
    let fixture = Fixture::new();
    let seen = fixture.at("seen");
    let check = format!(
        "sh -c 'echo $RELOADER_DIGEST $RELOADER_DIRECTORIES >{}; test -e {} && exec grep -q good {}'",
        seen.display(),
        fixture.at("ready").display(),
        fixture.file().display()
    );
    let args = ["--exec", &fixture.record_command(), "--check-exec", &check];
    let reloader = Reloader::start(&args, &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    assert!(reloader.stdout().contains("check with `sh`; run `sh`"), "{}", reloader.stdout());
    fs::write(fixture.file(), "good").expect("written");
    wait_for("the failure", || {
        reloader.stderr().contains("check with `sh`: failed to run `sh`: exit code 1")
    });
    assert_eq!(reloader.metric("reloader_last_reload_successful"), Some(0.0));
    let text = fs::read_to_string(&seen).expect("run");
    assert!(text.ends_with(&format!(" {}\n", fixture.data().display())), "{text}");
    assert_eq!(text.split(' ').next().map(str::len), Some(64), "{text}");
    assert_eq!(fixture.recorded(), [""; 0]);
    // It is tried again, as any failed reload is, without another change.
    fs::write(fixture.at("ready"), "").expect("written");
    fixture.wait_for_record("good");
    wait_for("the metric", || reloader.metric("reloader_last_reload_successful") == Some(1.0));
    fs::write(fixture.file(), "bad").expect("written");
    wait_for("the next failure", || {
        reloader.metric("reloader_last_reload_successful") == Some(0.0)
    });
    fs::write(fixture.file(), "good").expect("written");
    // The application has this content already, so no action is due.
    wait_for("the content", || reloader.metric("reloader_last_reload_successful") == Some(1.0));
    assert_eq!(fixture.recorded(), ["good"]);
}
