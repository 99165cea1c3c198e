//! Validates every object against Kubernetes' schemas and refuses unknown fields.

use crate::objects::{kind, kind_and_name};
use crate::rendered::{in_files, sets};
use crate::tools::{outcome, succeed, tool};

/// The oldest supported release, one in the middle, and the newest.
const VERSIONS: [&str; 3] = ["1.33", "1.35", "1.37"];

/// Custom kinds of operators. Their schemas are not available here.
const OPERATOR_KINDS: [&str; 3] = ["ExternalSecret", "PodMonitor", "PrometheusRule"];

#[test]
fn every_object_is_valid_for_every_supported_release() {
    let (_place, files) = in_files();
    let of_kubernetes = sets()
        .iter()
        .flat_map(|set| &set.objects)
        .filter(|object| !OPERATOR_KINDS.contains(&kind(object)));
    let count = of_kubernetes.count();
    for version in VERSIONS {
        let outcome =
            outcome(tool("kubernetes-validate").args(["--strict", "-k", version]).args(&files));
        let output = outcome.stdout + &outcome.stderr;
        let (passed, rest): (Vec<&str>, Vec<&str>) =
            output.lines().partition(|line| line.contains(" passed for resource "));
        let unexpected: Vec<&&str> =
            rest.iter().filter(|line| !is_about_operator_kind(line)).collect();
        assert!(unexpected.is_empty(), "{version}: {unexpected:#?}");
        assert_eq!(passed.len(), count, "{version}: {output:.3000}");
        assert_eq!(outcome.code, Some(0), "{version}: {rest:#?}");
    }
}

/// Whether a line is the warning about a custom kind without a schema.
fn is_about_operator_kind(line: &str) -> bool {
    let names_kind =
        OPERATOR_KINDS.iter().any(|kind| line.to_lowercase().contains(&kind.to_lowercase()));
    line.starts_with("WARN") && names_kind
}

#[test]
fn the_newest_release_is_tested() {
    // kubernetes-validate defaults to the newest release that it supports.
    let help = succeed(tool("kubernetes-validate").arg("--help")).stdout;
    let newest = help.split("Defaults to ").nth(1).expect("a default");
    assert!(newest.starts_with(&format!("{}.", VERSIONS[2])), "{newest:.20}");
}

#[test]
fn a_field_that_the_schema_lacks_is_refused() {
    let dir = tempfile::TempDir::new().unwrap();
    let file = dir.path().join("pod.yaml");
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, image: \
               b, imagePolicy: Always}]}}";
    std::fs::write(&file, pod).unwrap();
    let outcome = outcome(tool("kubernetes-validate").args(["--strict", "-k", "1.33"]).arg(&file));
    assert_ne!(outcome.code, Some(0), "{outcome:?}");
    assert!((outcome.stdout + &outcome.stderr).contains("imagePolicy"));
}

#[test]
fn every_object_has_a_kind_and_a_name() {
    for set in sets() {
        for object in &set.objects {
            assert!(!kind(object).is_empty(), "{}: {object}", set.from);
            assert!(!kind_and_name(object).ends_with('/'), "{}: {object}", set.from);
        }
    }
}
