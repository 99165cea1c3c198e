//! Reads workloads and their configuration in the rendered base of the provisioning pipeline.

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use serde_json::Value;

/// The root directory of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

static OBJECTS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let kubectl = workspace().join("target/checks/bin/kubectl");
    assert!(kubectl.is_file(), "{} is missing: run `make checks`", kubectl.display());
    let base = workspace().join("k8s/provisioning/base");
    let rendered = Command::new(kubectl).arg("kustomize").arg(base).output().expect("kubectl");
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    let yaml = String::from_utf8(rendered.stdout).expect("UTF-8");
    serde_saphyr::from_multiple(&yaml).unwrap_or_else(|error| panic!("{error}"))
});

/// The object of this kind and name.
///
/// # Panics
/// Panics if the base has none.
pub fn object(kind: &str, name: &str) -> &'static Value {
    let is_wanted = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    OBJECTS.iter().find(is_wanted).unwrap_or_else(|| panic!("the base has no {kind} {name}"))
}

/// The specification of the pods of a workload.
///
/// # Panics
/// Panics if the base has no such workload.
pub fn pod(kind: &str, name: &str) -> &'static Value {
    let object = object(kind, name);
    let job = if kind == "CronJob" { &object["spec"]["jobTemplate"] } else { object };
    &job["spec"]["template"]["spec"]
}

/// A container of a pod; init containers count.
///
/// # Panics
/// Panics if the pod has no such container.
pub fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let all = ["initContainers", "containers"].map(|list| items(&pod[list])).into_iter().flatten();
    let mut named = all.filter(|container| container["name"] == name);
    named.next().unwrap_or_else(|| panic!("the pod has no container {name}"))
}

/// The elements of a list, which may be missing.
pub fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

/// The strings of a list, which may be missing.
pub fn texts(list: &Value) -> Vec<String> {
    items(list).iter().map(|item| text(item).to_owned()).collect()
}

/// A string.
///
/// # Panics
/// Panics if it is another value.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

/// The names and values of a ConfigMap's data.
///
/// # Panics
/// Panics if the base has no such ConfigMap.
pub fn config(name: &str) -> Vec<(String, String)> {
    let data = object("ConfigMap", name)["data"].as_object().expect("data");
    data.iter().map(|(name, value)| (name.clone(), text(value).to_owned())).collect()
}
