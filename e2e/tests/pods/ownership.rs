//! The scan's Job: its rights, output and exit codes, and a Job that was written for the shell scripts.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use serde_json::{Value, json};

use crate::names::{LDAP, services};
use crate::pod::Pod;
use crate::podman::podman;

const SCAN: &str = "data-owner-resolver";

fn slapd() -> Slapd {
    services();
    // Only the bound reader may read entries.
    let access = Some(format!("access to * by dn.base=\"{}\" read by * auth", READER.0));
    Slapd::start(&Setup { host: Some(LDAP), access, ..Setup::default() })
}

/// Creates a node's `/mnt/data` in a directory `name`. `shut` is a directory that only its owner may enter.
fn data(name: &str) -> PathBuf {
    let data = podman().dir().join(name);
    for (path, owner) in [("a", 30001), ("b", 30002), ("shut", 30003), ("shut/inside", 30004)] {
        fs::create_dir_all(data.join(path)).expect("made");
        chown(data.join(path), Some(owner), Some(owner)).expect("given away");
    }
    fs::set_permissions(data.join("shut"), fs::Permissions::from_mode(0o700)).expect("set");
    data
}

/// File and kind of the manifests with the scan's pod.
const CRON_JOB: (&str, &str) = ("k8s/ownership/base/cronjob.yaml", "CronJob");
const JOB: (&str, &str) = ("k8s/ownership/job.yaml", "Job");

/// The pod of a manifest, with this data, server, password and arguments.
fn job(manifest: (&str, &str), data: &Path, slapd: &Slapd, password: &str, args: &[&str]) -> Pod {
    let mut pod = Pod::from_manifest(manifest.0, manifest.1);
    let secret = data.with_extension("secret");
    fs::create_dir_all(&secret).expect("made");
    fs::write(secret.join("LDAP_BIND_PASS"), password).expect("written");
    fs::set_permissions(secret.join("LDAP_BIND_PASS"), fs::Permissions::from_mode(0o400))
        .expect("set");
    pod.set_volume("data", data);
    pod.set_volume("ldap", &secret);
    let settings = [
        ("LDAP_URL", &slapd.url()[..]),
        ("LDAP_BASE_DN", BASE_DN),
        ("LDAP_BIND_DN", READER.0),
        ("LDAP_BIND_PASS_FILE", "/etc/data-owner-resolver/LDAP_BIND_PASS"),
    ];
    pod.config_map("data-owner-resolver-config", &settings);
    pod.container(SCAN)["args"] = json!(args);
    pod
}

#[test]
#[ignore = "runs pods: make e2e"]
fn the_job_reads_closed_directories_and_prints_json_alone() {
    let (slapd, data) = (slapd(), data("seen"));
    for manifest in [CRON_JOB, JOB] {
        let args = ["--recursive", "/mnt/data"];
        let pod = job(manifest, &data, &slapd, READER.1, &args).play();
        let outcome = pod.outcome(SCAN);
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
        let result: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
        let expected = json!({
            "/mnt/data": {"0": ""},
            "/mnt/data/a": {"30001": "alice.johnson@example.com"},
            "/mnt/data/b": {"30002": "bob.smith@example.com"},
            "/mnt/data/shut": {"30003": "charlie.brown@example.com"},
            "/mnt/data/shut/inside": {"30004": "diana.prince@example.com"},
        });
        assert_eq!(result, expected);
        let message: Value = serde_json::from_str(&pod.termination_message(SCAN)).expect("JSON");
        assert_eq!(message["exit_code"], 0);
        assert_eq!(message["counts"]["directories"], 5);
    }
}

#[test]
#[ignore = "runs pods: make e2e"]
fn without_the_capability_the_job_reports_the_unreadable_directory() {
    let (slapd, data) = (slapd(), data("unseen"));
    let mut pod = job(CRON_JOB, &data, &slapd, READER.1, &["--recursive", "/mnt/data"]);
    let context = &mut pod.container(SCAN)["securityContext"];
    assert_eq!(context["capabilities"], json!({"drop": ["ALL"], "add": ["DAC_READ_SEARCH"]}));
    context["capabilities"] = json!({"drop": ["ALL"]});
    let pod = pod.play();
    let outcome = pod.outcome(SCAN);
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    let expected = "failed to read `/mnt/data/shut`: permission denied";
    assert!(outcome.stderr.contains(expected), "{outcome:?}");
    // The other directories are still in the result.
    let result: Value = serde_json::from_str(&outcome.stdout).expect("JSON");
    assert_eq!(result["/mnt/data/b"], json!({"30002": "bob.smith@example.com"}));
    assert!(result["/mnt/data/shut/inside"].is_null());
    let message: Value = serde_json::from_str(&pod.termination_message(SCAN)).expect("JSON");
    assert_eq!(message["exit_code"], 1);
}

#[test]
#[ignore = "runs pods: make e2e"]
fn the_job_can_write_no_file() {
    let (slapd, data) = (slapd(), data("unwritten"));
    // The mode allows writing; only the read-only mount prevents it.
    fs::set_permissions(data.join("a"), fs::Permissions::from_mode(0o777)).expect("set");
    for (number, output) in ["/mnt/data/a/owners.json", "/owners.json"].iter().enumerate() {
        let copy = data.with_extension(number.to_string());
        std::os::unix::fs::symlink(&data, &copy).expect("linked");
        let args = ["--output", output, "/mnt/data/a"];
        let outcome = job(CRON_JOB, &copy, &slapd, READER.1, &args).play().outcome(SCAN);
        assert_eq!(outcome.code, Some(1), "{outcome:?}");
        assert!(outcome.stderr.contains("read-only file system"), "{outcome:?}");
    }
    assert_eq!(fs::read_dir(data.join("a")).expect("read").count(), 0);
}

#[test]
#[ignore = "runs pods: make e2e"]
fn a_wrong_password_exits_with_2_and_is_not_printed() {
    let (slapd, data) = (slapd(), data("refused"));
    let pod = job(CRON_JOB, &data, &slapd, "wr0ng", &["/mnt/data/a"]).play();
    let outcome = pod.outcome(SCAN);
    assert_eq!((outcome.code, &outcome.stdout[..]), (Some(2), ""), "{outcome:?}");
    assert!(!outcome.stderr.contains("wr0ng") && !pod.termination_message(SCAN).contains("wr0ng"));
}

#[test]
#[ignore = "runs pods: make e2e"]
fn a_job_for_the_shell_scripts_still_works() {
    let (slapd, data) = (slapd(), data("old"));
    let mut pod = Pod::from_manifest("e2e/testdata/script-job.yaml", "Job");
    pod.set_volume("data", &data);
    // The old Job has environment variables alone.
    pod.container("resolver")["env"] = json!([
        {"name": "LDAP_URL", "value": slapd.url()},
        {"name": "LDAP_BASE_DN", "value": BASE_DN},
        {"name": "LDAP_BIND_DN", "value": READER.0},
        {"name": "LDAP_BIND_PASS", "value": READER.1},
    ]);
    let outcome = pod.play().outcome("resolver");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
    let expected = "{\n  \"/mnt/data/a\": {\"30001\": \"alice.johnson@example.com\"},\n  \
                    \"/mnt/data/b\": {\"30002\": \"bob.smith@example.com\"}\n}\n";
    assert_eq!(outcome.stdout, expected);
}
