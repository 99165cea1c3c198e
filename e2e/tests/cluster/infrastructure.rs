//! What the other tests rely on: nodes, names, Services, network policies, volumes, the registry and
//! limits behave as on a real cluster. A cluster that refuses or allows everything would prove nothing.

use std::process::Command;

use e2e::programs::run;
use serde_json::{Value, json};

use crate::kubectl::{Namespace, REGISTRY, eventually, succeed, tools_pod};
use crate::node::Node;

const SERVE: &str = "mkdir /tmp/www; hostname >/tmp/www/index.html; httpd -f -p 8080 -h /tmp/www";
const SLEEP: &str = "sleep 3600";

/// A pod of the tools image on a node.
fn pod(name: &str, node: Node, script: &str) -> Value {
    let mut pod = tools_pod(name, script);
    pod["spec"]["nodeSelector"] = json!({"kubernetes.io/hostname": node.name()});
    pod
}

/// The same pod with the volume of a claim at `/volume`.
fn with_volume(mut pod: Value, claim: &str) -> Value {
    pod["spec"]["volumes"] =
        json!([{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}]);
    pod["spec"]["containers"][0]["volumeMounts"] =
        json!([{"name": "volume", "mountPath": "/volume"}]);
    pod
}

fn claim(name: &str, class: &str, mode: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "storageClassName": class,
            "accessModes": [mode],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    })
}

fn address(namespace: &Namespace, pod: &str) -> String {
    let pod = namespace.json(&["get", "pod", pod]);
    pod["status"]["podIP"].as_str().expect("an address").to_owned()
}

/// The body that curl gets in a pod, or its exit code.
fn get(namespace: &Namespace, pod: &str, url: &str) -> Result<String, Option<i32>> {
    let outcome = namespace.exec(pod, &["curl", "-s", "-m", "5", url]);
    if outcome.code == Some(0) { Ok(outcome.stdout.trim().to_owned()) } else { Err(outcome.code) }
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn both_nodes_are_ready_and_custom_resources_are_known() {
    let nodes: Value =
        serde_json::from_str(&succeed(&["get", "nodes", "-o", "json"])).expect("JSON");
    let nodes = nodes["items"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 2);
    for node in [Node(1), Node(2)] {
        node.wait_for_ready("True");
    }
    println!("Kubernetes {}", nodes[0]["status"]["nodeInfo"]["kubeletVersion"]);
    for resource in [
        "podmonitors.monitoring.coreos.com",
        "prometheusrules.monitoring.coreos.com",
        "externalsecrets.external-secrets.io",
        "secretstores.external-secrets.io",
    ] {
        succeed(&["get", resource, "--all-namespaces"]);
    }
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn pods_reach_each_other_by_address_name_and_service() {
    let namespace = Namespace::create("infrastructure-network");
    namespace.apply(&pod("first", Node(1), SERVE));
    namespace.apply(&pod("second", Node(2), SERVE));
    namespace.apply(&pod("client", Node(1), SLEEP));
    for server in ["first", "second"] {
        namespace.kubectl(&["expose", "pod", server, "--port=80", "--target-port=8080"]);
    }
    namespace.wait_for_pods(&["first", "second", "client"]);
    // Servers need a moment to listen, and kube-proxy writes its rules once a second.
    let reaches = |client: &str, url: &str, server: &str| {
        let what = format!("{server} at {url} from {client}");
        eventually(&what, || get(&namespace, client, url).as_deref() == Ok(server));
    };
    for server in ["first", "second"] {
        reaches("client", &format!("http://{}:8080", address(&namespace, server)), server);
    }
    reaches("client", "http://second", "second");
    let url = "http://first.infrastructure-network.svc.cluster.local";
    reaches("second", url, "first");
    reaches("first", url, "first");
    assert_eq!(get(&namespace, "client", "http://unknown.example"), Err(Some(6)), "no such host");
    // Tests reach Services too.
    let service = namespace.json(&["get", "service", "second"]);
    let url = format!("http://{}", service["spec"]["clusterIP"].as_str().expect("an address"));
    let outcome = run(Command::new("curl").args(["-s", "-m", "5", &url]), b"");
    assert_eq!(outcome.stdout, "second\n");
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn network_policies_are_enforced_in_both_directions() {
    let namespace = Namespace::create("infrastructure-policies");
    for (name, node) in [("guarded", 2), ("friend", 1), ("stranger", 1), ("neighbour", 2)] {
        namespace.apply(&pod(name, Node(node), SERVE));
    }
    namespace.wait_for_pods(&["guarded", "friend", "stranger", "neighbour"]);
    let url = |pod| format!("http://{}:8080", address(&namespace, pod));
    let (guarded, stranger) = (url("guarded"), url("stranger"));
    let app = |name| json!({"matchLabels": {"app.kubernetes.io/name": name}});
    for client in ["friend", "stranger", "neighbour"] {
        eventually(client, || get(&namespace, client, &guarded).is_ok());
    }
    for (name, spec) in [
        (
            "ingress",
            json!({"podSelector": app("guarded"), "ingress": [{"from": [{"podSelector": app("friend")}]}]}),
        ),
        (
            "egress",
            json!({"podSelector": app("friend"), "policyTypes": ["Egress"],
                "egress": [{"to": [{"podSelector": app("guarded")}]}]}),
        ),
    ] {
        namespace.apply(&json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name},
            "spec": spec,
        }));
    }
    eventually("refused ingress from the other node", || {
        get(&namespace, "stranger", &guarded).is_err()
    });
    eventually("refused ingress from the same node", || {
        get(&namespace, "neighbour", &guarded).is_err()
    });
    eventually("refused egress", || get(&namespace, "friend", &stranger).is_err());
    assert!(get(&namespace, "friend", &guarded).is_ok(), "both policies allow this");
    assert!(get(&namespace, "neighbour", &stranger).is_ok(), "no policy is about this");
    namespace.kubectl(&["delete", "networkpolicy", "--all"]);
    eventually("the connections of before", || {
        get(&namespace, "stranger", &guarded).is_ok()
            && get(&namespace, "friend", &stranger).is_ok()
    });
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn shared_volumes_are_on_both_nodes_and_local_ones_stay_on_theirs() {
    let namespace = Namespace::create("infrastructure-volumes");
    namespace.apply(&claim("shared", "shared", "ReadWriteMany"));
    namespace.apply(&claim("local", "local", "ReadWriteOnce"));
    let write = "echo kept >/volume/file; sleep 3600";
    namespace.apply(&with_volume(pod("shared-writer", Node(1), write), "shared"));
    namespace.apply(&with_volume(pod("local-writer", Node(2), write), "local"));
    namespace.wait_for_pods(&["shared-writer", "local-writer"]);
    let read = "cat /volume/file; sleep 3600";
    namespace.apply(&with_volume(pod("shared-reader", Node(2), read), "shared"));
    namespace.apply(&with_volume(pod("local-on-the-other-node", Node(1), read), "local"));
    namespace.apply(&with_volume(tools_pod("local-reader", read), "local"));
    namespace.wait_for_pods(&["shared-reader", "local-reader"]);
    for reader in ["shared-reader", "local-reader"] {
        assert_eq!(namespace.kubectl(&["logs", reader]), "kept\n", "{reader}");
    }
    let reader = namespace.json(&["get", "pod", "local-reader"]);
    assert_eq!(reader["spec"]["nodeName"], "node2");
    eventually("a pod that cannot be scheduled", || {
        let pod = namespace.json(&["get", "pod", "local-on-the-other-node"]);
        pod["status"]["conditions"].to_string().contains("node affinity")
    });
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn the_registry_refuses_a_pull_without_the_secret() {
    let namespace = Namespace::create("infrastructure-registry");
    namespace.apply(&pod("with-secret", Node(1), SLEEP));
    namespace.wait_for_pods(&["with-secret"]);
    // The node has the image now, and refuses it all the same.
    let mut without = pod("without-secret", Node(1), SLEEP);
    without["spec"]["imagePullSecrets"] = json!([]);
    namespace.apply(&without);
    eventually("a refused pull", || {
        let pod = namespace.json(&["get", "pod", "without-secret"]);
        let waiting = &pod["status"]["containerStatuses"][0]["state"]["waiting"];
        waiting["message"]
            .as_str()
            .is_some_and(|message| message.contains("no basic auth credentials"))
    });
    let url = format!("https://{REGISTRY}/v2/_catalog");
    let ca = std::env::var("CLUSTER_CA").expect("CLUSTER_CA names the authority");
    let outcome = run(
        Command::new("curl").args([
            "-s",
            "--cacert",
            &ca,
            "-w",
            "%{http_code}",
            "-o",
            "/dev/null",
            &url,
        ]),
        b"",
    );
    assert_eq!(outcome.stdout, "401");
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn a_container_over_its_memory_limit_is_killed() {
    let namespace = Namespace::create("infrastructure-limits");
    let mut greedy = tools_pod("greedy", "tail /dev/zero");
    greedy["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "32Mi"}});
    namespace.apply(&greedy);
    eventually("the end of the pod", || {
        let pod = namespace.json(&["get", "pod", "greedy"]);
        let end = pod["status"]["containerStatuses"][0]["state"]["terminated"].clone();
        if end.is_object() {
            assert_eq!((&end["reason"], &end["exitCode"]), (&json!("OOMKilled"), &json!(137)));
        }
        end.is_object()
    });
}
