//! Runs checkov's policies for Kubernetes. Each exception has a reason, and an exception that is no
//! longer needed fails the test.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::{list, text};
use crate::rendered::in_files;
use crate::tools::{outcome, tool};

/// Policy, object (`*` for all), and the reason why the object may break the policy.
const EXCEPTIONS: [(&str, &str, &str); 16] = [
    ("CKV_K8S_15", "*", "tags pin the versions; a moving tag has imagePullPolicy Always (pods.rs)"),
    ("CKV_K8S_43", "*", "each site has its own registry and digests"),
    ("CKV_K8S_23", "data-owner-resolver", "only user 0 can hold the capability"),
    ("CKV_K8S_25", "data-owner-resolver", "DAC_READ_SEARCH is what the scan is for"),
    ("CKV_K8S_40", "data-owner-resolver", "only user 0 can hold the capability"),
    ("CKV_K8S_23", "results-reader", "only root may read the file"),
    ("CKV_K8S_40", "results-reader", "only root may read the file"),
    ("CKV_K8S_8", "provisioner-shell", "it only waits"),
    ("CKV_K8S_9", "provisioner-shell", "it serves nothing"),
    ("CKV_K8S_8", "results-reader", "it only waits"),
    ("CKV_K8S_9", "results-reader", "it serves nothing"),
    ("CKV_K8S_40", "keycloak", "the user of its image owns its files"),
    ("CKV_K8S_40", "nginx", "its image has this user"),
    ("CKV_K8S_40", "opa", "its image has this user"),
    ("CKV_K8S_35", "keycloak", "Keycloak reads the database password from the environment"),
    ("CKV_K8S_38", "nightly-restart", "it calls the API"),
];

#[test]
fn objects_pass_the_policies_except_for_listed_exceptions() {
    let (dir, _) = in_files();
    let mut checkov = tool("checkov");
    // `--skip-download`: no network access.
    checkov.args([
        "--framework",
        "kubernetes",
        "--skip-download",
        "--quiet",
        "--compact",
        "-o",
        "json",
        "-d",
    ]);
    let outcome = outcome(checkov.arg(dir.path()));
    let report: Value = serde_json::from_str(&outcome.stdout)
        .unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    let passed = report["summary"]["passed"].as_u64().unwrap_or_default();
    assert!(passed > 1000, "{}", report["summary"]);
    let mut used = BTreeSet::new();
    let mut failed = Vec::new();
    for check in list(&report, "/results/failed_checks") {
        let (policy, resource) = (text(check, "/check_id"), text(check, "/resource"));
        let object = resource.rsplit('.').next().unwrap_or_default();
        let is_exception = |(id, object_name, _): &&(&str, &str, &str)| {
            *id == policy && ["*", object].contains(object_name)
        };
        match EXCEPTIONS.iter().find(is_exception) {
            Some((id, object_name, _)) => drop(used.insert((*id, *object_name))),
            None => failed.push(format!("{policy} {resource}: {}", text(check, "/check_name"))),
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    let unneeded: Vec<_> = EXCEPTIONS
        .iter()
        .filter(|(id, object_name, _)| !used.contains(&(*id, *object_name)))
        .collect();
    assert!(unneeded.is_empty(), "no longer needed: {unneeded:#?}");
}
