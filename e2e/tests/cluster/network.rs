//! The network policies as they are written: connections that they allow and refuse, in both directions.
//!
//! The policies select pods by labels. So the tests apply the policies alone, to pods of a small web
//! server with the labels of the applications, and try each connection.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kubectl::{Namespace, succeed, tools_pod};
use crate::monitoring::monitoring;
use crate::site::Site;

/// The ports of the applications. Each pod listens on all of them, so only a policy can refuse one.
const PORTS: [u16; 8] = [389, 636, 5432, 6443, 8080, 8181, 8443, 9533];

/// Applies only the network policies of a kustomization, with `directory` as the directory server.
fn apply_policies(base: &str, namespace: &Namespace, directory: &str) {
    let site = Site::new(base, &namespace.name, "");
    let rendered = succeed(&["kustomize", site.dir().to_str().expect("UTF-8")]);
    let rendered = rendered.replace("192.0.2.10/32", &format!("{directory}/32"));
    let is_policy = |text: &&str| text.lines().any(|line| line == "kind: NetworkPolicy");
    let policies: Vec<&str> = rendered.split("\n---\n").filter(is_policy).collect();
    assert!(policies.len() > 1, "{base}: {rendered}");
    namespace.apply_text(&policies.join("\n---\n"));
}

/// A pod with the labels of an application that listens on all [`PORTS`].
fn server(app: &str) -> Value {
    let servers: String =
        PORTS.iter().map(|port| format!("httpd -p {port} -h /tmp/www; ")).collect();
    tools_pod(
        app,
        &format!("mkdir /tmp/www; echo {app} >/tmp/www/index.html; {servers} sleep 3600"),
    )
}

/// A namespace with one pod for each application.
fn start(name: &str, apps: &[&str]) -> Namespace {
    let namespace = Namespace::create(name);
    for app in apps {
        namespace.apply(&server(app));
    }
    namespace.wait_for_pods(apps);
    namespace
}

/// A pod in its namespace.
type Peer<'a> = (&'a Namespace, &'a str);

fn address((namespace, pod): Peer<'_>) -> String {
    let pod = namespace.json(&["get", "pod", pod]);
    pod["status"]["podIP"].as_str().expect("an address").to_owned()
}

/// Which of [`PORTS`] a pod reaches at an address.
fn reached_ports((namespace, pod): Peer<'_>, address: &str) -> Vec<u16> {
    let probe =
        "for port in $1; do curl -s -o /tmp/page -m 5 http://$0:$port/ && echo $port; done; :";
    let ports = PORTS.map(|port| port.to_string()).join(" ");
    let outcome = namespace.exec(pod, &["sh", "-c", probe, address, &ports]);
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    outcome.stdout.lines().map(|port| port.parse().expect("a port")).collect()
}

/// Asserts which ports of a pod another one reaches, once the policies are in force.
fn assert_ports(from: Peer<'_>, to: Peer<'_>, expected: &[u16]) {
    let address = address(to);
    let mut reached = Vec::new();
    let end = Instant::now() + Duration::from_secs(180);
    while Instant::now() < end {
        reached = reached_ports(from, &address);
        if reached == expected {
            return;
        }
    }
    assert_eq!(reached, expected, "from {} to {}", from.1, to.1);
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn provisioning_policies_allow_only_the_documented_connections() {
    let apps = ["nginx", "opa", "keycloak", "keycloak-reloader", "data-provisioner"];
    let inside = start("policies", &apps);
    let outside = start("outside", &["client"]);
    let (client, prometheus) = ((&outside, "client"), (monitoring(), "prometheus"));
    // Without policies all ports are reached, so that each refusal below is due to a policy.
    for app in apps {
        assert_ports(client, (&inside, app), &PORTS);
        assert_ports((&inside, app), client, &PORTS);
    }

    apply_policies("k8s/provisioning/base", &inside, "192.0.2.10");
    for (app, from_all, from_monitoring) in [
        ("nginx", &[8080][..], &[8080, 9533][..]),
        ("opa", &[8181], &[8181, 9533]),
        ("keycloak", &[8443], &[8443]),
        ("keycloak-reloader", &[], &[9533]),
        ("data-provisioner", &[], &[]),
    ] {
        assert_ports(client, (&inside, app), from_all);
        if app != "data-provisioner" {
            assert_ports((&inside, "data-provisioner"), (&inside, app), &[]);
        }
        assert_ports(prometheus, (&inside, app), from_monitoring);
    }
    assert_ports((&inside, "keycloak"), client, &[5432]);
    assert_ports((&inside, "keycloak-reloader"), client, &[6443]);
    for app in ["nginx", "opa", "data-provisioner"] {
        assert_ports((&inside, app), client, &[]);
    }
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn ownership_policies_allow_dns_and_the_directory_server_alone() {
    let inside = start("policies-ownership", &["data-owner-resolver", "results-reader"]);
    let outside = start("directory", &["server"]);
    let (scan, reader) = ((&inside, "data-owner-resolver"), (&inside, "results-reader"));
    let server = (&outside, "server");
    for (from, to) in [(scan, server), (scan, reader), (reader, server), (server, scan)] {
        assert_ports(from, to, &PORTS);
    }
    apply_policies("k8s/ownership/base", &inside, &address(server));
    assert_ports(scan, server, &[389, 636]);
    assert_ports(scan, reader, &[]);
    assert_ports(reader, server, &[]);
    assert_ports(server, scan, &[]);
    // The scan may resolve names (curl fails to connect, 7), the reader may not (6).
    let resolve = ["curl", "-s", "-k", "-m", "20", "https://kubernetes.default.svc.cluster.local/"];
    assert_eq!(inside.exec(scan.1, &resolve).code, Some(7));
    assert_eq!(inside.exec(reader.1, &resolve).code, Some(6));
}
