//! Notifies a command and a server when another version is live. Each is notified at least once:
//!
//! 1. Before a version goes live, the run records a pending notification for each listener on the
//!    volume ([`pending`]). Each run has records of its own, so no run removes another's.
//! 2. After the switch, without the volume's lock, one run at a time notifies the listeners.
//! 3. A listener that was notified loses its records. The others stay: the next run notifies it,
//!    even if that run changes nothing.
//!
//! A run whose version is no longer live leaves it to the newer run.

mod command;
mod pending;
mod post;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use diagnostics::report::Report;
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::files;
use crate::shutdown::Shutdown;
use crate::state::State;
use crate::state::lock::{Lock, lock};
use command::ThenCommand;
use pending::{Listener, Pending};
use post::Post;
use published_tree::manifest::hex;
use published_tree::tree::Hash;
use published_tree::volume::Volume;

/// Time between two attempts to become the run that notifies.
const LOCK_INTERVAL: Duration = Duration::from_millis(50);

/// The context of all errors of notifications.
const NOT_NOTIFIED: &str =
    "not every listener was notified of the live version; the next run tries again";

/// Counts by name, as in the summary of a run.
pub type Counts = BTreeMap<String, u64>;

/// The listeners of a run.
#[derive(Default)]
pub struct Listeners {
    command: Option<ThenCommand>,
    post: Option<Post>,
}

impl Listeners {
    /// Takes the listeners from the command line.
    ///
    /// # Errors
    /// Fails if one of them can never be notified; errors of configuration.
    pub fn of(options: &cli::ThenOptions) -> Result<Self> {
        Ok(Self {
            command: options.then.as_deref().map(ThenCommand::parse).transpose()?,
            post: options.then_post.as_deref().map(|url| Post::new(url, options)).transpose()?,
        })
    }

    fn all(&self) -> impl Iterator<Item = Listener> {
        let command = self.command.as_ref().map(|_| Listener::Command);
        command.into_iter().chain(self.post.as_ref().map(|_| Listener::Post))
    }
}

/// The message to a listener, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    /// The digest of the live version.
    digest: String,
    /// The path of the volume in this run; parts that are not UTF-8 are replaced.
    target: String,
    /// The counts of the run that made the version live.
    counts: Counts,
}

/// The notifications of a run, and those that earlier runs left pending.
pub struct Notifications {
    listeners: Listeners,
    target: PathBuf,
    /// Left by earlier runs.
    earlier: Vec<Pending>,
    /// Recorded by this run.
    own: Vec<Pending>,
    /// Why this run could not record a notification.
    not_recorded: Option<anyhow::Error>,
}

impl Notifications {
    /// Finds what earlier runs left pending. The caller holds the volume's lock: a run that records
    /// something later notifies by itself.
    pub fn find(listeners: Listeners, target: &Path, volume: &Volume, report: &mut Report) -> Self {
        let found =
            if listeners.all().next().is_some() { pending::find(volume) } else { Ok(vec![]) };
        let earlier = found.unwrap_or_else(|error| {
            report.warn(format!("failed to find pending notifications: {error:#}"));
            Vec::new()
        });
        let target = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
        Self { listeners, target, earlier, own: Vec::new(), not_recorded: None }
    }

    /// Records notifications of a version that is about to go live. A failure does not keep it from
    /// going live.
    pub fn record(&mut self, volume: &Volume, digest: &Hash, counts: &Counts) {
        let message = serde_json::json!(self.message(digest, counts)).to_string();
        for listener in self.listeners.all() {
            match Pending::write(volume, listener, &message) {
                Ok(pending) => self.own.push(pending),
                Err(error) => self.not_recorded = Some(error),
            }
        }
    }

    /// Removes the records of this run, because its version did not go live. A record that stays
    /// only repeats a notification.
    pub fn forget(&self, volume: &Volume) {
        let _ = self.own.iter().try_for_each(|pending| pending.remove(volume));
    }

    /// Notifies each listener that has not been notified of the live version.
    ///
    /// # Errors
    /// Fails if a listener could not be notified, or a signal came first. Its records stay.
    pub fn send(
        &mut self,
        volume: &Volume,
        live: &RunOutcome,
        timeout: Duration,
        shutdown: &Shutdown,
        report: &mut Report,
    ) -> Result<()> {
        let is_due = |listener: Listener| {
            live.is_new || self.earlier.iter().any(|pending| pending.listener() == listener)
        };
        if !self.listeners.all().any(is_due) {
            return Ok(());
        }
        let recorded = self.not_recorded.take().map_or(Ok(()), Err);
        report.warn_on_error(recorded, "a notification that fails would not be repeated");
        let _lock = lock_notifications(volume, timeout, shutdown).context(NOT_NOTIFIED)?;
        if Some(LiveId::of(volume)?) != live.live_id {
            // The run that made another version live notifies, of that one.
            return Ok(());
        }
        let message = self.message(&live.digest, &self.counts(volume, live));
        let mut failures = Vec::new();
        for listener in self.listeners.all() {
            let records = || {
                let all = self.earlier.iter().chain(&self.own);
                all.filter(|pending| pending.listener() == listener)
            };
            // While this run waited, another one may have notified the listener.
            if !live.is_new && !records().any(|pending| pending.exists(volume)) {
                continue;
            }
            match self.notify(listener, &message, shutdown) {
                Ok(()) => {
                    let removed = records().try_for_each(|pending| pending.remove(volume));
                    report.warn_on_error(removed, "the notification will be repeated");
                }
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(anyhow!(failures.join("; ")).context(NOT_NOTIFIED))
        }
    }

    fn notify(&self, listener: Listener, message: &Message, shutdown: &Shutdown) -> Result<()> {
        let is_stopped = || shutdown.has_come();
        match (listener, &self.listeners.command, &self.listeners.post) {
            (Listener::Command, Some(command), _) => {
                command.run(&message.digest, &self.target, &is_stopped)
            }
            (Listener::Post, _, Some(post)) => {
                post.send(serde_json::json!(message).to_string(), &is_stopped)
            }
            _ => Ok(()),
        }
    }

    fn message(&self, digest: &Hash, counts: &Counts) -> Message {
        let target = self.target.to_string_lossy().into_owned();
        Message { digest: hex(digest), target, counts: counts.clone() }
    }

    /// The counts of the run that made the live version live: this one, or an earlier one by its
    /// record.
    fn counts(&self, volume: &Volume, live: &RunOutcome) -> Counts {
        if live.is_new {
            return live.counts.clone();
        }
        let digest = hex(&live.digest);
        let messages = self.earlier.iter().filter_map(|pending| pending.read(volume).ok());
        messages
            .filter_map(|text| serde_json::from_slice::<Message>(&text).ok())
            .find(|message| message.digest == digest)
            .map_or_else(|| live.counts.clone(), |message| message.counts)
    }
}

/// Identifies what is live on a volume, to see whether another run has changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveId {
    /// The directory of the version.
    pub name: Option<String>,
    /// The record of plain files.
    plain: Option<Vec<u8>>,
}

impl LiveId {
    /// Identifies what is live now.
    ///
    /// # Errors
    /// Fails if the volume cannot be read.
    pub fn of(volume: &Volume) -> Result<Self> {
        // A record of plain files that cannot be read must not keep a tree from going live.
        let plain = files::claims::published_header(volume).unwrap_or_default();
        Ok(Self { name: volume.live_name()?, plain })
    }
}

/// The live version after a run.
pub struct RunOutcome {
    /// Identifies it, once the run has released the lock.
    pub live_id: Option<LiveId>,
    /// Its digest.
    pub digest: Hash,
    /// Whether this run made it live.
    pub is_new: bool,
    /// The counts of this run's files.
    pub counts: Counts,
}

/// Waits until no other run notifies. `None` on a volume without state.
fn lock_notifications(
    volume: &Volume,
    timeout: Duration,
    shutdown: &Shutdown,
) -> Result<Option<Lock>> {
    let Some(state) = State::find(volume)? else { return Ok(None) };
    let start = Instant::now();
    loop {
        match lock(state.dir(), Duration::ZERO) {
            Ok(held) => return Ok(Some(held)),
            Err(error) if start.elapsed() >= timeout => return Err(error),
            Err(error) if !shutdown.wait(LOCK_INTERVAL) => {
                return Err(error.context("interrupted by a signal"));
            }
            Err(_) => {}
        }
    }
}
