//! Calls kubectl, and keeps the namespaces of the tests.

use std::process::Command;
use std::time::{Duration, Instant};

use e2e::programs::{Outcome, run};
use serde_json::{Value, json};

/// The registry that the nodes pull from.
pub const REGISTRY: &str = "registry.test:5000";

/// Runs kubectl and returns its exit code and output.
pub fn kubectl(args: &[&str]) -> Outcome {
    run(Command::new("kubectl").args(args), b"")
}

/// Runs kubectl and returns its stdout.
///
/// # Panics
/// Panics with kubectl's stderr if it fails.
pub fn succeed(args: &[&str]) -> String {
    let outcome = kubectl(args);
    assert_eq!(outcome.code, Some(0), "kubectl {args:?}: {}", outcome.stderr);
    outcome.stdout
}

/// Polls until `done` returns true.
///
/// # Panics
/// Panics if that takes longer than six minutes.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(360);
    while !done() {
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A namespace whose pods can pull images by the Secret `registry-credentials`. It is deleted at the end;
/// if the test panics, its pods, events and logs are printed.
pub struct Namespace {
    /// Its name.
    pub name: String,
}

impl Namespace {
    /// Creates a namespace.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn create(name: &str) -> Self {
        let namespace = Self { name: name.to_owned() };
        namespace.apply(&json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}
        }));
        let file = std::env::var("CLUSTER_AUTH").expect("CLUSTER_AUTH names the credentials");
        let credentials = std::fs::read_to_string(file).expect("the credentials");
        namespace.apply(&json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "registry-credentials"},
            "type": "kubernetes.io/dockerconfigjson",
            "stringData": {".dockerconfigjson": credentials},
        }));
        namespace
    }

    /// Runs kubectl in the namespace and returns its stdout.
    ///
    /// # Panics
    /// Panics with kubectl's stderr if it fails.
    pub fn kubectl(&self, args: &[&str]) -> String {
        succeed(&[&["--namespace", &self.name], args].concat())
    }

    /// Runs kubectl in the namespace and parses its stdout.
    ///
    /// # Panics
    /// Panics if kubectl fails or prints no JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.kubectl(&[args, &["--output=json"]].concat());
        serde_json::from_str(&output).expect("JSON")
    }

    /// Applies an object.
    ///
    /// # Panics
    /// Panics if the server refuses it.
    pub fn apply(&self, object: &Value) {
        self.apply_text(&object.to_string());
    }

    /// Applies the objects of a manifest.
    ///
    /// # Panics
    /// Panics if the server refuses one.
    pub fn apply_text(&self, manifest: &str) {
        let mut command = Command::new("kubectl");
        command.args(["--namespace", &self.name, "apply", "--filename=-"]);
        let outcome = run(&mut command, manifest.as_bytes());
        assert_eq!(outcome.code, Some(0), "{}: {manifest}", outcome.stderr);
    }

    /// Runs a program in the first container of a pod.
    pub fn exec(&self, pod: &str, program: &[&str]) -> Outcome {
        kubectl(&[&["--namespace", &self.name, "exec", pod, "--"], program].concat())
    }

    /// Waits until all pods of this list are ready.
    ///
    /// # Panics
    /// Panics if this takes longer than three minutes.
    pub fn wait_for_pods(&self, pods: &[&str]) {
        let pods: Vec<String> = pods.iter().map(|pod| format!("pod/{pod}")).collect();
        let pods: Vec<&str> = pods.iter().map(String::as_str).collect();
        self.kubectl(&[&["wait", "--for=condition=Ready", "--timeout=180s"], &pods[..]].concat());
    }

    /// Waits until a Job has ended, and returns the reason of its failure, or `None`.
    ///
    /// # Panics
    /// Panics if this takes longer than three minutes.
    pub fn end_of_job(&self, job: &str) -> Option<String> {
        let mut end = None;
        eventually(&format!("the end of job/{job}"), || {
            let job = self.json(&["get", "job", job]);
            let conditions = job["status"]["conditions"].as_array().into_iter().flatten();
            end = conditions
                .filter(|condition| condition["status"] == "True")
                .find(|condition| condition["type"] == "Complete" || condition["type"] == "Failed")
                .cloned();
            end.is_some()
        });
        let end = end.expect("a condition");
        let reason = end["reason"].as_str().expect("a reason").to_owned();
        (end["type"] == "Failed").then_some(reason)
    }

    fn print_state(&self) {
        let namespace = ["--namespace", &self.name];
        for query in
            [["get", "pods", "--output=wide"], ["get", "events", "--sort-by=.lastTimestamp"]]
        {
            println!("{}", kubectl(&[&namespace[..], &query].concat()).stdout);
        }
        let pods = kubectl(&[&namespace[..], &["get", "pods", "--output=name"]].concat());
        for pod in pods.stdout.lines() {
            let options = ["logs", "--all-containers", "--prefix", "--tail=30", pod];
            println!("{}", kubectl(&[&namespace[..], &options].concat()).stdout);
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_state();
        }
        // The cluster ends with the tests; this frees its memory earlier.
        let _ = kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
    }
}

/// A pod of the tools image, with curl and a shell, that runs a script.
pub fn tools_pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "imagePullSecrets": [{"name": "registry-credentials"}],
            "containers": [{
                "name": "tools",
                "image": format!("{}/busybox:1", REGISTRY),
                "command": ["sh", "-ec", script],
            }],
        },
    })
}
