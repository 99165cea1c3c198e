//! Renders every base, overlay and example as `kubectl apply -k` would send it.

use std::path::PathBuf;
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::{Builder, TempDir};

use crate::objects::{containers, kind, list, name, template, text};
use crate::tools::{files, read, succeed, tool, top};

/// The objects of one kustomization, or of a standalone file with its base.
pub struct Set {
    /// The directory or file, relative to the workspace.
    pub from: String,
    /// Whether the set belongs to the ownership pipeline.
    pub is_ownership: bool,
    /// The rendered YAML.
    pub yaml: String,
    /// The parsed objects.
    pub objects: Vec<Value>,
}

impl Set {
    /// The objects of a kind.
    pub fn of_kind<'a>(&'a self, wanted_kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| kind(object) == wanted_kind)
    }

    /// The object of this kind and name.
    pub fn get(&self, wanted_kind: &str, wanted_name: &str) -> Option<&Value> {
        self.objects
            .iter()
            .find(|object| kind(object) == wanted_kind && name(object) == wanted_name)
    }
}

/// The standalone Job.
pub const JOB: &str = "k8s/ownership/job.yaml";

/// Each standalone file, and the kustomization that it needs.
const STANDALONE: [(&str, &str); 3] = [
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
    for (file, base) in STANDALONE {
        let base = sets.iter().find(|set| set.from == base).expect("the base of a standalone file");
        let yaml = format!("{}---\n{}", base.yaml, read(file));
        let from = file.to_owned();
        sets.push(Set { objects: parse(&yaml), yaml, is_ownership: base.is_ownership, from });
    }
    sets
});

/// All sets.
pub fn sets() -> &'static [Set] {
    &SETS
}

/// The set of a directory or file.
pub fn set(from: &str) -> &'static Set {
    sets().iter().find(|set| set.from == from).unwrap_or_else(|| panic!("no set {from}"))
}

/// The directories with a kustomization of this kind, relative to the workspace.
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

/// Writes each set to a file in a temporary directory, for tools that read files.
pub fn in_files() -> (TempDir, Vec<PathBuf>) {
    // checkov skips hidden directories.
    let dir = Builder::new().prefix("rendered-").tempdir().expect("a directory");
    let write = |set: &Set| {
        let file = dir.path().join(set.from.replace('/', "-")).with_extension("yaml");
        // The tools require a name, which Kubernetes would generate.
        let yaml = set
            .yaml
            .replace("\n  generateName: data-owner-resolver-\n", "\n  name: data-owner-resolver\n");
        std::fs::write(&file, yaml).expect("a file");
        file
    };
    let written = sets().iter().map(write).collect();
    (dir, written)
}

#[test]
fn every_component_is_used() {
    let users: String = kustomizations("Kustomization")
        .iter()
        .map(|dir| read(format!("{dir}/kustomization.yaml")))
        .collect();
    for component in kustomizations("Component") {
        let tail = component
            .trim_start_matches("k8s/")
            .rsplit_once('/')
            .map_or("images", |(_, tail)| tail);
        assert!(users.contains(&format!("/{tail}\n")), "no kustomization uses {component}");
    }
}

#[test]
fn both_pipelines_are_rendered() {
    let from: Vec<&str> = sets().iter().map(|set| set.from.as_str()).collect();
    assert!(from.len() >= 12, "{from:?}");
    for base in ["k8s/ownership/base", "k8s/provisioning/base"] {
        assert!(from.contains(&base), "{from:?}");
    }
}

#[test]
fn the_readme_lists_each_base_and_overlay() {
    let table = read("k8s/README.md");
    for dir in kustomizations("Kustomization").iter().filter(|dir| dir.starts_with("k8s/")) {
        assert!(table.contains(&format!("| `{dir}` |")), "k8s/README.md does not list {dir}");
    }
}

/// Renders the components of a folder on its base, in this order.
fn combined(folder: &str, components: &[&str]) -> Vec<Value> {
    let dir = TempDir::new().expect("a directory");
    let here = dir.path().canonicalize().expect("a path");
    let up = "../".repeat(here.components().count() - 1);
    let tree = format!("{up}{}/k8s", top().canonicalize().expect("a path").display());
    let listed: String = components
        .iter()
        .map(|component| match *component {
            "images" => format!("- {tree}/images\n"),
            other => format!("- {tree}/{folder}/components/{other}\n"),
        })
        .collect();
    let text = format!("resources:\n- {tree}/{folder}/base\ncomponents:\n{listed}");
    std::fs::write(here.join("kustomization.yaml"), text).expect("a file");
    parse(&succeed(tool("kubectl").arg("kustomize").arg(here)).stdout)
}

#[test]
fn components_can_be_combined() {
    let order = [
        "single-node",
        "monitoring",
        "image-volume",
        "checked",
        "nightly-restart",
        "images",
        "verified",
    ];
    let scans = ["results-volume", "external-secret", "node-selection", "trigger", "airflow"];
    let provisioning = combined("provisioning", &order);
    let ownership = combined("ownership", &[&scans[..], &["monitoring"]].concat());
    for (folder, used) in [("provisioning", order.len() - 1), ("ownership", scans.len() + 1)] {
        let all = kustomizations("Component");
        let own = all.iter().filter(|dir| dir.starts_with(&format!("k8s/{folder}/")));
        assert_eq!(own.count(), used, "{folder}: a component that is not combined here");
    }
    let mut count = 0;
    for object in provisioning.iter().chain(&ownership) {
        for container in template(object).into_iter().flat_map(containers) {
            count += 1;
            let image = text(container, "/image").rsplit('/').next().unwrap();
            assert!(image.contains(':'), "{}: {image} has no version", name(object));
        }
    }
    assert!(count > 6, "{count}");
    let provisioner = provisioning.iter().find(|object| name(object) == "data-provisioner");
    let volumes = list(provisioner.and_then(template).expect("the CronJob"), "/spec/volumes");
    let reference = volumes.iter().find_map(|volume| volume.pointer("/image/reference"));
    let reference = reference.and_then(Value::as_str).expect("an image volume");
    assert!(reference.contains("@sha256:"), "{reference}");
}
