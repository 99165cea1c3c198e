//! The targets of the Makefile, which people and CI run, and the files of CI.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::tools::{read, succeed, tool, top};

const WORKFLOW: &str = ".github/workflows/ci.yml";
const PIPELINE: &str = ".gitlab-ci.yml";

/// The targets of the Makefile that are not files.
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

    let help = succeed(Command::new("make").args(["--silent", "help"]).current_dir(top())).stdout;
    let helped = help.lines().filter_map(|line| line.split_whitespace().next());
    assert_eq!(helped.map(str::to_owned).collect::<BTreeSet<_>>(), targets, "make help");

    let makefile = read("Makefile").replace("\\\n", " ");
    let phony = makefile.lines().find_map(|line| line.strip_prefix(".PHONY:")).expect("a line");
    assert_eq!(phony.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>(), targets);
}

/// The lines of a CI file that call make, without `make`.
fn calls_of_make(file: &str) -> BTreeSet<String> {
    let content = read(file);
    let lines = content.lines().map(|line| line.trim_start_matches([' ', '-']));
    let calls = lines.map(|line| line.strip_prefix("run: ").unwrap_or(line));
    calls.filter_map(|line| line.strip_prefix("make ")).map(str::to_owned).collect()
}

#[test]
fn ci_calls_the_targets_that_people_call() {
    let targets = targets();
    let own = calls_of_make(".ci/run");
    for file in [".ci/run", WORKFLOW, PIPELINE] {
        let calls = calls_of_make(file);
        for call in &calls {
            let target = call.split(' ').next().expect("a word");
            assert!(targets.contains(target), "{file}: make {call}");
        }
        // The first stage alone is apart, to fail early; `make test` begins with it too.
        let mut all = own.clone();
        all.insert("check".to_owned());
        assert!(calls.len() > 3 && (calls == own || calls == all), "{file}: {calls:?}");
    }
}

#[test]
fn the_hosts_of_ci_take_its_files() {
    for (schema, file) in [("vendor.github-workflows", WORKFLOW), ("vendor.gitlab-ci", PIPELINE)] {
        succeed(tool("check-jsonschema").args(["--builtin-schema", schema, file]));
    }
}

/// The values of a key, wherever it stands.
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
fn ci_runs_no_code_of_others_and_has_no_rights() {
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
