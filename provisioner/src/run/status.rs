//! What is live, pinned and kept, and what was live when, for people and as JSON.

use std::fmt::Write;

use anyhow::Result;
use diagnostics::exit::{DONE, FAILED};
use diagnostics::report::Report;
use published_tree::manifest::hex;
use published_tree::tree::Totals;
use published_tree::volume::{self, Volume};
use serde::Serialize;

use super::print;
use crate::archive::Archives;
use crate::archive::archived::{Archived, archived};
use crate::archive::history::{self, Action};
use crate::archive::pin::Pin;
use crate::atomic::version::published_at;
use crate::cli::Show;
use crate::files::claims::{Claims, FILES};
use crate::state::time::rfc3339;

/// The state of a volume.
#[derive(Debug, Serialize)]
pub struct Status {
    /// What is live.
    pub live: Option<LiveVersion>,
    /// What is pinned.
    pub pinned: Option<Pinned>,
    /// The versions that can be gone back to, the last one that was live first.
    pub kept: Vec<KeptVersion>,
}

/// The live version. What cannot be read is left open.
#[derive(Debug, Serialize)]
pub struct LiveVersion {
    layout: &'static str,
    digest: Option<String>,
    since: Option<String>,
    files: Option<u64>,
    bytes: Option<u64>,
}

/// A pin.
#[derive(Debug, Serialize)]
pub struct Pinned {
    digest: String,
    since: String,
}

/// A version that is kept. What cannot be read of it is left open.
#[derive(Debug, Serialize)]
pub struct KeptVersion {
    digest: String,
    /// When it was packed; not yet, if it is still there for readers.
    packed: Option<String>,
    files: Option<u64>,
    bytes: Option<u64>,
    /// What it takes packed, in bytes.
    packed_bytes: Option<u64>,
}

impl Status {
    /// Looks at a volume, and writes nothing to it. What cannot be read beside what is live is
    /// warned of.
    ///
    /// # Errors
    /// It cannot be told what is live.
    pub fn of(volume: &Volume, report: &mut Report) -> Result<Self> {
        let live = match volume.live()? {
            Some(live) => Some(live_version(volume, &live)),
            None => plain_files(volume, report)?,
        };
        let pinned = Pin::of(volume).unwrap_or_else(|error| {
            report.warn(format!("it is not known what is pinned: {error:#}"));
            None
        });
        let live_digest = live.as_ref().and_then(|live| live.digest.clone());
        let kept = all_kept(volume, live_digest.as_deref(), report).unwrap_or_else(|error| {
            report.warn(format!("it is not known what is kept: {error:#}"));
            Vec::new()
        });
        let pinned = pinned.map(|pin| Pinned { digest: hex(&pin.digest), since: pin.since });
        Ok(Self { live, pinned, kept })
    }

    /// For people, a line for each version.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match &self.live {
            None => text.push_str("live: nothing\n"),
            Some(live) => {
                let LiveVersion { layout, digest, since, files, bytes } = live;
                put(&mut text, "live", digest.as_deref(), "since", since.as_deref());
                if *layout == FILES {
                    text.push_str(", as plain files");
                }
                amounts(&mut text, *files, *bytes);
            }
        }
        match &self.pinned {
            None => text.push_str("pinned: no\n"),
            Some(pin) => {
                put(&mut text, "pinned", Some(&pin.digest), "since", Some(&pin.since));
                text.push('\n');
            }
        }
        for kept in &self.kept {
            put(&mut text, "kept", Some(&kept.digest), "packed", kept.packed.as_deref());
            amounts(&mut text, kept.files, kept.bytes);
        }
        text
    }
}

fn put(text: &mut String, what: &str, digest: Option<&str>, verb: &str, time: Option<&str>) {
    let digest = digest.map_or("unknown".to_owned(), |digest| format!("sha256:{digest}"));
    // Writing to a string cannot fail.
    let _ = write!(text, "{what}: {digest}");
    if let Some(time) = time {
        let _ = write!(text, ", {verb} {time}");
    }
}

fn amounts(text: &mut String, files: Option<u64>, bytes: Option<u64>) {
    match (files, bytes) {
        (Some(files), Some(bytes)) => {
            let _ = writeln!(text, ", {files} files, {bytes} bytes");
        }
        _ => text.push_str(", cannot be read\n"),
    }
}

fn live_version(volume: &Volume, live: &volume::LiveVersion) -> LiveVersion {
    let totals = live.published.as_ref().map(|published| published.tree.totals());
    LiveVersion {
        layout: "atomic",
        digest: live.published.as_ref().map(|published| hex(&published.digest)),
        since: published_at(volume, &live.name).ok().map(rfc3339),
        files: totals.map(|totals| totals.files),
        bytes: totals.map(|totals| totals.bytes),
    }
}

/// What was published as plain files. A run that was killed may have put more in place.
fn plain_files(volume: &Volume, report: &mut Report) -> Result<Option<LiveVersion>> {
    let claims = Claims::of(volume, report)?;
    if !claims.pending.is_empty() {
        report.warn("a publication was cut off: the next run makes it whole".to_owned());
    }
    Ok(claims.published.map(|record| {
        let Totals { files, bytes } = record.tree.totals();
        LiveVersion {
            layout: FILES,
            digest: Some(hex(&record.digest)),
            since: Some(rfc3339(record.since)),
            files: Some(files),
            bytes: Some(bytes),
        }
    }))
}

/// What is kept, but for what is live, which may be kept to be repaired.
fn all_kept(volume: &Volume, live: Option<&str>, report: &mut Report) -> Result<Vec<KeptVersion>> {
    let archives = Archives::find(volume)?;
    let each = |kept: Archived| {
        let totals = match (&kept.name, &archives) {
            (Some(name), _) => volume.published(name).map(|published| published.tree.totals()),
            (None, Some(archives)) => archives
                .header(&kept.digest)
                .map(|header| Totals { files: header.files, bytes: header.bytes }),
            (None, None) => Ok(Totals::default()),
        };
        let digest = hex(&kept.digest);
        if let Err(error) = &totals {
            report.warn(format!("the archive of version {digest} cannot be used: {error:#}"));
        }
        let totals = totals.ok();
        KeptVersion {
            digest,
            packed: kept.archive.as_ref().map(|archive| rfc3339(archive.packed)),
            files: totals.map(|totals| totals.files),
            bytes: totals.map(|totals| totals.bytes),
            packed_bytes: kept.archive.map(|archive| archive.size),
        }
    };
    let earlier = archived(volume)?.into_iter().filter(|kept| Some(&hex(&kept.digest)[..]) != live);
    Ok(earlier.map(each).collect())
}

/// Prints the live, pinned and archived versions.
///
/// # Errors
/// As [`Status::of`].
pub fn show_status(options: &Show, report: &mut Report) -> Result<u8> {
    let status = Status::of(&Volume::open(&options.common.target)?, report)?;
    print(&if options.json { format!("{}\n", serde_json::json!(status)) } else { status.text() });
    Ok(if status.live.is_some() { DONE } else { FAILED })
}

/// Prints the history.
///
/// # Errors
/// As [`history()`].
pub fn show_history(options: &Show, report: &mut Report) -> Result<u8> {
    print(&history(&Volume::open(&options.common.target)?, options.json, report)?);
    Ok(DONE)
}

/// The history of a volume, the newest first, for people or as an array of JSON.
///
/// # Errors
/// It cannot be read.
pub fn history(volume: &Volume, as_json: bool, report: &mut Report) -> Result<String> {
    let (mut entries, broken) = history::read(volume)?;
    if broken > 0 {
        report.warn(format!("{broken} lines of the history cannot be understood"));
    }
    entries.reverse();
    if as_json {
        return Ok(format!("{}\n", serde_json::json!(entries)));
    }
    let mut text = String::new();
    for entry in entries {
        let done = match entry.action {
            Action::Published => "published",
            Action::RolledBack => "rolled back to",
        };
        put(&mut text, &format!("{} {done}", entry.time), Some(&entry.digest), "", None);
        amounts(&mut text, Some(entry.files), Some(entry.bytes));
    }
    Ok(text)
}
