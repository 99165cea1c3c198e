//! Provokes reloader's messages about applications that do not load the published files.

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

/// Each message as in the guides, and the function that provokes it.
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

/// The annotations in a patch of a Deployment.
const ANNOTATIONS: &str = "/spec/template/metadata/annotations";

/// Runs reloader for one attempt at its start, and returns its output.
fn run_once(reloader: &mut Command, args: &[&str]) -> String {
    let watched = TempDir::new().expect("a directory");
    fs::set_permissions(watched.path(), Permissions::from_mode(0o755)).expect("its mode");
    fs::write(watched.path().join("file"), "content\n").expect("a file");
    let outcome = run(reloader.args(["--once", "--at-start"]).args(args).arg(watched.path()), b"");
    outcome.stdout + &outcome.stderr
}

/// Options of unshare for a new PID namespace, as a container has.
const CONTAINER: [&str; 4] = ["--pid", "--fork", "--kill-child", "--mount-proc"];

/// Runs reloader where process 1 is named `pause`, as in a pod that shares its PID namespace.
fn with_pause_as_process_1() -> String {
    let dir = TempDir::new().expect("a directory");
    let pause = dir.path().join("pause");
    let copied = Command::new("cp").arg("/bin/sh").arg(&pause).status().expect("cp");
    assert!(copied.success());
    let mut container = unshare(&CONTAINER);
    // The `exit` keeps the shell from replacing itself with reloader.
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

/// Runs a rolling restart. `answer` responds to each request for the Deployment, which never changes.
fn roll_out(answer: fn(&Request, Value) -> Answer) -> String {
    let keycloak = || deployment("provisioning", "keycloak");
    let api = Api::serve(move |request| Some(answer(request, keycloak())));
    let mut reloader = command("reloader");
    api.configure_kubectl(&mut reloader, "");
    run_once(&mut reloader, &["--rollout", "deployment/keycloak", "--wait", "60"])
}

/// Runs reloader on a missing directory. Reads the message while reloader waits for the directory.
fn missing_directory() -> String {
    let dir = TempDir::new().expect("a directory");
    let stderr = dir.path().join("stderr");
    let mut reloader = command("reloader");
    reloader.args(["--dry-run", "--at-start"]).arg(dir.path().join("opa"));
    reloader.stdout(Stdio::null()).stderr(fs::File::create(&stderr).expect("a file"));
    let _running = Running::start(&mut reloader);
    wait_for("the message", || fs::read_to_string(&stderr).expect("UTF-8").ends_with('\n'));
    fs::read_to_string(&stderr).expect("UTF-8")
}
