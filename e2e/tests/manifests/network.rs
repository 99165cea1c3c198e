//! The connections that each pod may open and accept, computed from all NetworkPolicies that select it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::objects::{
    containers, kind_and_name, labels, list, name, selects, template, text, texts,
};
use crate::rendered::{Set, sets};

/// Protocol and port of each connection that the pod may open in this set.
fn expected(from: &str, pod: &str) -> &'static [&'static str] {
    match pod {
        // The site's nginx forwards requests to Keycloak and OPA.
        "nginx" if from == "examples/site/provisioning" => {
            &["TCP/53", "TCP/8181", "TCP/8443", "UDP/53"]
        }
        "data-owner-resolver" => &["TCP/389", "TCP/53", "TCP/636", "UDP/53"],
        "keycloak" => &["TCP/53", "TCP/5432", "UDP/53"],
        "keycloak-reloader" | "nightly-restart" => &["TCP/443", "TCP/6443"],
        "data-provisioner" | "nginx" | "opa" | "provisioner-shell" | "results-reader" => &[],
        other => panic!("no expected ports for the pod {other}"),
    }
}

/// The policies for `Ingress` or `Egress` that select the pod.
fn policies<'a>(
    set: &'a Set,
    pod: &'a Value,
    direction: &'a str,
) -> impl Iterator<Item = &'a Value> {
    set.of_kind("NetworkPolicy").filter(move |policy| {
        texts(policy, "/spec/policyTypes").contains(&direction)
            && selects(&policy["spec"]["podSelector"], labels(pod))
    })
}

fn ports(rule: &Value) -> impl Iterator<Item = String> {
    list(rule, "/ports").iter().map(|port| format!("{}/{}", text(port, "/protocol"), port["port"]))
}

#[test]
fn pods_may_open_only_the_expected_connections() {
    for set in sets() {
        for object in &set.objects {
            let Some(pod) = template(object) else { continue };
            let location = format!("{}: {}", set.from, kind_and_name(object));
            let rules: Vec<&Value> =
                policies(set, pod, "Egress").flat_map(|p| list(p, "/spec/egress")).collect();
            assert!(policies(set, pod, "Egress").count() > 0, "{location} has no egress policy");
            assert!(
                rules.iter().all(|rule| !list(rule, "/ports").is_empty()),
                "{location} may connect to all ports"
            );
            let allowed: BTreeSet<String> = rules.iter().flat_map(|rule| ports(rule)).collect();
            assert_eq!(Vec::from_iter(allowed), expected(&set.from, name(object)), "{location}");
            for rule in rules {
                check_peers(set, rule, &location);
            }
        }
    }
}

/// Checks the peers of an egress rule: DNS goes to the cluster's resolver, LDAP to single addresses, and
/// the upstreams of nginx to pods that listen on the port.
fn check_peers(set: &Set, rule: &Value, location: &str) {
    let dns = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }]);
    for port in ports(rule) {
        match port.as_str() {
            "TCP/53" | "UDP/53" => assert_eq!(rule["to"], dns, "{location}"),
            "TCP/389" | "TCP/636" => {
                let peers = list(rule, "/to");
                assert!(!peers.is_empty(), "{location}: {rule}");
                let is_one_address = |peer: &Value| text(peer, "/ipBlock/cidr").ends_with("/32");
                assert!(peers.iter().all(is_one_address), "{location}: {rule}");
            }
            "TCP/8181" | "TCP/8443" => {
                let number: u64 = port[4..].parse().expect("a port");
                let selector = rule.pointer("/to/0/podSelector").expect(location);
                let selected: Vec<&Value> = set
                    .objects
                    .iter()
                    .filter_map(template)
                    .filter(|pod| selects(selector, labels(pod)))
                    .collect();
                let listens = |pod: &&Value| {
                    let mut ports = containers(pod).flat_map(|c| list(c, "/ports"));
                    ports.any(|port| port["containerPort"] == number)
                };
                assert!(!selected.is_empty() && selected.iter().all(listens), "{location}: {rule}");
            }
            _ => {}
        }
    }
}

#[test]
fn pods_accept_connections_on_the_ports_that_they_serve_alone() {
    for set in sets() {
        for object in &set.objects {
            let Some(pod) = template(object) else { continue };
            let location = format!("{}: {}", set.from, kind_and_name(object));
            assert!(policies(set, pod, "Ingress").count() > 0, "{location} has no ingress policy");
            let rules = policies(set, pod, "Ingress").flat_map(|p| list(p, "/spec/ingress"));
            let open: BTreeSet<String> = rules.flat_map(ports).collect();
            let expected: &[&str] = match name(object) {
                "nginx" => &["TCP/8080", "TCP/9533"],
                "opa" => &["TCP/8181", "TCP/9533"],
                "keycloak" => &["TCP/8443"],
                "keycloak-reloader" => &["TCP/9533"],
                _ => &[],
            };
            assert_eq!(Vec::from_iter(open), expected, "{location}");
        }
    }
}

#[test]
fn the_directory_server_is_reachable_and_connections_to_it_are_encrypted() {
    for set in sets().iter().filter(|set| set.is_ownership) {
        let config =
            &set.get("ConfigMap", "data-owner-resolver-config").expect("the ConfigMap")["data"];
        let urls = text(config, "/LDAP_URL");
        for url in urls.split_whitespace() {
            let url = url::Url::parse(url).expect(url);
            let default = match url.scheme() {
                "ldaps" => 636,
                "ldap" if config["LDAP_STARTTLS"] == "true" => 389,
                _ => panic!("{}: {url} is not secured", set.from),
            };
            let port = format!("TCP/{}", url.port().unwrap_or(default));
            let allowed = expected(&set.from, "data-owner-resolver");
            assert!(allowed.contains(&port.as_str()), "{port}");
        }
        assert_eq!(config["LDAP_REQUIRE_TLS"], "true", "{}", set.from);
    }
}
