//! Runs the pod templates of manifests with `podman kube play`.
//!
//! Podman lacks some of the kubelet's work, so this module does it: it replaces volumes by host paths
//! and mounts a file as termination log. Fields that podman does not support are translated: native
//! sidecars become containers, and probes and ports are removed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::programs::{Outcome, run};
use serde_json::{Map, Value, json};

use crate::image::{DATA_IMAGE, IMAGE};
use crate::podman::{DEBIAN, podman, workspace};

/// Image names in the manifests, and the local images that replace them.
const IMAGES: [(&str, &str); 3] = [
    ("data-owner-resolver", IMAGE),
    ("zeta-guard-provisioning", DATA_IMAGE),
    ("nginx-unprivileged", DEBIAN),
];

/// A pod that has not started yet.
pub struct Pod {
    name: String,
    labels: Value,
    spec: Value,
    config: Vec<Value>,
    logs: Vec<(String, PathBuf)>,
}

impl Pod {
    /// Takes the pod template of the object of this kind in a manifest.
    ///
    /// # Panics
    /// Panics if the manifest has no such object.
    pub fn from_manifest(file: &str, kind: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let path = workspace().join(file);
        let documents = read(&path);
        let object = documents.iter().find(|object| object["kind"] == kind);
        let object = object.unwrap_or_else(|| panic!("{file} has no {kind}"));
        let job = if kind == "CronJob" { &object["spec"]["jobTemplate"] } else { object };
        let template = &job["spec"]["template"];
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut pod = Self {
            name: format!("pod-{number}"),
            labels: template["metadata"]["labels"].clone(),
            spec: template["spec"].clone(),
            config: Vec::new(),
            logs: Vec::new(),
        };
        pod.adapt_to_podman();
        pod
    }

    fn adapt_to_podman(&mut self) {
        let sidecars = self.spec["initContainers"].take();
        let containers = self.spec["containers"].as_array_mut().expect("containers");
        for sidecar in sidecars.as_array().into_iter().flatten().rev() {
            assert_eq!(sidecar["restartPolicy"], "Always", "only native sidecars are supported");
            containers.insert(0, sidecar.clone());
        }
        for container in containers {
            let image = container["image"].as_str().expect("an image");
            let name = image.rsplit('/').next().unwrap_or(image).split(':').next();
            let local = IMAGES.iter().find(|(manifest_name, _)| Some(*manifest_name) == name);
            let local = local.unwrap_or_else(|| panic!("no local image replaces {image}"));
            let fields = container.as_object_mut().expect("an object");
            fields.insert("image".into(), local.1.into());
            fields.insert("imagePullPolicy".into(), "Never".into());
            // Podman 4 binds each `containerPort` on the host too, where two pods would compete for it.
            let dropped =
                ["livenessProbe", "readinessProbe", "startupProbe", "restartPolicy", "ports"];
            for field in dropped {
                fields.remove(field);
            }
        }
        let spec = self.spec.as_object_mut().expect("a pod's specification");
        spec.remove("initContainers");
        // A restart would hide the exit code.
        spec.insert("restartPolicy".into(), "Never".into());
    }

    /// The container of this name.
    ///
    /// # Panics
    /// Panics if the pod has no such container.
    pub fn container(&mut self, name: &str) -> &mut Value {
        let containers = self.spec["containers"].as_array_mut().expect("containers");
        let found = containers.iter_mut().find(|container| container["name"] == name);
        found.unwrap_or_else(|| panic!("no container {name}"))
    }

    /// The whole specification, for changes that the other methods do not make.
    pub fn spec(&mut self) -> &mut Value {
        &mut self.spec
    }

    /// Replaces a volume by a path of this machine. A mount with `subPath` gets a volume
    /// of that path.
    ///
    /// # Panics
    /// Panics if the pod has no such volume.
    pub fn set_volume(&mut self, volume: &str, path: &Path) {
        let volumes = self.spec["volumes"].as_array_mut().expect("volumes");
        let found = volumes.iter_mut().find(|other| other["name"] == volume);
        let found = found.unwrap_or_else(|| panic!("no volume {volume}"));
        *found = json!({"name": volume, "hostPath": {"path": path}});
        let mut files = Vec::new();
        for container in self.spec["containers"].as_array_mut().expect("containers") {
            for mount in container["volumeMounts"].as_array_mut().into_iter().flatten() {
                let sub_path = mount.get("subPath").and_then(Value::as_str).map(str::to_owned);
                if mount["name"] == volume
                    && let Some(sub_path) = sub_path
                {
                    let name = format!("{volume}-{}", files.len());
                    files.push(json!({"name": name, "hostPath": {"path": path.join(sub_path)}}));
                    let fields = mount.as_object_mut().expect("an object");
                    fields.insert("name".into(), name.into());
                    fields.remove("subPath");
                }
            }
        }
        self.spec["volumes"].as_array_mut().expect("volumes").append(&mut files);
    }

    /// Adds a ConfigMap that the pod refers to.
    pub fn config_map(&mut self, name: &str, values: &[(&str, &str)]) {
        let data: Map<_, _> =
            values.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
        let metadata = json!({"name": name});
        self.config.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data
        }));
    }

    /// Starts the pod.
    ///
    /// # Panics
    /// Panics if podman fails.
    pub fn play(mut self) -> Running {
        self.make_empty_directories();
        self.mount_termination_logs();
        let containers = self.spec["containers"].as_array().expect("containers");
        let name = |container: &Value| container["name"].as_str().expect("a name").to_owned();
        let containers = containers.iter().map(name).collect();
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": self.spec,
        });
        let documents: Vec<_> =
            self.config.iter().chain([&pod]).map(|document| format!("{document:#}\n")).collect();
        let file = podman().dir().join(format!("{}.yaml", self.name));
        fs::write(&file, documents.join("---\n")).expect("written");
        let running = Running { name: self.name, containers, logs: self.logs };
        podman().get(&["kube", "play", "--quiet", file.to_str().expect("UTF-8")]);
        running
    }

    /// Replaces each `emptyDir` by a new directory: podman would share it between pods by its name.
    fn make_empty_directories(&mut self) {
        for volume in self.spec["volumes"].as_array_mut().into_iter().flatten() {
            let name = volume["name"].as_str().expect("a name").to_owned();
            if volume.get("emptyDir").is_some() {
                let path = podman().dir().join(format!("{}-{name}.empty", self.name));
                fs::create_dir(&path).expect("made");
                fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).expect("set");
                *volume = json!({"name": name, "hostPath": {"path": path}});
            }
            assert!(
                volume.get("hostPath").is_some(),
                "the test sets no path for the volume {name}"
            );
        }
    }

    fn mount_termination_logs(&mut self) {
        let mut volumes = Vec::new();
        for container in self.spec["containers"].as_array_mut().expect("containers") {
            let name = container["name"].as_str().expect("a name").to_owned();
            let file = podman().dir().join(format!("{}-{name}.termination", self.name));
            fs::write(&file, "").expect("written");
            // The container may run as any user.
            fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("set");
            let volume = format!("termination-{name}");
            volumes.push(json!({"name": volume, "hostPath": {"path": file, "type": "File"}}));
            let mount = json!({"name": volume, "mountPath": "/dev/termination-log"});
            match container["volumeMounts"].as_array_mut() {
                Some(mounts) => mounts.push(mount),
                None => container["volumeMounts"] = json!([mount]),
            }
            self.logs.push((name, file));
        }
        match self.spec["volumes"].as_array_mut() {
            Some(all) => all.append(&mut volumes),
            None => self.spec["volumes"] = volumes.into(),
        }
    }
}

/// The YAML documents of a manifest.
///
/// # Panics
/// Panics if it cannot be read.
pub fn read(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path);
    read_text(&text.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// The YAML documents in a text.
///
/// # Panics
/// Panics if it is not YAML.
pub fn read_text(text: &str) -> Vec<Value> {
    let script = "import json, sys, yaml
json.dump(list(yaml.safe_load_all(sys.stdin)), sys.stdout)";
    let outcome = run(Command::new("/usr/bin/python3").args(["-c", script]), text.as_bytes());
    assert_eq!(outcome.code, Some(0), "{}\n{text}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).expect("JSON")
}

/// A running pod. Dropping it removes the pod.
pub struct Running {
    name: String,
    containers: Vec<String>,
    logs: Vec<(String, PathBuf)>,
}

impl Running {
    /// Podman's name for a container of the pod.
    pub fn container(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// Waits for a container's end, and returns its exit code and output.
    pub fn outcome(&self, name: &str) -> Outcome {
        let code = podman().get(&["wait", &self.container(name)]);
        Outcome { code: code.parse().ok(), ..self.logs_of(name) }
    }

    /// The output of a container so far.
    pub fn logs_of(&self, name: &str) -> Outcome {
        podman().run(&["logs", &self.container(name)])
    }

    /// The termination message of a container.
    ///
    /// # Panics
    /// Panics if there is no such container.
    pub fn termination_message(&self, name: &str) -> String {
        let (_, file) = self.logs.iter().find(|(other, _)| other == name).expect("a container");
        fs::read_to_string(file).expect("read")
    }

    /// The pod's IP address.
    pub fn address(&self) -> String {
        let infra = podman().get(&["pod", "inspect", "--format={{.InfraContainerID}}", &self.name]);
        let format = "--format={{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
        podman().get(&["inspect", format, &infra])
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for name in &self.containers {
                let Outcome { stdout, stderr, .. } = self.logs_of(name);
                println!("{} {name} printed:\n{stdout}{stderr}", self.name);
            }
        }
        let removed = podman().run(&["pod", "rm", "--force", "--time=0", &self.name]);
        assert!(removed.code == Some(0) || std::thread::panicking(), "{}", removed.stderr);
    }
}
