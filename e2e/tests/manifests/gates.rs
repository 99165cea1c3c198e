//! The targets of the Makefile, which people and CI run.

use std::collections::BTreeSet;
use std::process::Command;

use crate::tools::{read, succeed, top};

/// The targets of the Makefile that are not files.
pub fn targets() -> BTreeSet<String> {
    let makefile = read("Makefile");
    let is_letter = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let named = makefile.lines().filter_map(|line| line.split_once(':'));
    named
        .filter(|(name, rest)| {
            !name.is_empty() && name.chars().all(is_letter) && !rest.starts_with('=')
        })
        .map(|(name, _)| name.to_owned())
        .collect()
}

#[test]
fn help_and_phony_name_every_target() {
    let targets = targets();
    assert!(targets.contains("e2e") && targets.contains("check"), "{targets:?}");

    let help = succeed(Command::new("make").args(["--silent", "help"]).current_dir(top())).stdout;
    let helped = help.lines().filter_map(|line| line.split_whitespace().next());
    assert_eq!(helped.map(str::to_owned).collect::<BTreeSet<_>>(), targets, "make help");

    let makefile = read("Makefile").replace("\\\n", " ");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).expect("a line");
    assert_eq!(phony.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>(), targets);
}
