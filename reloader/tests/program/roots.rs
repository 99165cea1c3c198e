//! Directories that come and go, and watches that do not suffice.

use std::fs;
use std::path::Path;
use std::process::Command;

use e2e::programs::program;
use e2e::{skip_unless_root, wait_for};
use nix::sys::signal::Signal;

use crate::run::{Place, Reloader};

#[test]
fn a_directory_may_be_missing_removed_and_made_again() {
    let place = Place::new();
    let away = place.at("away");
    fs::rename(place.data(), &away).expect("renamed");
    let reloader = Reloader::start(&["--exec", &place.note()], &place.data());
    wait_for("the message", || reloader.stderr().contains("no such file or directory"));
    assert_eq!(reloader.get("/readyz").0, 503);
    fs::rename(&away, place.data()).expect("renamed");
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    // Events tell of it: the next look without any is a minute away.
    fs::remove_dir_all(place.data()).expect("removed");
    fs::create_dir(place.data()).expect("made");
    fs::write(place.file(), "two").expect("written");
    place.wait_for_note("two");
    fs::rename(place.data(), &away).expect("renamed");
    fs::create_dir(place.data()).expect("made");
    fs::write(place.file(), "three").expect("written");
    place.wait_for_note("three");
}

#[test]
fn a_link_on_the_way_may_lead_elsewhere() {
    let place = Place::new();
    let (first, second, link) = (place.at("first"), place.at("second"), place.at("link"));
    for (dir, content) in [(&first, "one"), (&second, "two")] {
        fs::create_dir_all(dir.join("data")).expect("made");
        fs::write(dir.join("data/file"), content).expect("written");
    }
    std::os::unix::fs::symlink("first", &link).expect("linked");
    let note = format!("cp {} {}", link.join("data/file").display(), place.at("log").display());
    let reloader = Reloader::start(&["--exec", &note], &link.join("data"));
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    std::os::unix::fs::symlink("second", place.at("next")).expect("linked");
    fs::rename(place.at("next"), &link).expect("renamed");
    place.wait_for_note("two");
}

fn mount(args: &[&str], at: &Path) {
    let status = Command::new("mount").args(args).arg(at).status().expect("mount");
    assert!(status.success());
}

/// Unmounts when it is dropped.
struct Mounted<'m>(&'m Path);

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_mount_in_its_place_is_seen_within_the_poll_interval() {
    if skip_unless_root("mounts file systems") {
        return;
    }
    let place = Place::new();
    let reloader = Reloader::start(&["--poll", "0.5", "--exec", &place.note()], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    let data = place.data();
    mount(&["-t", "tmpfs", "tmpfs"], &data);
    let _mounted = Mounted(&data);
    fs::write(place.file(), "two").expect("written");
    place.wait_for_note("two");
    // Its events are heard, too.
    fs::write(place.file(), "three").expect("written");
    place.wait_for_note("three");
}

/// As with the lower layers of an overlay, so is it with what others write to a network file
/// system: it raises no event.
#[test]
fn changes_without_events_are_seen_by_looking() {
    if skip_unless_root("mounts file systems") {
        return;
    }
    let place = Place::new();
    let (lower, other) = (place.at("lower"), place.at("other"));
    fs::create_dir(&lower).expect("made");
    fs::create_dir(&other).expect("made");
    fs::write(lower.join("file"), "one").expect("written");
    let layers = format!("lowerdir={}:{}", lower.display(), other.display());
    let data = place.data();
    mount(&["-t", "overlay", "overlay", "-o", &layers], &data);
    let _mounted = Mounted(&data);
    let reloader = Reloader::start(&["--exec", &place.note()], &data);
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    assert_eq!(reloader.metric("reloader_scan_interval_seconds"), Some(5.0));
    fs::write(lower.join("file"), "two").expect("written");
    place.wait_for_note("two");
}

#[test]
fn more_events_than_the_queue_holds_are_survived() {
    let place = Place::new();
    let reloader = Reloader::start(&["--exec", &place.note()], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("read");
    let limit: usize = limit.trim().parse().expect("a number");
    reloader.signal(Signal::SIGSTOP);
    for n in 0..=limit / 2 {
        let name = place.data().join(n.to_string());
        fs::write(&name, "").expect("written");
        fs::remove_file(&name).expect("removed");
    }
    fs::write(place.file(), "two").expect("written");
    reloader.signal(Signal::SIGCONT);
    place.wait_for_note("two");
}

#[test]
fn without_enough_watches_it_looks_more_often() {
    if skip_unless_root("sets a limit of its user namespace") {
        return;
    }
    let place = Place::new();
    for n in 0..50 {
        fs::create_dir(place.data().join(n.to_string())).expect("made");
    }
    let script = format!(
        "echo 10 >/proc/sys/user/max_inotify_watches; exec {} --debounce 0.2 --cooldown 0 \
         --listen 127.0.0.1:0 --exec \"$1\" {}",
        program("reloader").display(),
        place.data().display()
    );
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-root-user", "sh", "-c", &script, "sh", &place.note()]);
    let reloader = Reloader::run(unshare);
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    assert_eq!(reloader.metric("reloader_scan_interval_seconds"), Some(5.0));
    fs::write(place.data().join("49/new"), "").expect("written");
    fs::write(place.file(), "two").expect("written");
    place.wait_for_note("two");
}

#[test]
fn ten_thousand_files_fit_into_ten_megabytes() {
    let place = Place::new();
    for directory in 0..100 {
        let directory = place.data().join(format!("directory-{directory}"));
        fs::create_dir(&directory).expect("made");
        for file in 0..100 {
            fs::write(directory.join(format!("certificate-{file}.pem")), "x").expect("written");
        }
    }
    let reloader = Reloader::start(&["--exec", &place.note()], &place.data());
    wait_for("the first look", || reloader.get("/readyz").0 == 200);
    assert_eq!(reloader.metric("reloader_watched_entries"), Some(10_101.0));
    fs::write(place.data().join("directory-99/certificate-99.pem"), "y").expect("written");
    place.wait_for_note("one");
    let status = fs::read_to_string(format!("/proc/{}/status", reloader.pid())).expect("read");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its peak");
    let peak: u32 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(peak < 40 * 1024, "{peak} KiB, built without optimisation");
}
