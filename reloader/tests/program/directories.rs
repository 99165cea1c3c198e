//! Directories that come and go, events that are lost or missing, and memory.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::programs::program;
use e2e::{skip_unless_root, wait_for};
use nix::sys::signal::Signal;

use crate::run::{Fixture, Reloader};

#[test]
fn a_directory_may_be_missing_removed_and_made_again() {
    let fixture = Fixture::new();
    let away = fixture.at("away");
    fs::rename(fixture.data(), &away).expect("renamed");
    let reloader = Reloader::start(&["--exec", &fixture.record_command()], &fixture.data());
    wait_for("the message", || reloader.stderr().contains("no such file or directory"));
    assert_eq!(reloader.get("/readyz").0, 503);
    fs::rename(&away, fixture.data()).expect("renamed");
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    // By events: without them, the next scan comes after a minute.
    fs::remove_dir_all(fixture.data()).expect("removed");
    fs::create_dir(fixture.data()).expect("made");
    fs::write(fixture.file(), "two").expect("written");
    fixture.wait_for_record("two");
    fs::rename(fixture.data(), &away).expect("renamed");
    fs::create_dir(fixture.data()).expect("made");
    fs::write(fixture.file(), "three").expect("written");
    fixture.wait_for_record("three");
}

#[test]
fn a_link_on_the_way_may_be_replaced() {
    let fixture = Fixture::new();
    let (first, second, link) = (fixture.at("first"), fixture.at("second"), fixture.at("link"));
    for (dir, content) in [(&first, "one"), (&second, "two")] {
        fs::create_dir_all(dir.join("data")).expect("made");
        fs::write(dir.join("data/file"), content).expect("written");
    }
    std::os::unix::fs::symlink("first", &link).expect("linked");
    let record = format!("cp {} {}", link.join("data/file").display(), fixture.at("log").display());
    let reloader = Reloader::start(&["--exec", &record], &link.join("data"));
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    std::os::unix::fs::symlink("second", fixture.at("next")).expect("linked");
    fs::rename(fixture.at("next"), &link).expect("renamed");
    fixture.wait_for_record("two");
}

fn mount(args: &[&str], at: &Path) {
    let status = Command::new("mount").args(args).arg(at).status().expect("mount");
    assert!(status.success());
}

/// Unmounts when dropped.
struct Mounted<'m>(&'m Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_mount_over_the_directory_is_seen_within_the_poll_interval() {
    if skip_unless_root("mounts file systems") {
        return;
    }
    let fixture = Fixture::new();
    let reloader =
        Reloader::start(&["--poll", "0.5", "--exec", &fixture.record_command()], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    let data = fixture.data();
    mount(&["-t", "tmpfs", "tmpfs"], &data);
    let _mounted = Mounted(&data);
    fs::write(fixture.file(), "two").expect("written");
    fixture.wait_for_record("two");
    // The mounted directory is watched, too.
    fs::write(fixture.file(), "three").expect("written");
    fixture.wait_for_record("three");
}

/// Changes by other clients of a network file system raise no event, and neither do changes in the
/// lower layers of an overlay.
#[test]
fn changes_without_events_are_seen_by_regular_scans() {
    if skip_unless_root("mounts file systems") {
        return;
    }
    let fixture = Fixture::new();
    let (lower, other) = (fixture.at("lower"), fixture.at("other"));
    fs::create_dir(&lower).expect("made");
    fs::create_dir(&other).expect("made");
    fs::write(lower.join("file"), "one").expect("written");
    let layers = format!("lowerdir={}:{}", lower.display(), other.display());
    let data = fixture.data();
    mount(&["-t", "overlay", "overlay", "-o", &layers], &data);
    let _mounted = Mounted(&data);
    let reloader = Reloader::start(&["--exec", &fixture.record_command()], &data);
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    assert_eq!(reloader.metric("reloader_scan_interval_seconds"), Some(5.0));
    fs::write(lower.join("file"), "two").expect("written");
    fixture.wait_for_record("two");
}

/// The queue is filled by events beside the watched directory, which do not matter: so the only
/// notice of the change is that of the overflow.
#[test]
fn a_change_whose_event_is_lost_in_a_full_queue_is_seen() {
    let fixture = Fixture::new();
    let args = ["--poll", "3600", "--exec", &fixture.record_command()];
    let reloader = Reloader::start(&args, &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("read");
    let limit: usize = limit.trim().parse().expect("a number");
    reloader.signal(Signal::SIGSTOP);
    for n in 0..=limit / 2 {
        let name = fixture.at(&n.to_string());
        fs::write(&name, "").expect("written");
        fs::remove_file(&name).expect("removed");
    }
    // The queue holds no event of this.
    fs::write(fixture.file(), "two").expect("written");
    reloader.signal(Signal::SIGCONT);
    fixture.wait_for_record("two");
}

#[test]
fn without_enough_watches_scans_are_more_frequent() {
    if skip_unless_root("sets a limit of its user namespace") {
        return;
    }
    let fixture = Fixture::new();
    for n in 0..50 {
        fs::create_dir(fixture.data().join(n.to_string())).expect("made");
    }
    let script = format!(
        "echo 10 >/proc/sys/user/max_inotify_watches; exec {} --debounce 0.2 --cooldown 0 \
         --listen 127.0.0.1:0 --exec \"$1\" {}",
        program("reloader").display(),
        fixture.data().display()
    );
    let mut unshare = Command::new("unshare");
    unshare.args([
        "--user",
        "--map-root-user",
        "sh",
        "-c",
        &script,
        "sh",
        &fixture.record_command(),
    ]);
    let reloader = Reloader::run(unshare);
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    assert_eq!(reloader.metric("reloader_scan_interval_seconds"), Some(5.0));
    fs::write(fixture.data().join("49/new"), "").expect("written");
    fs::write(fixture.file(), "two").expect("written");
    fixture.wait_for_record("two");
}

#[test]
fn ten_thousand_files_take_less_than_8_mib_of_own_memory() {
    let fixture = Fixture::new();
    for directory in 0..100 {
        let directory = fixture.data().join(format!("directory-{directory}"));
        fs::create_dir(&directory).expect("made");
        for file in 0..100 {
            fs::write(directory.join(format!("certificate-{file}.pem")), "x").expect("written");
        }
    }
    let reloader = Reloader::start(&["--exec", &fixture.record_command()], &fixture.data());
    wait_for("the first scan", || reloader.get("/readyz").0 == 200);
    assert_eq!(reloader.metric("reloader_watched_entries"), Some(10_101.0));
    fs::write(fixture.data().join("directory-99/certificate-99.pem"), "y").expect("written");
    fixture.wait_for_record("one");
    let status = fs::read_to_string(format!("/proc/{}/status", reloader.pid())).expect("read");
    // Without the pages of the program's file, whose number depends on how it was built.
    let own = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a size");
    let own: u32 = own.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(own < 8 * 1024, "{own} KiB");
}
