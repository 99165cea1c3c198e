//! A fake Kubernetes API server. It serves discovery for kubectl, passes requests for objects to a
//! handler, and records each access (verb, resource, name) to compare with Roles.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// A request for one object or a list.
#[derive(Clone, Debug)]
pub struct Request {
    /// As in a Role: `get`, `list`, `watch`, `create`, `patch` or `delete`.
    pub verb: String,
    /// Group and resource: `batch/jobs`, `/pods/log`.
    pub resource: String,
    /// The object's name; empty for `list` and `create`.
    pub name: String,
    /// The query string.
    pub query: String,
    /// The object in the request's body.
    pub body: Value,
}

/// The part of a request that a Role allows or forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// As in a Role.
    pub verb: String,
    /// Group and resource.
    pub resource: String,
    /// The object's name; empty if the request has none.
    pub name: String,
}

/// An HTTP response.
pub struct Answer {
    status: u16,
    kind: &'static str,
    body: String,
}

impl Answer {
    /// A response with an object.
    pub fn json(status: u16, object: &Value) -> Self {
        Self { status, kind: "application/json", body: object.to_string() }
    }

    /// A response with plain text, such as a log.
    pub fn text(body: &str) -> Self {
        Self { status: 200, kind: "text/plain", body: body.to_owned() }
    }

    /// An error, as the `Status` object that the API server sends.
    pub fn failure(status: u16, reason: &str, message: &str) -> Self {
        let object = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
            "code": status, "reason": reason, "message": message});
        Self::json(status, &object)
    }
}

type Handler = dyn Fn(&Request) -> Option<Answer> + Send + Sync;

/// The running server. Its threads end with the test process.
pub struct Api {
    dir: TempDir,
    accesses: Arc<Mutex<Vec<Access>>>,
}

impl Api {
    /// Serves on loopback. `handler` answers requests for objects; `None` becomes 404.
    pub fn serve(handler: impl Fn(&Request) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let server = format!("http://{}", listener.local_addr().expect("an address"));
        let dir = TempDir::new().expect("a directory");
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": server}}],
            "users": [{"name": "test", "user": {"token": "none"}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}]});
        std::fs::write(dir.path().join("config"), config.to_string()).expect("a file");
        let accesses = Arc::new(Mutex::new(Vec::new()));
        let (handler, recorded): (Arc<Handler>, _) = (Arc::new(handler), accesses.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (handler, recorded) = (handler.clone(), recorded.clone());
                thread::spawn(move || serve_connection(stream, &*handler, &recorded));
            }
        });
        Self { dir, accesses }
    }

    /// Sets KUBECONFIG so that kubectl, in this command or below it, calls this server.
    pub fn configure_kubectl(&self, command: &mut Command, namespace: &str) {
        let dir = self.dir.path();
        command.env("KUBECONFIG", dir.join("config")).env("KUBECACHEDIR", dir.join("cache"));
        if !namespace.is_empty() {
            command.args(["--namespace", namespace]);
        }
    }

    /// The accesses so far, in order.
    pub fn accesses(&self) -> Vec<Access> {
        self.accesses.lock().expect("no panic").clone()
    }
}

fn serve_connection(
    stream: TcpStream,
    handler: &Handler,
    accesses: &Mutex<Vec<Access>>,
) -> Option<()> {
    let mut writer = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let (method, target) = line.split_once(' ')?;
        let target = target.split(' ').next()?.to_owned();
        let method = method.to_owned();
        let mut length = 0;
        loop {
            let mut header = String::new();
            reader.read_line(&mut header).ok()?;
            let Some((name, value)) = header.split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let answer = answer(&method, &target, &body, handler, accesses);
        let Answer { status, kind, body } = answer
            .unwrap_or_else(|| Answer::failure(404, "NotFound", &format!("{target} not found")));
        let size = body.len();
        write!(
            writer,
            "HTTP/1.1 {status} -\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n{body}"
        )
        .ok()?;
    }
}

fn answer(
    method: &str,
    target: &str,
    body: &[u8],
    handler: &Handler,
    accesses: &Mutex<Vec<Access>>,
) -> Option<Answer> {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if let Some(known) = discovery(path) {
        return Some(Answer::json(200, &known));
    }
    let request = request(method, path, query, body)?;
    let Request { verb, resource, name, .. } = request.clone();
    accesses.lock().expect("no panic").push(Access { verb, resource, name });
    handler(&request)
}

fn request(method: &str, path: &str, query: &str, body: &[u8]) -> Option<Request> {
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let (group, rest) = match parts[..] {
        ["api", "v1", ref rest @ ..] => ("", rest),
        ["apis", group, _, ref rest @ ..] => (group, rest),
        _ => return None,
    };
    let (resource, name) = match *rest {
        ["namespaces", _, resource] => (resource.to_owned(), ""),
        ["namespaces", _, resource, name] => (resource.to_owned(), name),
        ["namespaces", _, resource, name, part] => (format!("{resource}/{part}"), name),
        _ => return None,
    };
    let verb = match (method, name) {
        ("GET", _) if query.split('&').any(|part| part == "watch=true" || part == "watch=True") => {
            "watch"
        }
        ("GET", "") => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => return None,
    };
    Some(Request {
        verb: verb.to_owned(),
        resource: format!("{group}/{resource}"),
        name: name.to_owned(),
        query: query.to_owned(),
        body: serde_json::from_slice(body)
            .unwrap_or_else(|_| protobuf_object(body).unwrap_or_default()),
    })
}

/// The name of an object in a protobuf body. The body is `k8s\0` and an envelope. Field 2 of the
/// envelope is the object, field 1 of the object is its metadata, and field 1 of that is the name.
fn protobuf_object(body: &[u8]) -> Option<Value> {
    let object = field(body.strip_prefix(b"k8s\0")?, 2)?;
    let name = std::str::from_utf8(field(field(object, 1)?, 1)?).ok()?;
    Some(json!({"metadata": {"name": name}}))
}

/// The bytes of a field of a protobuf message. Supports length-delimited fields alone.
fn field(mut message: &[u8], wanted: u64) -> Option<&[u8]> {
    let number = |message: &mut &[u8]| {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (first, rest) = message.split_first()?;
            *message = rest;
            value |= u64::from(first & 0x7f) << shift;
            if first & 0x80 == 0 {
                break;
            }
        }
        Some(value)
    };
    loop {
        let tag = number(&mut message)?;
        let length = usize::try_from(number(&mut message)?).ok()?;
        let (content, rest) = message.split_at_checked(length)?;
        if tag == (wanted << 3 | 2) {
            return Some(content);
        }
        message = rest;
    }
}

/// The API's answers to discovery requests.
fn discovery(path: &str) -> Option<Value> {
    let group = |name: &str| {
        let version = json!({"groupVersion": format!("{name}/v1"), "version": "v1"});
        json!({"name": name, "versions": [version], "preferredVersion": version})
    };
    let resources = |version: &str, all: &[(&str, &str)]| {
        let verbs = ["create", "delete", "get", "list", "patch", "watch"];
        let all = all.iter().map(|(name, kind)| {
            json!({"name": name, "singularName": kind.to_lowercase(), "namespaced": true,
                "kind": kind, "verbs": verbs})
        });
        let all: Vec<Value> = all.collect();
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": all})
    };
    Some(match path {
        "/api" => json!({"kind": "APIVersions", "versions": ["v1"]}),
        "/apis" => json!({"kind": "APIGroupList", "apiVersion": "v1",
            "groups": [group("apps"), group("batch")]}),
        "/api/v1" => resources("v1", &[("pods", "Pod")]),
        "/apis/apps/v1" => resources("apps/v1", &[("deployments", "Deployment")]),
        "/apis/batch/v1" => resources("batch/v1", &[("cronjobs", "CronJob"), ("jobs", "Job")]),
        _ => return None,
    })
}

/// A minimal Deployment.
pub fn deployment(namespace: &str, name: &str) -> Value {
    let labels = json!({"app": name});
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": namespace, "resourceVersion": "1"},
        "spec": {"selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels},
                "spec": {"containers": [{"name": "main", "image": "image"}]}}}})
}
