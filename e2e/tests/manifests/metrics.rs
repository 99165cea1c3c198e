//! Checks the metrics of every program with promtool and with the parser of Prometheus' Python client.

use std::collections::BTreeMap;
use std::process::Command;

use e2e::programs::{command, run};
use reloader::Metrics;
use tempfile::TempDir;

use crate::objects::{list, text};
use crate::rendered::sets;
use crate::tools::tool;

/// The metrics of each program after a small run.
fn all() -> BTreeMap<&'static str, String> {
    let place = TempDir::new().expect("a directory");
    let dir = place.path();
    std::fs::create_dir_all(dir.join("tree/below")).expect("a tree");
    std::fs::write(dir.join("tree/file"), "content").expect("a file");
    std::fs::create_dir(dir.join("volume")).expect("a volume");
    let file = |name: &str| dir.join(format!("{name}.prom"));
    let listing = run(
        command("scan-uids")
            .args(["--entries", "--metrics-file"])
            .arg(file("scan-uids"))
            .arg(dir.join("tree")),
        b"",
    );
    assert_eq!(listing.code, Some(0), "{listing:?}");
    let ldif = format!("dn: uid=a\nuidNumber: {}\nmail: a@example.com\n", nix::unistd::getuid());
    std::fs::write(dir.join("users.ldif"), ldif).expect("a file");
    let resolved = run(
        command("resolver")
            .arg("--metrics-file")
            .arg(file("resolver"))
            .arg("--ldif")
            .arg(dir.join("users.ldif")),
        listing.stdout.as_bytes(),
    );
    assert_eq!(resolved.code, Some(0), "{resolved:?}");
    let published = run(
        command("provisioner")
            .arg("--source")
            .arg(dir.join("tree"))
            .arg("--target")
            .arg(dir.join("volume"))
            .args(["--grace", "0", "--metrics-file"])
            .arg(file("provisioner")),
        b"",
    );
    assert_eq!(published.code, Some(0), "{published:?}");
    let read = |name| (name, std::fs::read_to_string(file(name)).expect(name));
    let mut all = BTreeMap::from(["scan-uids", "resolver", "provisioner"].map(read));
    all.insert("reloader", Metrics::default().lock().to_prometheus());
    all
}

#[test]
fn promtool_and_the_python_parser_accept_the_metrics() {
    for (name, metrics) in all() {
        assert!(metrics.lines().count() > 5, "{name}: {metrics}");
        let checked = run(Command::new("promtool").args(["check", "metrics"]), metrics.as_bytes());
        assert_eq!(checked.code, Some(0), "{name}: {checked:?}\n{metrics}");
        let script = "import sys; from prometheus_client.parser import text_fd_to_metric_families as p; \
                      print(sum(len(f.samples) for f in p(sys.stdin)))";
        let parsed = run(tool("python").args(["-c", script]), metrics.as_bytes());
        let samples = metrics.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(parsed.stdout.trim(), samples.to_string(), "{name}: {parsed:?}");
        let prefix = name.replace('-', "_");
        for line in metrics.lines().filter(|line| !line.starts_with('#')) {
            assert!(line.starts_with(&prefix), "{name}: {line}");
        }
    }
}

#[test]
fn alerts_use_existing_metrics() {
    let known = all().into_values().collect::<String>();
    let mut seen = 0;
    for rule in sets().iter().flat_map(|set| set.of_kind("PrometheusRule")) {
        for rule in list(rule, "/spec/groups").iter().flat_map(|group| list(group, "/rules")) {
            let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
            for word in text(rule, "/expr").split(|c| !is_part(c)) {
                if ["reloader_", "resolver_", "scan_uids_", "provisioner_"]
                    .iter()
                    .any(|p| word.starts_with(p))
                {
                    seen += 1;
                    assert!(known.contains(&format!("\n# TYPE {word} ")), "no metric {word}");
                }
            }
        }
    }
    assert!(seen > 0, "no alert uses a metric of the programs");
}
