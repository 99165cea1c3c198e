//! OPA and the reloader that serves its bundle.

mod memory;
mod pod;
mod queries;
mod refusals;
mod signatures;

use std::path::PathBuf;
use std::time::Duration;

use self::pod::Pod;
use self::queries::Queries;
use crate::container::wait_for;
use crate::data::{Volume, tree};

/// Policies of a version.
const MODULES: usize = 10;

/// A tree whose policies and data all hold the number of a version. `check/all` lists these numbers.
fn version(number: usize) -> PathBuf {
    version_with(number, &[])
}

/// The same, with more files, which replace those with the same paths.
fn version_with(number: usize, more: &[(&str, &[u8])]) -> PathBuf {
    let mut files: Vec<(String, Vec<u8>)> = vec![
        ("opa/data.json".to_owned(), format!("{{\"version\": {number}}}").into()),
        ("opa/sub/data.yaml".to_owned(), format!("version: {number}\n").into()),
    ];
    let mut all = "data.version, data.sub.version".to_owned();
    for module in 0..MODULES {
        let policy = format!("package m{module}\n\nv := {number}\n");
        files.push((format!("opa/m{module}.rego"), policy.into()));
        all += &format!(", data.m{module}.v");
    }
    files.push(("opa/check.rego".to_owned(), format!("package check\n\nall := [{all}]\n").into()));
    files.extend(more.iter().map(|(path, content)| ((*path).to_owned(), content.to_vec())));
    let files: Vec<_> = files.iter().map(|(path, content)| (&**path, &**content)).collect();
    tree(&files)
}

#[test]
#[ignore = "run by make test-applications"]
fn a_publication_becomes_live() {
    let volume = Volume::new();
    let mut pod = Pod::start(&volume);
    // OPA starts before the first publication.
    wait_for("OPA", || pod.get("/health"));
    assert_eq!(pod.get("/health?bundles"), None, "ready without a bundle");
    for number in 1..=2 {
        volume.publish(&version(number));
        let (_, after) = wait_for("the version", || pod.uses(number).then_some(()));
        println!("OPA uses version {number} {after:.2?} after its publication");
        let text = "in use as bundle `policies`";
        wait_for("the proof", || (pod.sidecar.log().matches(text).count() == number).then_some(()));
        let name = "reloader_last_reload_successful";
        wait_for(name, || pod.metric(name).filter(|value| *value == 1.0));
    }
    assert!(pod.get("/health?bundles").is_some());
    pod.opa.assert_runs();
}

#[test]
#[ignore = "run by make test-applications"]
fn no_answer_mixes_versions_in_60_publications() {
    let volume = Volume::new();
    volume.publish(&version(1));
    // Without these, 60 publications take 6 minutes.
    let pod = Pod::start_with(&volume, |containers| {
        containers.sidecar.command.extend(["--cooldown=0", "--debounce=0.2"].map(str::to_owned));
    });
    wait_for("the first version", || pod.uses(1).then_some(()));
    let queries = Queries::start(pod.port);
    let mut times: Vec<Duration> = Vec::new();
    for number in 2..=61 {
        volume.publish(&version(number));
        let (_, after) = wait_for("the version", || pod.uses(number).then_some(()));
        times.push(after);
    }
    let counts = queries.end();
    times.sort();
    println!("{counts:?}; live after {:.2?} (median), {:.2?} (worst)", times[30], times[59]);
    assert_eq!((counts.errors, counts.undefined, counts.mixed), (0, 0, 0), "{counts:?}");
    assert!(counts.versions >= 60, "{counts:?}");
}
