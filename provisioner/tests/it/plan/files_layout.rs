//! Plans of plain files, and of changes from one layout to the other.

use std::fs;

use e2e::mounts::{in_private_mounts, sh};
use e2e::programs::{command, run};

use super::Places;
use super::prediction::assert_predicted;
use crate::support::run::strace;
use crate::support::tree::{make_new, make_old};

const FILES: [&str; 2] = ["--layout", "files"];

/// A source with every type of entry, beside a changed tree, `new`.
pub fn old_source() -> Places {
    let places = Places::new();
    fs::remove_dir_all(places.path("source")).expect("removed");
    make_old(&places.path("source"));
    make_new(&places.path("new"));
    places
}

/// Exchanges the source with the other tree.
fn exchange(places: &Places) {
    sh(&places.path(""), "mv source x && mv new source && mv x new");
}

#[test]
fn each_changed_path_has_a_line_with_its_differences() {
    let places = old_source();
    let lines = assert_predicted(&places, &FILES, "first");
    assert_eq!(lines.lines().filter(|line| line.starts_with("+ ")).count(), 26, "{lines}");
    exchange(&places);
    let lines = assert_predicted(&places, &FILES, "second");
    let expected = "\
~ a/deep/ (mode 0750 -> 0755)
~ a/n3 (content)
- a/n4
~ changes (content)
+ fresh
- gone
~ kind/ (file -> directory)
+ kind/in
~ link (link to a/n1 -> a/deep/two)
~ mode (mode 0644 -> 0600)
~ points (file -> link)
~ turns (directory -> file)
- turns/in";
    assert_eq!(lines, expected);
    exchange(&places);
    assert_predicted(&places, &FILES, "back");
    sh(&places.path(""), "rm -r source/*");
    let lines = assert_predicted(&places, &["--layout", "files", "--allow-empty"], "nothing");
    assert!(lines.lines().all(|line| line.starts_with("- ")), "{lines}");
}

#[test]
fn each_repair_has_a_line() {
    let damages = [
        ("echo 9 > a/n1", "~ a/n1 (not what was published)"),
        ("rm a/deep/two", "~ a/deep/two (not what was published)"),
        ("chmod 600 same", "~ same (not what was published)"),
        ("ln -sf /etc/passwd link", "~ link (not what was published)"),
        ("rm link", "~ link (not what was published)"),
        ("chmod 777 a", "~ a/ (not what was published)"),
        ("rmdir empty", "~ empty/ (not what was published)"),
        ("rm gone; mkdir gone", "~ gone (not what was published)"),
        ("rm gone; mkfifo gone", "~ gone (not what was published)"),
        ("rm ..provisioner/files/published; rm gone", "+ gone"),
    ];
    for (damage, line) in damages {
        let places = old_source();
        assert_eq!(places.run(&FILES).code, Some(0));
        sh(&places.path("volume"), damage);
        // `assert_predicted` reads all files, and would block on a FIFO.
        if damage.contains("mkfifo") {
            assert_eq!(places.plan(&FILES).0, line);
            continue;
        }
        let lines = assert_predicted(&places, &FILES, damage);
        if damage.contains("published") {
            assert!(lines.contains(line) && lines.contains("~ same (is taken over)"), "{lines}");
        } else {
            assert_eq!(lines, line, "{damage}");
        }
    }
}

#[test]
fn other_files_have_no_line_and_files_of_cp_are_taken_over() {
    let places = old_source();
    sh(&places.path(""), "cp -r source/. volume; echo 1 > volume/other; echo 2 > volume/a/mine");
    sh(&places.path("volume"), "echo 3 > same; chmod 600 mode");
    let lines = assert_predicted(&places, &FILES, "of cp");
    for line in ["~ a/n1 (is taken over)", "~ same (content)", "~ mode (mode 0600 -> 0644)"] {
        assert!(lines.lines().any(|found| found == line), "{line}: {lines}");
    }
    assert!(!lines.contains("other") && !lines.contains("mine"), "{lines}");
    sh(&places.path("volume"), "echo 4 > turns/mine");
    // The directory stays, with the other file in it.
    sh(&places.path(""), "rm -r source/turns source/a/deep");
    let lines = assert_predicted(&places, &FILES, "beside others");
    assert_eq!(lines, "- a/deep/\n- a/deep/two\n- turns/in");
}

#[test]
fn a_change_of_layout_has_a_line_for_each_top_name() {
    let places = old_source();
    assert_eq!(places.run(&[]).code, Some(0));
    let lines = assert_predicted(&places, &FILES, "the same, as files");
    let expected = "\
~ a/ (becomes a plain directory)
~ changes (becomes a plain file)
~ dangling (becomes a plain link)
~ empty/ (becomes a plain directory)
~ gone (becomes a plain file)
~ kind (becomes a plain file)
~ link (becomes a plain link)
~ mode (becomes a plain file)
~ points (becomes a plain file)
~ same (becomes a plain file)
~ turns/ (becomes a plain directory)";
    assert_eq!(lines, expected);
    let lines = assert_predicted(&places, &[], "the same, behind links");
    assert!(lines.lines().all(|line| line.ends_with(" (becomes a link)")), "{lines}");
    for args in [&FILES[..], &[], &FILES] {
        exchange(&places);
        let lines = assert_predicted(&places, args, "another, and the other way");
        assert!(lines.contains("\n~ changes (content, becomes a "), "{lines}");
        assert!(lines.contains("\n- gone") != lines.contains("\n- fresh"), "{lines}");
    }
    // With damage, and with a link that leads nowhere.
    assert_eq!(places.run(&[]).code, Some(0));
    sh(&places.path("volume"), "ln -s ..data/x x");
    assert!(places.plan(&FILES).0.ends_with("\n- x"), "a link that leads nowhere");
    sh(&places.path("volume"), "rm x mode ..data/same; echo > ..data/a/n1");
    // With --keep 0: a run warns about a damaged version that it would archive.
    let lines = assert_predicted(&places, &["--layout", "files", "--keep", "0"], "damaged");
    for line in ["~ a/n1 (not what was published)", "+ mode"] {
        assert!(lines.lines().any(|found| found == line), "{line}: {lines}");
    }
}

#[test]
fn the_rest_of_a_killed_run_is_planned() {
    let mut killed = 0;
    for (first, then) in [(&FILES[..], &FILES[..]), (&[], &FILES), (&FILES, &[])] {
        for (call, numbers) in [("renameat", 1..30), ("unlinkat", 1..30)] {
            for number in numbers.step_by(3) {
                let places = old_source();
                assert_eq!(places.run(first).code, Some(0));
                exchange(&places);
                let args = [then, &["--grace", "0"]].concat();
                let (source, volume) = (places.path("source"), places.path("volume"));
                let traced = crate::support::run::provisioner(&source, &volume, &args);
                let kill = format!("inject={call}:signal=KILL:when={number}");
                let outcome = strace(&["-e", &kill], &places.path("log"), &traced);
                if outcome.code.is_some() {
                    break;
                }
                killed += 1;
                assert_predicted(&places, then, &format!("{then:?} {call} {number}"));
            }
        }
    }
    assert!(killed > 20, "{killed}");
}

#[test]
fn plain_files_that_a_killed_run_has_left_beside_links_have_lines() {
    let mut left = 0;
    for number in 1.. {
        let places = old_source();
        sh(&places.path("source"), "mkdir -p old/deep; echo 1 > old/deep/one; echo 2 > old/two");
        assert_eq!(places.run(&FILES).code, Some(0));
        exchange(&places);
        let (source, volume) = (places.path("source"), places.path("volume"));
        let traced = crate::support::run::provisioner(&source, &volume, &["--grace", "0"]);
        let kill = format!("inject=unlinkat:signal=KILL:when={number}");
        if strace(&["-e", &kill], &places.path("log"), &traced).code.is_some() {
            break;
        }
        // The new tree is complete, and a part of the old one is left.
        if volume.join("fresh").exists() && volume.join("old").exists() {
            left += 1;
            let lines = assert_predicted(&places, &[], &format!("unlinkat {number}"));
            assert!(lines.contains("- old/"), "{lines}");
        }
    }
    assert!(left > 1, "{left}");
}

#[test]
fn modes_of_the_volume_are_known_from_the_last_run() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|dir| {
        sh(dir, "mkdir below volume source source/d; echo 1 > source/a; echo 2 > source/d/b");
        sh(dir, "bindfs --chmod-ignore --perms=u=rwX:g=rX:o= below volume");
        let provisioner = |args: &[&str]| {
            let mut provisioner = command("provisioner");
            provisioner.args(["--source", "source", "--target", "volume", "--grace", "0"]);
            provisioner.args(FILES).args(args).current_dir(dir);
            let outcome = run(&mut provisioner, b"");
            assert_eq!(outcome.code, Some(0), "{outcome:?}");
            outcome
        };
        provisioner(&[]);
        let planned = provisioner(&["--dry-run"]);
        assert!(planned.stdout.starts_with("unchanged: "), "{planned:?}");
        sh(dir, "echo 22 > source/d/b; chmod 600 source/a");
        let (planned, done) = (provisioner(&["--dry-run"]), provisioner(&[]));
        assert!(planned.stdout.starts_with("~ d/b (content)\nwould publish: "), "{planned:?}");
        assert_eq!(planned.stderr, done.stderr);
        let counts =
            |text: &str| text.split(": ").nth(1).map(|rest| rest[..rest.len() - 8].to_owned());
        assert_eq!(counts(&planned.stdout), counts(&done.stdout));
        sh(dir, "umount volume");
    });
}
