//! What is done to a volume other than to publish, and around it: going back, staying at what is
//! pinned, telling what is there.

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use diagnostics::exit::{DONE, FAILED};
use diagnostics::report::Report;

use crate::cli::Cli;
use crate::files;
use crate::history::{Action, record};
use crate::lock::{Lock, lock};
use crate::owner::Owner;
use crate::pin::{self, Pin};
use crate::rollback::{Held, RolledBack, hold, rollback};
use crate::status::{self, Status};
use crate::stop::Stop;
use crate::superseded::{self, Terms, is_grace_over, warn_of};
use crate::tree::Hash;
use crate::tree::manifest::hex;
use crate::volume::Volume;

/// A volume, and the versions on it to be retired.
pub struct Rest {
    /// The volume.
    pub volume: Volume,
    /// Versions that are not live any more.
    pub old: Vec<String>,
    /// What is kept of them.
    pub terms: Terms,
}

/// What the command line says of versions that are superseded.
pub fn terms(cli: &Cli) -> Terms {
    Terms {
        keep: cli.keep,
        grace: Duration::from_secs(cli.grace),
        lock_timeout: Duration::from_secs(cli.lock_timeout),
    }
}

/// Lets the next writer in, who need not wait for the readers of versions before; they are left to
/// be seen to.
///
/// # Errors
/// The volume cannot be read.
pub fn let_go(
    volume: Volume,
    held: Lock,
    before: Option<String>,
    is_new: bool,
    mut terms: Terms,
) -> Result<Rest> {
    let mut old = superseded::versions(&volume, before, &held)?;
    drop(held);
    if !is_new {
        if !is_grace_over(&volume, terms.grace) {
            old.clear();
        }
        terms.grace = Duration::ZERO;
    }
    Ok(Rest { volume, old, terms })
}

/// Goes back to an earlier version.
///
/// # Errors
/// As [`rollback`].
pub fn roll_back(
    cli: &Cli,
    wanted: Option<&str>,
    start: Instant,
    stop: &Stop,
    report: &mut Report,
) -> Result<Rest> {
    let (volume, terms) = (Volume::open(&cli.target)?, terms(cli));
    let held = lock(volume.place(), terms.lock_timeout)?;
    superseded::clean(&volume, &held, report)?;
    files::refuse(&volume)?;
    let before = volume.live_name()?;
    let RolledBack { digest, totals } = rollback(&volume, wanted, terms, cli.owner, report)?;
    if let Some(totals) = totals {
        note(&volume, Action::RolledBack, &digest, totals, report);
    }
    stop.defer();
    let rest = let_go(volume, held, before, totals.is_some(), terms)?;
    let spelt = hex(&digest);
    if let Some((files, bytes)) = totals {
        report.count("files", files);
        report.count("bytes", bytes);
        let took = start.elapsed().as_secs_f64();
        say(&format!(
            "rolled back: {files} files, {bytes} bytes, sha256:{spelt}, pinned, {took:.2} s\n"
        ));
    } else {
        say(&format!("pinned: sha256:{spelt}, which was live already\n"));
    }
    Ok(rest)
}

/// The pin that a publication has to heed. One that cannot be read does not hold.
pub fn pin_of(cli: &Cli, volume: &Volume, report: &mut Report) -> Option<Pin> {
    if cli.unpin {
        warn_of(pin::remove(volume), "the volume cannot be unpinned", report);
        return None;
    }
    Pin::of(volume).unwrap_or_else(|error| {
        report.warn(format!("the volume is not taken for pinned: {error:#}"));
        None
    })
}

/// Keeps what is pinned live; whether something had to go live for that.
///
/// # Errors
/// The volume cannot be looked at.
pub fn stay(
    volume: &Volume,
    pin: &Pin,
    terms: Terms,
    owner: Option<Owner>,
    report: &mut Report,
) -> Result<bool> {
    let digest = hex(&pin.digest);
    let restored = match hold(volume, pin, terms, owner, report)? {
        Held::Sound => None,
        Held::Restored(totals) => Some(totals),
        Held::Lost(error) => {
            report.warn(format!("version {digest} is pinned, but not live and sound: {error:#}"));
            None
        }
    };
    if let Some(totals) = restored {
        note(volume, Action::RolledBack, &pin.digest, totals, report);
    }
    let restored = restored.is_some();
    say(&format!(
        "pinned to sha256:{digest}: not published{}\n",
        if restored { ", but restored" } else { "" }
    ));
    Ok(restored)
}

/// Writes to the history what is live.
pub fn note(
    volume: &Volume,
    action: Action,
    digest: &Hash,
    totals: (u64, u64),
    report: &mut Report,
) {
    let noted = record(volume, action, digest, totals).and_then(|broken| match broken {
        0 => Ok(()),
        _ => Err(anyhow!("{broken} lines could not be understood, and are gone")),
    });
    warn_of(noted, "the history is not complete", report);
}

/// Shows what is live, pinned and kept.
///
/// # Errors
/// As [`Status::of`].
pub fn show_status(cli: &Cli, as_json: bool, report: &mut Report) -> Result<u8> {
    let status = Status::of(&Volume::open(&cli.target)?, report)?;
    say(&if as_json { format!("{}\n", serde_json::json!(status)) } else { status.text() });
    Ok(if status.live.is_some() { DONE } else { FAILED })
}

/// Shows what was live when.
///
/// # Errors
/// As [`status::history`].
pub fn show_history(cli: &Cli, as_json: bool, report: &mut Report) -> Result<u8> {
    say(&status::history(&Volume::open(&cli.target)?, as_json, report)?);
    Ok(DONE)
}

/// Writes to stdout. What was done is done, whether or not anybody hears of it.
pub fn say(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}
