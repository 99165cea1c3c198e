//! The subcommands `status` and `history`: print the live version, the pin, the versions kept for
//! rollbacks, and those that have been live; as text or JSON.

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
use crate::archive::history::{self, Action, History};
use crate::archive::pin::Pin;
use crate::atomic::version::published_at;
use crate::cli::Show;
use crate::files::claims::{Claims, FILES};
use crate::state::timestamp::rfc3339;

/// The state of a volume.
#[derive(Debug, Serialize)]
pub struct Status {
    /// The live version; `None` before the first publication.
    pub live: Option<LiveStatus>,
    /// The pin; `None` if the volume is not pinned.
    pub pinned: Option<PinStatus>,
    /// The versions that a rollback can return to. The one that was live last comes first.
    pub kept: Vec<KeptStatus>,
}

/// The live version. A value that cannot be read is `None`.
#[derive(Debug, Serialize)]
pub struct LiveStatus {
    layout: &'static str,
    digest: Option<String>,
    since: Option<String>,
    files: Option<u64>,
    bytes: Option<u64>,
}

/// A pin.
#[derive(Debug, Serialize)]
pub struct PinStatus {
    digest: String,
    since: String,
}

/// A version kept for rollbacks. A value that cannot be read is `None`.
#[derive(Debug, Serialize)]
pub struct KeptStatus {
    digest: String,
    /// When it was archived; `None` if it still has its directory only.
    packed: Option<String>,
    files: Option<u64>,
    bytes: Option<u64>,
    /// The size of its archive, in bytes.
    packed_bytes: Option<u64>,
}

impl Status {
    /// Reads the state of a volume, and writes nothing to it. A pin or kept version that cannot be
    /// read causes a warning.
    ///
    /// # Errors
    /// Fails if the live version cannot be found.
    pub fn of(volume: &Volume, report: &mut Report) -> Result<Self> {
        let live = match volume.live()? {
            Some(live) => Some(live_version(volume, &live)),
            None => plain_files(volume, report)?,
        };
        let pinned = Pin::of(volume).unwrap_or_else(|error| {
            report.warn(format!("failed to read the pin: {error:#}"));
            None
        });
        let live_digest = live.as_ref().and_then(|live| live.digest.clone());
        let kept = kept_versions(volume, live_digest.as_deref(), report).unwrap_or_else(|error| {
            report.warn(format!("failed to list the kept versions: {error:#}"));
            Vec::new()
        });
        let pinned = pinned.map(|pin| PinStatus { digest: hex(&pin.digest), since: pin.since });
        Ok(Self { live, pinned, kept })
    }

    /// A line for each version, for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        match &self.live {
            None => text.push_str("live: nothing\n"),
            Some(live) => {
                let LiveStatus { layout, digest, since, files, bytes } = live;
                write_version(&mut text, "live", digest.as_deref(), "since", since.as_deref());
                if *layout == FILES {
                    text.push_str(", as plain files");
                }
                write_totals(&mut text, *files, *bytes);
            }
        }
        match &self.pinned {
            None => text.push_str("pinned: no\n"),
            Some(pin) => {
                write_version(&mut text, "pinned", Some(&pin.digest), "since", Some(&pin.since));
                text.push('\n');
            }
        }
        for kept in &self.kept {
            write_version(&mut text, "kept", Some(&kept.digest), "packed", kept.packed.as_deref());
            write_totals(&mut text, kept.files, kept.bytes);
        }
        text
    }
}

fn write_version(
    text: &mut String,
    what: &str,
    digest: Option<&str>,
    verb: &str,
    time: Option<&str>,
) {
    let digest = digest.map_or("unknown".to_owned(), |digest| format!("sha256:{digest}"));
    // Writing to a string cannot fail.
    let _ = write!(text, "{what}: {digest}");
    if let Some(time) = time {
        let _ = write!(text, ", {verb} {time}");
    }
}

fn write_totals(text: &mut String, files: Option<u64>, bytes: Option<u64>) {
    match (files, bytes) {
        (Some(files), Some(bytes)) => {
            let _ = writeln!(text, ", {files} files, {bytes} bytes");
        }
        _ => text.push_str(", cannot be read\n"),
    }
}

fn live_version(volume: &Volume, live: &volume::LiveVersion) -> LiveStatus {
    let totals = live.published.as_ref().map(|published| published.tree.totals());
    LiveStatus {
        layout: "atomic",
        digest: live.published.as_ref().map(|published| hex(&published.digest)),
        since: published_at(volume, &live.name).ok().map(rfc3339),
        files: totals.map(|totals| totals.files),
        bytes: totals.map(|totals| totals.bytes),
    }
}

/// The tree that is published as plain files. A killed run may have put newer files in place.
fn plain_files(volume: &Volume, report: &mut Report) -> Result<Option<LiveStatus>> {
    let claims = Claims::of(volume, report)?;
    if !claims.pending.is_empty() {
        report.warn("a publication was interrupted: the next run completes it".to_owned());
    }
    Ok(claims.published.map(|record| {
        let Totals { files, bytes } = record.tree.totals();
        LiveStatus {
            layout: FILES,
            digest: Some(hex(&record.digest)),
            since: Some(rfc3339(record.since)),
            files: Some(files),
            bytes: Some(bytes),
        }
    }))
}

/// The kept versions, without the live one, which may be archived for repairs.
fn kept_versions(
    volume: &Volume,
    live: Option<&str>,
    report: &mut Report,
) -> Result<Vec<KeptStatus>> {
    let archives = Archives::find(volume)?;
    let to_status = |kept: Archived| {
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
        KeptStatus {
            digest,
            packed: kept.archive.as_ref().map(|archive| rfc3339(archive.packed)),
            files: totals.map(|totals| totals.files),
            bytes: totals.map(|totals| totals.bytes),
            packed_bytes: kept.archive.map(|archive| archive.size),
        }
    };
    let earlier = archived(volume)?.into_iter().filter(|kept| Some(&hex(&kept.digest)[..]) != live);
    Ok(earlier.map(to_status).collect())
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

/// Formats the history of a volume, the newest version first, as text or as a JSON array.
///
/// # Errors
/// Fails if the history cannot be read.
pub fn history(volume: &Volume, as_json: bool, report: &mut Report) -> Result<String> {
    let History { mut entries, broken_lines } = history::read(volume)?;
    if broken_lines > 0 {
        report.warn(format!("{broken_lines} lines of the history cannot be parsed"));
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
        write_version(&mut text, &format!("{} {done}", entry.time), Some(&entry.digest), "", None);
        write_totals(&mut text, Some(entry.files), Some(entry.bytes));
    }
    Ok(text)
}
