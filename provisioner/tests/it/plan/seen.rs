//! Whether a plan is what a run then does, as readers see the volume before and after.

use std::collections::BTreeSet;

use super::Places;
use crate::support::tree::{Entry, Seen, seen_by_name};

/// A line of a plan: its sign, its path without the slash of a directory, and why.
pub fn parts(line: &str) -> (char, &str, &str) {
    let (path, why) = line[2..].split_once(" (").unwrap_or((&line[2..], ""));
    (line.chars().next().expect("a sign"), path.trim_end_matches('/'), why)
}

fn paths(seen: &Seen, is_wanted: impl Fn(&[u8], &Entry) -> bool) -> BTreeSet<&str> {
    let wanted = seen.iter().filter(|(path, entry)| is_wanted(path, entry));
    wanted.map(|(path, _)| std::str::from_utf8(path).expect("UTF-8")).collect()
}

/// Asserts that a plan says what a run then does, and that after it nothing is to be done; the lines
/// of the plan.
pub fn assert_foretold(places: &Places, args: &[&str], what: &str) -> String {
    let planned = places.run(&[args, &["--dry-run"]].concat());
    assert_eq!((planned.code, &planned.stderr[..]), (Some(0), ""), "{what}");
    let (lines, _) = places.plan(args);
    let before = seen_by_name(&places.path("volume"));
    let outcome = places.run(args);
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{what}");
    let after = seen_by_name(&places.path("volume"));
    let last = planned.stdout.lines().last().expect("a line");
    let done = last.replacen("would publish", "published", 1);
    assert_eq!(without_time(&done), without_time(outcome.stdout.trim_end()), "{what}: {lines}");

    let with_sign = |sign| -> BTreeSet<&str> {
        lines.lines().map(parts).filter(|line| line.0 == sign).map(|line| line.1).collect()
    };
    let added = paths(&after, |path, _| !before.contains_key(path));
    let removed = paths(&before, |path, _| !after.contains_key(path));
    let changed = paths(&after, |path, entry| before.get(path).is_some_and(|old| old != entry));
    let damaged: BTreeSet<&str> =
        lines.lines().map(parts).filter(|l| l.2.starts_with("not what")).map(|l| l.1).collect();
    let told: BTreeSet<&str> = with_sign('+').union(&damaged).copied().collect();
    assert!(with_sign('+').is_subset(&added), "{what}: {lines}");
    assert!(added.is_subset(&told), "{what}: {added:?} of {lines}");
    assert_eq!(with_sign('-'), removed, "{what}");
    assert!(changed.is_subset(&with_sign('~')), "{what}: {changed:?} of {lines}");
    for (sign, path, why) in lines.lines().map(parts).filter(|line| line.0 == '~') {
        // What does not change for readers has a reason of its own.
        let reasons = ["becomes", "is taken over", "is put there again", "owner", "not what"];
        let is_known = reasons.iter().any(|reason| why.contains(reason));
        assert!(changed.contains(path) || is_known, "{what}: {sign} {path} ({why}");
    }
    let (rest, last) = places.plan(args);
    assert_eq!((&rest[..], last.starts_with("unchanged: ")), ("", true), "{what}: {last}");
    lines
}

fn without_time(line: &str) -> &str {
    line.rsplit_once(", ").map_or(line, |(line, _)| line)
}
