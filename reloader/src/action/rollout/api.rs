//! Reads and patches one workload through the API server, and explains its errors: a missing Role, an
//! expired token, a conflict.

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

use super::cluster::{Cluster, auth_failure};
use super::name::Target;
use super::workload::Workload;
use crate::action::Failure;
use crate::stop::Stop;

/// The name of this program in `managedFields`.
const MANAGER: &str = "reloader";

/// How long a response may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How often a wait checks for a stop.
const STOP_INTERVAL: Duration = Duration::from_millis(50);

/// After this many conflicts a patch fails.
const MAX_CONFLICTS: u32 = 5;

/// The pause after a conflict.
const CONFLICT_PAUSE: Duration = Duration::from_millis(200);

/// An operation on the workload.
#[derive(Clone, Copy)]
enum Operation<'o> {
    Get,
    Patch { patch: &'o Value, dry_run: bool },
}

impl Operation<'_> {
    fn verb(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Patch { .. } => "patch",
        }
    }
}

/// One workload at the API server. The client's threads, buffers and CA roots are freed with it.
pub struct Api<'a> {
    cluster: Cluster,
    target: Target,
    namespace: String,
    requests: Request,
    client: RefCell<Client>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    stop: &'a Stop,
}

/// A failed request.
pub struct ApiError {
    /// The HTTP status, if there was a response.
    status: Option<u16>,
    /// The message.
    pub error: anyhow::Error,
}

impl ApiError {
    /// Whether a later request would fail the same way.
    pub fn is_final(&self) -> bool {
        matches!(self.status, Some(401 | 403 | 404))
    }
}

impl From<ApiError> for Failure {
    /// The failure of a patch.
    fn from(error: ApiError) -> Self {
        match error.status {
            Some(400..500) => Self::without_effect(error.error),
            _ => Self::in_doubt(error.error),
        }
    }
}

impl<'a> Api<'a> {
    /// Reads the credentials and makes a client. No request is sent yet.
    ///
    /// # Errors
    /// Fails if the credentials cannot be read.
    pub fn connect(
        cluster: Cluster,
        namespace: Option<String>,
        target: Target,
        stop: &'a Stop,
    ) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| {
            anyhow!("failed to prepare requests to the API server: {}", io_error(&error))
        })?;
        let (client, default_namespace) = runtime.block_on(cluster.client())?;
        let namespace = namespace.unwrap_or(default_namespace);
        let resource = target.kind.resource();
        let requests = Request::new(format!("/apis/apps/v1/namespaces/{namespace}/{resource}"));
        let client = RefCell::new(client);
        Ok(Self { cluster, target, namespace, requests, client, runtime: Some(runtime), stop })
    }

    /// Reads the workload.
    ///
    /// # Errors
    /// Fails without a response, or with an error response.
    pub fn get(&self) -> Result<Workload, ApiError> {
        self.request(Operation::Get)
    }

    /// Merges a patch into the workload and returns the result. A dry run changes nothing.
    ///
    /// The patch names no resource version: it sets an annotation that only reloader writes, and
    /// with a version each change of the status would be a conflict. If the server reports a
    /// conflict all the same, the patch is sent again a few times.
    ///
    /// # Errors
    /// Fails with an error response, or without a response; then the patch may be merged or not.
    pub fn patch(&self, patch: &Value, dry_run: bool) -> Result<Workload, Failure> {
        let operation = Operation::Patch { patch, dry_run };
        let mut conflicts = 0;
        loop {
            let outcome = self.request(operation);
            let is_conflict = matches!(&outcome, Err(error) if error.status == Some(409));
            conflicts += u32::from(is_conflict);
            if !is_conflict || conflicts == MAX_CONFLICTS || self.stop.wait(CONFLICT_PAUSE) {
                return outcome.map_err(Failure::from);
            }
        }
    }

    /// Sends a request, and once more with new credentials if the server does not accept them.
    fn request(&self, operation: Operation<'_>) -> Result<Workload, ApiError> {
        match self.send(operation) {
            Err(error) if error.status == Some(401) => {
                // The token has expired; the kubelet has replaced it in its file before that.
                let client = self.runtime().block_on(self.cluster.client());
                let (client, _) = client.map_err(|error| ApiError { status: None, error })?;
                self.client.replace(client);
                self.send(operation)
            }
            outcome => outcome,
        }
    }

    fn send(&self, operation: Operation<'_>) -> Result<Workload, ApiError> {
        let verb = operation.verb();
        let fail =
            |why: &str| ApiError { status: None, error: anyhow!("failed to {verb} {self}: {why}") };
        let name = &self.target.name;
        let request = match operation {
            Operation::Get => self.requests.get(name, &GetParams::default()),
            Operation::Patch { patch, dry_run } => {
                let params = PatchParams {
                    dry_run,
                    field_manager: Some(MANAGER.to_owned()),
                    ..PatchParams::default()
                };
                self.requests.patch(name, &params, &Patch::Strategic(patch))
            }
        };
        let request = request.map_err(|error| fail(&error.to_string()))?;
        let client = self.client.borrow().clone();
        self.runtime().block_on(async {
            tokio::select! {
                answer = client.request(request) => answer.map_err(|error| self.error(verb, &error)),
                () = tokio::time::sleep(TIMEOUT) => {
                    Err(fail(&format!("no answer within {TIMEOUT:?}")))
                }
                () = stopped(self.stop) => Err(fail("stopped while waiting for the answer")),
            }
        })
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("it is taken only by drop")
    }

    fn error(&self, verb: &str, error: &kube::Error) -> ApiError {
        let fail = |why: &str| anyhow!("failed to {verb} {self}: {}", one_line(why.as_bytes()));
        match error {
            kube::Error::Api(status) => ApiError {
                status: Some(status.code),
                error: self.status_error(verb, status.code, &one_line(status.message.as_bytes())),
            },
            kube::Error::SerdeError(_) => {
                ApiError { status: None, error: fail("the answer is not a workload") }
            }
            kube::Error::Auth(error) => ApiError { status: None, error: auth_failure(error) },
            error => {
                // The innermost cause is the most precise: connection refused, UnknownIssuer.
                let mut cause: &dyn std::error::Error = error;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                let why = match cause.downcast_ref::<std::io::Error>() {
                    Some(error) => io_error(error),
                    None => cause.to_string(),
                };
                ApiError {
                    status: None,
                    error: fail(&format!("no answer from the API server: {why}")),
                }
            }
        }
    }

    /// The error for an error response.
    fn status_error(&self, verb: &str, status: u16, said: &str) -> anyhow::Error {
        let (kind, name) = (self.target.kind.resource(), &self.target.name);
        match status {
            401 => anyhow!(
                "failed to {verb} {self}: unauthorized, the API server does not accept the \
                 credentials (expired, or of another cluster)"
            ),
            // RBAC says `cannot`; other 403s come from admission controllers.
            403 if said.contains(" cannot ") => anyhow!(
                "failed to {verb} {self}: forbidden, a Role must allow it (apiGroups: [apps], \
                 resources: [{kind}], resourceNames: [{name}], verbs: [get, patch]): {said}"
            ),
            403 => anyhow!("failed to {verb} {self}: forbidden by admission: {said}"),
            404 => anyhow!("failed to {verb} {self}: not found: {said}"),
            409 => anyhow!("failed to {verb} {self}: repeated conflicts: {said}"),
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
    /// Does not wait for threads: one may be blocked by a name server that does not answer.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn stopped(stop: &Stop) {
    while !stop.is_set() {
        tokio::time::sleep(STOP_INTERVAL).await;
    }
}
