//! Kills, failed calls, damage and full disks, while versions are archived and restored.

use std::fs;
use std::process::{Command, Stdio};

use e2e::programs::program;

use super::{Places, digest_in, names, output, traces};

/// System calls that change or sync a file.
const CALLS: [&str; 8] =
    ["mkdirat", "symlinkat", "renameat", "fchmod", "write", "fsync", "syncfs", "unlinkat"];

/// Runs the program with a fault injected into a system call. Returns whether it succeeds.
fn injected(places: &Places, args: &[&str], call: &str, what: &str) -> bool {
    let provisioner = places.provisioner(args);
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
    strace.args(["-e", &format!("inject={call}:{what}")]);
    strace.arg(provisioner.get_program()).args(args).current_dir(places.path(""));
    let set = provisioner.get_envs().filter_map(|(name, value)| Some((name, value?)));
    strace.envs(set).stdout(Stdio::null()).stderr(Stdio::null());
    strace.status().expect("strace").success()
}

/// Runs the program again and again, killed at each system call in turn, and each time on a volume
/// made by `before`.
fn killed_at_each(args: &[&str], before: impl Fn() -> Places, after: impl Fn(&Places, &str)) {
    let mut kills = 0;
    for call in CALLS {
        for number in 1.. {
            let places = before();
            let is_done = injected(&places, args, call, &format!("signal=KILL:when={number}"));
            after(&places, &format!("{call} {number}"));
            if is_done {
                break;
            }
            kills += 1;
        }
    }
    assert!(kills > 20, "only {kills} places were found");
}

/// Asserts that the volume holds only the live version and complete state files.
fn assert_tidy(places: &Places, at: &str) {
    assert_eq!(places.hidden(), 3, "{at}");
    assert!(places.archives().iter().all(|name| name.len() == 64), "{at}");
    let state = names(&places.path("volume/..provisioner"));
    assert!(state.iter().all(|name| !name.starts_with("next")), "{at}: {state:?}");
}

#[test]
fn a_publication_that_is_killed_anywhere_loses_no_version() {
    let before = || {
        let places = Places::new();
        places.publish("one");
        places.write("two");
        places
    };
    killed_at_each(&[], before, |places, at| {
        let live = places.live();
        assert!(["one", "two"].contains(&&live[..]), "{at}");
        // A version that was never live must not be archived by the next run.
        places.write("three");
        places.done(&[]);
        assert_eq!(places.live(), "three", "{at}");
        assert_tidy(places, at);
        let versions = if live == "one" { 1 } else { 2 };
        assert_eq!(places.archives().len(), versions, "{at}");
        places.done(&["rollback"]);
        assert_eq!(places.live(), live, "{at}");
    });
}

#[test]
fn a_rollback_that_is_killed_anywhere_is_complete_or_undone() {
    let before = || {
        let places = Places::new();
        places.publish("one");
        places.publish("two");
        places
    };
    killed_at_each(&["rollback"], before, |places, at| {
        let live = places.live();
        assert!(["one", "two"].contains(&&live[..]), "{at}");
        let is_pinned = !places.status().contains("pinned: no");
        assert!(is_pinned || live == "two", "{at}: what is gone back to stays");
        places.done(&[]);
        assert_eq!(places.live(), if is_pinned { "one" } else { "two" }, "{at}");
        assert_tidy(places, at);
        assert_eq!(places.archives().len(), if is_pinned { 2 } else { 1 }, "{at}");
    });
}

#[test]
fn a_version_that_was_undone_is_not_kept() {
    let mut failed = 0;
    for number in 1.. {
        let places = Places::new();
        places.publish("one");
        places.write("two");
        if injected(&places, &[], "fsync", &format!("error=EIO:when={number}")) {
            break;
        }
        assert_eq!(places.live(), "one", "{number}");
        places.publish("three");
        assert_tidy(&places, &format!("{number}"));
        places.done(&["rollback"]);
        assert_eq!(places.live(), "one", "{number}");
        failed += 1;
    }
    assert!(failed >= 3, "{failed}");
}

#[test]
fn a_damaged_version_is_neither_kept_nor_restored() {
    let places = Places::new();
    let one = places.publish("one");
    let path = places.path("volume/..provisioner/versions").join(&one);
    fs::write(places.path("volume/..data/a"), "0ne").expect("written");
    places.write("two");
    let outcome = places.run(&[]);
    assert_eq!(outcome.code, Some(0));
    assert!(outcome.stderr.contains("is not kept: `a` is not what was published"));
    assert!(places.archives().is_empty());
    places.publish("one");
    places.publish("two");
    let sound = fs::read(&path).expect("an archive");
    let before = traces(&places.path("volume/..data/"));
    for at in [0, 12, sound.len() / 2, sound.len() - 30, sound.len() - 6] {
        let mut damaged = sound.clone();
        damaged[at] ^= 0x10;
        for damaged in [&damaged[..], &sound[..at]] {
            fs::write(&path, damaged).expect("written");
            let outcome = places.run(&["rollback", &one]);
            assert_eq!(outcome.code, Some(1), "{at}");
            assert_eq!(places.live(), "two", "{at}");
            assert_eq!(traces(&places.path("volume/..data/")), before, "{at}");
            assert_eq!(places.hidden(), 3, "{at}");
            assert!(places.status().contains("pinned: no"), "{at}");
        }
    }
    // An archive under the digest of another version is refused.
    fs::copy(path.with_file_name(&places.archives()[0]), path.with_file_name("0".repeat(64)))
        .expect("copied");
    assert_eq!(places.run(&["rollback", "0000"]).code, Some(1));
    fs::write(&path, &sound).expect("written");
    places.done(&["rollback", &one]);
    assert_eq!(places.live(), "one");
}

#[test]
fn a_damaged_pinned_version_is_repaired_from_its_archive() {
    let places = Places::new();
    let (one, _) = (places.publish("one"), places.publish("two"));
    places.done(&["rollback"]);
    let pinned = format!("pinned to sha256:{one}: not published");
    for damage in ["0ne", "longer than it was"] {
        fs::write(places.path("volume/..data/a"), damage).expect("written");
        assert_eq!(places.done(&[]), format!("{pinned}, but restored\n"));
        assert_eq!(places.live(), "one");
    }
    fs::remove_file(places.path("volume/a")).expect("removed");
    assert_eq!(places.done(&[]), format!("{pinned}\n"));
    assert_eq!(places.live(), "one");
    fs::remove_file(places.path("volume/..provisioner/versions").join(&one)).expect("removed");
    fs::write(places.path("volume/..data/a"), "0ne").expect("written");
    let outcome = places.run(&[]);
    assert_eq!((outcome.code, outcome.stdout), (Some(0), format!("{pinned}\n")));
    assert!(outcome.stderr.contains("is pinned, but missing or damaged"), "{}", outcome.stderr);
}

#[test]
fn damaged_state_files_do_not_stop_a_publication() {
    let breaks: [fn(&Places); 5] = [
        |places| fs::write(places.path("volume/..provisioner/pinned"), "{}").expect("written"),
        |places| fs::write(places.path("volume/..provisioner/history"), "{\n").expect("written"),
        |places| {
            fs::remove_file(places.path("volume/..provisioner/history")).expect("removed");
            fs::create_dir(places.path("volume/..provisioner/history")).expect("made");
        },
        |places| {
            fs::remove_dir_all(places.path("volume/..provisioner/versions")).expect("removed");
            fs::write(places.path("volume/..provisioner/versions"), "").expect("written");
        },
        |places| {
            fs::remove_dir_all(places.path("volume/..provisioner")).expect("removed");
            std::os::unix::fs::symlink("/", places.path("volume/..provisioner")).expect("linked");
        },
    ];
    for (number, damage) in breaks.iter().enumerate() {
        let places = Places::new();
        places.publish("one");
        places.publish("two");
        damage(&places);
        places.write("three");
        let outcome = places.run(&[]);
        assert_eq!(outcome.code, Some(0), "{number}: {}", outcome.stderr);
        assert!(outcome.stderr.starts_with("Warning: "), "{number}: {}", outcome.stderr);
        assert_eq!(places.live(), "three", "{number}");
        assert_eq!(places.run(&["status"]).code, Some(0), "{number}");
        assert_eq!(places.hidden(), 3, "{number}");
    }
}

#[test]
fn concurrent_runs_leave_one_complete_version() {
    let places = Places::new();
    let (one, two) = (places.publish("one"), places.publish("two"));
    let all: [&[&str]; 5] =
        [&["rollback", &one], &["--unpin"], &["rollback", &two], &[], &["--unpin"]];
    std::thread::scope(|scope| {
        for args in all {
            let places = &places;
            scope.spawn(move || {
                let outcome = places.run(args);
                assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{args:?}");
            });
        }
    });
    places.done(&["--unpin"]);
    assert_eq!(places.live(), "two");
    assert_tidy(&places, "at the end");
}

/// Runs a script on a new small volume, with the program in `$PROVISIONER`. Returns its output.
fn on_a_small_volume(size: &str, script: &str) -> String {
    let places = Places::new();
    let script = format!("mount -t tmpfs -o size={size} tmpfs volume\n{script}");
    let mut shell = Command::new("unshare");
    shell.args(["--mount", "bash", "-euo", "pipefail", "-c", &script]);
    shell.current_dir(places.path("")).env("PROVISIONER", program("provisioner"));
    shell.env("PROVISIONER_SOURCE", "source").env("PROVISIONER_TARGET", "volume");
    output(shell.env("PROVISIONER_GRACE", "0"))
}

#[test]
fn on_a_nearly_full_volume_only_the_archive_is_given_up() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    // Random bytes cannot be compressed: two trees and an archive would fill the volume.
    let said = on_a_small_volume(
        "3M",
        r#"head -c 1200K /dev/urandom >source/a; $PROVISIONER
head -c 1200K /dev/urandom >source/a; $PROVISIONER 2>&1
cmp source/a volume/a && ls -A volume/..provisioner/versions | wc -l
ls -A volume | grep -c version
$PROVISIONER; $PROVISIONER status"#,
    );
    assert!(said.contains("is not kept: failed to"), "{said}");
    assert!(said.contains("an archive leaves a twentieth of the volume free\n0\n1\n"), "{said}");
    assert!(!said.contains("kept: sha256"), "{said}");
}

#[test]
fn archives_are_removed_if_a_publication_needs_their_space() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    let said = on_a_small_volume(
        "8M",
        r#"for size in 1M 1M 1M 5500K; do
head -c $size /dev/urandom >source/a; $PROVISIONER 2>&1
done
cmp source/a volume/a && ls -A volume/..provisioner/versions | wc -l"#,
    );
    let digests: Vec<_> = said.lines().filter_map(digest_in).collect();
    assert_eq!(digests.len(), 4, "{said}");
    let given_up =
        format!("Warning: version {} is no longer kept: its space is needed\n", digests[0]);
    assert!(said.contains(&given_up), "{said}");
    assert!(said.ends_with("\n1\n"), "{said}");
}
