//! Which pods may connect to which others, computed for each pod from all policies that select it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::objects::{
    containers, kind_and_name, labels, list, name, selects, template, text, texts,
};
use crate::rendered::{Set, sets};

/// The peers that a pod of a set connects to: name, protocol and port.
fn expected(from: &str, pod: &str) -> &'static [&'static str] {
    match pod {
        // The one that passes requests on.
        "nginx" if from == "examples/site/provisioning" => {
            &["TCP/53", "TCP/8181", "TCP/8443", "UDP/53"]
        }
        "data-owner-resolver" => &["TCP/389", "TCP/53", "TCP/636", "UDP/53"],
        "keycloak" => &["TCP/53", "TCP/5432", "UDP/53"],
        "keycloak-reloader" | "nightly-restart" => &["TCP/443", "TCP/6443"],
        "data-provisioner" | "nginx" | "opa" | "provisioner-shell" | "results-reader" => &[],
        other => panic!("a new pod: {other}"),
    }
}

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
fn pods_reach_what_they_ask_and_nothing_else() {
    for set in sets() {
        for object in &set.objects {
            let Some(pod) = template(object) else { continue };
            let location = format!("{}: {}", set.from, kind_and_name(object));
            let rules: Vec<&Value> =
                policies(set, pod, "Egress").flat_map(|p| list(p, "/spec/egress")).collect();
            assert!(policies(set, pod, "Egress").count() > 0, "{location} may ask anybody");
            assert!(
                rules.iter().all(|rule| !list(rule, "/ports").is_empty()),
                "{location}: all ports"
            );
            let reached: BTreeSet<String> = rules.iter().flat_map(|rule| ports(rule)).collect();
            assert_eq!(Vec::from_iter(reached), expected(&set.from, name(object)), "{location}");
            for rule in rules {
                check_peers(set, rule, &location);
            }
        }
    }
}

/// Names are asked for in the cluster alone, directories at certain addresses, and upstreams where
/// they listen.
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
fn nobody_talks_to_what_serves_nothing() {
    for set in sets() {
        for object in &set.objects {
            let Some(pod) = template(object) else { continue };
            let location = format!("{}: {}", set.from, kind_and_name(object));
            assert!(
                policies(set, pod, "Ingress").count() > 0,
                "{location} may be asked by anybody"
            );
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
fn the_directory_server_may_be_reached_and_is_asked_in_secret() {
    for set in sets().iter().filter(|set| set.is_ownership) {
        let config = &set.get("ConfigMap", "data-owner-resolver-config").expect("it")["data"];
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
