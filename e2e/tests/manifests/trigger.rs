//! Runs `examples/trigger-scan.sh` with the real kubectl against the fake API server.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use e2e::programs::{Outcome, run};
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::api::{Access, Answer, Api, Request};
use crate::objects::{template, text};
use crate::rendered::{Set, set};
use crate::rights::assert_exact;
use crate::tools::{tool, top};

const RESULT: &str = "{\n  \"/mnt/data/project-alpha\": {\"30001\": \"alice@example.com\"}\n}\n";

/// What the fake API server does with the Job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scenario {
    Complete(&'static str),
    Failed {
        exit_code: i32,
    },
    NeverEnds,
    Removed,
    /// The first requests for the Job fail with 500.
    TransientErrors,
    /// A Job of that name exists already.
    NameTaken,
}

#[derive(Default)]
struct State {
    job: Option<Value>,
    polls: u32,
    is_deleted: bool,
}

/// A fake cluster. The scenario takes effect after a few polls of the Job.
struct Cluster {
    api: Api,
    state: Arc<Mutex<State>>,
}

fn overlay() -> &'static Set {
    set("k8s/ownership/overlays/trigger")
}

impl Cluster {
    fn with(scenario: Scenario) -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let seen = state.clone();
        let api = Api::serve(move |request| {
            answer(request, scenario, &mut seen.lock().expect("no panic"))
        });
        Self { api, state }
    }

    fn script(&self, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(top().join("examples/trigger-scan.sh")).args(args);
        command.env("KUBECTL", PathBuf::from(tool("kubectl").get_program()));
        self.api.configure_kubectl(&mut command, "");
        command
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.script(args), b"")
    }

    fn is_deleted(&self) -> bool {
        self.state.lock().expect("no panic").is_deleted
    }
}

fn answer(request: &Request, scenario: Scenario, state: &mut State) -> Option<Answer> {
    match (request.verb.as_str(), request.resource.as_str()) {
        ("get", "batch/cronjobs") => {
            Some(Answer::json(200, overlay().get("CronJob", &request.name)?))
        }
        ("create", "batch/jobs") if scenario == Scenario::NameTaken => {
            Some(Answer::failure(409, "AlreadyExists", "jobs.batch already exists"))
        }
        ("create", "batch/jobs") => {
            let mut job =
                overlay().get("CronJob", "data-owner-resolver")?["spec"]["jobTemplate"].clone();
            job["apiVersion"] = "batch/v1".into();
            job["kind"] = "Job".into();
            job["metadata"]["name"] = request.body["metadata"]["name"].clone();
            state.job = Some(job.clone());
            Some(Answer::json(201, &job))
        }
        ("get", "batch/jobs") => poll(scenario, state),
        ("delete", "batch/jobs") => {
            state.is_deleted = true;
            Some(Answer::json(
                200,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
            ))
        }
        ("list", "/pods") => {
            let name = state.job.as_ref()?["metadata"]["name"].as_str()?;
            let is_for = request.query.contains(&format!("job-name%3D{name}"));
            let all = if is_for { pods(scenario) } else { vec![] };
            let wants_done = request.query.contains("fieldSelector=status.phase%3DSucceeded");
            let is_wanted = |pod: &&Value| !wants_done || pod["status"]["phase"] == "Succeeded";
            let items: Vec<&Value> = all.iter().filter(is_wanted).collect();
            Some(Answer::json(200, &json!({"kind": "PodList", "apiVersion": "v1", "items": items})))
        }
        ("get", "/pods") => {
            let pod =
                pods(scenario).into_iter().find(|pod| pod["metadata"]["name"] == *request.name)?;
            Some(Answer::json(200, &pod))
        }
        ("get", "/pods/log") => match scenario {
            Scenario::Complete(log) if request.name == "scan-again" => Some(Answer::text(log)),
            Scenario::TransientErrors => Some(Answer::text(RESULT)),
            _ => Some(Answer::text("the log of a pod that has failed")),
        },
        _ => None,
    }
}

/// The Job's state at this poll.
fn poll(scenario: Scenario, state: &mut State) -> Option<Answer> {
    state.polls += 1;
    let mut job = state.job.clone()?;
    let conditions = match scenario {
        Scenario::Removed if state.polls > 2 => return None,
        Scenario::TransientErrors if state.polls < 4 => {
            return Some(Answer::failure(500, "InternalError", "etcdserver: leader changed"));
        }
        _ if state.polls < 3 => json!([]),
        Scenario::Complete(_) | Scenario::TransientErrors => json!([
            {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]),
        Scenario::Failed { .. } => json!([
            {"type": "FailureTarget", "status": "True"},
            {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "exit code"}]),
        _ => json!([]),
    };
    job["status"] = json!({"conditions": conditions});
    Some(Answer::json(200, &job))
}

/// The Job's pods. Unless the scenario is a failure, the first failed and the second succeeded, as after
/// the loss of a node.
fn pods(scenario: Scenario) -> Vec<Value> {
    let spec =
        &overlay().get("CronJob", "data-owner-resolver").and_then(template).expect("a pod")["spec"];
    let pod = |name: &str, phase: &str, code: i32| {
        let message = format!("{{\"exit_code\":{code},\n\"error\":\"wrong password\"}}");
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "data-owner-resolver"},
            "spec": spec, "status": {"phase": phase, "containerStatuses": [{
                "name": "data-owner-resolver",
                "state": {"terminated": {"exitCode": code, "message": message}}}]}})
    };
    match scenario {
        Scenario::Failed { exit_code } => vec![pod("scan-first", "Failed", exit_code)],
        _ => vec![pod("scan-first", "Failed", 1), pod("scan-again", "Succeeded", 0)],
    }
}

#[test]
fn a_scan_prints_its_result_and_deletes_the_job() {
    let cluster = Cluster::with(Scenario::Complete(RESULT));
    let outcome = cluster.run(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), RESULT), "{outcome:?}");
    assert!(cluster.is_deleted());
    let state = cluster.state.lock().unwrap();
    let name = text(state.job.as_ref().unwrap(), "/metadata/name");
    assert!(name.starts_with("data-owner-resolver-") && name.len() <= 63, "{name}");
}

#[test]
fn a_failed_job_is_reported_at_once_and_not_deleted() {
    for (exit_code, expected) in [(1, 1), (2, 2), (137, 1)] {
        let cluster = Cluster::with(Scenario::Failed { exit_code });
        let outcome = cluster.run(&["-t", "120"]);
        assert_eq!(outcome.code, Some(expected), "{outcome:?}");
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains("PodFailurePolicy: exit code"), "{outcome:?}");
        assert!(outcome.stderr.contains("wrong password"), "{outcome:?}");
        assert!(!cluster.is_deleted());
    }
}

#[test]
fn a_job_that_exceeds_the_timeout_is_deleted() {
    let cluster = Cluster::with(Scenario::NeverEnds);
    let outcome = cluster.run(&["-t", "2", "-j", "mine"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("job/mine has not ended in 2 seconds"), "{outcome:?}");
    assert!(cluster.is_deleted());
}

#[test]
fn a_job_that_was_deleted_is_not_waited_for() {
    let cluster = Cluster::with(Scenario::Removed);
    let outcome = cluster.run(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("is gone"), "{outcome:?}");
}

#[test]
fn transient_errors_of_the_api_are_retried() {
    let cluster = Cluster::with(Scenario::TransientErrors);
    let outcome = cluster.run(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), RESULT), "{outcome:?}");
}

#[test]
fn an_existing_job_of_the_same_name_is_not_deleted() {
    let cluster = Cluster::with(Scenario::NameTaken);
    let outcome = cluster.run(&["-j", "theirs"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(!cluster.is_deleted());
}

#[test]
fn an_incomplete_log_is_an_error() {
    for log in [&RESULT[2..], &RESULT[..RESULT.len() - 2], "some words\n"] {
        let cluster = Cluster::with(Scenario::Complete(log));
        let outcome = cluster.run(&[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("is not complete"), "{outcome:?}");
    }
    for (log, expected_message) in [("", "nothing in the log"), ("{}\n", "")] {
        let cluster = Cluster::with(Scenario::Complete(log));
        let outcome = cluster.run(&[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), log), "{outcome:?}");
        assert!(outcome.stderr.contains(expected_message), "{outcome:?}");
    }
}

#[test]
fn an_interrupted_script_deletes_its_job() {
    let cluster = Cluster::with(Scenario::NeverEnds);
    let mut script = cluster.script(&[]);
    let mut child = script.stderr(Stdio::null()).spawn().expect("sh");
    wait_for("the Job", || cluster.state.lock().unwrap().polls > 0);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(cluster.is_deleted());
}

#[test]
fn the_role_of_the_script_is_exact() {
    let mut accesses: Vec<Access> = Vec::new();
    for scenario in [Scenario::Complete(RESULT), Scenario::Failed { exit_code: 2 }] {
        let cluster = Cluster::with(scenario);
        cluster.run(&["-t", "120"]);
        accesses.extend(cluster.api.accesses());
    }
    assert_exact(overlay().get("Role", "scan-trigger").unwrap(), &accesses);
}

#[test]
fn wrong_arguments_print_the_usage_and_call_no_api() {
    for args in [&["-x"][..], &["-t", "soon"], &["-j"], &["more"]] {
        let cluster = Cluster::with(Scenario::NeverEnds);
        let outcome = cluster.run(args);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("usage: trigger-scan.sh"), "{outcome:?}");
        assert_eq!(cluster.api.accesses(), []);
    }
}
