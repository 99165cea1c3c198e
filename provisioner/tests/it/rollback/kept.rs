//! Kept versions: which there are, how they are shown and restored.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;

use e2e::wait_for;

use super::{Places, digest_in, listing, names, output, traces};

/// Fills the source with every kind of entry and with odd names.
fn fill_with_oddities(places: &Places) {
    let source = places.path("source");
    let odd = source.join(OsStr::from_bytes(b"odd \xff\n\"name"));
    for dir in [&source.join("empty"), &odd.join("d/e")] {
        fs::create_dir_all(dir).expect("made");
    }
    let large: Vec<u8> = (0..300_000u32).flat_map(|n| (n ^ (n << 7)).to_le_bytes()).collect();
    for (path, content, mode) in [
        (source.join("none"), &b""[..], 0o644),
        (odd.join("d/e/large"), &large, 0o600),
        (odd.join("run"), b"#!/bin/sh\n", 0o555),
        (source.join("-rf"), b"x", 0o400),
    ] {
        fs::write(&path, content).expect("written");
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("set");
    }
    symlink(OsStr::from_bytes(b"odd \xff\n\"name/run"), source.join("link")).expect("linked");
    symlink("nowhere", source.join("dangling")).expect("linked");
    fs::set_permissions(odd.join("d"), Permissions::from_mode(0o555)).expect("set");
    fs::set_permissions(source.join("empty"), Permissions::from_mode(0o700)).expect("set");
}

#[test]
fn a_rollback_restores_every_byte_without_the_source() {
    let places = Places::new();
    fill_with_oddities(&places);
    let first = places.publish("one");
    let before = listing(&places.path("volume/..data/"));
    for args in [&["-R", "u+w", "source"][..], &["755", "source/none"]] {
        output(std::process::Command::new("chmod").args(args).current_dir(places.path("")));
    }
    fs::remove_dir_all(places.path("source")).expect("removed");
    fs::create_dir(places.path("source")).expect("made");
    places.publish("two");
    assert_eq!(names(&places.path("volume")).len(), 4, "one name, and what is hidden");
    assert_eq!(places.archives(), [&first[..]]);

    fs::remove_dir_all(places.path("source")).expect("removed");
    let said = places.done(&["rollback"]);
    assert!(said.starts_with("rolled back: 7 files, 1200014 bytes, sha256:"), "{said}");
    assert_eq!(digest_in(&said), Some(first));
    assert_eq!(listing(&places.path("volume/..data/")), before);
    assert_eq!(names(&places.path("volume")).len(), 10, "all names have their links");
    assert_eq!(places.live(), "one");
}

#[test]
fn a_pin_holds_until_unpin() {
    let places = Places::new();
    let (one, two) = (places.publish("one"), places.publish("two"));
    places.done(&["rollback"]);
    places.write("three");
    let before = traces(&places.path("volume"));
    for _ in 0..2 {
        assert_eq!(places.done(&[]), format!("pinned to sha256:{one}: not published\n"));
    }
    assert_eq!(traces(&places.path("volume")), before);
    // Back again, which pins anew; and once more to what is live.
    assert_eq!(digest_in(&places.done(&["rollback"])), Some(two.clone()));
    let said = places.done(&["rollback", &two]);
    assert_eq!(said, format!("pinned: sha256:{two}, which was live already\n"));
    assert_eq!(places.live(), "two");
    assert!(places.done(&["--unpin"]).starts_with("published: 0 added, 1 changed"));
    assert_eq!(places.live(), "three");
    assert!(places.done(&[]).starts_with("unchanged"));
    assert!(places.status().contains("pinned: no\n"));
}

#[test]
fn keep_limits_the_archives_and_an_unchanged_run_leaves_no_trace() {
    let places = Places::new();
    let digests = ["1", "2", "3", "4", "5"].map(|content| places.publish(content));
    let mut kept = [digests[2].clone(), digests[3].clone()];
    kept.sort();
    assert_eq!(places.archives(), kept);
    assert_eq!(places.hidden(), 3);
    let before = traces(&places.path("volume"));
    assert!(places.done(&[]).starts_with("unchanged"));
    places.done(&["status"]);
    places.done(&["history"]);
    assert_eq!(traces(&places.path("volume")), before);
    let mode = |name: &str| fs::metadata(places.path(name)).expect("there").permissions().mode();
    assert_eq!(mode("volume/..provisioner") & 0o777, 0o700);
    places.write("6");
    places.done(&["--keep", "0"]);
    assert!(places.archives().is_empty());
    // What was published again is no earlier version of itself.
    places.write("5");
    places.done(&["--keep", "1"]);
    places.write("6");
    places.done(&["--keep", "1"]);
    assert_eq!(places.archives(), [&digests[4][..]]);
}

#[test]
fn rollback_finds_a_version_by_the_first_digits_of_its_digest() {
    let places = Places::new();
    assert_eq!(places.run(&["rollback"]).code, Some(2));
    let one = places.publish("one");
    assert_eq!(places.run(&["rollback"]).code, Some(2), "there is nothing before");
    let two = places.publish("two");
    places.publish("three");
    for wanted in ["", "abc", &one[..3], "../../..", &"0".repeat(65)] {
        assert_eq!(places.run(&["rollback", wanted]).code, Some(2), "{wanted}");
    }
    let unknown = places.run(&["rollback", &"0".repeat(64)]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.stderr.contains(&format!("kept versions: {two}, {one}\n")),
        "{}",
        unknown.stderr
    );
    assert_eq!(places.live(), "three");
    places.done(&["rollback", &format!("sha256:{}", one[..12].to_uppercase())]);
    assert_eq!(places.live(), "one");
}

#[test]
fn status_and_history_show_live_pinned_and_kept_versions() {
    let places = Places::new();
    let nothing = places.run(&["status"]);
    assert_eq!((nothing.code, &nothing.stdout[..]), (Some(1), "live: nothing\npinned: no\n"));
    assert_eq!(places.run(&["status", "--json"]).code, Some(1));
    assert_eq!(places.done(&["history"]), "");
    let (one, two) = (places.publish("one"), places.publish("seven"));
    places.done(&["rollback"]);
    // Since when and how large is what jq and date make of it.
    let script = r#"provisioner() { "$PROGRAM" "$@"; }
now=$(date -u +%s)
provisioner status --json | python3 -c '
import calendar, json, sys, time
status = json.load(sys.stdin)
def age(text):
    return int(sys.argv[1]) - calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ"))
assert all(0 <= age(t) < 60 for t in [status["live"].pop("since"), status["pinned"].pop("since"),
    status["kept"][0].pop("packed")])
assert status["kept"][0].pop("packed_bytes") > 100
print(json.dumps(status, sort_keys=True))' "$now"
provisioner history --json | python3 -c '
import json, sys
for entry in json.load(sys.stdin): print(entry["action"], entry["digest"], entry["bytes"])'"#;
    let mut shell = std::process::Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", script]).current_dir(places.path(""));
    shell.env("PROGRAM", e2e::programs::program("provisioner"));
    shell.env("PROVISIONER_TARGET", "volume");
    let status = format!(
        "{{\"kept\": [{{\"bytes\": 5, \"digest\": \"{two}\", \"files\": 1}}], \"live\": {{\"bytes\": \
         3, \"digest\": \"{one}\", \"files\": 1, \"layout\": \"atomic\"}}, \"pinned\": {{\"digest\": \"{one}\"}}}}\n"
    );
    let history = format!("rolled_back {one} 3\npublished {two} 5\npublished {one} 3\n");
    assert_eq!(output(&mut shell), status + &history);
    let text = places.status();
    for line in [
        format!("live: sha256:{one}, since 2"),
        format!("pinned: sha256:{one}, since 2"),
        format!("kept: sha256:{two}, packed 2"),
    ] {
        assert!(text.lines().any(|found| found.starts_with(&line)), "{line}: {text}");
    }
    let history = places.done(&["history"]);
    let newest = history.lines().next().expect("a line");
    assert!(newest.ends_with(&format!("Z rolled back to: sha256:{one}, 1 files, 3 bytes")));
}

#[test]
fn rollback_restores_a_version_that_still_has_its_directory() {
    let places = Places::new();
    let one = places.publish("one");
    places.write("two");
    // Nothing is packed: the tree itself is all there is.
    let mut waiting = places
        .provisioner(&["--grace", "60", "--keep", "0"])
        .stdout(Stdio::null())
        .spawn()
        .expect("started");
    wait_for("the second version", || places.live() == "two");
    let said = places.done(&["rollback"]);
    waiting.kill().expect("killed");
    waiting.wait().expect("its end");
    assert_eq!(digest_in(&said), Some(one));
    assert_eq!(places.live(), "one");
}
