//! A pod: the reloader that serves the bundle, then OPA.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::container::{Container, Running, new_port};
use crate::data::Volume;
use crate::opa::MODULES;

/// The containers before their start.
pub struct Containers {
    pub sidecar: Container,
    pub opa: Container,
    /// The address of the bundle in OPA's configuration.
    pub bundle: String,
}

/// A running pod.
pub struct Pod {
    pub sidecar: Running,
    pub opa: Running,
    pub port: u16,
    metrics: u16,
}

impl Pod {
    /// Starts both containers as the manifest has them.
    pub fn start(volume: &Volume) -> Self {
        Self::start_with(volume, |_| {})
    }

    /// Starts both containers after a change.
    pub fn start_with(volume: &Volume, change: impl FnOnce(&mut Containers)) -> Self {
        let [port, metrics, bundle] = [new_port(), new_port(), new_port()];
        let bundle = format!("127.0.0.1:{bundle}");
        let mut sidecar = Container::of("Deployment", "opa", "reloader", &[]);
        sidecar.volume("provisioned-data", volume.dir());
        sidecar.replace(":9533", &format!("127.0.0.1:{metrics}"));
        sidecar.replace("127.0.0.1:9534", &bundle);
        sidecar.replace("127.0.0.1:8181", &format!("127.0.0.1:{port}"));
        let mut opa = Container::of("Deployment", "opa", "opa", &["/opa"]);
        opa.file(program(), "/opa");
        opa.replace(":8181", &format!("127.0.0.1:{port}"));
        opa.replace("127.0.0.1:9534", &bundle);
        let mut containers = Containers { sidecar, opa, bundle };
        change(&mut containers);
        let Containers { sidecar, opa, .. } = containers;
        Self { sidecar: sidecar.start(), opa: opa.start(), port, metrics }
    }

    /// The body of an answer of OPA's with status 200.
    pub fn get(&self, path: &str) -> Option<String> {
        get(self.port, path)
    }

    /// Whether OPA answers with this version.
    pub fn uses(&self, version: usize) -> bool {
        let numbers = vec![version.to_string(); MODULES + 2].join(",");
        let answer = self.get("/v1/data/check/all").unwrap_or_default();
        answer.trim() == format!("{{\"result\":[{numbers}]}}")
    }

    /// The value of a metric of reloader.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = get(self.metrics, "/metrics")?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }
}

/// The program OPA.
pub fn program() -> PathBuf {
    PathBuf::from(std::env::var_os("OPA").expect("run `make test-applications`"))
}

/// Runs OPA to its end.
pub fn run(directory: &Path, args: &[&str]) {
    let mut opa = Command::new(program());
    let output = opa.current_dir(directory).args(args).output().expect("OPA");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn get(port: u16, path: &str) -> Option<String> {
    let url = format!("http://127.0.0.1:{port}{path}");
    let output = Command::new("curl").args(["--silent", "--fail", &url]).output().expect("curl");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
