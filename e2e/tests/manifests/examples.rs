//! The examples, each by what would read it.

use std::process::Command;

use tempfile::TempDir;

use crate::api::Api;
use crate::objects::{name, text};
use crate::rendered::{set, sets};
use crate::tools::{files, outcome, read, succeed, tool, top};

#[test]
fn gitlab_would_take_the_job() {
    let all = files("examples/gitlab", &[".gitlab-ci.yml"]);
    assert!(!all.is_empty());
    succeed(tool("check-jsonschema").args(["--builtin-schema", "vendor.gitlab-ci"]).args(&all));
    let place = TempDir::new().unwrap();
    let wrong = place.path().join("wrong.yml");
    std::fs::write(&wrong, "job: {script: [true], only_on: [schedules]}").unwrap();
    let outcome =
        outcome(tool("check-jsonschema").args(["--builtin-schema", "vendor.gitlab-ci"]).arg(wrong));
    assert_ne!(outcome.code, Some(0), "the schema refuses nothing");
}

#[test]
fn nginx_would_take_its_configuration() {
    let set = set("k8s/provisioning/base");
    let map = set.of_kind("ConfigMap").find(|map| name(map).starts_with("nginx-config-")).unwrap();
    let place = TempDir::new().unwrap();
    let (file, published) = (place.path().join("nginx.conf"), place.path().join("data"));
    std::fs::create_dir_all(published.join("nginx")).unwrap();
    // The paths of the image and the pod, here; no mount is needed for that.
    let at = |path: &str| format!("{}/{path}", place.path().display());
    let configuration = text(map, "/data/nginx.conf")
        .replace("/tmp/", &at(""))
        .replace("/etc/nginx/provisioning-data/", &at("data/"));
    std::fs::write(&file, configuration).unwrap();
    let test = || {
        let mut nginx = Command::new("nginx");
        nginx.env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap()));
        outcome(nginx.args(["-t", "-e", "stderr", "-p"]).arg(place.path()).arg("-c").arg(&file))
    };
    let tested = test();
    assert_eq!(tested.code, Some(0), "{tested:?}");
    // What is published is read.
    std::fs::write(published.join("nginx/maps.conf"), "map $host $which { default 1; }\n").unwrap();
    assert_eq!(test().code, Some(0));
    std::fs::write(published.join("nginx/maps.conf"), "no such thing;\n").unwrap();
    assert_ne!(test().code, Some(0));
}

#[test]
fn recipes_give_what_they_say() {
    let place = TempDir::new().unwrap();
    let page = read("examples/jq-recipes.md");
    let mut blocks = page.split("```").skip(1).step_by(2);
    let mut count = 0;
    let mut file = "owners.json";
    while let Some(block) = blocks.next() {
        let (language, content) = block.split_once('\n').unwrap();
        if language == "json" {
            std::fs::write(place.path().join(file), content).unwrap();
            file = "before.json";
            continue;
        }
        assert_eq!(language, "sh");
        let expected = blocks.next().and_then(|next| next.strip_prefix("text\n")).expect(content);
        let outcome = outcome(Command::new("sh").args(["-c", content]).current_dir(place.path()));
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
fn examples_name_what_the_manifests_have() {
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
fn images_of_examples_are_those_of_the_manifests() {
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
    // What is settled when the image is built must be the same when it starts.
    let config = set("k8s/provisioning/base");
    let config =
        config.of_kind("ConfigMap").find(|map| name(map).starts_with("keycloak-config-")).unwrap();
    let built = keycloak.lines().find_map(|line| line.strip_prefix("ENV ")).unwrap();
    for setting in built.split_whitespace() {
        let (variable, value) = setting.split_once('=').unwrap();
        assert_eq!(config["data"][variable], value, "{variable}");
    }
}

#[test]
fn containerfiles_are_sound() {
    let mut all = files("examples", &["Containerfile"]);
    if top().join("Containerfile").is_file() {
        all.push("Containerfile".to_owned());
    }
    succeed(tool("hadolint").args(["--failure-threshold", "info"]).args(&all));
}

/// With Airflow itself, which is large: `make test-airflow`.
#[test]
#[ignore = "needs Airflow"]
fn airflow_runs_the_pod_of_the_cron_job() {
    let place = TempDir::new().unwrap();
    let cron = set("k8s/ownership/base").of_kind("CronJob").next().unwrap();
    let file = place.path().join("cronjob.json");
    std::fs::write(&file, cron.to_string()).unwrap();
    // Nobody is asked, but Airflow wants to know whom it could ask.
    let api = Api::serve(|_| None);
    let python = top().join("target/airflow/bin/python");
    let mut command = Command::new(python);
    command.env("AIRFLOW_HOME", place.path()).env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
    command.arg(top().join("e2e/checks/dag.py")).arg(file);
    api.introduce(&mut command, "");
    let outcome = succeed(&mut command);
    assert!(outcome.stdout.contains("the same pod"), "{outcome:?}");
}
