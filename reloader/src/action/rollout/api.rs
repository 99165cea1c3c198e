//! The API server: what is asked of it, and what its refusals mean.

use std::cell::RefCell;
use std::fmt;
use std::time::Duration;

use anyhow::{Result, anyhow};
use diagnostics::wording::{io_error, one_line};
use kube::Client;
use kube::core::Request;
use kube::core::params::{GetParams, Patch, PatchParams};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

use super::cluster::{Cluster, credentials};
use super::name::Target;
use super::workload::Workload;
use crate::action::Failure;
use crate::stop::Stop;

/// Who changed the annotation, as `managedFields` tells it.
const MANAGER: &str = "reloader";

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a wait looks for a stop.
const GLANCE: Duration = Duration::from_millis(50);

/// How many conflicts are too many.
const CONFLICTS: u32 = 5;

/// How long to leave others alone after a conflict.
const PAUSE: Duration = Duration::from_millis(200);

/// What is asked of it.
#[derive(Clone, Copy)]
enum Question<'q> {
    Get,
    Patch { patch: &'q Value, is_rehearsal: bool },
}

impl Question<'_> {
    fn verb(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Patch { .. } => "patch",
        }
    }
}

/// One workload at its API server. What it needs of threads, buffers and authorities lasts as
/// long as it does.
pub struct Api<'a> {
    cluster: Cluster,
    target: Target,
    namespace: String,
    requests: Request,
    client: RefCell<Client>,
    /// Always there, but for the end.
    runtime: Option<Runtime>,
    stop: &'a Stop,
}

/// An answer that is none, or a refusal.
pub struct Trouble {
    /// The HTTP status of a refusal.
    status: Option<u16>,
    /// What to say.
    pub error: anyhow::Error,
}

impl Trouble {
    /// Whether it will be the same later.
    pub fn is_final(&self) -> bool {
        matches!(self.status, Some(401 | 403 | 404))
    }
}

impl From<Trouble> for Failure {
    /// Of a change.
    fn from(trouble: Trouble) -> Self {
        match trouble.status {
            Some(400..500) => Self::without_effect(trouble.error),
            _ => Self::in_doubt(trouble.error),
        }
    }
}

impl<'a> Api<'a> {
    /// Gets ready to ask, with the credentials of this moment.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn connect(
        cluster: Cluster,
        namespace: Option<String>,
        target: Target,
        stop: &'a Stop,
    ) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            anyhow!("failed to start asking the API server: {}", io_error(&error))
        })?;
        let (client, own) = runtime.block_on(cluster.client())?;
        let namespace = namespace.unwrap_or(own);
        let resource = target.kind.resource();
        let requests = Request::new(format!("/apis/apps/v1/namespaces/{namespace}/{resource}"));
        let client = RefCell::new(client);
        Ok(Self { cluster, target, namespace, requests, client, runtime: Some(runtime), stop })
    }

    /// How it is now.
    ///
    /// # Errors
    /// The server does not say.
    pub fn get(&self) -> Result<Workload, Trouble> {
        self.ask(Question::Get)
    }

    /// Merges a patch into it and returns it as it is then, or would be in a rehearsal.
    ///
    /// It goes without a resource version: it touches an annotation that is ours, so that there
    /// is nothing of others to overwrite, and each change of the status meanwhile would be a
    /// conflict. The server merges again if it must; a conflict it tells of all the same is
    /// tried again a few times.
    ///
    /// # Errors
    /// It is refused, or nobody knows.
    pub fn patch(&self, patch: &Value, is_rehearsal: bool) -> Result<Workload, Failure> {
        let question = Question::Patch { patch, is_rehearsal };
        let mut conflicts = 0;
        loop {
            let outcome = self.ask(question);
            let is_conflict = matches!(&outcome, Err(trouble) if trouble.status == Some(409));
            conflicts += u32::from(is_conflict);
            if !is_conflict || conflicts == CONFLICTS || self.stop.wait(PAUSE) {
                return outcome.map_err(Failure::from);
            }
        }
    }

    fn ask(&self, question: Question<'_>) -> Result<Workload, Trouble> {
        match self.exchange(question) {
            Err(trouble) if trouble.status == Some(401) => {
                // A token expires, and is replaced in its file before that.
                let fresh = self.runtime().block_on(self.cluster.client());
                let (client, _) = fresh.map_err(|error| Trouble { status: None, error })?;
                self.client.replace(client);
                self.exchange(question)
            }
            outcome => outcome,
        }
    }

    fn exchange(&self, question: Question<'_>) -> Result<Workload, Trouble> {
        let verb = question.verb();
        let fail = |why: &str| anyhow!("failed to {verb} {self}: {why}");
        let trouble = |why: &str| Trouble { status: None, error: fail(why) };
        let name = &self.target.name;
        let request = match question {
            Question::Get => self.requests.get(name, &GetParams::default()),
            Question::Patch { patch, is_rehearsal } => {
                let params = PatchParams {
                    dry_run: is_rehearsal,
                    field_manager: Some(MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                self.requests.patch(name, &params, &Patch::Strategic(patch))
            }
        };
        let request = request.map_err(|error| trouble(&error.to_string()))?;
        let client = self.client.borrow().clone();
        self.runtime().block_on(async {
            tokio::select! {
                answer = client.request(request) => answer.map_err(|error| self.trouble(verb, &error)),
                () = tokio::time::sleep(TIMEOUT) => {
                    Err(trouble(&format!("no answer within {TIMEOUT:?}")))
                }
                () = stopped(self.stop) => Err(trouble("stopped while waiting for the answer")),
            }
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken away at the end alone")
    }

    fn trouble(&self, verb: &str, error: &kube::Error) -> Trouble {
        let fail = |why: &str| anyhow!("failed to {verb} {self}: {}", one_line(why.as_bytes()));
        match error {
            kube::Error::Api(status) => Trouble {
                status: Some(status.code),
                error: self.refusal(verb, status.code, &one_line(status.message.as_bytes())),
            },
            kube::Error::SerdeError(_) => {
                Trouble { status: None, error: fail("the answer is not a workload") }
            }
            kube::Error::Auth(error) => Trouble { status: None, error: credentials(error) },
            error => {
                // The innermost cause says what it is: connection refused, an unknown authority.
                let mut cause: &dyn std::error::Error = error;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                let why = match cause.downcast_ref::<std::io::Error>() {
                    Some(error) => io_error(error),
                    None => cause.to_string(),
                };
                Trouble {
                    status: None,
                    error: fail(&format!("no answer of the API server: {why}")),
                }
            }
        }
    }

    fn refusal(&self, verb: &str, status: u16, said: &str) -> anyhow::Error {
        let (kind, name) = (self.target.kind.resource(), &self.target.name);
        match status {
            401 => anyhow!(
                "failed to {verb} {self}: unauthorized, the API server does not accept the \
                 credentials (expired, or of another cluster)"
            ),
            // Admission forbids too, in words of its own.
            403 if said.contains(" cannot ") => anyhow!(
                "failed to {verb} {self}: forbidden, a Role must allow it (apiGroups: [apps], \
                 resources: [{kind}], resourceNames: [{name}], verbs: [get, patch]): {said}"
            ),
            403 => anyhow!("failed to {verb} {self}: forbidden by admission: {said}"),
            404 => anyhow!("failed to {verb} {self}: not found: {said}"),
            409 => anyhow!("failed to {verb} {self}: conflict, again and again: {said}"),
            _ => anyhow!("failed to {verb} {self}: the API server answered {status}: {said}"),
        }
    }
}

impl fmt::Display for Api<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in namespace `{}`", self.target, self.namespace)
    }
}

impl Drop for Api<'_> {
    /// A name server that does not answer holds up a thread, which is not waited for.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn stopped(stop: &Stop) {
    while !stop.is_set() {
        tokio::time::sleep(GLANCE).await;
    }
}
