//! Whoever is to know that another version is live: a command, or a server that is posted to.
//!
//! They are told at least once. A note on the volume, from before a version goes live until it is
//! told, makes a run that finds nothing changed tell what one before it could not. Each run has
//! notes of its own, so that no run removes what another has still to tell.

mod command;
mod notes;
mod post;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use diagnostics::report::Report;
use serde::{Deserialize, Serialize};

use crate::cli;
use crate::files;
use crate::lock::{Lock, lock};
use crate::state::State;
use crate::stop::Stop;
use crate::superseded::warn_of;
use crate::tree::Hash;
use crate::tree::manifest::hex;
use crate::volume::Volume;
use command::ThenCommand;
use notes::{Kind, Note};
use post::Post;

/// How often it is tried whether another run has told everything.
const EVERY: Duration = Duration::from_millis(50);

/// Counts by name, as in the summary of a run.
pub type Counts = BTreeMap<String, u64>;

/// Whoever is to be told.
#[derive(Default)]
pub struct Listeners {
    command: Option<ThenCommand>,
    post: Option<Post>,
}

impl Listeners {
    /// Those of the command line.
    ///
    /// # Errors
    /// They cannot be told, whatever happens: errors of configuration.
    pub fn of(options: &cli::Then) -> Result<Self> {
        Ok(Self {
            command: options.then.as_deref().map(ThenCommand::parse).transpose()?,
            post: options.then_post.as_deref().map(|url| Post::new(url, options)).transpose()?,
        })
    }

    fn kinds(&self) -> impl Iterator<Item = Kind> {
        let command = self.command.as_ref().map(|_| Kind::Command);
        command.into_iter().chain(self.post.as_ref().map(|_| Kind::Post))
    }
}

/// What listeners are told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Message {
    /// The digest of what is live.
    digest: String,
    /// The volume, by the path that this run has; what is not UTF-8 of it is replaced.
    target: String,
    /// What became of its files.
    counts: Counts,
}

/// What a run has to tell, its own and what runs before it could not.
pub struct News {
    listeners: Listeners,
    target: PathBuf,
    /// From runs before.
    earlier: Vec<Note>,
    /// Of this run.
    own: Vec<Note>,
    /// Why there are none of this run, if there should be.
    not_noted: Option<anyhow::Error>,
}

impl News {
    /// What runs before could not tell. To be called while no other run can make a version live:
    /// what is noted later is told by whoever notes it.
    pub fn find(listeners: Listeners, target: &Path, volume: &Volume, report: &mut Report) -> Self {
        let found =
            if listeners.kinds().next().is_some() { notes::find(volume) } else { Ok(vec![]) };
        let earlier = found.unwrap_or_else(|error| {
            report.warn(format!("it is not known what is still to be told: {error:#}"));
            Vec::new()
        });
        let target = std::path::absolute(target).unwrap_or_else(|_| target.to_owned());
        Self { listeners, target, earlier, own: Vec::new(), not_noted: None }
    }

    /// Notes that something is to be told, before it is there to be told of. If it cannot be noted
    /// that keeps no tree from going live.
    pub fn note(&mut self, volume: &Volume, digest: &Hash, counts: &Counts) {
        let text = serde_json::json!(self.message(digest, counts)).to_string();
        for kind in self.listeners.kinds() {
            match Note::write(volume, kind, &text) {
                Ok(note) => self.own.push(note),
                Err(error) => self.not_noted = Some(error),
            }
        }
    }

    /// Takes back what this run has noted, since nothing came of it. A note that stays makes a run
    /// tell what is known already, which is no harm.
    pub fn withdraw(&self, volume: &Volume) {
        let _ = self.own.iter().try_for_each(|note| note.remove(volume));
    }

    /// Tells listeners what is live, if that is another version since they were told last.
    ///
    /// # Errors
    /// One could not be told, or somebody wants an end: the next run tells it.
    pub fn tell(
        &mut self,
        volume: &Volume,
        live: &Live,
        timeout: Duration,
        stop: &Stop,
        report: &mut Report,
    ) -> Result<()> {
        let is_due =
            |kind: Kind| live.is_new || self.earlier.iter().any(|note| note.kind() == kind);
        if !self.listeners.kinds().any(is_due) {
            return Ok(());
        }
        let noted = self.not_noted.take().map_or(Ok(()), Err);
        warn_of(noted, "it would not be told again if that failed", report);
        let _alone = alone(volume, timeout, stop).context(AGAIN)?;
        if Some(Mark::of(volume)?) != live.mark {
            // Whoever made another version live meanwhile has taken the notes over.
            return Ok(());
        }
        let message = self.message(&live.digest, &self.counts(volume, live));
        let mut failures = Vec::new();
        for kind in self.listeners.kinds() {
            let noted = || self.earlier.iter().chain(&self.own).filter(|note| note.kind() == kind);
            // Another run may have told it, while this one waited.
            if !live.is_new && !noted().any(|note| note.is_there(volume)) {
                continue;
            }
            match self.tell_one(kind, &message, stop) {
                Ok(()) => {
                    let removed = noted().try_for_each(|note| note.remove(volume));
                    warn_of(removed, "it will be told again", report);
                }
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(anyhow!(failures.join("; ")).context(AGAIN)) }
    }

    fn tell_one(&self, kind: Kind, message: &Message, stop: &Stop) -> Result<()> {
        match (kind, &self.listeners.command, &self.listeners.post) {
            (Kind::Command, Some(command), _) => command.run(&message.digest, &self.target, stop),
            (Kind::Post, _, Some(post)) => post.send(serde_json::json!(message).to_string(), stop),
            _ => Ok(()),
        }
    }

    fn message(&self, digest: &Hash, counts: &Counts) -> Message {
        let target = self.target.to_string_lossy().into_owned();
        Message { digest: hex(digest), target, counts: counts.clone() }
    }

    /// The counts of the run that made this version live.
    fn counts(&self, volume: &Volume, live: &Live) -> Counts {
        let noted = || {
            let mut messages = self.earlier.iter().filter_map(|note| note.read(volume).ok());
            let read = |text: Vec<u8>| serde_json::from_slice::<Message>(&text).ok();
            let digest = hex(&live.digest);
            messages.find_map(|text| read(text).filter(|message| message.digest == digest))
        };
        let earlier = if live.is_new { None } else { noted() };
        earlier.map_or_else(|| live.counts.clone(), |message| message.counts)
    }
}

/// Tells what is live on a volume from what was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The directory of the version.
    pub name: Option<String>,
    /// That of plain files.
    plain: Option<Vec<u8>>,
}

impl Mark {
    /// That of what is live now.
    ///
    /// # Errors
    /// The volume cannot be read.
    pub fn of(volume: &Volume) -> Result<Self> {
        // What cannot be read of plain files must not keep a tree from going live.
        let plain = files::claims::mark(volume).unwrap_or_default();
        Ok(Self { name: volume.live_name()?, plain })
    }
}

/// What is live after a run.
pub struct Live {
    /// Its mark, as soon as it is known.
    pub mark: Option<Mark>,
    /// Its digest.
    pub digest: Hash,
    /// Whether this run has made it so.
    pub is_new: bool,
    /// What became of its files.
    pub counts: Counts,
}

/// What follows from a failure.
const AGAIN: &str = "not everybody was told what is live, which the next run will do";

/// Waits until no other run tells anybody. `None` where nothing is noted.
fn alone(volume: &Volume, timeout: Duration, stop: &Stop) -> Result<Option<Lock>> {
    let Some(state) = State::find(volume)? else { return Ok(None) };
    let start = Instant::now();
    loop {
        match lock(state.place(), Duration::ZERO) {
            Ok(held) => return Ok(Some(held)),
            Err(error) if start.elapsed() >= timeout => return Err(error),
            Err(error) if !stop.wait(EVERY) => return Err(error.context("told to end")),
            Err(_) => {}
        }
    }
}
