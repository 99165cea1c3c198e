//! When checks run, what they see, and what follows from their exit codes.

use std::fs;
use std::os::unix::fs::MetadataExt;

use e2e::programs::run;

use super::{LAYOUTS, changed, sh};
use crate::support::places::{Places, digest_in};

#[test]
fn a_check_runs_in_the_whole_new_tree_while_the_old_one_is_live() {
    for layout in LAYOUTS {
        let places = changed(layout);
        let inode = || fs::metadata(places.path("volume/d/b")).expect("a file").ino();
        let before = inode();
        let seen = places.path("seen");
        let check = sh(&format!(
            "test -d \"$PROVISIONER_STAGED\" && test . -ef \"$PROVISIONER_STAGED\" &&
             {{ echo $PROVISIONER_DIGEST; cat a d/b $PROVISIONER_TARGET/a; ls -A; }} >{}",
            seen.display()
        ));
        let line = places.done(&["--layout", layout, "--check", &check]);
        let digest = digest_in(&line).expect("a digest");
        assert_eq!(fs::read_to_string(&seen).expect("run"), format!("{digest}\ntwostaysonea\nd\n"));
        assert_eq!(
            (places.live_file("a"), places.live_file("d/b")),
            ("two".into(), "stays".into())
        );
        assert_eq!(inode() == before, layout == "files", "an unchanged plain file stays");
        // Unchanged content is not checked again.
        assert!(places.done(&["--layout", layout, "--check", "false"]).starts_with("unchanged"));
    }
}

#[test]
fn a_refused_tree_does_not_go_live_and_leaves_nothing() {
    for layout in LAYOUTS {
        let places = changed(layout);
        let check = sh("echo \"bad: $(cat a)\"; printf \"\\033[2J\" >&2; exit 1");
        let why =
            "provisioner: the check `sh` refused the tree: exit code 1: bad: two\\n\\u{1b}[2J\n";
        places.is_kept_by(layout, &check, 2, why);
        places.is_kept_by(
            layout,
            "false",
            2,
            "`false` refused the tree: exit code 1, without output",
        );
        // The first publication of a volume.
        let places = Places::new();
        places.write("one");
        assert_eq!(places.run(&["--layout", layout, "--check", "false"]).code, Some(2));
        let names: Vec<_> = fs::read_dir(places.path("volume")).expect("read").collect();
        assert!(
            names.iter().all(|name| {
                name.as_ref().is_ok_and(|entry| entry.file_name() == "..provisioner")
            })
        );
        places.done(&["--layout", layout, "--check", "true"]);
        assert_eq!(places.live_file("a"), "one");
    }
}

#[test]
fn a_check_without_a_verdict_fails_the_run_otherwise() {
    for layout in LAYOUTS {
        let places = changed(layout);
        let missing = "failed to run the check `no-such-check`: it is in no directory of PATH";
        places.is_kept_by(layout, "no-such-check secret", 1, missing);
        let missing = "failed to run the check `/no/check`: no such file or directory";
        places.is_kept_by(layout, "/no/check", 1, missing);
        places.is_kept_by(layout, &sh("kill -9 $$"), 1, "`sh` was killed by signal 9");
        places.is_kept_by(layout, &sh("no-such-tool"), 1, "came to no verdict: exit code 127");
        assert!(!places.run(&["--check", "no-such-check secret"]).stderr.contains("secret"));
        let bad = "the command of --check ends within quotes";
        places.is_kept_by(layout, "sh -c \"x", 2, bad);
    }
}

#[test]
fn checks_run_in_order_until_one_refuses() {
    let places = changed("atomic");
    let write = |name: &str| sh(&format!("echo {name} >>{}", places.path("order").display()));
    let order = || fs::read_to_string(places.path("order")).unwrap_or_default();
    let outcome = places.run(&["--check", &write("1"), "--check", "false", "--check", &write("2")]);
    assert_eq!((outcome.code, order()), (Some(2), "1\n".into()));
    // In the variable, each line is a command.
    let lines = format!("\n{}\n\n{}\n", write("3"), write("4"));
    let mut both = places.provisioner(&[]);
    assert_eq!(run(both.env("PROVISIONER_CHECK", lines), b"").code, Some(0));
    assert_eq!(order(), "1\n3\n4\n");
    // An empty option replaces the variable.
    places.write("three");
    let mut none = places.provisioner(&["--check", ""]);
    assert_eq!(run(none.env("PROVISIONER_CHECK", "false"), b"").code, Some(0));
}

#[test]
fn a_dry_run_starts_no_check_but_finds_its_program() {
    for layout in LAYOUTS {
        let places = changed(layout);
        let args = ["--layout", layout, "--dry-run", "--check"];
        let line = places.done(&[&args[..], &[&sh("exit 1")]].concat());
        assert!(line.trim_end().ends_with(" s; not yet checked by `sh`"), "{line}");
        let outcome = places.run(&[&args[..], &["no-such-check"]].concat());
        assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
        assert!(outcome.stderr.contains("in no directory of PATH"), "{}", outcome.stderr);
        places.write("one");
        let line = places.done(&[&args[..], &["no-such-check"]].concat());
        assert!(line.starts_with("unchanged: ") && line.ends_with(" s\n"), "{line}");
    }
}

#[test]
fn a_rollback_is_checked_but_a_pinned_version_is_restored_without_a_check() {
    let places = changed("atomic");
    places.done(&[]);
    let check = sh("grep two a");
    let outcome = places.run(&["rollback", "--check", &check]);
    assert_eq!(outcome.code, Some(2), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("refused the tree"), "{}", outcome.stderr);
    assert_eq!(places.live_file("a"), "two");
    assert!(places.done(&["status"]).contains("two").eq(&false));
    let line = places.done(&["rollback", "--dry-run", "--check", &check]);
    assert!(line.ends_with(", pinned; not yet checked by `sh`\n"), "{line}");
    // The volume is not pinned: the next run publishes.
    assert!(places.done(&["--check", "false"]).starts_with("unchanged"));
    let mut rollback = places.provisioner(&["rollback", "--check", ""]);
    let outcome = run(rollback.env("PROVISIONER_CHECK", &check), b"");
    assert_eq!(
        (outcome.code, places.live_file("a")),
        (Some(0), "one".into()),
        "{}",
        outcome.stderr
    );
    fs::write(places.path("volume/a"), "damaged").expect("written");
    let line = places.done(&["--check", "false"]);
    assert!(line.contains("not published, but restored"), "{line}");
    assert_eq!(places.live_file("a"), "one");
}

#[test]
fn plain_files_that_become_links_keep_their_content_if_the_tree_is_refused() {
    let places = Places::new();
    places.write("new");
    fs::write(places.path("volume/a"), "plain").expect("written");
    assert_eq!(places.run(&["--check", "false"]).code, Some(2));
    assert_eq!(places.live_file("a"), "plain");
    assert_eq!(places.run(&["--check", "false", "--allow-gap"]).code, Some(2));
    assert_eq!(places.live_file("a"), "plain");
    places.done(&["--check", "true"]);
    assert_eq!(places.live_file("a"), "new");
}
