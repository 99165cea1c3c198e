//! Restarts a workload of Kubernetes as `kubectl rollout restart` does, but once for each content:
//! its digest is an annotation of the pod template, so that several that ask cause one rollout.

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

/// The annotation that holds the digest, unless told otherwise.
pub const ANNOTATION: &str = "reloader/content-digest";

/// How soon the state of a rollout is asked for again: at first, and later.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

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
    /// Of `deployment/NAME`, `statefulset/NAME` or `daemonset/NAME`, in the pod's own cluster and
    /// namespace, without waiting for its end.
    ///
    /// # Errors
    /// It is none of them; an error of configuration, like all that follow.
    pub fn parse(target: &str) -> Result<Self> {
        Ok(Self {
            target: Target::parse(target)?,
            namespace: None,
            kubeconfig: None,
            annotation: ANNOTATION.to_owned(),
            wait: None,
        })
    }

    /// In this namespace.
    ///
    /// # Errors
    /// It is not the name of one.
    pub fn namespace(mut self, namespace: &str) -> Result<Self> {
        self.namespace = Some(name::check_namespace(namespace)?);
        Ok(self)
    }

    /// In the cluster of a kubeconfig's current context.
    pub fn kubeconfig(mut self, file: PathBuf) -> Self {
        self.kubeconfig = Some(file);
        self
    }

    /// By this annotation: two programs that watch different content each need their own.
    ///
    /// # Errors
    /// It is not the key of one.
    pub fn annotation(mut self, key: &str) -> Result<Self> {
        self.annotation = check_annotation(key)?;
        Ok(self)
    }

    /// Waits at most this long until every replica is a new one and available.
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

    /// Sees to it that the annotation is there, and returns the workload with it.
    fn annotate(&self, api: &Api<'_>, digest: &str) -> Result<(Workload, bool), Failure> {
        let before = api.get().map_err(|trouble| Failure::without_effect(trouble.error))?;
        self.check(api, &before, digest).map_err(Failure::without_effect)?;
        if before.annotation(&self.annotation) == Some(digest) {
            return Ok((before, false));
        }
        let patch = workload::patch(&self.annotation, digest);
        let after = api.patch(&patch, false)?;
        // It may have been paused after the first look.
        self.check(api, &after, digest).map_err(Failure::in_doubt)?;
        if after.annotation(&self.annotation) != Some(digest) {
            let error = anyhow!("{api}: the API server has not kept `{}`", self.annotation);
            return Err(Failure::in_doubt(error));
        }
        Ok((after, true))
    }

    /// Whether it could roll out now, and be waited for if that is wanted.
    fn check(&self, api: &Api<'_>, workload: &Workload, digest: &str) -> Result<()> {
        let kind = self.target.kind;
        let is_there = workload.annotation(&self.annotation) == Some(digest);
        let is_done = is_there && matches!(workload.progress(kind), Progress::Done(_));
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

    fn follow(
        &self,
        api: &Api<'_>,
        digest: &str,
        mut workload: Workload,
        timeout: Duration,
        stop: &Stop,
    ) -> Result<String> {
        let deadline = Instant::now() + timeout;
        let (mut pause, longest) = PAUSES;
        let mut lost = None;
        loop {
            let waits_for = match self.progress(api, &workload, digest)? {
                Progress::Done(how) => return Ok(how),
                Progress::Failed(why) => return Err(anyhow!("{api}: {why}")),
                Progress::Waiting(what) => what,
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let is_stopped = stop.wait(pause.min(left));
            if is_stopped || left.is_zero() {
                let end = if is_stopped { "stopped" } else { "the time is over" };
                let lost = lost.map_or_else(String::new, |error| format!(" ({error:#})"));
                return Err(anyhow!("{api}: {end} while waiting: {waits_for}{lost}"));
            }
            pause = (pause * 2).min(longest);
            // The API may be away for a moment, and the rollout goes on.
            match api.get() {
                Ok(now) => (workload, lost) = (now, None),
                Err(trouble) if trouble.is_final() => return Err(trouble.error),
                Err(trouble) => lost = Some(trouble.error),
            }
        }
    }

    fn progress(&self, api: &Api<'_>, workload: &Workload, digest: &str) -> Result<Progress> {
        match workload.annotation(&self.annotation) {
            Some(there) if there == digest => {}
            Some(there) => {
                let there = one_line(there.as_bytes());
                return Err(anyhow!("{api}: another rollout has begun, for `{there}`"));
            }
            None => {
                return Err(anyhow!(
                    "{api}: somebody has taken the annotation `{}` away",
                    self.annotation
                ));
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

/// The annotation's value for a content.
fn value(content: &Content) -> String {
    format!("sha256:{}", content.digest)
}

impl Action for Rollout {
    fn describe(&self) -> String {
        format!("rolling restart of {}", self.target)
    }

    fn act(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
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
        let done = self.follow(&api, &digest, workload, timeout, stop);
        done.map(|done| format!("{begun}: {done}")).map_err(Failure::in_doubt)
    }

    fn rehearse(&self, content: &Content) -> Result<String> {
        let stop = Stop::default();
        let api = self.connect(&stop)?;
        let digest = value(content);
        let workload = api.get().map_err(|trouble| trouble.error)?;
        self.check(&api, &workload, &digest)?;
        if workload.annotation(&self.annotation) == Some(&digest) {
            return Ok(format!("none of {api}, which has this content"));
        }
        // The API server does everything but keep it, and so shows whether it is permitted.
        let patch = workload::patch(&self.annotation, &digest);
        api.patch(&patch, true).map_err(|failure| failure.error)?;
        Ok(format!("rolling restart of {api}"))
    }
}
