//! Provokes reloader's messages about applications that do not load the published files.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::thread;

use e2e::nginx::{Nginx, Setup};
use e2e::programs::{command, program, run};
use e2e::{is_root, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::api::{Answer, Api, Request, deployment};
use crate::sidecars::Running;
use crate::symptoms::{Symptom, unshare, without_rights};

/// Each message as in the guides, and the function that provokes it.
pub const RELOADER_MESSAGES: [Symptom; 11] = [
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
    ("OPA refuses the bundle: ...", refused_bundle),
    ("the bundle was cut off: ...", changed_file),
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

/// A reloader that serves a directory with a file, and the messages that it writes.
struct BundleServer {
    dir: TempDir,
    url: String,
    _running: Running,
}

impl BundleServer {
    fn start(args: &[&str]) -> Self {
        let dir = TempDir::new().expect("a directory");
        fs::create_dir(dir.path().join("opa")).expect("made");
        fs::write(dir.path().join("opa/a.rego"), "package a\n").expect("a file");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("a port").to_string();
        let file = |name: &str| fs::File::create(dir.path().join(name)).expect("a file");
        let mut reloader = command("reloader");
        reloader.args(["--debounce", "2", "--serve-bundle", &address]).args(args);
        reloader.arg(dir.path().join("opa")).stdout(file("stdout")).stderr(file("stderr"));
        let running = Running::start(&mut reloader);
        Self { dir, url: format!("http://{address}/bundle.tar.gz"), _running: running }
    }

    /// Whether a client gets the whole bundle.
    fn is_whole(&self) -> bool {
        get(&self.url)
    }

    /// Waits for a message.
    fn message(&self, text: &str) -> String {
        let stderr = || fs::read_to_string(self.dir.path().join("stderr")).expect("UTF-8");
        wait_for(text, || stderr().contains(text));
        stderr()
    }
}

fn get(url: &str) -> bool {
    run(Command::new("curl").args(["--silent", "--fail", "--output", "/dev/null", url]), b"").code
        == Some(0)
}

/// Changes a file after the scan and before the next one.
fn changed_file() -> String {
    let server = BundleServer::start(&[]);
    wait_for("the bundle", || server.is_whole());
    fs::write(server.dir.path().join("opa/a.rego"), "package b\n").expect("a file");
    assert!(!server.is_whole());
    server.message("the bundle was cut off")
}

/// Answers as an OPA that refuses each bundle.
fn refused_bundle() -> String {
    let opa = TcpListener::bind("127.0.0.1:0").expect("a port");
    let base = format!("http://{}", opa.local_addr().expect("an address"));
    let server = BundleServer::start(&["--verify-opa", &base, "--verify-timeout", "60"]);
    let url = server.url.clone();
    thread::spawn(move || {
        for mut stream in opa.incoming().flatten() {
            let mut request = String::new();
            let _ = BufReader::new(&stream).read_line(&mut request);
            get(&url);
            let body = match request.contains("/v1/status") {
                true => {
                    r#"{"result": {"bundles": {"policies": {
                        "last_request": "2999-01-01T00:00:00Z", "message": "a mistake"}}}}"#
                }
                false => "{}",
            };
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close");
            let _ = write!(stream, "{head}\r\n\r\n{body}");
        }
    });
    server.message("OPA refuses the bundle")
}
