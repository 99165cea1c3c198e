//! Rolling restarts: requests compared with kubectl's, and one rollout for each content.

use std::process::Command;
use std::thread;

use e2e::certificates::Authority;
use reloader::testing::Action;
use reloader::testing::Rollout;
use reloader::testing::Stop;
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::content;
use crate::server::{Request, Server, answer};

fn digest() -> String {
    format!("sha256:{}", content().digest)
}

fn query(request: &Request) -> Vec<&str> {
    let (_, query) = request.path.split_once('?').expect("a query");
    query.split('&').filter(|pair| !pair.is_empty()).collect()
}

/// A patch without the parts that differ between programs: query, annotation and value.
fn shape(request: &Request, annotation: &str) -> (String, Option<String>, Value) {
    let path = request.path.split_once('?').map_or(&*request.path, |(path, _)| path);
    let mut body: Value = serde_json::from_slice(&request.body).expect("JSON");
    let annotations = &mut body["spec"]["template"]["metadata"]["annotations"];
    assert!(annotations[annotation].is_string(), "{annotations}");
    annotations[annotation] = Value::Null;
    *annotations = json!(annotations.to_string().replace(annotation, "annotation"));
    (path.to_owned(), request.header("content-type").map(str::to_owned), body)
}

#[test]
fn it_patches_as_kubectl_does_but_with_the_digest() {
    let cluster = Cluster::new();
    let proof = cluster.rollout().run(&content(), &Stop::default()).unwrap();
    assert_eq!(proof, "rollout begun, generation 2");
    let patch = cluster.patch();
    assert_eq!(query(&patch), ["fieldManager=reloader"]);
    assert_eq!(patch.header("content-type"), Some("application/strategic-merge-patch+json"));
    assert_eq!(patch.header("authorization"), Some("Bearer s3cret"));
    let body = json!({"spec": {"template": {"metadata": {"annotations": {
        "reloader/content-digest": digest()}}}}});
    assert_eq!(serde_json::from_slice::<Value>(&patch.body).unwrap(), body);

    let other = Cluster::new();
    let output = Command::new("kubectl")
        .args(["--cache-dir".as_ref(), other.directory.path().as_os_str()])
        .args(["--kubeconfig".as_ref(), other.kubeconfig().as_os_str()])
        .args(["rollout", "restart", "deployment/web"])
        .env("HOME", other.directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(
        shape(&patch, "reloader/content-digest"),
        shape(&other.patch(), "kubectl.kubernetes.io/restartedAt")
    );
}

#[test]
fn the_same_content_is_rolled_out_once() {
    let cluster = Cluster::new();
    let run_action = |rollout: Rollout| rollout.run(&content(), &Stop::default()).unwrap();
    thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| run_action(cluster.rollout()));
        }
    });
    assert_eq!(cluster.generation(), 2, "several at once are one rollout");
    let before = cluster.methods().len();
    assert_eq!(run_action(cluster.rollout()), "already rolled out");
    assert_eq!(cluster.methods()[before..], ["GET"]);

    // Another annotation starts another rollout; other annotations stay.
    run_action(cluster.rollout().annotation("example.com/other").unwrap());
    assert_eq!(cluster.generation(), 3);
    let workload = cluster.state.lock().unwrap().workload.clone();
    let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations["team"], "x");
    assert_eq!(annotations["reloader/content-digest"], digest());
    assert_eq!(annotations["example.com/other"], digest());
}

#[test]
fn a_template_without_annotations_gets_one() {
    let cluster = Cluster::new();
    cluster.change(&json!({"spec": {"template": {"metadata": {"annotations": null}}}}));
    cluster.rollout().run(&content(), &Stop::default()).unwrap();
    cluster.change(&json!({"spec": {"template": {"metadata": null}}}));
    cluster.rollout().run(&content(), &Stop::default()).unwrap();
    assert_eq!(cluster.generation(), 3);
}

#[test]
fn stateful_sets_and_daemon_sets_are_restarted_at_their_paths() {
    for (kind, target) in [("StatefulSet", "statefulset/web"), ("DaemonSet", "ds/web")] {
        let cluster = Cluster::new();
        cluster.change(&json!({"kind": kind, "spec": {"updateStrategy": {"type": "OnDelete"}}}));
        let rollout = Rollout::parse(target).unwrap().kubeconfig(cluster.kubeconfig());
        let proof = rollout.run(&content(), &Stop::default()).unwrap();
        let obstacle = "annotated, but its update strategy is OnDelete: pods stay until deleted";
        assert_eq!(proof, obstacle);
        let path = format!("/{}s/web?", kind.to_lowercase());
        assert!(cluster.patch().path.contains(&path));
    }
}

#[test]
fn a_dry_run_is_a_dry_run_of_the_server_and_changes_nothing() {
    let cluster = Cluster::new();
    let plan = cluster.rollout().dry_run(&content()).unwrap();
    assert_eq!(plan, "rolling restart of deployment/web in namespace `prod`");
    assert_eq!(query(&cluster.patch()), ["dryRun=All", "fieldManager=reloader"]);
    assert_eq!(cluster.generation(), 1);

    cluster.refuse("PATCH", (403, "Forbidden", "User \"u\" cannot patch resource"));
    assert!(cluster.rollout().dry_run(&content()).is_err());
    cluster.rollout().run(&content(), &Stop::default()).unwrap();
    let plan = cluster.rollout().dry_run(&content()).unwrap();
    assert!(plan.starts_with("nothing to do: deployment/web"), "{plan}");
}

#[test]
fn a_named_namespace_overrides_that_of_the_context() {
    let cluster = Cluster::new();
    let elsewhere = cluster.rollout().namespace("test").unwrap();
    assert!(elsewhere.run(&content(), &Stop::default()).is_err());
    let path = &cluster.server.received()[0].path;
    assert_eq!(path, "/apis/apps/v1/namespaces/test/deployments/web");
}

#[test]
fn a_token_that_was_replaced_is_read_again() {
    let cluster = Cluster::new();
    let token = cluster.directory.path().join("token");
    std::fs::write(&token, "old\n").unwrap();
    let user = json!({"tokenFile": token});
    cluster.write_kubeconfig(&cluster.server.url(""), &json!({}), &user);
    cluster.state.lock().unwrap().token = Some("new");
    assert!(cluster.rollout().run(&content(), &Stop::default()).is_err());
    std::fs::write(&token, "new\n").unwrap();
    cluster.rollout().run(&content(), &Stop::default()).unwrap();
}

#[test]
fn the_certificate_of_the_api_server_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let (good, other) =
        (Authority::new(directory.path(), "good"), Authority::new(directory.path(), "other"));
    for (issuer, is_good) in
        [(good.issue("a", &["127.0.0.1"]), true), (other.issue("b", &["127.0.0.1"]), false)]
    {
        let workload = Cluster::new().state.lock().unwrap().workload.to_string();
        let server = Server::start_tls(&issuer, move |request, stream| {
            let body = workload.replace("\"x\"", &format!("\"{}\"", request.method));
            answer(stream, 200, "", &body)
        });
        let cluster = Cluster::new();
        let more = json!({"certificate-authority": directory.path().join("good.pem")});
        cluster.write_kubeconfig(&server.url(""), &more, &json!({"token": "s3cret"}));
        let failure = cluster.rollout().run(&content(), &Stop::default()).expect_err("not kept");
        let message = format!("{:#}", failure.error);
        if is_good {
            assert!(message.contains("has not kept `reloader/content-digest`"), "{message}");
            assert_eq!(server.received()[0].header("authorization"), Some("Bearer s3cret"));
        } else {
            assert!(message.contains("UnknownIssuer"), "{message}");
            assert!(failure.is_without_effect && server.received().is_empty());
        }
    }
}
