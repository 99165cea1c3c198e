//! What is done to a volume other than to publish, and around it: going back, staying at what is
//! pinned, telling what is there.

use std::io::{Write, stdout};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use diagnostics::exit::{DONE, FAILED};
use diagnostics::report::Report;

use crate::cli::{Change, Look, Rollback};
use crate::files;
use crate::history::{Action, record};
use crate::lock::{Lock, lock};
use crate::owner::Owner;
use crate::pin::{self, Pin};
use crate::progress::Shown;
use crate::rollback::{Held, RolledBack, hold, rollback};
use crate::status::{self, Status};
use crate::stop::Stop;
use crate::superseded::{self, Terms, is_grace_over, warn_of};
use crate::then::{Counts, Listeners, Live, Mark, News};
use crate::tree::Hash;
use crate::tree::manifest::hex;
use crate::volume::Volume;

/// A volume, whom to tell what is live on it, and the versions on it to be retired.
pub struct Rest {
    /// The volume.
    pub volume: Volume,
    /// What is live, if it is known.
    pub live: Option<Live>,
    /// Whom to tell.
    pub news: News,
    /// Versions that are not live any more.
    pub old: Vec<String>,
    /// What is kept of them.
    pub terms: Terms,
}

/// What the command line says of versions that are superseded.
pub fn terms(change: &Change) -> Terms {
    Terms {
        keep: change.keep,
        grace: Duration::from_secs(change.grace),
        lock_timeout: Duration::from_secs(change.lock_timeout),
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
    (mut live, news): (Option<Live>, News),
    mut terms: Terms,
) -> Result<Rest> {
    let mut old = superseded::versions(&volume, before, &held)?;
    let mark = Mark::of(&volume)?;
    drop(held);
    if let Some(live) = &mut live {
        live.mark = Some(mark);
    }
    if !live.as_ref().is_some_and(|live| live.is_new) {
        if !is_grace_over(&volume, terms.grace) {
            old.clear();
        }
        terms.grace = Duration::ZERO;
    }
    Ok(Rest { volume, live, news, old, terms })
}

/// Goes back to an earlier version.
///
/// # Errors
/// As [`rollback`].
pub fn roll_back(
    options: &Rollback,
    start: Instant,
    stop: &Stop,
    report: &mut Report,
) -> Result<Rest> {
    let listeners = Listeners::of(&options.change.then)?;
    let target = &options.at.target;
    let (volume, terms) = (Volume::open(target)?, terms(&options.change));
    let held = lock(volume.place(), terms.lock_timeout)?;
    superseded::clean(&volume, &held, report)?;
    files::refuse(&volume)?;
    let before = Mark::of(&volume)?;
    let mut news = News::find(listeners, target, &volume, report);
    let mut announce = |digest: &Hash, totals| news.note(&volume, digest, &counts_of(totals));
    let wanted = options.digest.as_deref();
    let shown = Shown::on(report.progress());
    let done = rollback(&volume, wanted, terms, options.change.owner, report, &mut announce);
    drop(shown);
    let RolledBack { digest, totals } = or_withdraw(done, &news, &volume, &before)?;
    if let Some(totals) = totals {
        note(&volume, Action::RolledBack, &digest, totals, report);
    }
    stop.defer();
    let counts = totals.map(counts_of).unwrap_or_default();
    let live = Live { mark: None, digest, is_new: totals.is_some(), counts };
    let rest = let_go(volume, held, before.name, (Some(live), news), terms);
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
    rest
}

/// The pin that a publication has to heed. One that cannot be read does not hold.
pub fn pin_of(unpin: bool, volume: &Volume, report: &mut Report) -> Option<Pin> {
    if unpin {
        warn_of(pin::remove(volume), "the volume cannot be unpinned", report);
        return None;
    }
    Pin::of(volume).unwrap_or_else(|error| {
        report.warn(format!("the volume is not taken for pinned: {error:#}"));
        None
    })
}

/// Keeps what is pinned live; what is live then, if it is known.
///
/// # Errors
/// The volume cannot be looked at.
pub fn stay(
    volume: &Volume,
    pin: &Pin,
    terms: Terms,
    owner: Option<Owner>,
    news: &mut News,
    report: &mut Report,
) -> Result<Option<Live>> {
    let (digest, before) = (hex(&pin.digest), Mark::of(volume)?);
    let mut announce = |digest: &Hash, totals| news.note(volume, digest, &counts_of(totals));
    let shown = Shown::on(report.progress());
    let held = hold(volume, pin, terms, owner, report, &mut announce);
    drop(shown);
    let held = or_withdraw(held, news, volume, &before)?;
    let live = |totals: Option<(u64, u64)>| {
        let counts = totals.map(counts_of).unwrap_or_default();
        Some(Live { mark: None, digest: pin.digest, is_new: totals.is_some(), counts })
    };
    let (live, more) = match held {
        Held::Sound => (live(None), ""),
        Held::Relinked(totals) => (live(Some(totals)), ""),
        Held::Restored(totals) => {
            note(volume, Action::RolledBack, &pin.digest, totals, report);
            (live(Some(totals)), ", but restored")
        }
        Held::Lost(error) => {
            report.warn(format!("version {digest} is pinned, but not live and sound: {error:#}"));
            news.withdraw(volume);
            (None, "")
        }
    };
    say(&format!("pinned to sha256:{digest}: not published{more}\n"));
    Ok(live)
}

/// What came of a run; if it has failed and `before` is live still, nobody is to be told of it.
///
/// # Errors
/// The run has failed.
pub fn or_withdraw<T>(
    outcome: Result<T>,
    news: &News,
    volume: &Volume,
    before: &Mark,
) -> Result<T> {
    if outcome.is_err() && Mark::of(volume).is_ok_and(|live| live == *before) {
        news.withdraw(volume);
    }
    outcome
}

/// The counts of a version that comes from what was kept of it.
fn counts_of((files, bytes): (u64, u64)) -> Counts {
    Counts::from([("files".to_owned(), files), ("bytes".to_owned(), bytes)])
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
pub fn show_status(look: &Look, report: &mut Report) -> Result<u8> {
    let status = Status::of(&Volume::open(&look.at.target)?, report)?;
    say(&if look.json { format!("{}\n", serde_json::json!(status)) } else { status.text() });
    Ok(if status.live.is_some() { DONE } else { FAILED })
}

/// Shows what was live when.
///
/// # Errors
/// As [`status::history`].
pub fn show_history(look: &Look, report: &mut Report) -> Result<u8> {
    say(&status::history(&Volume::open(&look.at.target)?, look.json, report)?);
    Ok(DONE)
}

/// Writes to stdout. What was done is done, whether or not anybody hears of it.
pub fn say(text: &str) {
    let _ = stdout().write_all(text.as_bytes());
}
