//! OPA and its sidecar.

use std::path::PathBuf;
use std::process::Command;

use crate::container::{Container, Running, new_port, wait_for};
use crate::data::{Volume, tree};

/// A pod: the sidecar, then OPA.
struct Opa {
    _sidecar: Running,
    opa: Running,
    port: u16,
}

impl Opa {
    /// Starts both containers as the manifest has them.
    fn start(volume: &Volume) -> Self {
        let (port, sidecar_port) = (new_port(), new_port());
        let mut sidecar = Container::of("Deployment", "opa", "reloader", &[]);
        sidecar.volume("provisioned-data", volume.dir());
        sidecar.replace(":9533", &format!("127.0.0.1:{sidecar_port}"));
        let mut opa = Container::of("Deployment", "opa", "opa", &["/opa"]);
        let program = std::env::var_os("OPA").expect("run `make test-applications`");
        opa.file(PathBuf::from(program), "/opa");
        opa.volume("policies", sidecar.path_of("policies"));
        opa.replace(":8181", &format!("127.0.0.1:{port}"));
        let sidecar = sidecar.start();
        wait_for("the sidecar", || get(&format!("http://127.0.0.1:{sidecar_port}/readyz")));
        Self { _sidecar: sidecar, opa: opa.start(), port }
    }

    fn get(&self, path: &str) -> Option<String> {
        get(&format!("http://127.0.0.1:{}{path}", self.port))
    }
}

/// The body of an answer with status 200.
fn get(url: &str) -> Option<String> {
    let output = Command::new("curl").args(["--silent", "--fail", url]).output().expect("curl");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
#[ignore = "run by make test-applications"]
fn opa_answers_with_the_arguments_of_the_manifest() {
    let volume = Volume::new();
    let policy = b"package answers\n\nvalue := 42\n".as_slice();
    volume.publish(&tree(&[("opa/answers.rego", policy)]));
    let mut opa = Opa::start(&volume);
    let (answer, after) = wait_for("OPA's answer", || {
        opa.opa.assert_runs();
        opa.get("/v1/data/answers/value").filter(|answer| answer.contains("result"))
    });
    assert_eq!(answer.trim(), r#"{"result":42}"#);
    println!("OPA answers {after:.2?} after its start");
}
