//! Creates a version: a directory with the tree, its manifest and the time of publication.
//!
//! 1. Create the directory, closed to other users, with an empty tree.
//! 2. The caller fills the tree.
//! 3. Check that no link in it leads out of the tree.
//! 4. Write the manifest, whose hash is the digest of the version, and the version file.
//! 5. Sync everything to the disk.
//! 6. The caller checks the tree.
//! 7. Open the directory to readers: from now on the version counts as complete.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use published_tree::dir::{Dir, unique_suffix};
use published_tree::manifest::{self, hex};
use published_tree::progress::Progress;
use published_tree::publish_time::VERSION_FILE;
use published_tree::records;
use published_tree::tree::{Hash, Tree};
use published_tree::volume::{MANIFEST, TREE, Volume};
use rustix::fs::{Mode, OFlags, fchmod, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::atomic::hooks::Hooks;
use crate::check::Staged;
use crate::copy::destination::Destination;
use crate::copy::durable::Durability;
use crate::source::owner::Owner;
use crate::source::scan::check_copy;

/// The content of the version file.
#[derive(Serialize, Deserialize)]
struct VersionFile {
    digest: String,
    /// In seconds since 1970.
    published: u64,
    files: u64,
}

/// The names that one publication uses on a volume.
pub struct VersionName {
    /// The name of the version's directory.
    pub name: String,
    /// The suffix of all names of this publication.
    pub suffix: String,
}

impl VersionName {
    /// Names that no other publication uses.
    pub fn unique() -> Self {
        let suffix = unique_suffix();
        Self { name: Volume::version_name(&suffix), suffix }
    }
}

/// A version that is being created.
pub struct NewVersion {
    name: String,
    version: Dir,
    tree: Dir,
    disk: Durability,
}

impl NewVersion {
    /// Creates the directory of a version (step 1).
    ///
    /// # Errors
    /// Fails if the directory cannot be created.
    pub fn create(volume: &Volume, name: &VersionName) -> Result<Self> {
        let disk = Durability::start(volume.dir())?;
        let version = volume.create_version(&name.name)?;
        let tree = version.open_dir(TREE.as_bytes())?;
        Ok(Self { name: name.name.clone(), version, tree, disk })
    }

    /// Where the tree is copied to.
    pub fn destination<'d>(
        &'d self,
        owner: Option<Owner>,
        progress: &'d Progress,
    ) -> Destination<'d> {
        Destination { dir: &self.tree, disk: &self.disk, owner, progress }
    }

    /// Finishes the files of a version whose tree is filled (steps 3 to 5). Returns its digest.
    ///
    /// # Errors
    /// Fails if a link leads out of the tree, or the version cannot be written or synced.
    pub fn seal(&self, tree: &Tree, progress: &Progress) -> Result<Hash> {
        check_copy(&self.tree, tree)?;
        let digest = self.write_file(MANIFEST, |out| manifest::write(tree, out))?;
        let published = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let content = VersionFile { digest: hex(&digest), published, files: tree.totals().files };
        self.write_file(VERSION_FILE, |out| writeln!(out, "{}", serde_json::json!(content)))?;
        progress.begin("syncing", 0);
        let error = |errno| self.version.error("sync", b"", errno);
        self.disk.written(&self.version).map_err(error)?;
        self.disk.sync().map_err(error)?;
        Ok(digest)
    }

    /// Completes a sealed version, unless a check refuses it (steps 6 and 7).
    ///
    /// # Errors
    /// Fails as the check does, or if the version cannot be opened to readers.
    pub fn complete(
        &self,
        tree: &Tree,
        digest: &Hash,
        volume: &Volume,
        hooks: &mut dyn Hooks,
    ) -> Result<()> {
        hooks.check(Staged { dir: &self.tree, tree, digest })?;
        volume.open_to_readers(&self.name)
    }

    /// Syncs a version and opens it to readers without a manifest, so that no rollback returns to it.
    ///
    /// # Errors
    /// Fails if it cannot be synced.
    pub fn open_without_manifest(&self, volume: &Volume) -> Result<()> {
        self.disk.sync().map_err(|errno| self.tree.error("sync", b"", errno))?;
        volume.open_to_readers(&self.name)
    }

    fn write_file<T>(
        &self,
        name: &str,
        write: impl FnOnce(&mut BufWriter<File>) -> io::Result<T>,
    ) -> Result<T> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o644);
        let error = |operation: &str, errno| self.version.error(operation, name.as_bytes(), errno);
        let fd =
            openat(&self.version, name, flags, mode).map_err(|errno| error("create", errno))?;
        let mut out = BufWriter::new(File::from(fd));
        let write_error =
            |cause: &io::Error| error("write", Errno::from_io_error(cause).unwrap_or(Errno::IO));
        let done = write(&mut out).map_err(|cause| write_error(&cause))?;
        let file = out.into_inner().map_err(|cause| write_error(cause.error()))?;
        fchmod(&file, mode).map_err(|errno| error("set the mode of", errno))?;
        self.disk.written(&file).map_err(|errno| error("sync", errno))?;
        Ok(done)
    }
}

/// When a version was published, by its version file.
///
/// # Errors
/// Fails if the file is missing, cannot be parsed, or its time does not fit.
pub fn published_at(volume: &Volume, name: &str) -> Result<SystemTime> {
    let dir = volume.dir().open_dir(name.as_bytes())?;
    let file = records::open(&dir, VERSION_FILE)?.context("it does not exist")?;
    let content: VersionFile = serde_json::from_reader(file)?;
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(content.published));
    time.context("its time is out of range")
}
