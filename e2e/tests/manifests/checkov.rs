//! checkov's policies for Kubernetes. Each exception has its reason, and is an error when it is not
//! needed any more.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::objects::{list, text};
use crate::rendered::in_files;
use crate::tools::{outcome, tool};

/// The policy, the object (`*` for any), and why it does not hold there.
const EXCEPTIONS: [(&str, &str, &str); 16] = [
    ("CKV_K8S_15", "*", "versions are fixed by tags; what moves is always asked for (pods.rs)"),
    ("CKV_K8S_43", "*", "digests are the site's own: its registry is, too"),
    ("CKV_K8S_23", "data-owner-resolver", "only user 0 can hold the capability"),
    ("CKV_K8S_25", "data-owner-resolver", "DAC_READ_SEARCH is what the scan is for"),
    ("CKV_K8S_40", "data-owner-resolver", "only user 0 can hold the capability"),
    ("CKV_K8S_23", "results-reader", "the file is for root alone"),
    ("CKV_K8S_40", "results-reader", "the file is for root alone"),
    ("CKV_K8S_8", "provisioner-shell", "it waits, and does nothing that could stop"),
    ("CKV_K8S_9", "provisioner-shell", "it serves nothing"),
    ("CKV_K8S_8", "results-reader", "it waits, and does nothing that could stop"),
    ("CKV_K8S_9", "results-reader", "it serves nothing"),
    ("CKV_K8S_40", "keycloak", "the user of its image, who owns its files"),
    ("CKV_K8S_40", "nginx", "the user of its image"),
    ("CKV_K8S_40", "opa", "the user of its image"),
    ("CKV_K8S_35", "keycloak", "Keycloak takes the database's password from there"),
    ("CKV_K8S_38", "nightly-restart", "it asks the API"),
];

#[test]
fn policies_hold_but_for_exceptions_with_a_reason() {
    let (dir, _) = in_files();
    let mut checkov = tool("checkov");
    // Without asking anybody for anything.
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
    assert!(unneeded.is_empty(), "not needed any more: {unneeded:#?}");
}
