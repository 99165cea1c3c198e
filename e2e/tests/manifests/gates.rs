//! The Makefile and the CI files: CI runs the targets that developers run, and no third-party code.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::tools::{outcome, read, succeed, tool, top};

const WORKFLOW: &str = ".github/workflows/ci.yml";
const PIPELINE: &str = ".gitlab-ci.yml";

/// The phony targets of the Makefile.
fn targets() -> BTreeSet<String> {
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

    let help = succeed(
        Command::new("make").args(["--silent", "--no-print-directory", "help"]).current_dir(top()),
    )
    .stdout;
    let helped = help.lines().filter_map(|line| line.split_whitespace().next());
    assert_eq!(helped.map(str::to_owned).collect::<BTreeSet<_>>(), targets, "make help");

    let makefile = read("Makefile").replace("\\\n", " ");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).expect("a line");
    assert_eq!(phony.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>(), targets);
}

/// The arguments of each call of make in a CI file.
fn calls_of_make(file: &str) -> BTreeSet<String> {
    let content = read(file);
    let lines = content.lines().map(|line| line.trim_start_matches([' ', '-']));
    let calls = lines.map(|line| line.strip_prefix("run: ").unwrap_or(line));
    calls.filter_map(|line| line.strip_prefix("make ")).map(str::to_owned).collect()
}

#[test]
fn ci_calls_the_targets_that_developers_call() {
    let targets = targets();
    let own = calls_of_make(".ci/run");
    for file in [".ci/run", WORKFLOW, PIPELINE] {
        let calls = calls_of_make(file);
        for call in &calls {
            let target = call.split(' ').next().expect("a word");
            assert!(targets.contains(target), "{file}: make {call}");
        }
        if file == ".ci/run" {
            continue;
        }
        // They run `make check` in a stage before, to fail early; `make test` begins with it too. The
        // cluster needs control groups of version 1 (docs/TESTING.md), which runners rarely have.
        let mut expected = own.clone();
        expected.insert("check".to_owned());
        expected.remove("test-cluster");
        assert_eq!(calls, expected, "{file}");
    }
}

#[test]
fn ci_files_match_the_schemas_of_github_and_gitlab() {
    for (schema, file) in [("vendor.github-workflows", WORKFLOW), ("vendor.gitlab-ci", PIPELINE)] {
        succeed(tool("check-jsonschema").args(["--builtin-schema", schema, file]));
    }
}

/// Collects the values of a key at any depth.
fn values<'v>(value: &'v Value, key: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if name == key {
                    found.push(value);
                }
                values(value, key, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| values(item, key, found)),
        _ => {}
    }
}

#[test]
fn ci_uses_no_third_party_code_and_has_no_permissions() {
    let workflow: Value = serde_saphyr::from_str(&read(WORKFLOW)).expect("YAML");
    assert_eq!(workflow["permissions"], serde_json::json!({}));
    let pipeline: Value = serde_saphyr::from_str(&read(PIPELINE)).expect("YAML");
    let mut foreign = Vec::new();
    values(&workflow, "uses", &mut foreign);
    values(&workflow, "secrets", &mut foreign);
    values(&pipeline, "include", &mut foreign);
    assert!(foreign.is_empty(), "{foreign:?}");

    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = \""));
    let channel = channel.expect("a channel").trim_end_matches('"');
    let mut images = Vec::new();
    for key in ["container", "image"] {
        values(&workflow, key, &mut images);
        values(&pipeline, key, &mut images);
    }
    let images: Vec<&str> = images.into_iter().filter_map(Value::as_str).collect();
    assert!(images.len() > 3, "{images:?}");
    for image in images {
        assert_eq!(image, format!("rust:{channel}-bookworm"));
    }
    let mut runners = Vec::new();
    values(&workflow, "runs-on", &mut runners);
    assert!(runners.iter().all(|runner| *runner == "ubuntu-24.04"), "{runners:?}");
}

/// Runs `e2e/checks/advisories` with a fake cargo that runs `fetch` and `check`. `has_copy` adds the
/// database of an earlier run. Returns exit code, stdout and stderr.
fn advisories(fetch: &str, check: &str, has_copy: bool) -> (Option<i32>, String, String) {
    let dir = TempDir::new().expect("a directory");
    // A failed fetch leaves a lock file.
    let copy = if has_copy { "advisory-dbs/copy/.git" } else { "advisory-dbs" };
    std::fs::create_dir_all(dir.path().join(copy)).expect("made");
    std::fs::write(dir.path().join("advisory-dbs/db.lock"), "").expect("written");
    let cargo = dir.path().join("cargo");
    let script =
        format!("#!/bin/sh\ncase \"$*\" in\n*fetch*db) {fetch};;\n*check*) {check};;\nesac\n");
    // A shell writes the script: a script that this process has open for writing, or a child of
    // another test that inherited it, could not be run.
    let mut shell = Command::new("sh");
    shell.args(["-c", "printf %s \"$1\" >\"$2\" && chmod +x \"$2\"", "sh", &script]).arg(&cargo);
    succeed(&mut shell);
    let mut check = Command::new(top().join("e2e/checks/advisories"));
    check.env("CARGO", &cargo).env("CARGO_HOME", dir.path());
    let outcome = outcome(&mut check);
    (outcome.code, outcome.stdout, outcome.stderr)
}

#[test]
fn advisories_are_skipped_with_a_message_only_without_any_database() {
    let unreachable = "echo no route >&2; exit 1";
    let (code, stdout, stderr) = advisories(unreachable, "exit 1", false);
    assert_eq!((code, &stdout[..]), (Some(0), ""));
    assert!(stderr.starts_with("no route\nadvisories skipped: "), "{stderr}");

    let (code, stdout, _) = advisories("exit 0", "exit 0", false);
    assert_eq!((code, &stdout[..]), (Some(0), "advisories checked: the database was fetched\n"));

    // A vulnerability fails the check with a new database and with a copy.
    let vulnerable = "echo error: a vulnerability >&2; exit 1";
    for (fetch, has_copy) in [("exit 0", false), ("exit 0", true), (unreachable, true)] {
        let (code, stdout, stderr) = advisories(fetch, vulnerable, has_copy);
        assert_eq!((code, &stdout[..]), (Some(1), ""), "{stderr}");
        assert!(stderr.contains("a vulnerability"), "{stderr}");
    }
}
