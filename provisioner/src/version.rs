//! A version on a volume: its tree, its manifest, and since when it is live.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use rustix::fs::{Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::durable::Durability;
use crate::place::Place;
use crate::progress;
use crate::records;
use crate::seal::ABOUT;
use crate::tree::manifest::{self, hex};
use crate::tree::scan::check_copy;
use crate::tree::{Hash, Tree};
use crate::volume::{MANIFEST, TREE, Volume};

/// Fills the empty directory of a version, and returns how many bytes of it are new.
pub type Fill<'f> = &'f mut dyn FnMut(&mut Tree, &Place, &Durability) -> Result<u64>;

/// Says of a version since when it is live.
#[derive(Serialize, Deserialize)]
struct About {
    digest: String,
    /// In seconds since 1970.
    published: u64,
    files: u64,
}

/// Makes a version that nobody looks at yet, and brings it to the disk: how many bytes of it are
/// new, and its digest.
///
/// # Errors
/// It cannot be made.
pub fn make(tree: &mut Tree, fill: Fill<'_>, volume: &Volume, name: &str) -> Result<(u64, Hash)> {
    let disk = Durability::watch(volume.place())?;
    let version = volume.create(name)?;
    let place = version.below(TREE.as_bytes())?;
    let bytes = fill(tree, &place, &disk)?;
    check_copy(&place, tree)?;
    let digest = write_file(&version, MANIFEST, &disk, |out| manifest::write(tree, out))?;
    let published = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let about = About { digest: hex(&digest), published, files: tree.totals().0 };
    write_file(&version, ABOUT, &disk, |out| writeln!(out, "{}", serde_json::json!(about)))?;
    let failure = |errno| version.failure("sync", b"", errno);
    progress::begin("syncing", 0);
    disk.written(&version).map_err(failure)?;
    disk.sync().map_err(failure)?;
    volume.uncover(name)?;
    Ok((bytes, digest))
}

/// When a version was published.
///
/// # Errors
/// It does not say so.
pub fn since(volume: &Volume, name: &str) -> Result<SystemTime> {
    let place = volume.place().below(name.as_bytes())?;
    let file = records::open(&place, ABOUT)?.context("it is not there")?;
    let about: About = serde_json::from_reader(file)?;
    let since = UNIX_EPOCH.checked_add(Duration::from_secs(about.published));
    since.context("it is too late")
}

fn write_file<T>(
    version: &Place,
    name: &str,
    disk: &Durability,
    write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
) -> Result<T> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let mode = Mode::from_raw_mode(0o644);
    let failure = |operation: &str, errno| version.failure(operation, name.as_bytes(), errno);
    let fd = openat(version, name, flags, mode).map_err(|errno| failure("create", errno))?;
    let mut out = BufWriter::new(File::from(fd));
    let write_error =
        |error: &io::Error| failure("write", Errno::from_io_error(error).unwrap_or(Errno::IO));
    let done = write(&mut out).map_err(|error| write_error(&error))?;
    let file = out.into_inner().map_err(|error| write_error(error.error()))?;
    fchmod(&file, mode).map_err(|errno| failure("set the mode of", errno))?;
    disk.written(&file).map_err(|errno| failure("sync", errno))?;
    Ok(done)
}
