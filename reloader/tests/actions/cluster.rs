//! A fake Kubernetes API with one workload: it stores the workload, merges patches as the real API
//! server does, and fails on request.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use reloader::testing::Rollout;
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

use crate::server::{Request, Server, answer};

/// An error response: status, reason, message.
pub type Refusal = (u16, &'static str, &'static str);

/// The workload, and how the server answers.
#[derive(Default)]
pub struct State {
    pub workload: Value,
    /// Errors for the next requests with these methods.
    pub refusals: Vec<(&'static str, Refusal)>,
    /// Changes that the next reads merge into the workload first, one each.
    pub changes: Vec<Value>,
    /// The only accepted token; `None` accepts all.
    pub token: Option<&'static str>,
}

/// A cluster with one workload, and a kubeconfig to reach it.
pub struct Cluster {
    pub server: Server,
    pub state: Arc<Mutex<State>>,
    pub directory: TempDir,
}

impl Cluster {
    /// Starts with a Deployment of 3 replicas, whose rollout is done.
    pub fn new() -> Self {
        Self::with(json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "prod", "generation": 1,
                         "annotations": {"kept": "1"}},
            "spec": {"replicas": 3, "template": {
                "metadata": {"labels": {"app": "web"}, "annotations": {"team": "x"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]}}},
            "status": {"observedGeneration": 1, "replicas": 3, "updatedReplicas": 3,
                       "readyReplicas": 3, "availableReplicas": 3},
        }))
    }

    /// With this workload.
    pub fn with(workload: Value) -> Self {
        let state = Arc::new(Mutex::new(State { workload, ..State::default() }));
        let server = {
            let state = state.clone();
            Server::start(move |request, stream| {
                respond(&mut state.lock().expect("no panic"), request, stream)
            })
        };
        let cluster = Self { server, state, directory: tempdir().expect("a directory") };
        cluster.write_kubeconfig(&cluster.server.url(""), &json!({}), &json!({"token": "s3cret"}));
        cluster
    }

    /// Where the kubeconfig is.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// Writes a kubeconfig; `more` is about the cluster, `user` about who asks.
    pub fn write_kubeconfig(&self, url: &str, more: &Value, user: &Value) {
        let mut cluster = json!({"server": url});
        merge(&mut cluster, more);
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": user}],
            "contexts": [{"name": "test", "context": {
                "cluster": "test", "user": "test", "namespace": "prod"}}],
        });
        fs::write(self.kubeconfig(), config.to_string()).expect("written");
    }

    /// A rolling restart of `web` in this cluster.
    pub fn rollout(&self) -> Rollout {
        Rollout::parse("deployment/web").expect("a target").kubeconfig(self.kubeconfig())
    }

    /// Fails the next request with this method.
    pub fn refuse(&self, method: &'static str, refusal: Refusal) {
        self.state.lock().expect("no panic").refusals.push((method, refusal));
    }

    /// Changes the workload now.
    pub fn change(&self, change: &Value) {
        merge(&mut self.state.lock().expect("no panic").workload, change);
    }

    /// Changes the workload at the next reads, one change each.
    pub fn change_later(&self, changes: &[Value]) {
        self.state.lock().expect("no panic").changes = changes.to_vec();
    }

    /// The number of the workload's specification.
    pub fn generation(&self) -> i64 {
        self.state.lock().expect("no panic").workload["metadata"]["generation"]
            .as_i64()
            .expect("a number")
    }

    /// The methods of all requests.
    pub fn methods(&self) -> Vec<String> {
        self.server.received().into_iter().map(|request| request.method).collect()
    }

    /// The only patch.
    pub fn patch(&self) -> Request {
        let received = self.server.received().into_iter();
        let mut patches: Vec<_> = received.filter(|request| request.method == "PATCH").collect();
        assert_eq!(patches.len(), 1);
        patches.remove(0)
    }
}

/// Merges as RFC 7386 says, which equals a strategic merge without lists.
fn merge(whole: &mut Value, change: &Value) {
    match (whole, change) {
        (Value::Object(whole), Value::Object(change)) => {
            for (key, change) in change {
                if change.is_null() {
                    whole.remove(key);
                } else {
                    merge(whole.entry(key).or_insert(Value::Null), change);
                }
            }
        }
        (whole, change) => *whole = change.clone(),
    }
}

fn respond(state: &mut State, request: &Request, stream: &mut dyn Write) -> io::Result<()> {
    let mut respond = |status: u16, body: &Value| {
        answer(stream, status, "Content-Type: application/json\r\n", &body.to_string())
    };
    let authorization = request.header("authorization").unwrap_or_default();
    if state.token.is_some_and(|token| authorization != format!("Bearer {token}")) {
        return respond(401, &status((401, "Unauthorized", "Unauthorized")));
    }
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    if let Some(found) = discovery(path) {
        return respond(200, &found);
    }
    let position = state.refusals.iter().position(|(method, _)| request.method == *method);
    if let Some(position) = position {
        let (_, refusal) = state.refusals.remove(position);
        return respond(refusal.0, &status(refusal));
    }
    let kind = state.workload["kind"].as_str().expect("a kind").to_lowercase();
    if path != format!("/apis/apps/v1/namespaces/prod/{kind}s/web") {
        return respond(404, &status((404, "NotFound", "deployments.apps \"x\" not found")));
    }
    if request.method == "PATCH" {
        let patch: Value = serde_json::from_slice(&request.body).expect("JSON");
        let mut patched = state.workload.clone();
        merge(&mut patched, &patch);
        if patched["spec"] != state.workload["spec"] {
            let generation = patched["metadata"]["generation"].as_i64().expect("a number");
            patched["metadata"]["generation"] = json!(generation + 1);
        }
        if query.contains("dryRun=All") {
            return respond(200, &patched);
        }
        state.workload = patched;
    } else if !state.changes.is_empty() {
        let change = state.changes.remove(0);
        merge(&mut state.workload, &change);
    }
    respond(200, &state.workload)
}

fn status((code, reason, message): Refusal) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
           "reason": reason, "message": message})
}

/// The discovery documents that kubectl reads first.
fn discovery(path: &str) -> Option<Value> {
    let group = json!({"groupVersion": "apps/v1", "version": "v1"});
    match path {
        "/api" => Some(json!({"kind": "APIVersions", "versions": ["v1"]})),
        "/apis" => Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [
            {"name": "apps", "versions": [group], "preferredVersion": group}]})),
        "/api/v1" => {
            Some(json!({"kind": "APIResourceList", "groupVersion": "v1", "resources": []}))
        }
        "/apis/apps/v1" => {
            Some(json!({"kind": "APIResourceList", "groupVersion": "apps/v1", "resources": [
            {"name": "deployments", "singularName": "deployment", "namespaced": true,
             "kind": "Deployment", "verbs": ["get", "patch"]}]}))
        }
        _ => None,
    }
}
