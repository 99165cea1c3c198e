//! The history of a volume: a line of JSON for each version that went live, the newest last.

use std::time::SystemTime;

use anyhow::Result;
use published_tree::manifest::hex;
use published_tree::tree::{Hash, Totals};
use published_tree::volume::Volume;
use serde::{Deserialize, Serialize};

use crate::atomic::version::published_at;
use crate::state::State;
use crate::state::timestamp::rfc3339;

const HISTORY: &str = "history";
/// The most lines in the history; older ones are dropped.
const MAX_LINES: usize = 200;

/// A line of the history: a version that went live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When it went live, as in RFC 3339.
    pub time: String,
    /// How it went live.
    pub action: Action,
    /// Its digest, in hexadecimal.
    pub digest: String,
    /// The number of its files and links.
    pub files: u64,
    /// The size of its files.
    pub bytes: u64,
}

/// How a version went live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Published from a source.
    Published,
    /// Restored by a rollback.
    RolledBack,
}

/// The history of a volume.
#[derive(Default)]
pub struct History {
    /// The newest entry comes last.
    pub entries: Vec<Entry>,
    /// How many lines could not be parsed.
    pub broken_lines: usize,
}

/// Reads the history of a volume.
///
/// # Errors
/// Fails if the file cannot be read.
pub fn read(volume: &Volume) -> Result<History> {
    let state = State::find(volume)?;
    let content = state.map(|state| state.read(HISTORY)).transpose()?.flatten().unwrap_or_default();
    let lines = content.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    let mut history = History::default();
    for line in lines {
        match serde_json::from_slice(line) {
            Ok(entry) => history.entries.push(entry),
            Err(_) => history.broken_lines += 1,
        }
    }
    Ok(history)
}

/// Adds the live version to the history, unless it is the last entry already. Returns the number of
/// lines that were dropped because they could not be parsed. A file that cannot be read is replaced,
/// and counts as one line.
///
/// # Errors
/// Fails if the history cannot be written.
pub fn record(
    volume: &Volume,
    action: Action,
    digest: &Hash,
    Totals { files, bytes }: Totals,
) -> Result<usize> {
    let digest = hex(digest);
    let History { mut entries, broken_lines } =
        read(volume).unwrap_or(History { entries: Vec::new(), broken_lines: 1 });
    if entries.last().is_some_and(|last| last.digest == digest) {
        return Ok(0);
    }
    let name = volume.live_name()?;
    let time =
        name.and_then(|name| published_at(volume, &name).ok()).unwrap_or_else(SystemTime::now);
    entries.push(Entry { time: rfc3339(time), action, digest, files, bytes });
    let first = entries.len().saturating_sub(MAX_LINES);
    let lines = entries[first..].iter().map(|entry| format!("{}\n", serde_json::json!(entry)));
    State::find_or_create(volume)?.replace(HISTORY, lines.collect::<String>().as_bytes())?;
    Ok(broken_lines)
}
