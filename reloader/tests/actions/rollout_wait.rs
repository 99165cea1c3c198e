//! Waiting for the end of a rollout, and the service account of a pod.

use std::fs;
use std::path::Path;
use std::time::Duration;

use e2e::certificates::Authority;
use e2e::mounts::{in_private_mounts, sh};
use reloader::testing::Action;
use reloader::testing::Rollout;
use reloader::testing::Stop;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::server::{Server, answer};
use crate::{alone, content, failure, stopped};

const LONG: Duration = Duration::from_secs(60);

/// The status of the second generation with these numbers of replicas.
fn status(replicas: i64, updated: i64, available: i64) -> Value {
    json!({"status": {"observedGeneration": 2, "replicas": replicas, "updatedReplicas": updated,
                      "readyReplicas": available, "availableReplicas": available}})
}

fn failed(cluster: &Cluster, timeout: Duration) -> String {
    let outcome = cluster.rollout().wait(timeout).run(&content(), &Stop::default());
    let (message, is_without_effect) = failure(outcome);
    assert!(!is_without_effect, "{message}");
    message
}

#[test]
fn it_waits_until_every_replica_is_new_and_available() {
    let cluster = Cluster::new();
    // The first read comes before the patch. One response is an error.
    cluster.change_later(&[json!({}), status(4, 1, 3), status(4, 3, 3), status(3, 3, 3)]);
    cluster.refuse("GET", (503, "ServiceUnavailable", "away"));
    let early = failure(cluster.rollout().wait(LONG).run(&content(), &Stop::default()));
    assert!(early.0.contains("answered 503") && early.1, "before anything is done: {}", early.0);
    let proof = cluster.rollout().wait(LONG).run(&content(), &Stop::default()).unwrap();
    assert_eq!(proof, "rollout begun, generation 2: 3 of 3 replicas available, generation 2");
    assert_eq!(cluster.methods(), ["GET", "GET", "PATCH", "GET", "GET", "GET"]);

    let proof = cluster.rollout().wait(LONG).run(&content(), &Stop::default()).unwrap();
    assert_eq!(proof, "already rolled out: 3 of 3 replicas available, generation 2");
}

#[test]
fn an_api_server_that_is_down_for_a_moment_is_asked_again() {
    let cluster = Cluster::new();
    cluster.rollout().run(&content(), &Stop::default()).unwrap();
    let answers = cluster.state.clone();
    cluster.change_later(&[status(4, 1, 3), status(4, 1, 3), status(3, 3, 3)]);
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| cluster.rollout().wait(LONG).run(&content(), &Stop::default()));
        e2e::wait_for("the second look", || cluster.methods().len() > 3);
        answers.lock().unwrap().refusals.push(("GET", (503, "ServiceUnavailable", "away")));
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_token_that_expires_during_a_wait_is_read_again() {
    let cluster = Cluster::new();
    let token = cluster.directory.path().join("token");
    fs::write(&token, "old\n").unwrap();
    let user = json!({"tokenFile": token});
    cluster.write_kubeconfig(&cluster.server.url(""), &json!({}), &user);
    cluster.change_later(&[json!({}), status(4, 1, 3)]);
    std::thread::scope(|scope| {
        let waiting =
            scope.spawn(|| cluster.rollout().wait(LONG).run(&content(), &Stop::default()));
        e2e::wait_for("a look", || cluster.methods().len() > 2);
        fs::write(&token, "new\n").unwrap();
        let mut state = cluster.state.lock().unwrap();
        (state.token, state.changes) = (Some("new"), vec![status(3, 3, 3)]);
        drop(state);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_rollout_past_its_progress_deadline_fails_at_once() {
    let cluster = Cluster::new();
    let condition = json!({"type": "Progressing", "status": "False",
                           "reason": "ProgressDeadlineExceeded", "message": "it has timed out"});
    let failing = json!({"status": {"observedGeneration": 2, "conditions": [condition]}});
    cluster.change_later(&[json!({}), failing]);
    let expected = "its progress deadline is exceeded: it has timed out";
    assert!(failed(&cluster, Duration::from_secs(600)).ends_with(expected));
}

#[test]
fn a_timeout_and_a_stop_end_the_wait() {
    let cluster = Cluster::new();
    cluster.change_later(&[json!({}), status(4, 1, 3)]);
    let message = failed(&cluster, Duration::from_millis(500));
    let expected = "timed out while waiting: 1 of 3 replicas are new";
    assert!(message.ends_with(expected), "{message}");

    let looks = cluster.methods().len();
    let rollout = cluster.rollout().wait(Duration::from_secs(600));
    let outcome =
        stopped(|| cluster.methods().len() > looks + 1, |stop| rollout.run(&content(), stop));
    assert!(failure(outcome).0.ends_with("stopped while waiting: 1 of 3 replicas are new"));
}

#[test]
fn changes_by_others_during_the_wait_are_reported() {
    let template = |annotations: Value| json!({"spec": {"template": {"metadata": {"annotations": annotations}}}});
    for (change, expected) in [
        (
            template(json!({"reloader/content-digest": "sha256:0\n"})),
            r"another rollout has begun, for `sha256:0\n`",
        ),
        (
            template(json!({"reloader/content-digest": null})),
            "the annotation `reloader/content-digest` was removed",
        ),
        (json!({"spec": {"paused": true}}), "was paused: `kubectl rollout resume deployment/web`"),
    ] {
        let cluster = Cluster::new();
        cluster.change_later(&[json!({}), status(4, 1, 3), change]);
        let message = failed(&cluster, LONG);
        assert!(message.ends_with(expected), "{message}");
    }
    let cluster = Cluster::new();
    cluster.change_later(&[json!({}), status(4, 1, 3)]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| failed(&cluster, Duration::from_secs(600)));
        e2e::wait_for("a look", || cluster.methods().len() > 2);
        cluster.refuse("GET", (404, "NotFound", "deployments.apps \"web\" not found"));
        assert!(waiting.join().unwrap().contains("not found"));
    });
}

#[test]
fn a_rollout_that_cannot_be_waited_for_is_not_started() {
    let on_delete = json!({"type": "OnDelete"});
    let partition = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
    for (kind, target, strategy, expected) in [
        ("StatefulSet", "sts/web", &on_delete, "OnDelete"),
        ("DaemonSet", "ds/web", &on_delete, "OnDelete"),
        ("StatefulSet", "sts/web", &partition, "partition 2"),
    ] {
        let cluster = Cluster::new();
        cluster.change(&json!({"kind": kind, "spec": {"updateStrategy": strategy}}));
        let rollout = Rollout::parse(target).unwrap().kubeconfig(cluster.kubeconfig()).wait(LONG);
        let (message, is_without_effect) = failure(rollout.run(&content(), &Stop::default()));
        assert!(message.contains(expected) && is_without_effect, "{message}");
        assert_eq!(cluster.methods(), ["GET"]);
    }
}

/// Runs another test of this program in the mounts of this thread, with the environment of a pod.
fn in_pod(test: &str, server: &Server) -> std::process::Output {
    let url = server.url("");
    let (_, port) = url.rsplit_once(':').expect("a port");
    alone(test)
        .env("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        .env("KUBERNETES_SERVICE_PORT", port)
        .output()
        .expect("a test")
}

fn service_account(mounts: &Path, ca: &str) {
    sh(
        mounts,
        &format!(
            "at=/var/run/secrets/kubernetes.io/serviceaccount; mkdir -p /run/secrets
             mount -t tmpfs tmpfs /run/secrets; mkdir -p /var/run/secrets $at
             printf 's3cret' >$at/token; printf 'prod\\n' >$at/namespace; cp {ca} $at/ca.crt"
        ),
    );
}

#[test]
fn in_a_pod_its_service_account_is_used() {
    if e2e::skip_unless_root("mounts file systems") {
        return;
    }
    in_private_mounts(|mounts| {
        let authority = Authority::new(mounts, "ca");
        let issued = authority.issue("api", &["127.0.0.1"]);
        let workload = Cluster::new().state.lock().unwrap().workload.clone();
        let server = Server::start_tls(&issued, move |request, stream| {
            let mut workload = workload.clone();
            if request.method == "PATCH" {
                let patch: Value = serde_json::from_slice(&request.body).unwrap();
                workload["spec"]["template"] = patch["spec"]["template"].clone();
            }
            answer(stream, 200, "", &workload.to_string())
        });
        service_account(mounts, "ca.pem");
        let output = in_pod("rollout_wait::from_within_a_pod", &server);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        let received = server.received();
        assert_eq!(received.len(), 2, "{}", String::from_utf8_lossy(&output.stdout));
        assert!(received[1].path.starts_with("/apis/apps/v1/namespaces/prod/deployments/web?"));
        assert_eq!(received[1].header("authorization"), Some("Bearer s3cret"));

        fs::remove_file("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt").unwrap();
        let output = in_pod("rollout_wait::from_within_a_pod", &server);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(format!("{stdout}{stderr}").contains("automountServiceAccountToken"), "{stdout}");
    });
}

#[test]
#[ignore = "run by `in_a_pod_its_service_account_is_used`"]
fn from_within_a_pod() {
    let rollout = Rollout::parse("deployment/web").unwrap();
    let outcome = rollout.run(&content(), &Stop::default());
    assert_eq!(
        outcome.map_err(|failure| format!("{:#}", failure.error)).unwrap(),
        "rollout begun, generation 1"
    );
}
