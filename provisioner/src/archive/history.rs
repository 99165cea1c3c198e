//! What was live when: a line of JSON for each version that went live, the newest last.

use std::time::SystemTime;

use anyhow::Result;
use published_tree::manifest::hex;
use published_tree::tree::{Hash, Totals};
use published_tree::volume::Volume;
use serde::{Deserialize, Serialize};

use crate::atomic::version::published_at;
use crate::state::State;
use crate::state::time::rfc3339;

const HISTORY: &str = "history";
/// Lines that are kept.
const MAX_LINES: usize = 200;

/// A version that went live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by RFC 3339.
    pub time: String,
    /// What was done.
    pub action: Action,
    /// The digest of the version.
    pub digest: String,
    /// Its files and links.
    pub files: u64,
    /// What its files hold.
    pub bytes: u64,
}

/// How a version went live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// From a source.
    Published,
    /// From what was kept of it.
    RolledBack,
}

/// The history of a volume, and how many lines of it could not be understood.
///
/// # Errors
/// It cannot be read.
pub fn read(volume: &Volume) -> Result<(Vec<Entry>, usize)> {
    let state = State::find(volume)?;
    let content = state.map(|state| state.read(HISTORY)).transpose()?.flatten().unwrap_or_default();
    let lines = content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let entries: Vec<Option<Entry>> = lines.map(|line| serde_json::from_slice(line).ok()).collect();
    let broken = entries.iter().filter(|entry| entry.is_none()).count();
    Ok((entries.into_iter().flatten().collect(), broken))
}

/// Notes what is live now, unless that was the last thing that went live. How many lines were lost
/// since they could not be understood; a history that cannot be read begins anew.
///
/// # Errors
/// It cannot be written.
pub fn record(
    volume: &Volume,
    action: Action,
    digest: &Hash,
    Totals { files, bytes }: Totals,
) -> Result<usize> {
    let digest = hex(digest);
    let (mut entries, broken) = read(volume).unwrap_or((Vec::new(), 1));
    if entries.last().is_some_and(|last| last.digest == digest) {
        return Ok(0);
    }
    let name = volume.live_name()?;
    let time =
        name.and_then(|name| published_at(volume, &name).ok()).unwrap_or_else(SystemTime::now);
    entries.push(Entry { time: rfc3339(time), action, digest, files, bytes });
    let first = entries.len().saturating_sub(MAX_LINES);
    let lines = entries[first..].iter().map(|entry| format!("{}\n", serde_json::json!(entry)));
    State::make(volume)?.replace(HISTORY, lines.collect::<String>().as_bytes())?;
    Ok(broken)
}
