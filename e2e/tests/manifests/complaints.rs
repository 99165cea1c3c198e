//! What reloader says when an application does not use what is published, as it really says it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use e2e::nginx::{Nginx, Setup};
use e2e::programs::{command, program, run};
use e2e::{is_root, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::api::{Answer, Api, Request, deployment};
use crate::sidecars::Running;
use crate::symptoms::{Symptom, unshare, without_rights};

/// Each as the guides have it.
pub const RELOADER_MESSAGES: [Symptom; 9] = [
    ("reloaded: ...", || run_once(&mut command("reloader"), &["--exec", "true"])),
    (
        "process 1 is ..., which would not pass the signal on: name the process that is meant, as in \
         --process 'nginx: master'",
        with_pause_as_process_1,
    ),
    (
        "no process of another container is visible: the pod needs `shareProcessNamespace: true`",
        without_visible_processes,
    ),
    ("not permitted to send HUP ...", other_user),
    (
        "nginx kept its old workers: its configuration is probably wrong, see its error log",
        wrong_configuration,
    ),
    ("forbidden, a Role must allow it", || {
        roll_out(|_, _| {
            let message = "deployments.apps \"keycloak\" is forbidden: User \"x\" cannot get it";
            Answer::failure(403, "Forbidden", message)
        })
    }),
    ("deployment/keycloak in namespace ... is paused", || {
        roll_out(|_, mut keycloak| {
            keycloak["spec"]["paused"] = true.into();
            Answer::json(200, &keycloak)
        })
    }),
    ("the annotation ... was removed", || {
        roll_out(|request, mut keycloak| {
            if let Some(annotations) = request.body.pointer(ANNOTATIONS) {
                keycloak["spec"]["template"]["metadata"]["annotations"] = annotations.clone();
            }
            Answer::json(200, &keycloak)
        })
    }),
    ("failed to open `...`: no such file or directory", missing_directory),
];

/// Where a patch has them.
const ANNOTATIONS: &str = "/spec/template/metadata/annotations";

/// What is said of one attempt, at the start.
fn run_once(reloader: &mut Command, args: &[&str]) -> String {
    let watched = TempDir::new().expect("a directory");
    fs::set_permissions(watched.path(), Permissions::from_mode(0o755)).expect("its mode");
    fs::write(watched.path().join("file"), "content\n").expect("a file");
    let outcome = run(reloader.args(["--once", "--at-start"]).args(args).arg(watched.path()), b"");
    outcome.stdout + &outcome.stderr
}

/// A namespace of processes of its own, as a container has it.
const CONTAINER: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// Where process 1 is one that is called as the pod's own.
fn with_pause_as_process_1() -> String {
    let dir = TempDir::new().expect("a directory");
    let pause = dir.path().join("pause");
    let copied = Command::new("cp").arg("/bin/sh").arg(&pause).status().expect("cp");
    assert!(copied.success());
    let mut container = unshare(&CONTAINER);
    // Something follows, so that the shell stays.
    container.arg(&pause).args(["-c", "\"$@\"; exit $?", "sh"]).arg(program("reloader"));
    run_once(&mut container, &[])
}

fn without_visible_processes() -> String {
    let mut container = unshare(&CONTAINER);
    run_once(container.arg(program("reloader")), &["--process", "nginx: master"])
}

/// Empty unless root runs the test: only root can become another user.
fn other_user() -> String {
    if !is_root() {
        return String::new();
    }
    let nginx = Nginx::start(&Setup::default());
    let dir = TempDir::new().expect("a directory");
    let mut other = without_rights("reloader", dir.path());
    run_once(&mut other, &["--process", &nginx.title()])
}

fn wrong_configuration() -> String {
    let nginx = Nginx::start(&Setup::default());
    nginx.break_configuration();
    run_once(&mut command("reloader"), &["--process", &nginx.title()])
}

/// A rolling restart, with what the API answers of a Deployment as it is at first.
fn roll_out(answer: fn(&Request, Value) -> Answer) -> String {
    let keycloak = || deployment("provisioning", "keycloak");
    let api = Api::serve(move |request| Some(answer(request, keycloak())));
    let mut reloader = command("reloader");
    api.configure_kubectl(&mut reloader, "");
    run_once(&mut reloader, &["--rollout", "deployment/keycloak", "--wait", "60"])
}

/// It goes on and waits: what it says is read while it does.
fn missing_directory() -> String {
    let dir = TempDir::new().expect("a directory");
    let stderr = dir.path().join("told");
    let mut reloader = command("reloader");
    reloader.args(["--dry-run", "--at-start"]).arg(dir.path().join("opa"));
    reloader.stdout(Stdio::null()).stderr(fs::File::create(&stderr).expect("a file"));
    let _running = Running::start(&mut reloader);
    wait_for("a complaint", || fs::read_to_string(&stderr).expect("UTF-8").ends_with('\n'));
    fs::read_to_string(&stderr).expect("UTF-8")
}
