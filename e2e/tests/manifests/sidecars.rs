//! The reloaders of the manifests, run with the very arguments that stand there, but for paths and
//! ports of this machine.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use e2e::programs::{command, program};
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Answer, Api, Request, deployment};
use crate::objects::{containers, template, texts};
use crate::rendered::set;
use crate::rights::assert_exact;
use crate::tools::{outcome, succeed};

/// A reloader that is ended by its own id, however the test ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id().cast_signed()), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// The reloader of a Deployment, with some words of its arguments replaced.
fn reloader(deployment: &str, words: &[(&str, &Path)]) -> Command {
    let base = set("k8s/provisioning/base");
    let pod = base.get("Deployment", deployment).and_then(template).expect("a pod");
    let sidecar = containers(pod).next().expect("the reloader");
    let mut reloader = command("reloader");
    for arg in texts(sidecar, "/args") {
        // Any free port, which nobody asks here.
        let mut arg = arg.replace(":9533", "127.0.0.1:0");
        for (word, here) in words {
            arg = arg.replace(word, here.to_str().expect("UTF-8"));
        }
        reloader.arg(arg);
    }
    reloader.stdout(Stdio::null());
    reloader
}

/// Publishes what is in `source`, as the CronJob does.
fn publish(source: &Path, volume: &Path) {
    succeed(
        command("provisioner")
            .args(["--grace", "0", "--source"])
            .arg(source)
            .arg("--target")
            .arg(volume),
    );
}

#[test]
fn the_copy_for_opa_follows_the_volume() {
    let place = TempDir::new().unwrap();
    let [source, volume, copy] = ["source", "volume", "copy"].map(|name| place.path().join(name));
    for dir in [source.join("opa/below"), volume.clone(), copy.clone()] {
        std::fs::create_dir_all(dir).unwrap();
    }
    let words = [
        ("/usr/local/bin/provisioner", program("provisioner")),
        ("/data-watch", volume.clone()),
        ("/policies", copy.clone()),
    ];
    let words: Vec<(&str, &Path)> =
        words.iter().map(|(word, path)| (*word, path.as_path())).collect();
    let is_equal = || {
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference", "--exclude=..*"]);
        outcome(diff.arg(source.join("opa")).arg(&copy)).code == Some(0)
    };
    // The pod may be there before anything was published.
    let _running = Running(reloader("opa", &words).spawn().expect("reloader"));
    std::fs::write(source.join("opa/first.rego"), "package first\n").unwrap();
    std::fs::write(source.join("opa/below/data.json"), "{}\n").unwrap();
    publish(&source, &volume);
    wait_for("the first copy", is_equal);
    std::fs::write(source.join("opa/second.rego"), "package second\n").unwrap();
    std::fs::write(source.join("opa/below/data.json"), "{\"a\": 1}\n").unwrap();
    std::fs::remove_file(source.join("opa/first.rego")).unwrap();
    publish(&source, &volume);
    wait_for("the second copy", is_equal);
}

/// A Deployment that restarts as soon as it is asked to.
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
fn keycloak_restarts_for_truststores_and_for_nothing_else() {
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
    let patches = || api.asked().iter().filter(|asked| asked.verb == "patch").count();

    let mut reloader = reloader("keycloak-reloader", &[("/data-watch", &volume)]);
    api.introduce(&mut reloader, "");
    let _running = Running(reloader.spawn().expect("reloader"));
    wait_for("the first restart", || patches() == 1);
    let first = annotations();
    std::fs::write(source.join("truststores/ca.pem"), "second\n").unwrap();
    publish(&source, &volume);
    wait_for("the second restart", || patches() == 2);
    assert_ne!(annotations(), first);
    // Policies are not Keycloak's affair: with others, the same truststores are the same content.
    std::fs::write(source.join("opa/a.rego"), "package b\n").unwrap();
    std::fs::write(source.join("truststores/ca.pem"), "first\n").unwrap();
    publish(&source, &volume);
    wait_for("the third restart", || patches() == 3);
    assert_eq!(annotations(), first);
    let role = set("k8s/provisioning/base").get("Role", "keycloak-reloader").unwrap();
    assert_exact(role, &api.asked());
}
