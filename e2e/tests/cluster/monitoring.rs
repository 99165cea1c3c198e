//! What a Prometheus in the namespace `monitoring` sees: the network policies let only that namespace
//! read the metrics. And whether the alert of the manifests fires for it.

use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::LazyLock;

use e2e::programs::run;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kubectl::{Namespace, succeed, tools_pod};
use crate::site::workspace;

/// The namespace, with a pod `prometheus` that has curl.
pub fn monitoring() -> &'static Namespace {
    static NAMESPACE: LazyLock<Namespace> = LazyLock::new(|| {
        let namespace = Namespace::create("monitoring");
        namespace.apply(&tools_pod("prometheus", "sleep 3600"));
        namespace.wait_for_pods(&["prometheus"]);
        namespace
    });
    &NAMESPACE
}

/// The value of a reloader's metric, as the exposition has it; empty if it has none.
pub fn metric(address: IpAddr, name: &str) -> String {
    let url = format!("http://{address}:9533/metrics");
    let outcome = monitoring().exec("prometheus", &["curl", "--silent", "--max-time", "5", &url]);
    let value = outcome.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_default().to_owned()
}

/// Whether the alert `ReloadFailed` of the manifests fires if the metric of one pod has this value for a
/// quarter of an hour.
pub fn reload_failed_fires(value: &str) -> bool {
    let dir = TempDir::new().expect("a directory");
    let overlay = workspace().join("k8s/provisioning/overlays/monitoring");
    let rendered = succeed(&["kustomize", overlay.to_str().expect("UTF-8")]);
    fs::write(dir.path().join("rendered.yaml"), rendered).expect("written");
    let script = "import sys, yaml
rule, = (o for o in yaml.safe_load_all(open(sys.argv[1])) if o['kind'] == 'PrometheusRule')
yaml.safe_dump(rule['spec'], open(sys.argv[2], 'w'))";
    let file = |name: &str| dir.path().join(name);
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", script]).arg(file("rendered.yaml")).arg(file("rules.yml"));
    assert_eq!(run(&mut python, b"").code, Some(0));
    let cases: Value = json!({"rule_files": ["rules.yml"], "tests": [{
        "interval": "1m",
        "input_series": [{"series": "reloader_last_reload_successful{pod=\"p\"}", "values": format!("{value}x15")}],
        "alert_rule_test": [{"eval_time": "15m", "alertname": "ReloadFailed", "exp_alerts": []}],
    }]});
    fs::write(file("cases.yml"), cases.to_string()).expect("written");
    // promtool fails if an alert fires that is not expected.
    let outcome = run(Command::new("promtool").args(["test", "rules"]).arg(file("cases.yml")), b"");
    let output = outcome.stdout + &outcome.stderr;
    assert!(outcome.code == Some(0) || output.contains("got:["), "{output}");
    outcome.code != Some(0)
}
