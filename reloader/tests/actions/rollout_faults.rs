//! Error responses of the API server, and servers that hang, send nonsense or are down.

use std::fs;
use std::time::Duration;

use reloader::testing::Action;
use reloader::testing::Rollout;
use reloader::testing::Stop;
use serde_json::json;

use crate::cluster::{Cluster, Refusal};
use crate::server::{Server, answer, hang};
use crate::{content, failure, stopped};

fn refused(method: &'static str, refusal: Refusal) -> (String, bool) {
    let cluster = Cluster::new();
    cluster.refuse(method, refusal);
    let outcome = failure(cluster.rollout().run(&content(), &Stop::default()));
    assert_eq!(cluster.generation(), 1);
    outcome
}

#[test]
fn a_paused_deployment_is_not_patched() {
    let cluster = Cluster::new();
    cluster.change(&json!({"spec": {"paused": true}}));
    let (message, is_without_effect) = failure(cluster.rollout().run(&content(), &Stop::default()));
    let expected =
        "deployment/web in namespace `prod` is paused: `kubectl rollout resume deployment/web`";
    assert_eq!((&*message, is_without_effect), (expected, true));
    assert_eq!(cluster.methods(), ["GET"]);
    assert!(cluster.rollout().dry_run(&content()).is_err());

    cluster.change(&json!({"spec": {"paused": false}}));
    cluster.rollout().run(&content(), &Stop::default()).unwrap();
    cluster.change(&json!({"spec": {"paused": true}}));
    let (message, _) = failure(cluster.rollout().run(&content(), &Stop::default()));
    assert!(message.contains("is paused"), "during the rollout: {message}");
    cluster.change(&json!({"status": {"observedGeneration": 2}}));
    let proof = cluster.rollout().run(&content(), &Stop::default()).unwrap();
    assert_eq!(proof, "already rolled out");
}

#[test]
fn a_missing_permission_names_the_role() {
    let said = "deployments.apps \"web\" is forbidden: User \"system:serviceaccount:prod:reloader\" \
                cannot patch resource \"deployments\" in API group \"apps\" in the namespace \"prod\"";
    for (method, verb) in [("GET", "get"), ("PATCH", "patch")] {
        let (message, is_without_effect) = refused(method, (403, "Forbidden", said));
        let expected = format!(
            "failed to {verb} deployment/web in namespace `prod`: forbidden, a Role must allow it \
             (apiGroups: [apps], resources: [deployments], resourceNames: [web], verbs: [get, \
             patch]): {said}"
        );
        assert_eq!((message, is_without_effect), (expected, true));
    }
    let (message, _) = refused("PATCH", (403, "Forbidden", "policy says\nno"));
    assert!(message.ends_with(r"forbidden by admission: policy says\nno"), "{message}");
}

#[test]
fn other_error_responses_are_told_apart() {
    let (message, is_without_effect) =
        refused("GET", (404, "NotFound", "deployments.apps \"web\" not found"));
    assert!(message.ends_with("not found: deployments.apps \"web\" not found"), "{message}");
    assert!(is_without_effect);

    let (message, is_without_effect) = refused("PATCH", (422, "Invalid", "bad value"));
    assert!(message.ends_with("the API server answered 422: bad value") && is_without_effect);

    let (message, is_without_effect) = refused("PATCH", (500, "InternalError", "etcd"));
    assert!(message.ends_with("the API server answered 500: etcd"), "{message}");
    assert!(!is_without_effect);

    let cluster = Cluster::new();
    cluster.state.lock().unwrap().token = Some("another");
    let (message, is_without_effect) = failure(cluster.rollout().run(&content(), &Stop::default()));
    assert!(message.contains("unauthorized") && is_without_effect, "{message}");
    assert!(!message.contains("s3cret"));
}

#[test]
fn a_patch_with_a_conflict_is_sent_again_a_few_times() {
    let conflict = (409, "Conflict", "the object has been modified");
    let cluster = Cluster::new();
    cluster.refuse("PATCH", conflict);
    cluster.refuse("PATCH", conflict);
    cluster.rollout().run(&content(), &Stop::default()).unwrap();
    assert_eq!(cluster.methods(), ["GET", "PATCH", "PATCH", "PATCH"]);

    let cluster = Cluster::new();
    for _ in 0..20 {
        cluster.refuse("PATCH", conflict);
    }
    let (message, is_without_effect) = failure(cluster.rollout().run(&content(), &Stop::default()));
    assert!(message.contains("repeated conflicts: the object has"), "{message}");
    assert!(is_without_effect);
    assert_eq!(cluster.methods().len(), 6);
}

#[test]
fn a_server_that_is_down_or_sends_nonsense_is_reported() {
    let cluster = Cluster::new();
    let try_at = |url: &str| {
        cluster.write_kubeconfig(url, &json!({}), &json!({"token": "s3cret"}));
        let (message, is_without_effect) =
            failure(cluster.rollout().run(&content(), &Stop::default()));
        assert!(is_without_effect && !message.contains("s3cret"), "{message}");
        message
    };
    let gone = Server::answering(200, "").url("");
    assert!(try_at(&gone).ends_with("no answer from the API server: connection refused"));
    let lies = Server::answering(200, "<html>s3cret</html>");
    assert!(try_at(&lies.url("")).ends_with("the answer is not a workload"));
    let proxy = Server::answering(502, "<html>bad gateway</html>");
    assert!(try_at(&proxy.url("")).contains("the API server answered 502"));
    let elsewhere = Server::answering(200, "");
    let to = format!("Location: {}\r\n", elsewhere.url("/"));
    let redirect = Server::start(move |_, stream| answer(stream, 302, &to, ""));
    try_at(&redirect.url(""));
    assert_eq!(elsewhere.received().len(), 0);
}

#[test]
fn a_stop_ends_the_wait_for_the_server() {
    let cluster = Cluster::new();
    let server = Server::start(|_, _| hang());
    cluster.write_kubeconfig(&server.url(""), &json!({}), &json!({}));
    let rollout = cluster.rollout();
    let outcome = stopped(|| !server.received().is_empty(), |stop| rollout.run(&content(), stop));
    assert!(failure(outcome).0.contains("stopped while waiting for the answer"));
}

#[test]
fn errors_of_a_kubeconfig_show_no_secret() {
    let cluster = Cluster::new();
    let refusal = || {
        let outcome = cluster.rollout().run(&content(), &Stop::default());
        let (message, is_without_effect) = failure(outcome);
        assert!(is_without_effect && !message.contains("s3cret"), "{message}");
        assert!(message.contains("kubeconfig"), "{message}");
        message
    };
    for text in [
        "users:\n- name: x\n  user: {token: s3cret\nclusters: ]",
        "users: [{name: x, user: {token: [s3cret]}}]",
        "s3cret",
        "",
        "current-context: s3cre\u{7}t",
    ] {
        fs::write(cluster.kubeconfig(), text).unwrap();
        refusal();
    }
    fs::remove_file(cluster.kubeconfig()).unwrap();
    refusal();

    let script = "echo s3cret; echo s3cret >&2; exit 1";
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "sh",
                               "args": ["-c", script], "interactiveMode": "Never"}});
    cluster.write_kubeconfig(&cluster.server.url(""), &json!({}), &exec);
    let message = refusal();
    assert!(message.ends_with("plugin failed: exit status: 1"), "{message}");
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "echo",
                               "args": ["s3cret"], "interactiveMode": "Never"}});
    cluster.write_kubeconfig(&cluster.server.url(""), &json!({}), &exec);
    let (message, _) = failure(cluster.rollout().run(&content(), &Stop::default()));
    assert!(!message.contains("s3cret"), "{message}");
}

#[test]
fn outside_a_pod_a_kubeconfig_is_needed() {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() {
        return; // The tests run in a pod.
    }
    let rollout = Rollout::parse("deployment/web").unwrap().wait(Duration::from_secs(1));
    let failure = rollout.run(&content(), &Stop::default()).expect_err("no cluster");
    assert_eq!(diagnostics::exit::code_of(&failure.error), 2);
    assert!(format!("{:#}", failure.error).contains("this is not a pod"));
}
