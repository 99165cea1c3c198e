//! Checks each example with the program that reads it: GitLab's schema, nginx, jq, hadolint, Airflow.

use std::process::Command;
use std::sync::Mutex;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Answer, Api, Request};
use crate::objects::{name, text};
use crate::rendered::{set, sets};
use crate::rights::assert_exact;
use crate::tools::{files, outcome, read, succeed, tool, top};

const AIRFLOW: &str = "k8s/ownership/overlays/airflow";

#[test]
fn the_gitlab_job_matches_the_schema() {
    let all = files("examples/gitlab", &[".gitlab-ci.yml"]);
    assert!(!all.is_empty());
    succeed(tool("check-jsonschema").args(["--builtin-schema", "vendor.gitlab-ci"]).args(&all));
    let dir = TempDir::new().unwrap();
    let wrong = dir.path().join("wrong.yml");
    std::fs::write(&wrong, "job: {script: [true], only_on: [schedules]}").unwrap();
    let outcome =
        outcome(tool("check-jsonschema").args(["--builtin-schema", "vendor.gitlab-ci"]).arg(wrong));
    assert_ne!(outcome.code, Some(0), "the schema accepts an unknown key");
}

#[test]
fn nginx_accepts_its_configuration() {
    let set = set("k8s/provisioning/base");
    let map = set.of_kind("ConfigMap").find(|map| name(map).starts_with("nginx-config-")).unwrap();
    let dir = TempDir::new().unwrap();
    let (file, published) = (dir.path().join("nginx.conf"), dir.path().join("data"));
    std::fs::create_dir_all(published.join("nginx")).unwrap();
    // Replaces the paths in the pod by temporary ones.
    let at = |path: &str| format!("{}/{path}", dir.path().display());
    let configuration = text(map, "/data/nginx.conf")
        .replace("/tmp/", &at(""))
        .replace("/etc/nginx/provisioning-data/", &at("data/"));
    std::fs::write(&file, configuration).unwrap();
    let test = || {
        let mut nginx = Command::new("nginx");
        nginx.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap()));
        outcome(nginx.args(["-t", "-e", "stderr", "-p"]).arg(dir.path()).arg("-c").arg(&file))
    };
    let tested = test();
    assert_eq!(tested.code, Some(0), "{tested:?}");
    // nginx reads the published files.
    std::fs::write(published.join("nginx/maps.conf"), "map $host $which { default 1; }\n").unwrap();
    assert_eq!(test().code, Some(0));
    std::fs::write(published.join("nginx/maps.conf"), "no such thing;\n").unwrap();
    assert_ne!(test().code, Some(0));
}

#[test]
fn jq_recipes_print_the_documented_output() {
    let dir = TempDir::new().unwrap();
    let page = read("examples/jq-recipes.md");
    let mut blocks = page.split("```").skip(1).step_by(2);
    let mut count = 0;
    let mut file = "owners.json";
    while let Some(block) = blocks.next() {
        let (language, content) = block.split_once('\n').unwrap();
        if language == "json" {
            std::fs::write(dir.path().join(file), content).unwrap();
            file = "before.json";
            continue;
        }
        assert_eq!(language, "sh");
        let expected = blocks.next().and_then(|next| next.strip_prefix("text\n")).expect(content);
        let outcome = outcome(Command::new("sh").args(["-c", content]).current_dir(dir.path()));
        assert_eq!(
            (outcome.code, outcome.stdout.as_str()),
            (Some(0), expected),
            "{content}: {outcome:?}"
        );
        count += 1;
    }
    assert!(count > 5, "{count}");
}

#[test]
fn examples_use_the_names_of_the_manifests() {
    let base = set("k8s/ownership/base");
    let cron = base.of_kind("CronJob").next().map(name).unwrap();
    let space = base.of_kind("Namespace").next().map(name).unwrap();
    let container = "data-owner-resolver";
    let dag = read("examples/airflow/data_ownership_scan.py");
    for (constant, value) in [("NAMESPACE", space), ("CRONJOB", cron), ("CONTAINER", container)] {
        assert!(dag.contains(&format!("\n{constant} = \"{value}\"\n")), "{constant}");
    }
    let script = read("examples/trigger-scan.sh");
    for (variable, value) in [("namespace", space), ("cronjob", cron), ("container", container)] {
        assert!(script.contains(&format!("\n{variable}={value}\n")), "{variable}");
    }
    let job = read("examples/gitlab/scan-data-ownership.gitlab-ci.yml");
    assert!(job.contains(&format!("kubectl --namespace {space} delete job")), "{job}");
}

#[test]
fn the_keycloak_example_has_the_version_and_build_settings_of_the_manifests() {
    let keycloak = read("examples/keycloak/Containerfile");
    let image = sets()
        .iter()
        .flat_map(|set| &set.objects)
        .filter_map(crate::objects::template)
        .map(|template| text(template, "/spec/containers/0/image"))
        .find(|image| image.starts_with("registry.example.com/keycloak:"))
        .unwrap();
    let tag = image.rsplit(':').next().unwrap();
    for line in keycloak.lines().filter(|line| line.starts_with("FROM ")) {
        assert!(line.contains(&format!("quay.io/keycloak/keycloak:{tag}")), "{line}");
    }
    // Keycloak's build-time settings must equal the settings at start.
    let config = set("k8s/provisioning/base");
    let config =
        config.of_kind("ConfigMap").find(|map| name(map).starts_with("keycloak-config-")).unwrap();
    let built = keycloak.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    for setting in built.split_whitespace() {
        let (variable, value) = setting.split_once('=').unwrap();
        assert_eq!(config["data"][variable], value, "{variable}");
    }
    // The build step changes this folder alone.
    let copied = keycloak.lines().find(|line| line.starts_with("COPY ")).unwrap();
    assert!(copied.ends_with(" /opt/keycloak/lib/quarkus/ /opt/keycloak/lib/quarkus/"), "{copied}");
    // The distribution of the tests is a release of that version.
    let tests = read("e2e/applications/keycloak");
    assert!(tests.contains(&format!("\nversion={tag}.")), "{tag}");
}

#[test]
fn containerfiles_pass_hadolint() {
    let mut all = files("examples", &["Containerfile"]);
    if top().join("Containerfile").is_file() {
        all.push("Containerfile".to_owned());
    }
    succeed(tool("hadolint").args(["--failure-threshold", "info"]).args(&all));
}

/// The fake API server's state for the DAG. It serves the CronJob, and pods that end with 0, 1 and 2
/// in turn. The first pod is pending for two polls.
#[derive(Default)]
struct Pods {
    created: i32,
    polls: u32,
    last: Option<Value>,
}

impl Pods {
    fn answer(&mut self, request: &Request) -> Option<Answer> {
        let found = match (request.verb.as_str(), request.resource.as_str()) {
            ("get", "batch/cronjobs") => set(AIRFLOW).get("CronJob", &request.name)?.clone(),
            ("create", "/pods") => self.make(request.body.clone()),
            ("get", "/pods") => self.poll()?,
            ("patch", "/pods") => self.last.clone()?,
            ("delete", "/pods") => self.last.take()?,
            ("list", "/pods") => {
                json!({"kind": "PodList", "apiVersion": "v1", "items": Vec::from_iter(&self.last)})
            }
            ("list", "/events") => json!({"kind": "EventList", "apiVersion": "v1", "items": []}),
            ("get", "/pods/log") => return Some(Answer::text("{}\n")),
            _ => return None,
        };
        Some(Answer::json(200, &found))
    }

    fn poll(&mut self) -> Option<Value> {
        let mut pod = self.last.clone()?;
        self.polls += 1;
        if self.polls < 3 {
            pod["status"] = json!({"phase": "Pending"});
        }
        Some(pod)
    }

    fn make(&mut self, mut pod: Value) -> Value {
        let ended =
            json!({"exitCode": self.created, "message": "wrong password", "reason": "Error"});
        pod["status"] = json!({"phase": if self.created == 0 { "Succeeded" } else { "Failed" },
            "containerStatuses": [{"name": "data-owner-resolver", "image": "image", "imageID": "",
                "ready": false, "restartCount": 0, "state": {"terminated": ended}}]});
        self.created += 1;
        self.last = Some(pod.clone());
        pod
    }
}

/// Runs the DAG with Airflow, which `make test-airflow` installs (300 MB).
#[test]
#[ignore = "needs Airflow"]
fn airflow_runs_the_pod_of_the_cron_job_with_an_exact_role() {
    let dir = TempDir::new().unwrap();
    let cron = set(AIRFLOW).of_kind("CronJob").next().unwrap();
    let file = dir.path().join("cronjob.json");
    std::fs::write(&file, cron.to_string()).unwrap();
    let pods = Mutex::new(Pods::default());
    let api = Api::serve(move |request| pods.lock().unwrap().answer(request));
    let python = top().join("target/airflow/bin/python");
    let mut command = Command::new(python);
    command.env("AIRFLOW_HOME", dir.path()).env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
    // Airflow's connection uses the KUBECONFIG in the environment.
    command.env("AIRFLOW_CONN_KUBERNETES_DEFAULT", "kubernetes://");
    command.arg(top().join("e2e/checks/dag.py")).arg(file);
    api.configure_kubectl(&mut command, "");
    let outcome = succeed(&mut command);
    assert!(outcome.stdout.contains("the same pod\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("done, tried again, not tried again\n"), "{outcome:?}");
    assert_exact(set(AIRFLOW).get("Role", "scan-airflow").unwrap(), &api.accesses());
}
