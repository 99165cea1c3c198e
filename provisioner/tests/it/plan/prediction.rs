//! Compares a plan with the changes that the run then makes, as readers see them.

use std::collections::BTreeSet;

use super::Places;
use crate::support::tree::{Entry, Seen, seen_by_name};

/// A line of a plan.
struct PlanLine<'l> {
    sign: char,
    /// Without the slash of a directory.
    path: &'l str,
    /// The differences, with the closing parenthesis.
    differences: &'l str,
}

fn parse(line: &str) -> PlanLine<'_> {
    let (path, differences) = line[2..].split_once(" (").unwrap_or((&line[2..], ""));
    let sign = line.chars().next().expect("a sign");
    PlanLine { sign, path: path.trim_end_matches('/'), differences }
}

fn paths(seen: &Seen, is_wanted: impl Fn(&[u8], &Entry) -> bool) -> BTreeSet<&str> {
    let wanted = seen.iter().filter(|(path, entry)| is_wanted(path, entry));
    wanted.map(|(path, _)| std::str::from_utf8(path).expect("UTF-8")).collect()
}

/// Asserts that a plan lists the changes that the run then makes, and that the next plan is empty.
/// Returns the lines of the plan.
pub fn assert_predicted(places: &Places, args: &[&str], what: &str) -> String {
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
        lines.lines().map(parse).filter(|line| line.sign == sign).map(|line| line.path).collect()
    };
    let added = paths(&after, |path, _| !before.contains_key(path));
    let removed = paths(&before, |path, _| !after.contains_key(path));
    let changed = paths(&after, |path, entry| before.get(path).is_some_and(|old| old != entry));
    let damaged: BTreeSet<&str> = lines
        .lines()
        .map(parse)
        .filter(|line| line.differences.starts_with("not what"))
        .map(|line| line.path)
        .collect();
    let listed: BTreeSet<&str> = with_sign('+').union(&damaged).copied().collect();
    assert!(with_sign('+').is_subset(&added), "{what}: {lines}");
    assert!(added.is_subset(&listed), "{what}: {added:?} of {lines}");
    assert_eq!(with_sign('-'), removed, "{what}");
    assert!(changed.is_subset(&with_sign('~')), "{what}: {changed:?} of {lines}");
    for line in lines.lines().map(parse).filter(|line| line.sign == '~') {
        // Other lines are about changes that readers do not see.
        let reasons = ["becomes", "is taken over", "is put there again", "owner", "not what"];
        let is_known = reasons.iter().any(|reason| line.differences.contains(reason));
        assert!(
            changed.contains(line.path) || is_known,
            "{what}: {} ({}",
            line.path,
            line.differences
        );
    }
    let (rest, last) = places.plan(args);
    assert_eq!((&rest[..], last.starts_with("unchanged: ")), ("", true), "{what}: {last}");
    lines
}

fn without_time(line: &str) -> &str {
    line.rsplit_once(", ").map_or(line, |(line, _)| line)
}
