//! Checks that write into the tree, print much, run forever or leave processes, and trees with odd names.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use e2e::programs::run;
use e2e::wait_for;

use super::{LAYOUTS, changed, sh};
use crate::support::places::Places;

#[test]
fn a_check_that_changes_the_tree_keeps_it_from_going_live() {
    for layout in LAYOUTS {
        let places = changed(layout);
        for (script, what) in [
            ("printf owt >a", "a"),
            ("chmod 600 d/b", "d/b"),
            ("cp -p a ../keep; printf owt >a; touch -r ../keep a; rm ../keep", "a"),
            (": >d/new", "d"),
            (": >new; rm new", "."),
            ("mv a b; cp -p b a; rm b", "a"),
            ("ln d/b ../link; rm ../link", "d/b"),
        ] {
            let why = format!("the check `sh` has changed `{what}` in the tree");
            places.is_kept_by(layout, &sh(script), 1, &why);
        }
        places.is_kept_by(layout, &sh("rm -r d"), 1, "no such file or directory");
        places.done(&["--layout", layout, "--check", "true"]);
        assert_eq!(places.live_file("a"), "two");
    }
}

#[test]
fn a_check_that_reads_everything_changes_nothing() {
    let places = changed("atomic");
    places.done(&["--check", &sh("find . -type f -exec cat {} + >/dev/null; ls -laR >/dev/null")]);
    assert_eq!(places.live_file("a"), "two");
}

#[test]
fn a_check_that_runs_forever_is_ended_with_its_child_processes() {
    for layout in LAYOUTS {
        let places = changed(layout);
        let pids = places.path("pids");
        let script = format!(
            "trap \"\" TERM; (trap \"\" TERM; exec sleep 1000) & echo $! $$ >{}; echo here; wait",
            pids.display()
        );
        let mut forever = places.provisioner(&["--layout", layout, "--check", &sh(&script)]);
        let outcome = run(forever.env("PROVISIONER_CHECK_TIMEOUT", "1"), b"");
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        let why = "`sh` was not done within 1 s, it was killed: here\n";
        assert!(outcome.stderr.ends_with(why), "{}", outcome.stderr);
        assert_eq!(places.live_file("a"), "one");
        for pid in fs::read_to_string(&pids).expect("pids").split_whitespace() {
            wait_for("the end of the check", || has_ended(pid));
        }
    }
}

#[test]
fn what_a_check_leaves_in_the_background_is_killed_before_the_tree_is_live() {
    let places = changed("atomic");
    let pid = places.path("pid");
    let script = format!("(sleep 1000; : >new) & echo $! >{}", pid.display());
    places.done(&["--check", &sh(&script)]);
    let pid = fs::read_to_string(&pid).expect("a pid");
    wait_for("the end of the process", || has_ended(pid.trim()));
    assert_eq!(places.live_file("a"), "two");
}

/// Whether a process is gone; a zombie is.
fn has_ended(pid: &str) -> bool {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"));
    state.map_or(true, |state| state.contains(") Z "))
}

#[test]
fn of_much_output_the_error_shows_the_end() {
    let places = changed("atomic");
    let script = "head -c 3000000 /dev/zero | tr \"\\\\0\" x; echo; echo the end; exit 1";
    let outcome = places.run(&["--check", &sh(script), "--termination-log", "log"]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.ends_with("xxx\\nthe end\n"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains(": ... xxx") && outcome.stderr.len() < 2200);
    // What a check that accepts the tree prints is not shown.
    places.done(&["--check", &sh("echo much; echo more >&2")]);
}

#[test]
fn names_of_the_tree_and_of_the_volume_reach_the_check_as_they_are() {
    let places = changed("atomic");
    let names: [&[u8]; 4] = [b"with space", b"new\nline", b"-rf", b"\xff\x1b[2J"];
    for name in names {
        fs::write(places.path("source").join(OsStr::from_bytes(name)), "x").expect("written");
    }
    symlink("a", places.path("source/$(reboot)")).expect("made");
    let volume = OsStr::from_bytes(b"v\xff\n\"'");
    fs::rename(places.path("volume"), places.path("").join(volume)).expect("renamed");
    let script = "test \"$(find \"$PROVISIONER_STAGED\" -type f -print0 | tr -dc \"\\\\0\" | wc -c)\" = 6 \
                  && test -f \"$PROVISIONER_TARGET/a\" && printf \"%s\" \"$PROVISIONER_STAGED\"; exit 1";
    let mut refused = places.provisioner(&["--check", &sh(script)]);
    let outcome = run(refused.env("PROVISIONER_TARGET", volume), b"");
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("/v\\xff\\n\"'/..version-"), "{}", outcome.stderr);
    assert!(!outcome.stderr.trim_end().contains(char::is_control), "{}", outcome.stderr);
}

#[test]
fn the_tree_cannot_bring_its_own_check() {
    let places = Places::new();
    places.write("one");
    places.script("source/evil", &format!(": >{}", places.path("ran").display()));
    for (path, check) in [("/bin:/usr/bin", "./evil"), (".", "evil"), ("", "evil")] {
        let mut run_it = places.provisioner(&["--check", check]);
        let outcome = run(run_it.env("PATH", path), b"");
        assert_eq!(outcome.code, Some(1), "{path}: {}", outcome.stderr);
        assert!(!places.path("ran").exists(), "{path}");
    }
    // Nor can it bring a program that the check calls.
    places.script("good-caller", "evil; exit 0");
    for path in ["/bin:/usr/bin:", ".:/bin:/usr/bin"] {
        let mut run_it = places.provisioner(&["--check", "./good-caller"]);
        let outcome = run(run_it.env("PATH", path), b"");
        assert_eq!(outcome.code, Some(0), "{path}: {}", outcome.stderr);
        assert!(!places.path("ran").exists(), "{path}");
        places.write("another");
        places.script("source/evil", &format!(": >{}; : {path}", places.path("ran").display()));
    }
    // It is found from the directory in which the program was started.
    places.script("good", "exit 0");
    places.done(&["--check", "./good"]);
}
