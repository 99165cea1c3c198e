//! Runs the reloaders with the arguments of the manifests. Paths and ports are replaced by temporary
//! directories and free ports.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use e2e::programs::{command, program};
use e2e::wait_for;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::api::{Answer, Api, Request, deployment};
use crate::objects::{containers, template, texts};
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

/// OPA's pod without OPA: the sidecar copies `opa` from the published volume to `copy`.
struct Opa {
    source: PathBuf,
    volume: PathBuf,
    copy: PathBuf,
    _running: Running,
    _place: TempDir,
}

impl Opa {
    /// Starts the sidecar before the first publication, because a pod may start that early.
    fn start() -> Self {
        let place = TempDir::new().expect("a directory");
        let [source, volume, copy] =
            ["source", "volume", "copy"].map(|name| place.path().join(name));
        for dir in [source.join("opa/below"), volume.clone(), copy.clone()] {
            std::fs::create_dir_all(dir).expect("a directory");
        }
        let program = program("provisioner");
        let words: [(&str, &Path); 3] = [
            ("/usr/local/bin/provisioner", &program),
            ("/data-watch", &volume),
            ("/policies", &copy),
        ];
        let running = Running::start(&mut reloader("opa", &words));
        Self { source, volume, copy, _running: running, _place: place }
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.source.join("opa").join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        std::fs::write(path, content).expect("a file");
    }

    fn publish(&self) {
        publish(&self.source, &self.volume);
    }

    fn is_equal(&self) -> bool {
        let mut diff = Command::new("diff");
        diff.args(["-r", "--no-dereference", "--exclude=..*"]);
        outcome(diff.arg(self.source.join("opa")).arg(&self.copy)).code == Some(0)
    }
}

#[test]
fn the_copy_for_opa_follows_the_volume() {
    let opa = Opa::start();
    opa.write("first.rego", "package first\n");
    opa.write("below/data.json", "{}\n");
    opa.publish();
    wait_for("the first copy", || opa.is_equal());
    opa.write("second.rego", "package second\n");
    opa.write("below/data.json", "{\"a\": 1}\n");
    std::fs::remove_file(opa.source.join("opa/first.rego")).unwrap();
    opa.publish();
    wait_for("the second copy", || opa.is_equal());
}

/// `top` and all directories below it.
fn directories(top: &Path) -> Vec<PathBuf> {
    let mut all = vec![top.to_owned()];
    let mut next = 0;
    while let Some(dir) = all.get(next) {
        let entries = std::fs::read_dir(dir).expect("its entries").flatten();
        let below: Vec<PathBuf> = entries
            .filter(|e| e.file_type().expect("its type").is_dir())
            .map(|e| e.path())
            .collect();
        all.extend(below);
        next += 1;
    }
    all
}

/// OPA watches the directories that exist when it starts, and reloads the whole bundle after an event in
/// one of them. So each copy must cause such an event, even if only newer directories differ.
#[test]
fn each_copy_causes_an_event_in_a_directory_that_opa_watches() {
    let opa = Opa::start();
    opa.write("first.rego", "package first\n");
    opa.publish();
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).unwrap();
    wait_for("the first copy", || opa.is_equal());
    // OPA starts when the sidecar is ready, which is after the first copy.
    wait_for("the record of the copy", || opa.copy.join("..provisioner/files/published").exists());
    let mask = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVE;
    for dir in directories(&opa.copy) {
        // A temporary directory of the copy may be gone.
        let _ = inotify.add_watch(&dir, mask);
    }
    for (name, content) in [
        ("later/rules.rego", "package later\n"),
        ("later/rules.rego", "package changed\n"),
        ("later/more.rego", "package more\n"),
    ] {
        opa.write(name, content);
        opa.publish();
        wait_for(&format!("an event after {content}"), || {
            inotify.read_events().is_ok_and(|events| !events.is_empty()) && opa.is_equal()
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
