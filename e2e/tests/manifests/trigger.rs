//! `examples/trigger-scan.sh` with the real kubectl, against something that answers like the API.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use e2e::programs::{Outcome, run};
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::api::{Answer, Api, Asked, Request};
use crate::objects::{template, text};
use crate::rendered::{Set, set};
use crate::rights::assert_exact;
use crate::tools::{tool, top};

const RESULT: &str = "{\n  \"/mnt/data/project-alpha\": {\"30001\": \"alice@example.com\"}\n}\n";

/// What becomes of the Job.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Complete(&'static str),
    Failed {
        exit_code: i32,
    },
    Endless,
    Removed,
    /// The API has trouble at first.
    Troubled,
    /// There is one of that name already.
    Taken,
}

#[derive(Default)]
struct World {
    job: Option<Value>,
    polls: u32,
    is_deleted: bool,
}

/// A cluster in which a Job meets its fate after some looks at it.
struct Cluster {
    api: Api,
    world: Arc<Mutex<World>>,
}

fn overlay() -> &'static Set {
    set("k8s/ownership/overlays/trigger")
}

impl Cluster {
    fn with(fate: Fate) -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let seen = world.clone();
        let api =
            Api::serve(move |request| answer(request, fate, &mut seen.lock().expect("no panic")));
        Self { api, world }
    }

    fn script(&self, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        command.arg(top().join("examples/trigger-scan.sh")).args(args);
        command.env("KUBECTL", PathBuf::from(tool("kubectl").get_program()));
        self.api.introduce(&mut command, "");
        command
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.script(args), b"")
    }

    fn is_deleted(&self) -> bool {
        self.world.lock().expect("no panic").is_deleted
    }
}

fn answer(request: &Request, fate: Fate, world: &mut World) -> Option<Answer> {
    match (request.verb.as_str(), request.resource.as_str()) {
        ("get", "batch/cronjobs") => {
            Some(Answer::json(200, overlay().get("CronJob", &request.name)?))
        }
        ("create", "batch/jobs") if fate == Fate::Taken => {
            Some(Answer::failure(409, "AlreadyExists", "jobs.batch already exists"))
        }
        ("create", "batch/jobs") => {
            let mut job =
                overlay().get("CronJob", "data-owner-resolver")?["spec"]["jobTemplate"].clone();
            job["apiVersion"] = "batch/v1".into();
            job["kind"] = "Job".into();
            job["metadata"]["name"] = request.body["metadata"]["name"].clone();
            world.job = Some(job.clone());
            Some(Answer::json(201, &job))
        }
        ("get", "batch/jobs") => look(fate, world),
        ("delete", "batch/jobs") => {
            world.is_deleted = true;
            Some(Answer::json(
                200,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
            ))
        }
        ("list", "/pods") => {
            let name = world.job.as_ref()?["metadata"]["name"].as_str()?;
            let is_for = request.query.contains(&format!("job-name%3D{name}"));
            let all = if is_for { pods(fate) } else { vec![] };
            let wants_done = request.query.contains("fieldSelector=status.phase%3DSucceeded");
            let is_wanted = |pod: &&Value| !wants_done || pod["status"]["phase"] == "Succeeded";
            let items: Vec<&Value> = all.iter().filter(is_wanted).collect();
            Some(Answer::json(200, &json!({"kind": "PodList", "apiVersion": "v1", "items": items})))
        }
        ("get", "/pods") => {
            let pod =
                pods(fate).into_iter().find(|pod| pod["metadata"]["name"] == *request.name)?;
            Some(Answer::json(200, &pod))
        }
        ("get", "/pods/log") => match fate {
            Fate::Complete(log) if request.name == "scan-again" => Some(Answer::text(log)),
            Fate::Troubled => Some(Answer::text(RESULT)),
            _ => Some(Answer::text("the log of a pod that has failed")),
        },
        _ => None,
    }
}

/// The Job, as it is at this look.
fn look(fate: Fate, world: &mut World) -> Option<Answer> {
    world.polls += 1;
    let mut job = world.job.clone()?;
    let conditions = match fate {
        Fate::Removed if world.polls > 2 => return None,
        Fate::Troubled if world.polls < 4 => {
            return Some(Answer::failure(500, "InternalError", "etcdserver: leader changed"));
        }
        _ if world.polls < 3 => json!([]),
        Fate::Complete(_) | Fate::Troubled => json!([
            {"type": "SuccessCriteriaMet", "status": "True"}, {"type": "Complete", "status": "True"}]),
        Fate::Failed { .. } => json!([
            {"type": "FailureTarget", "status": "True"},
            {"type": "Failed", "status": "True", "reason": "PodFailurePolicy", "message": "exit code"}]),
        _ => json!([]),
    };
    job["status"] = json!({"conditions": conditions});
    Some(Answer::json(200, &job))
}

/// Two pods: the first was tried in vain, as it is after a node went away.
fn pods(fate: Fate) -> Vec<Value> {
    let spec =
        &overlay().get("CronJob", "data-owner-resolver").and_then(template).expect("a pod")["spec"];
    let pod = |name: &str, phase: &str, code: i32| {
        let message = format!("{{\"exit_code\":{code},\n\"error\":\"wrong password\"}}");
        json!({"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name, "namespace": "data-owner-resolver"},
            "spec": spec, "status": {"phase": phase, "containerStatuses": [{
                "name": "data-owner-resolver",
                "state": {"terminated": {"exitCode": code, "message": message}}}]}})
    };
    match fate {
        Fate::Failed { exit_code } => vec![pod("scan-first", "Failed", exit_code)],
        _ => vec![pod("scan-first", "Failed", 1), pod("scan-again", "Succeeded", 0)],
    }
}

#[test]
fn a_scan_gives_its_result_and_leaves_nothing() {
    let cluster = Cluster::with(Fate::Complete(RESULT));
    let outcome = cluster.run(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), RESULT), "{outcome:?}");
    assert!(cluster.is_deleted());
    let world = cluster.world.lock().unwrap();
    let name = text(world.job.as_ref().unwrap(), "/metadata/name");
    assert!(name.starts_with("data-owner-resolver-") && name.len() <= 63, "{name}");
}

#[test]
fn a_failed_job_is_told_at_once_and_kept() {
    for (exit_code, expected) in [(1, 1), (2, 2), (137, 1)] {
        let cluster = Cluster::with(Fate::Failed { exit_code });
        let outcome = cluster.run(&["-t", "120"]);
        assert_eq!(outcome.code, Some(expected), "{outcome:?}");
        assert_eq!(outcome.stdout, "");
        assert!(outcome.stderr.contains("PodFailurePolicy: exit code"), "{outcome:?}");
        assert!(outcome.stderr.contains("wrong password"), "{outcome:?}");
        assert!(!cluster.is_deleted());
    }
}

#[test]
fn a_job_that_does_not_end_is_given_up_and_removed() {
    let cluster = Cluster::with(Fate::Endless);
    let outcome = cluster.run(&["-t", "2", "-j", "mine"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("job/mine has not ended in 2 seconds"), "{outcome:?}");
    assert!(cluster.is_deleted());
}

#[test]
fn a_job_that_somebody_removes_is_not_waited_for() {
    let cluster = Cluster::with(Fate::Removed);
    let outcome = cluster.run(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(outcome.stderr.contains("is gone"), "{outcome:?}");
}

#[test]
fn trouble_of_the_api_that_passes_is_sat_out() {
    let cluster = Cluster::with(Fate::Troubled);
    let outcome = cluster.run(&[]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), RESULT), "{outcome:?}");
}

#[test]
fn a_job_of_somebody_else_is_left_alone() {
    let cluster = Cluster::with(Fate::Taken);
    let outcome = cluster.run(&["-j", "theirs"]);
    assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
    assert!(!cluster.is_deleted());
}

#[test]
fn a_log_that_is_not_complete_is_no_result() {
    for log in [&RESULT[2..], &RESULT[..RESULT.len() - 2], "some words\n"] {
        let cluster = Cluster::with(Fate::Complete(log));
        let outcome = cluster.run(&[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(1), ""), "{outcome:?}");
        assert!(outcome.stderr.contains("is not complete"), "{outcome:?}");
    }
    for (log, told) in [("", "nothing in the log"), ("{}\n", "")] {
        let cluster = Cluster::with(Fate::Complete(log));
        let outcome = cluster.run(&[]);
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(0), log), "{outcome:?}");
        assert!(outcome.stderr.contains(told), "{outcome:?}");
    }
}

#[test]
fn an_interrupted_script_removes_its_job() {
    let cluster = Cluster::with(Fate::Endless);
    let mut script = cluster.script(&[]);
    let mut child = script.stderr(Stdio::null()).spawn().expect("sh");
    wait_for("the Job", || cluster.world.lock().unwrap().polls > 0);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(cluster.is_deleted());
}

#[test]
fn the_account_may_do_what_the_script_does_and_no_more() {
    let mut asked: Vec<Asked> = Vec::new();
    for fate in [Fate::Complete(RESULT), Fate::Failed { exit_code: 2 }] {
        let cluster = Cluster::with(fate);
        cluster.run(&["-t", "120"]);
        asked.extend(cluster.api.asked());
    }
    assert_exact(overlay().get("Role", "scan-trigger").unwrap(), &asked);
}

#[test]
fn wrong_calls_are_told() {
    for args in [&["-x"][..], &["-t", "soon"], &["-j"], &["more"]] {
        let cluster = Cluster::with(Fate::Endless);
        let outcome = cluster.run(args);
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.stderr.contains("usage: trigger-scan.sh"), "{outcome:?}");
        assert_eq!(cluster.api.asked(), []);
    }
}
