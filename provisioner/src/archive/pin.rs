//! The version that a person wants to stay live, whatever the source holds.
//!
//! A pin is what is wanted: if something else is live, since a rollback was killed, say, the next
//! run makes it true.

use anyhow::{Context, Result};
use diagnostics::report::Report;
use published_tree::manifest::{hex, unhex};
use published_tree::tree::Hash;
use published_tree::volume::Volume;
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::state::time::rfc3339;

const PINNED: &str = "pinned";

/// What is pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The version.
    pub digest: Hash,
    /// Since when, by RFC 3339.
    pub since: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    digest: String,
    since: String,
}

impl Pin {
    /// A pin that begins now.
    pub fn now(digest: Hash) -> Self {
        Self { digest, since: rfc3339(std::time::SystemTime::now()) }
    }

    /// The pin of a volume, if it has one.
    ///
    /// # Errors
    /// It cannot be read, or understood.
    pub fn of(volume: &Volume) -> Result<Option<Self>> {
        let Some(state) = State::find(volume)? else { return Ok(None) };
        let Some(content) = state.read(PINNED)? else { return Ok(None) };
        let line: Option<Line> = serde_json::from_slice(&content).ok();
        let pin =
            line.and_then(|line| Some(Self { digest: unhex(&line.digest)?, since: line.since }));
        let shown = state.dir().display_path(PINNED.as_bytes());
        pin.map(Some).with_context(|| format!("`{}` cannot be understood", shown.display()))
    }

    /// Pins a volume.
    ///
    /// # Errors
    /// It has the pin it had, or this one is not on the disk.
    pub fn set(&self, volume: &Volume) -> Result<()> {
        let line = Line { digest: hex(&self.digest), since: self.since.clone() };
        State::make(volume)?.replace(PINNED, format!("{}\n", serde_json::json!(line)).as_bytes())
    }
}

/// Removes the pin of a volume, whatever it is.
///
/// # Errors
/// It cannot be removed.
pub fn remove(volume: &Volume) -> Result<()> {
    State::find(volume)?.map_or(Ok(()), |state| state.remove(PINNED))
}

/// The pin that a publication must respect, unless it is to be removed. A pin that cannot be read
/// has no effect.
pub fn effective_pin(unpin: bool, volume: &Volume, report: &mut Report) -> Option<Pin> {
    if unpin {
        report.warn_on_error(remove(volume), "the volume cannot be unpinned");
        return None;
    }
    Pin::of(volume).unwrap_or_else(|error| {
        report.warn(format!("the volume is not taken for pinned: {error:#}"));
        None
    })
}
