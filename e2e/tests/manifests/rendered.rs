//! Every base, overlay and example, as `kubectl apply -k` would send it.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::{Builder, TempDir};

use crate::objects::{kind, name};
use crate::tools::{files, read, succeed, tool};

/// What belongs together.
pub struct Set {
    /// Its directory or file, from the top of the workspace.
    pub from: String,
    /// Whether it is of the pipeline for ownership.
    pub is_ownership: bool,
    /// As it would be sent.
    pub yaml: String,
    /// All objects in it.
    pub objects: Vec<Value>,
}

impl Set {
    /// The objects of a kind.
    pub fn of_kind<'a>(&'a self, wanted: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| kind(object) == wanted)
    }

    /// One object.
    pub fn get(&self, wanted: &str, called: &str) -> Option<&Value> {
        self.objects.iter().find(|object| kind(object) == wanted && name(object) == called)
    }
}

/// The Job that stands alone.
pub const JOB: &str = "k8s/ownership/job.yaml";

/// What stands alone, and what must be there for it.
const ALONE: [(&str, &str); 3] = [
    (JOB, "k8s/ownership/base"),
    ("examples/provisioner-shell.yaml", "k8s/provisioning/base"),
    ("examples/results-reader.yaml", "k8s/ownership/overlays/results-volume"),
];

static SETS: LazyLock<Vec<Set>> = LazyLock::new(|| {
    let mut sets: Vec<Set> = kustomizations("Kustomization")
        .into_iter()
        .map(|from| {
            let yaml = succeed(tool("kubectl").args(["kustomize", &from])).stdout;
            let is_ownership = from.contains("/ownership");
            Set { objects: parse(&yaml), yaml, is_ownership, from }
        })
        .collect();
    for (file, base) in ALONE {
        let base = sets.iter().find(|set| set.from == base).expect("the base of what stands alone");
        let yaml = format!("{}---\n{}", base.yaml, read(file));
        let from = file.to_owned();
        sets.push(Set { objects: parse(&yaml), yaml, is_ownership: base.is_ownership, from });
    }
    sets
});

/// All of them.
pub fn sets() -> &'static [Set] {
    &SETS
}

/// One of them.
pub fn set(from: &str) -> &'static Set {
    sets().iter().find(|set| set.from == from).unwrap_or_else(|| panic!("no {from}"))
}

/// The directories whose kustomization is of this kind, from the top of the workspace.
pub fn kustomizations(kind: &str) -> Vec<String> {
    let all = ["k8s", "examples"].map(|below| files(below, &["kustomization.yaml"])).concat();
    all.iter()
        .filter(|file| read(file).lines().any(|line| line == format!("kind: {kind}")))
        .map(|file| file.trim_end_matches("/kustomization.yaml").to_owned())
        .collect()
}

/// The documents of a YAML file.
pub fn parse(yaml: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml:.2000}"))
}

/// All of them in a directory, a file each, for programs that read files.
pub fn in_files() -> (TempDir, Vec<PathBuf>) {
    // checkov looks into no hidden directory.
    let place = Builder::new().prefix("rendered-").tempdir().expect("a directory");
    let write = |set: &Set| {
        let file = place.path().join(set.from.replace('/', "-")).with_extension("yaml");
        // Readers of files want a name, as it will have one.
        let yaml = set
            .yaml
            .replace("\n  generateName: data-owner-resolver-\n", "\n  name: data-owner-resolver\n");
        std::fs::write(&file, yaml).expect("a file");
        file
    };
    let written = sets().iter().map(write).collect();
    (place, written)
}

#[test]
fn each_component_is_part_of_something() {
    let users: String = kustomizations("Kustomization")
        .iter()
        .map(|dir| read(format!("{dir}/kustomization.yaml")))
        .collect();
    for component in kustomizations("Component") {
        let tail = component
            .trim_start_matches("k8s/")
            .rsplit_once('/')
            .map_or("images", |(_, tail)| tail);
        assert!(users.contains(&format!("/{tail}\n")), "nothing uses {component}");
    }
}

#[test]
fn both_pipelines_are_there() {
    let from: Vec<&str> = sets().iter().map(|set| set.from.as_str()).collect();
    assert!(from.len() >= 12, "{from:?}");
    for base in ["k8s/ownership/base", "k8s/provisioning/base"] {
        assert!(from.contains(&base), "{from:?}");
    }
}
