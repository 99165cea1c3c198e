//! Restarts a workload of Kubernetes as `kubectl rollout restart` does, but once for each content.
//!
//! 1. Read the workload. If the pod template's annotation holds the digest, the rollout has begun
//!    already, perhaps by another reloader.
//! 2. Otherwise patch the annotation, which starts a rollout.
//! 3. With a timeout, read the workload again and again until its rollout is done, has failed, or
//!    was replaced by another.

mod api;
mod cluster;
mod name;
mod workload;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use diagnostics::wording::one_line;

use super::{Action, Content, Failure};
use crate::stop::Stop;
use api::Api;
use cluster::Cluster;
pub use name::Target;
use name::check_annotation;
use workload::{Progress, Workload};

/// The default annotation for the digest.
pub const ANNOTATION: &str = "reloader/content-digest";

/// The first pause between two reads of a rollout's progress; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause between two reads of a rollout's progress.
const MAX_PAUSE: Duration = Duration::from_secs(2);

/// A rolling restart of one workload.
#[derive(Clone, Debug)]
pub struct Rollout {
    target: Target,
    namespace: Option<String>,
    kubeconfig: Option<PathBuf>,
    annotation: String,
    wait: Option<Duration>,
}

impl Rollout {
    /// Restarts `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME` in the pod's own cluster and
    /// namespace, without waiting for the end.
    ///
    /// # Errors
    /// Fails if `target` has another form. This and the errors of the other options are errors of
    /// configuration.
    pub fn parse(target: &str) -> Result<Self> {
        Ok(Self {
            target: Target::parse(target)?,
            namespace: None,
            kubeconfig: None,
            annotation: ANNOTATION.to_owned(),
            wait: None,
        })
    }

    /// Uses this namespace.
    ///
    /// # Errors
    /// Fails if a namespace cannot have this name.
    pub fn namespace(mut self, namespace: &str) -> Result<Self> {
        self.namespace = Some(name::check_namespace(namespace)?);
        Ok(self)
    }

    /// Uses the cluster of a kubeconfig's current context.
    pub fn kubeconfig(mut self, file: PathBuf) -> Self {
        self.kubeconfig = Some(file);
        self
    }

    /// Uses this annotation. Two reloaders that watch different content need two annotations.
    ///
    /// # Errors
    /// Fails if an annotation cannot have this key.
    pub fn annotation(mut self, key: &str) -> Result<Self> {
        self.annotation = check_annotation(key)?;
        Ok(self)
    }

    /// Waits until every replica is new and available, at most for this time.
    pub fn wait(mut self, timeout: Duration) -> Self {
        self.wait = Some(timeout);
        self
    }

    fn connect<'a>(&self, stop: &'a Stop) -> Result<Api<'a>> {
        let cluster = match &self.kubeconfig {
            Some(file) => Cluster::Kubeconfig(file.clone()),
            None => Cluster::Own,
        };
        Api::connect(cluster, self.namespace.clone(), self.target.clone(), stop)
    }

    /// Makes sure that the annotation holds the digest. Returns the workload, and whether this has
    /// changed it.
    fn annotate(&self, api: &Api<'_>, digest: &str) -> Result<(Workload, bool), Failure> {
        let before = api.get().map_err(|error| Failure::without_effect(error.error))?;
        self.check(api, &before, digest).map_err(Failure::without_effect)?;
        if before.annotation(&self.annotation) == Some(digest) {
            return Ok((before, false));
        }
        let patch = workload::patch(&self.annotation, digest);
        let after = api.patch(&patch, false)?;
        // It may have been paused since the first read.
        self.check(api, &after, digest).map_err(Failure::in_doubt)?;
        if after.annotation(&self.annotation) != Some(digest) {
            let error = anyhow!("{api}: the API server has not kept `{}`", self.annotation);
            return Err(Failure::in_doubt(error));
        }
        Ok((after, true))
    }

    /// Fails if the workload cannot roll out now, or not to an end that could be waited for.
    fn check(&self, api: &Api<'_>, workload: &Workload, digest: &str) -> Result<()> {
        let kind = self.target.kind;
        let is_annotated = workload.annotation(&self.annotation) == Some(digest);
        let is_done = is_annotated && matches!(workload.progress(kind), Progress::Done(_));
        if workload.is_paused() && !is_done {
            return Err(anyhow!("{api} is paused: `kubectl rollout resume {}`", self.target));
        }
        match workload.obstacle(kind) {
            Some(obstacle) if self.wait.is_some() => {
                Err(anyhow!("{api} cannot be waited for: {obstacle}"))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the end of a rollout.
    fn wait_for_end(
        &self,
        api: &Api<'_>,
        digest: &str,
        mut workload: Workload,
        timeout: Duration,
        stop: &Stop,
    ) -> Result<String> {
        let deadline = Instant::now() + timeout;
        let mut pause = MIN_PAUSE;
        let mut last_error = None;
        loop {
            let waiting_for = match self.progress(api, &workload, digest)? {
                Progress::Done(how) => return Ok(how),
                Progress::Failed(why) => return Err(anyhow!("{api}: {why}")),
                Progress::Waiting(what) => what,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let is_stopped = stop.wait(pause.min(left));
            if is_stopped || left.is_zero() {
                let end = if is_stopped { "stopped" } else { "timed out" };
                let error = last_error.map_or_else(String::new, |error| format!(" ({error:#})"));
                return Err(anyhow!("{api}: {end} while waiting: {waiting_for}{error}"));
            }
            pause = (pause * 2).min(MAX_PAUSE);
            // The API server may be unavailable for a moment, while the rollout goes on.
            match api.get() {
                Ok(now) => (workload, last_error) = (now, None),
                Err(error) if error.is_final() => return Err(error.error),
                Err(error) => last_error = Some(error.error),
            }
        }
    }

    /// How far the rollout is. Fails if it is no longer that of `digest`, or was paused.
    fn progress(&self, api: &Api<'_>, workload: &Workload, digest: &str) -> Result<Progress> {
        match workload.annotation(&self.annotation) {
            Some(current) if current == digest => {}
            Some(current) => {
                let current = one_line(current.as_bytes());
                return Err(anyhow!("{api}: another rollout has begun, for `{current}`"));
            }
            None => {
                return Err(anyhow!("{api}: the annotation `{}` was removed", self.annotation));
            }
        }
        if workload.is_paused()
            && matches!(workload.progress(self.target.kind), Progress::Waiting(_))
        {
            return Err(anyhow!("{api} was paused: `kubectl rollout resume {}`", self.target));
        }
        Ok(workload.progress(self.target.kind))
    }
}

/// The value of the annotation.
fn value(content: &Content) -> String {
    format!("sha256:{}", content.digest)
}

impl Action for Rollout {
    fn describe(&self) -> String {
        format!("rolling restart of {}", self.target)
    }

    fn run(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
        let api = self.connect(stop).map_err(Failure::without_effect)?;
        let digest = value(content);
        let (workload, is_new) = self.annotate(&api, &digest)?;
        let kind = self.target.kind;
        let begun = match (is_new, workload.obstacle(kind)) {
            (false, _) => "already rolled out".to_owned(),
            (true, Some(obstacle)) => format!("annotated, but {obstacle}"),
            (true, None) => format!("rollout begun, generation {}", workload.generation()),
        };
        let Some(timeout) = self.wait else { return Ok(begun) };
        let done = self.wait_for_end(&api, &digest, workload, timeout, stop);
        done.map(|done| format!("{begun}: {done}")).map_err(Failure::in_doubt)
    }

    fn dry_run(&self, content: &Content) -> Result<String> {
        let stop = Stop::default();
        let api = self.connect(&stop)?;
        let digest = value(content);
        let workload = api.get().map_err(|error| error.error)?;
        self.check(&api, &workload, &digest)?;
        if workload.annotation(&self.annotation) == Some(&digest) {
            return Ok(format!("nothing to do: {api} has this content"));
        }
        // A dry run of the API server's: it checks permission and admission, and changes nothing.
        let patch = workload::patch(&self.annotation, &digest);
        api.patch(&patch, true).map_err(|failure| failure.error)?;
        Ok(format!("rolling restart of {api}"))
    }
}
