//! The base of the provisioning pipeline on the cluster, with a database for Keycloak, and the data
//! images that the tests publish.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use e2e::certificates::Authority;
use e2e::programs::run;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::kubectl::{Namespace, REGISTRY, eventually};
use crate::monitoring::metric;
use crate::site::{DATA_IMAGE, Site, workspace};

const NAMESPACE: &str = "provisioning";

/// The files of a data image.
pub struct Content {
    files: BTreeMap<String, String>,
}

impl Content {
    /// Files with which nginx and OPA answer with this text.
    pub fn with_answer(text: &str) -> Self {
        // The same in all versions, so that only the tests of truststores restart Keycloak.
        static CA: LazyLock<String> = LazyLock::new(|| {
            let dir = TempDir::new().expect("a directory");
            Authority::new(dir.path(), "ca");
            fs::read_to_string(dir.path().join("ca.pem")).expect("read")
        });
        let content = Self { files: BTreeMap::new() };
        content
            .with_file(
                "nginx/site.conf",
                &format!("server {{ listen 8080; server_name data; return 200 {text}; }}\n"),
            )
            .with_file("opa/site.rego", "package site\n\nanswer := data.text.answer\n")
            .with_file("opa/text/data.json", &json!({"answer": text}).to_string())
            .with_file("truststores/ca.pem", &CA)
    }

    /// The same files, and one more or another one in its place.
    pub fn with_file(mut self, path: &str, text: &str) -> Self {
        self.files.insert(path.to_owned(), text.to_owned());
        self
    }

    /// Builds the data image and pushes it under the tag that the manifests name.
    fn push(&self) {
        let dir = TempDir::new().expect("a directory");
        for (path, text) in &self.files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        }
        let mut command = Command::new(workspace().join("e2e/cluster/data-image"));
        command.arg(format!("{DATA_IMAGE}:stable")).arg(dir.path());
        let outcome = run(&mut command, b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
}

/// The deployed base.
pub struct Base {
    /// The namespace of the pipeline.
    pub namespace: Namespace,
    _database: Namespace,
    _site: Site,
}

impl Base {
    /// Deploys the base as the operations guide says, publishes for the first time, and waits until each
    /// Deployment is available.
    pub fn deploy() -> Self {
        let database = deploy_database();
        let namespace = Namespace::create(NAMESPACE);
        add_secrets(&namespace);
        let site = Site::new("k8s/provisioning/base", NAMESPACE, SETTINGS);
        site.apply();
        site.assert_unchanged();
        let base = Self { namespace, _database: database, _site: site };
        base.publish(&Content::with_answer("first"));
        let args = ["wait", "--for=condition=Available", "--timeout=300s", "deployment", "--all"];
        base.namespace.kubectl(&args);
        // The first truststores restart Keycloak once more.
        eventually("the first rollout", || base.reload_states("keycloak-reloader") == ["1"]);
        let args = ["rollout", "status", "deployment/keycloak", "--timeout=300s"];
        base.namespace.kubectl(&args);
        base
    }

    /// Publishes `content` by a Job of the CronJob, waits for the Job's success, and returns the time of
    /// its creation.
    pub fn publish(&self, content: &Content) -> Instant {
        content.push();
        self.run_job(|job| job)
    }

    /// Removes the pin of a rollback, as the operations guide says.
    pub fn unpin(&self) {
        Content::with_answer("good").push();
        self.run_job(|mut job| {
            let env = &mut job["spec"]["template"]["spec"]["containers"][0]["env"];
            let unpin = json!({"name": "PROVISIONER_UNPIN", "value": "true"});
            env.as_array_mut().expect("variables").push(unpin);
            job
        });
    }

    fn run_job(&self, change: impl FnOnce(Value) -> Value) -> Instant {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("publish-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let from = "--from=cronjob/data-provisioner";
        let args = ["create", "job", &name, from, "--dry-run=client", "--output=json"];
        let job = serde_json::from_str(&self.namespace.kubectl(&args)).expect("JSON");
        let start = Instant::now();
        self.namespace.apply(&change(job));
        assert_eq!(self.namespace.end_of_job(&name), None, "job/{name}");
        start
    }

    /// Goes back to the version before the live one, as the operations guide says.
    pub fn roll_back(&self) {
        let manifest = fs::read_to_string(workspace().join("examples/provisioner-shell.yaml"));
        let manifest = manifest.expect("read").replace("registry.example.com", REGISTRY);
        self.namespace.apply_text(&manifest);
        let pod = "pod/provisioner-shell";
        self.namespace.wait_for_pods(&["provisioner-shell"]);
        let program = "/usr/local/bin/provisioner";
        self.namespace.kubectl(&["exec", "provisioner-shell", "--", program, "rollback"]);
        self.namespace.kubectl(&["delete", "--grace-period=1", pod]);
    }

    /// Waits until each pod of nginx and OPA answers with `text`.
    pub fn wait_for_answer(&self, text: &str) {
        for app in ["nginx", "opa"] {
            eventually(&format!("the answer {text} of {app}"), || {
                let answers = self.answers_of(app);
                answers.len() == 2 && answers.iter().all(|answer| answer == text)
            });
        }
    }

    /// What each pod of nginx or OPA answers; nothing for other applications.
    pub fn answers_of(&self, app: &str) -> Vec<String> {
        let addresses = self.pods(app).into_iter().map(|pod| address(&pod));
        match app {
            "nginx" => addresses.map(|ip| get(&format!("http://{ip}:8080/"))).collect(),
            "opa" => {
                let answer = |ip| get(&format!("http://{ip}:8181/v1/data/site/answer"));
                let text = |body: String| {
                    let body: Value = serde_json::from_str(&body).unwrap_or_default();
                    body["result"].as_str().unwrap_or_default().to_owned()
                };
                addresses.map(answer).map(text).collect()
            }
            _ => Vec::new(),
        }
    }

    /// `reloader_last_reload_successful` of each reloader of an application.
    pub fn reload_states(&self, app: &str) -> Vec<String> {
        let metric_of = |pod: Value| metric(address(&pod), "reloader_last_reload_successful");
        self.pods(app).into_iter().map(metric_of).collect()
    }

    /// The pod of Keycloak that is available.
    pub fn keycloak(&self) -> String {
        let pods = self.pods("keycloak").into_iter().filter(is_ready);
        let names = pods.map(|pod| pod["metadata"]["uid"].as_str().expect("a UID").to_owned());
        names.collect::<Vec<_>>().join(" ")
    }

    /// How often containers of nginx and OPA were restarted.
    pub fn restarts(&self) -> u64 {
        let pods = ["nginx", "opa"].map(|app| self.pods(app)).concat();
        let lists = ["containerStatuses", "initContainerStatuses"];
        pods.iter()
            .flat_map(|pod| lists.map(|list| pod["status"][list].as_array()))
            .flatten()
            .flatten()
            .map(|container| container["restartCount"].as_u64().expect("a number"))
            .sum()
    }

    fn pods(&self, app: &str) -> Vec<Value> {
        let selector = format!("--selector=app.kubernetes.io/name={app}");
        let list = self.namespace.json(&["get", "pods", &selector]);
        let is_current = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        list["items"].as_array().expect("pods").iter().filter(is_current).cloned().collect()
    }
}

/// The addresses and the storage of the test cluster. Jobs end soon, because no test reads old versions.
/// Keycloak's start takes half a minute, so a rollout that takes two is stuck.
const SETTINGS: &str = "\
configMapGenerator:
- name: keycloak-config
  behavior: merge
  literals:
  - KC_HOSTNAME=https://keycloak.provisioning
  - KC_DB_URL=jdbc:postgresql://postgres.database.svc.cluster.local:5432/keycloak
patches:
- target: {kind: PersistentVolumeClaim, name: provisioning-data-pvc}
  patch: |-
    - {op: add, path: /spec/storageClassName, value: shared}
- target: {kind: Deployment, name: keycloak-reloader}
  patch: |-
    - {op: replace, path: /spec/template/spec/containers/0/args/1, value: --wait=120}
- target: {kind: CronJob, name: data-provisioner}
  patch: |-
    - {op: add, path: /spec/jobTemplate/spec/template/spec/containers/0/env/-, value: {name: PROVISIONER_GRACE, value: '1'}}
";

fn add_secrets(namespace: &Namespace) {
    let dir = TempDir::new().expect("a directory");
    let host = format!("keycloak.{NAMESPACE}.svc");
    let (certificate, key) = Authority::new(dir.path(), "ca").issue("keycloak", &[&host]);
    let argument = |name: &str, file: &std::path::Path| format!("--{name}={}", file.display());
    namespace.kubectl(&[
        "create",
        "secret",
        "tls",
        "keycloak-tls",
        &argument("cert", &certificate),
        &argument("key", &key),
    ]);
    namespace.kubectl(&[
        "create",
        "secret",
        "generic",
        "keycloak-database",
        "--from-literal=username=keycloak",
        "--from-literal=password=s3cret",
    ]);
}

/// PostgreSQL behind the Service `postgres` in a namespace that is not the pipeline's.
fn deploy_database() -> Namespace {
    let namespace = Namespace::create("database");
    let labels = json!({"app": "postgres"});
    let variable = |name: &str, value: &str| json!({"name": name, "value": value});
    let container = json!({
        "name": "postgres",
        "image": format!("{REGISTRY}/postgres:15"),
        "env": [
            variable("POSTGRES_USER", "keycloak"),
            variable("POSTGRES_PASSWORD", "s3cret"),
            variable("POSTGRES_DB", "keycloak"),
        ],
        "readinessProbe": {"tcpSocket": {"port": 5432}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/var/lib/postgresql/data"}],
    });
    namespace.apply(&json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "postgres"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {
                "imagePullSecrets": [{"name": "registry-credentials"}],
                "securityContext": {"runAsUser": 999, "runAsGroup": 999, "fsGroup": 999},
                "containers": [container],
                "volumes": [{"name": "data", "emptyDir": {}}],
            }},
        },
    }));
    namespace.apply(&json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "postgres"},
        "spec": {"selector": labels, "ports": [{"port": 5432}]},
    }));
    namespace
}

/// The body of a 2xx response; empty if there is none. nginx chooses the server of the data by the name.
fn get(url: &str) -> String {
    let options = ["--silent", "--fail", "--max-time", "5", "--header", "Host: data"];
    run(Command::new("curl").args(options).arg(url), b"").stdout
}

fn address(pod: &Value) -> IpAddr {
    let address = pod["status"]["podIP"].as_str().unwrap_or("0.0.0.0");
    address.parse().expect("an address")
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    conditions
        .into_iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}
