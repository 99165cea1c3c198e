//! Full disks.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use e2e::mounts::{in_private_mounts, sh};
use e2e::programs::Outcome;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::support::run::{
    assert_publishes, assert_settled, provisioner, publish, strace, strace_command,
};
use crate::support::tree::{make_new, make_old, seen, seen_by_name, without_root};

/// How many more bytes are free each time.
const STEP: u64 = 16 * 1024;

/// Updates a volume with as much free space as `leave` leaves, a little more each time, until there is
/// space for both versions. Returns how often there was not.
fn fill(place: &Path, leave: impl Fn(u64)) -> u64 {
    let (old, new, volume) = (place.join("old"), place.join("new"), place.join("volume"));
    make_old(&old);
    make_new(&new);
    assert_publishes(&old, &volume);
    for step in 0.. {
        leave(step * STEP);
        let outcome = publish(&new, &volume);
        if outcome.code == Some(0) {
            assert_settled(&new, &volume);
            return step;
        }
        let stderr = &outcome.stderr;
        assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
        let reasons = ["no space left on device", "less than a new version takes"];
        assert!(reasons.iter().any(|reason| stderr.contains(reason)), "{stderr}");
        assert_eq!(seen_by_name(&volume), without_root(seen(&old)));
        assert_publishes(&old, &volume);
    }
    unreachable!()
}

/// Free and used bytes.
fn room(path: &Path) -> (u64, u64) {
    let found = rustix::fs::statvfs(path).expect("a file system");
    (found.f_bavail * found.f_frsize, (found.f_blocks - found.f_bfree) * found.f_frsize)
}

#[test]
fn a_full_memory_disk_keeps_the_old_tree() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        let volume = place.join("volume");
        sh(place, "mkdir volume; mount -t tmpfs -o size=9m,mode=755 tmpfs volume");
        let failed = fill(place, |left| {
            let size = room(&volume).1 + left;
            sh(place, &format!("mount -o remount,size={size} volume"));
        });
        assert!(failed > 10, "{failed}");
    });
}

#[test]
fn a_full_ext4_keeps_the_old_tree() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        sh(place, "truncate -s 8m disk; mkfs.ext4 -q -m 0 disk; mkdir mounted");
        sh(place, "mount -o loop disk mounted; mkdir mounted/volume; ln -s mounted/volume volume");
        let ballast = place.join("mounted/ballast");
        let failed = fill(place, |left| {
            let _ = fs::remove_file(&ballast);
            sh(place, "sync -f mounted");
            // The ballast itself takes a little more than its size.
            let size = room(&place.join("mounted")).0.saturating_sub(left + 4 * STEP);
            sh(place, &format!("fallocate -l {size} mounted/ballast"));
        });
        assert!(failed > 10, "{failed}");
    });
}

/// Processes that are not left behind by a test that fails.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = killpg(self.0, Signal::SIGKILL);
        }
    }
}

/// Publishes a tree, and calls `fill` after the check of the free space, when its version is begun.
fn publish_while(place: &Path, fill: impl FnOnce()) -> Outcome {
    let volume = place.join("volume");
    let run = provisioner(&place.join("tree"), &volume, &["--grace", "0"]);
    let stop = ["-etrace=mkdirat", "-einject=mkdirat:signal=STOP:when=2"];
    let mut strace = strace_command(&stop, &place.join("log"), &run);
    let strace = strace.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped());
    let strace = strace.spawn().expect("strace");
    let group = Group(Pid::from_raw(strace.id() as i32));
    e2e::wait_for("a version that was begun", || versions(&volume).next().is_some());
    fill();
    let ended = std::thread::spawn(|| strace.wait_with_output().expect("its end"));
    // The signal to go on is lost on who has not stopped yet.
    while !ended.is_finished() {
        let _ = killpg(group.0, Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(10));
    }
    ended.join().expect("a result").into()
}

fn versions(volume: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(volume).expect("a volume").map(|entry| entry.expect("one").path());
    entries.filter(|path| path.to_string_lossy().contains("/..version-"))
}

/// The two numbers in `N bytes free, M less`.
fn free_and_missing(message: &str, what: &str) -> [u64; 2] {
    let (free, rest) = message.split_once(&format!(" {what} free, ")).expect(message);
    let numbers = [free.rsplit(' ').next(), rest.split(' ').next()];
    numbers.map(|number| number.and_then(|number| number.parse().ok()).expect(message))
}

fn assert_full(outcome: &Outcome, place: &Path, what: &str) -> [u64; 2] {
    let stderr = &outcome.stderr;
    assert_eq!((outcome.code, stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains(" less than a new version takes: failed to "), "{stderr}");
    assert!(stderr.ends_with(": no space left on device\n"), "{stderr}");
    assert_eq!(versions(&place.join("volume")).count(), 0);
    free_and_missing(stderr, what)
}

#[test]
fn the_error_of_a_disk_that_others_fill_says_how_many_bytes_are_missing() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        sh(place, "mkdir volume tree; mount -t tmpfs -o size=4m,mode=755 tmpfs volume");
        sh(place, "for n in 1 2 3 4; do head -c 500000 /dev/zero >tree/$n; done");
        let (volume, ballast) = (place.join("volume"), place.join("volume/of another program"));
        let outcome = publish_while(place, || {
            let content = vec![0; room(&volume).0 as usize - 1_200_000];
            fs::write(&ballast, content).expect("room");
        });
        let [free, missing] = assert_full(&outcome, place, "bytes");
        assert_eq!(free, room(&volume).0);
        assert!((500_000..1_000_000).contains(&missing), "{missing}");
        let less = fs::metadata(&ballast).expect("ballast").len() - missing;
        fs::File::options()
            .write(true)
            .open(&ballast)
            .and_then(|file| file.set_len(less))
            .expect("cut");
        assert_eq!(publish(&place.join("tree"), &volume).code, Some(0));
    });
}

#[test]
fn the_error_of_a_disk_without_inodes_says_how_many_are_missing() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|place| {
        sh(place, "mkdir volume tree; mount -t tmpfs -o nr_inodes=120,mode=755 tmpfs volume");
        sh(place, "mkdir volume/others; for n in $(seq 30); do echo >tree/$n; done");
        let volume = place.join("volume");
        let others = volume.join("others");
        let outcome = publish_while(place, || {
            let made = (0..).map_while(|n| fs::write(others.join(format!("{n}")), "").ok());
            assert!(made.count() > 100);
            (0..9).for_each(|n| fs::remove_file(others.join(format!("{n}"))).expect("made"));
        });
        let [_, missing] = assert_full(&outcome, place, "inodes");
        for n in 9..9 + missing {
            fs::remove_file(others.join(format!("{n}"))).expect("made");
        }
        assert_eq!(publish(&place.join("tree"), &volume).code, Some(0));
    });
}

#[test]
fn the_error_of_a_full_quota_says_about_how_many_bytes_are_missing() {
    let place = crate::support::run::Place::new();
    fs::create_dir(place.at("tree")).expect("made");
    fs::write(place.at("tree/a"), vec![b'a'; 1 << 20]).expect("written");
    let inject = ["-etrace=write", "-einject=write:error=EDQUOT:when=3"];
    let run = provisioner(&place.at("tree"), &place.volume(), &[]);
    let outcome = strace(&inject, &place.at("log"), &run);
    let (about, rest) = outcome.stderr.split_once(" bytes are missing on `").expect("a lack");
    assert!(rest.ends_with("/a`: disk quota exceeded\n"), "{rest}");
    let missing: u64 = about.trim_start_matches("provisioner: about ").parse().expect("a number");
    assert!((100_000..2 << 20).contains(&missing), "{missing}");
    assert_eq!(versions(&place.volume()).count(), 0);
    assert_eq!(outcome.code, Some(1));
}
