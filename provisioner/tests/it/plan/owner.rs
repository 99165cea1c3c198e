//! Plans of runs that change owners (`--owner`).

use std::os::unix::fs::lchown;

use e2e::mounts::sh;

use super::Places;
use super::prediction::assert_predicted;

/// A volume that was published to with `--owner 1234:2345`.
fn published(layout: &str) -> Option<Places> {
    if e2e::skip_unless_root("gives files to another user") {
        return None;
    }
    let places = Places::new();
    sh(&places.path("source"), "ln -s a link");
    assert_eq!(places.run(&["--layout", layout, "--owner", "1234:2345"]).code, Some(0));
    Some(places)
}

const LAYOUTS: [(&str, &str); 2] = [("atomic", "volume/..data"), ("files", "volume")];

#[test]
fn an_entry_that_differs_only_in_owner_has_a_line() {
    for (layout, root) in LAYOUTS {
        let Some(places) = published(layout) else { return };
        let args = ["--layout", layout, "--owner", "1234:2345"];
        assert_eq!(places.plan(&args).0, "", "{layout}");
        for (name, shown) in [("a", "a"), ("d/b", "d/b"), ("link", "link"), ("d", "d/")] {
            for (uid, gid, before) in [(0, 2345, "0:2345"), (1234, 0, "1234:0")] {
                let path = places.path(root).join(name);
                lchown(path, Some(uid), Some(gid)).expect("given");
                // Without --owner, owners are not compared, and without GID no groups.
                assert_eq!(places.plan(&["--layout", layout]).0, "", "{layout} {name}");
                let by_user = places.plan(&["--layout", layout, "--owner", "1234"]).0;
                let expected = format!("~ {shown} (owner 0 -> 1234)");
                assert_eq!(by_user, if uid == 0 { &expected[..] } else { "" }, "{layout} {name}");
                let what = format!("{layout} {name} {before}");
                let lines = assert_predicted(&places, &args, &what);
                assert_eq!(lines, format!("~ {shown} (owner {before} -> 1234:2345)"), "{what}");
            }
        }
        // The root of the volume keeps its owner, that of a version does not.
        lchown(places.path(root).join("."), Some(7), Some(7)).expect("given");
        let (lines, _) = places.plan(&args);
        let expected = if layout == "atomic" { "~ ./ (owner 7:7 -> 1234:2345)" } else { "" };
        assert_eq!(lines, expected, "{layout}");
    }
}

#[test]
fn changes_of_owner_are_listed_with_other_differences() {
    for (layout, root) in LAYOUTS {
        let Some(places) = published(layout) else { return };
        sh(&places.path("source"), "echo new > a; echo more > d/c; rm link; chmod 640 d/b");
        let args = ["--layout", layout, "--owner", "77:88"];
        let lines = assert_predicted(&places, &args, layout);
        let expected = "\
~ a (content, owner 1234:2345 -> 77:88)
~ d/ (owner 1234:2345 -> 77:88)
~ d/b (mode 0644 -> 0640, owner 1234:2345 -> 77:88)
+ d/c
- link";
        let with_root = format!("~ ./ (owner 1234:2345 -> 77:88)\n{expected}");
        assert_eq!(lines, if layout == "atomic" { &with_root[..] } else { expected });
        // With damage, and with a change of layout.
        sh(&places.path(root), "chmod 600 a; chown 0:0 a");
        let line = "~ a (not what was published, owner 0:0 -> 77:88)";
        assert!(places.plan(&args).0.contains(line) || layout == "atomic");
        let other = if layout == "atomic" { "files" } else { "atomic" };
        let lines =
            assert_predicted(&places, &["--layout", other, "--owner", "1", "--keep", "0"], other);
        assert!(lines.contains("~ d/b (owner 77 -> 1)"), "{lines}");
        assert!(lines.contains("owner 0 -> 1, becomes a ") || layout == "files", "{lines}");
    }
}

#[test]
fn plans_of_rollbacks_and_pins_show_changes_of_owner() {
    let Some(places) = published("atomic") else { return };
    sh(&places.path("source"), "echo new > a");
    assert_eq!(places.run(&["--owner", "1234:2345"]).code, Some(0));
    assert_eq!(places.plan(&["rollback"]).0, "~ a (content)");
    let (lines, last) = places.plan(&["rollback", "--owner", "77"]);
    let expected = "\
~ ./ (owner 1234 -> 77)
~ a (content, owner 1234 -> 77)
~ d/ (owner 1234 -> 77)
~ d/b (owner 1234 -> 77)
~ link (owner 1234 -> 77)";
    assert_eq!(lines, expected);
    let done = places.run(&["rollback", "--owner", "77"]);
    assert_eq!((done.code, &done.stderr[..]), (Some(0), ""));
    assert!(done.stdout.starts_with(&last.replacen("would roll back", "rolled back", 1)));
    let held = places.plan(&["--owner", "77"]);
    assert!(held.0.is_empty() && held.1.ends_with(": would not publish"), "{held:?}");
    lchown(places.path("volume/..data/d"), Some(5), None).expect("given");
    assert_eq!(places.plan(&[]).0, "");
    let held = places.plan(&["--owner", "77"]);
    assert_eq!(held.0, "~ d/ (owner 5 -> 77)");
    assert!(held.1.ends_with(", but would restore"), "{held:?}");
    let done = places.run(&["--owner", "77"]);
    assert!(done.stdout.ends_with(": not published, but restored\n"), "{done:?}");
    assert_eq!(places.plan(&["--owner", "77"]).0, "");
}
