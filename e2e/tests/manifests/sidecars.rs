//! Runs the reloaders with the arguments of the manifests. Paths and ports are replaced by temporary
//! directories and free ports.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use e2e::programs::command;
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Answer, Api, Request, deployment};
use crate::objects::{containers, name, template, text, texts};
use crate::rendered::set;
use crate::rights::assert_exact;
use crate::tools::{outcome, read, succeed};

/// A running reloader. Dropping it sends SIGTERM and waits.
pub struct Running(Child);

impl Running {
    /// Starts the command.
    pub fn start(reloader: &mut Command) -> Self {
        Self(reloader.spawn().expect("reloader"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// The reloader of a Deployment, with each word in `words` replaced by a path.
fn reloader(deployment: &str, words: &[(&str, &Path)]) -> Command {
    let base = set("k8s/provisioning/base");
    let pod = base.get("Deployment", deployment).and_then(template).expect("a pod");
    let sidecar = containers(pod).next().expect("the reloader");
    let mut reloader = command("reloader");
    for arg in texts(sidecar, "/args") {
        // Any free port: these tests send no request to reloader.
        let mut arg = arg.replace(":9533", "127.0.0.1:0");
        for (word, here) in words {
            arg = arg.replace(word, here.to_str().expect("UTF-8"));
        }
        reloader.arg(arg);
    }
    reloader.stdout(Stdio::null());
    reloader
}

/// Publishes the files in `source`, as the CronJob does.
fn publish(source: &Path, volume: &Path) {
    succeed(
        command("provisioner")
            .args(["--grace", "0", "--source"])
            .arg(source)
            .arg("--target")
            .arg(volume),
    );
}

/// The bundle at a URL, unpacked into a directory, which is empty if none is served yet.
fn bundle(url: &str) -> TempDir {
    let dir = TempDir::new().expect("a directory");
    let script = "curl --silent --fail \"$0\" | tar --extract --gzip --directory \"$1\"";
    outcome(Command::new("sh").args(["-c", script, url]).arg(dir.path()));
    dir
}

/// OPA itself runs in the tests of the applications.
#[test]
fn the_bundle_that_opa_is_configured_to_load_is_served() {
    let place = TempDir::new().expect("a directory");
    let [source, volume] = ["source", "volume"].map(|name| place.path().join(name));
    for dir in [source.join("opa"), volume.clone()] {
        std::fs::create_dir_all(dir).expect("a directory");
    }
    let base = set("k8s/provisioning/base");
    let is_config = |map: &&Value| name(map).starts_with("opa-config-");
    let map = base.of_kind("ConfigMap").find(is_config).expect("the ConfigMap");
    let config = map["data"]["opa-config.yaml"].as_str().expect("the configuration");
    let config: Value = serde_saphyr::from_str(config).expect("YAML");
    let wanted = &config["bundles"]["policies"];
    let service = &config["services"][text(wanted, "/service")];
    let url = format!("{}/{}", text(service, "/url"), text(wanted, "/resource"));

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let address = text(service, "/url").trim_start_matches("http://");
    let words: [(&str, &Path); 4] = [
        ("/data-watch", &volume),
        (address, Path::new(&free)),
        ("--verify-timeout=30", Path::new("--verify-timeout=1")),
        // Nothing listens there.
        ("127.0.0.1:8181", Path::new("127.0.0.1:1")),
    ];
    let url = url.replace(address, &free);
    let _running = Running::start(&mut reloader("opa", &words));
    for policy in ["package first\n", "package second\n"] {
        std::fs::write(source.join("opa/a.rego"), policy).unwrap();
        publish(&source, &volume);
        wait_for(policy, || {
            std::fs::read_to_string(bundle(&url).path().join("a.rego")).is_ok_and(|a| a == policy)
        });
    }
}

/// Answers for a Deployment that completes its restart at once.
fn restart(request: &Request, keycloak: &mut Value) -> Option<Answer> {
    if (request.resource.as_str(), request.name.as_str()) != ("apps/deployments", "keycloak") {
        return None;
    }
    if request.verb == "patch" {
        let pointer = "/spec/template/metadata/annotations";
        keycloak["spec"]["template"]["metadata"]["annotations"] =
            request.body.pointer(pointer)?.clone();
    }
    Some(Answer::json(200, keycloak))
}

#[test]
fn keycloak_restarts_after_a_change_of_truststores_alone() {
    let place = TempDir::new().unwrap();
    let [source, volume] = ["source", "volume"].map(|name| place.path().join(name));
    for dir in [source.join("truststores"), source.join("opa"), volume.clone()] {
        std::fs::create_dir_all(dir).unwrap();
    }
    std::fs::write(source.join("truststores/ca.pem"), "first\n").unwrap();
    std::fs::write(source.join("opa/a.rego"), "package a\n").unwrap();
    publish(&source, &volume);
    let mut keycloak = deployment("provisioning", "keycloak");
    keycloak["metadata"]["generation"] = json!(1);
    keycloak["spec"]["replicas"] = json!(1);
    keycloak["status"] = json!({"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1});
    let keycloak = Arc::new(Mutex::new(keycloak));
    let seen = keycloak.clone();
    let api = Api::serve(move |request| restart(request, &mut seen.lock().unwrap()));
    let annotations =
        || keycloak.lock().unwrap()["spec"]["template"]["metadata"]["annotations"].clone();
    let patches = || api.accesses().iter().filter(|access| access.verb == "patch").count();

    let mut reloader = reloader("keycloak-reloader", &[("/data-watch", &volume)]);
    api.configure_kubectl(&mut reloader, "");
    let _running = Running::start(&mut reloader);
    wait_for("the first restart", || patches() == 1);
    let first = annotations();
    // The guide must name the annotation: tools that revert Deployments to the manifests must ignore it.
    for annotation in first.as_object().unwrap().keys() {
        assert!(read("docs/OPERATIONS.md").contains(&format!("`{annotation}`")), "{annotation}");
    }
    std::fs::write(source.join("truststores/ca.pem"), "second\n").unwrap();
    publish(&source, &volume);
    wait_for("the second restart", || patches() == 2);
    assert_ne!(annotations(), first);
    // Other policies do not change the digest of the truststores.
    std::fs::write(source.join("opa/a.rego"), "package b\n").unwrap();
    std::fs::write(source.join("truststores/ca.pem"), "first\n").unwrap();
    publish(&source, &volume);
    wait_for("the third restart", || patches() == 3);
    assert_eq!(annotations(), first);
    let role = set("k8s/provisioning/base").get("Role", "keycloak-reloader").unwrap();
    assert_exact(role, &api.accesses());
}
