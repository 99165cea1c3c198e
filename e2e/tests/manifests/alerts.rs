//! Tests the alert rules with promtool: for failed, stale and healthy Jobs, and the rule of the first
//! guide, which never fires.

use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use crate::objects::{list, text};
use crate::rendered::{Set, set};
use crate::tools::{outcome, read, succeed, top};

const OWNERSHIP: &str = "k8s/ownership/overlays/monitoring";
const PROVISIONING: &str = "k8s/provisioning/overlays/monitoring";

fn promtool() -> std::process::Command {
    let mut command = std::process::Command::new("promtool");
    command.current_dir(top());
    command
}

/// Writes the rules of a set to `rules.yml`, in the format of Prometheus.
fn write_rules(set: &Set, dir: &Path) {
    let rules: Vec<&Value> = set.of_kind("PrometheusRule").collect();
    let [rule] = rules[..] else { panic!("{}: {}", set.from, rules.len()) };
    std::fs::write(dir.join("rules.yml"), rule["spec"].to_string()).expect("a file");
}

/// Runs promtool's unit tests in `cases` against the rules in `dir`.
fn test(cases: &str, dir: &Path) -> e2e::programs::Outcome {
    std::fs::write(dir.join("cases.yml"), cases).expect("a file");
    outcome(promtool().args(["test", "rules"]).arg(dir.join("cases.yml")))
}

#[test]
fn alerts_fire_in_the_listed_cases_alone() {
    for (from, cases) in [(OWNERSHIP, "ownership.yml"), (PROVISIONING, "provisioning.yml")] {
        let dir = TempDir::new().unwrap();
        write_rules(set(from), dir.path());
        let checked =
            succeed(promtool().args(["check", "rules"]).arg(dir.path().join("rules.yml")));
        assert!(checked.stdout.contains("SUCCESS: "), "{checked:?}");
        let cases = read(format!("e2e/testdata/alerts/{cases}"));
        let tested = test(&cases, dir.path());
        assert_eq!(tested.code, Some(0), "{from}: {tested:?}");
        // Without its rules the same cases must fail.
        std::fs::write(dir.path().join("rules.yml"), "groups: []").unwrap();
        let tested = test(&cases, dir.path());
        assert_ne!(tested.code, Some(0), "{from}: the cases pass without rules");
    }
}

/// The first guide's rule selects `job="data-owner-resolver"`, but the failed Job's series has other
/// labels.
#[test]
fn the_rule_of_the_first_guide_never_fires() {
    let dir = TempDir::new().unwrap();
    let old = r#"{"groups": [{"name": "old", "rules": [{"alert": "DataOwnerResolverFailed",
        "expr": "kube_job_failed{job=\"data-owner-resolver\"} > 0", "for": "5m"}]}]}"#;
    std::fs::write(dir.path().join("rules.yml"), old).unwrap();
    let tested = test(&read("e2e/testdata/alerts/old.yml"), dir.path());
    assert_eq!(tested.code, Some(0), "{tested:?}");
}

#[test]
fn alerts_name_existing_cron_jobs() {
    for from in [OWNERSHIP, PROVISIONING] {
        let set = set(from);
        let names: Vec<&str> = set.of_kind("CronJob").map(crate::objects::name).collect();
        let mut known = 0;
        for group in set.of_kind("PrometheusRule").flat_map(|rule| list(rule, "/spec/groups")) {
            for rule in list(group, "/rules") {
                let expression = text(rule, "/expr");
                for label in ["cronjob=\"", "owner_name=\""] {
                    for part in expression.split(label).skip(1) {
                        let cronjob = part.split('"').next().unwrap();
                        assert!(names.contains(&cronjob), "{from}: {cronjob}");
                        known += 1;
                    }
                }
            }
        }
        assert!(known > 3, "{from}");
    }
}
