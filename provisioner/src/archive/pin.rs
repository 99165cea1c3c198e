//! The pin of a volume: the version that stays live until a run has `--unpin`.
//!
//! The pin is set before the version goes live. If a rollback is killed in between, another version is
//! live; the next run restores the pinned one.

use anyhow::{Context, Result};
use diagnostics::report::Report;
use published_tree::manifest::{hex, unhex};
use published_tree::tree::Hash;
use published_tree::volume::Volume;
use serde::{Deserialize, Serialize};

use crate::state::State;
use crate::state::timestamp::rfc3339;

const PINNED: &str = "pinned";

/// A pin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The digest of the pinned version.
    pub digest: Hash,
    /// When it was pinned, as in RFC 3339.
    pub since: String,
}

#[derive(Serialize, Deserialize)]
struct Line {
    digest: String,
    since: String,
}

impl Pin {
    /// Creates a pin that is set now.
    pub fn now(digest: Hash) -> Self {
        Self { digest, since: rfc3339(std::time::SystemTime::now()) }
    }

    /// Reads the pin of a volume; `None` if it is not pinned.
    ///
    /// # Errors
    /// Fails if the pin cannot be read or parsed.
    pub fn of(volume: &Volume) -> Result<Option<Self>> {
        let Some(state) = State::find(volume)? else { return Ok(None) };
        let Some(content) = state.read(PINNED)? else { return Ok(None) };
        let line: Option<Line> = serde_json::from_slice(&content).ok();
        let pin =
            line.and_then(|line| Some(Self { digest: unhex(&line.digest)?, since: line.since }));
        let shown = state.dir().display_path(PINNED.as_bytes());
        pin.map(Some).with_context(|| format!("`{}` cannot be parsed", shown.display()))
    }

    /// Pins a volume.
    ///
    /// # Errors
    /// Fails if the pin cannot be written or synced. The volume may have either pin then.
    pub fn set(&self, volume: &Volume) -> Result<()> {
        let line = Line { digest: hex(&self.digest), since: self.since.clone() };
        State::find_or_create(volume)?
            .replace(PINNED, format!("{}\n", serde_json::json!(line)).as_bytes())
    }
}

/// Removes the pin of a volume, also one that cannot be parsed.
///
/// # Errors
/// Fails if the pin cannot be removed.
pub fn remove(volume: &Volume) -> Result<()> {
    State::find(volume)?.map_or(Ok(()), |state| state.remove(PINNED))
}

/// The pin that a publication must respect. With `unpin`, removes the pin instead. A pin that cannot
/// be read has no effect.
pub fn effective_pin(unpin: bool, volume: &Volume, report: &mut Report) -> Option<Pin> {
    if unpin {
        report.warn_on_error(remove(volume), "failed to unpin the volume");
        return None;
    }
    Pin::of(volume).unwrap_or_else(|error| {
        report.warn(format!("the pin has no effect: {error:#}"));
        None
    })
}
