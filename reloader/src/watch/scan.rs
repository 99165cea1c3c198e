//! Scans the watched directories: computes the digest of their content, and sets the watches.
//!
//! A version that provisioner has published is verified when it is new and after each event; other
//! scans take its digest from the manifest. Any other content is read at each scan.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use published_tree::dir::{Dir, open_beneath};
use published_tree::progress::Progress;
use published_tree::tree::{Hash, Node, join};
use published_tree::verify::verify;
use published_tree::volume::{Published, Volume};
use rustix::fs::{OFlags, fstat};
use sha2::{Digest, Sha256};

use super::file_system::has_events;
use super::files::{Files, Root};
use super::inotify::Watches;
use super::tree::{self, Entry, Kind, Limits, Tree};

/// What paths below the live version of a ConfigMap volume begin with.
const LIVE: &[u8] = b"..data/";

/// The content of the watched directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The digest of all entries.
    pub digest: Hash,
    /// Whether manifests prove that the content is complete.
    pub is_verified: bool,
    /// The entries, sorted by path.
    pub entries: Arc<[Entry]>,
    /// What the digest does not cover, and why.
    pub warnings: Vec<String>,
    /// The directory, if it is kept open.
    root: Option<Root>,
}

impl Scan {
    /// The files, if the scanner keeps the directory open.
    pub fn files(&self) -> Option<Files> {
        let (root, entries) = (self.root.clone()?, self.entries.clone());
        Some(Files { root, entries, warning: self.warnings.first().cloned() })
    }
}

/// A version of provisioner's whose files have been verified.
struct Verified {
    name: String,
    scan: Scan,
}

/// Scans the watched directories, and remembers the versions that it has verified.
pub struct Scanner {
    roots: Vec<PathBuf>,
    limits: Limits,
    watches: Option<Watches>,
    /// The last verified version of each root.
    verified: HashMap<PathBuf, Verified>,
    has_events: bool,
    keeps_open: bool,
}

impl Scanner {
    /// Makes a scanner. The directories need not exist yet.
    pub fn new(roots: Vec<PathBuf>, limits: Limits, watches: Option<Watches>) -> Self {
        Self {
            roots,
            limits,
            watches,
            verified: HashMap::new(),
            has_events: false,
            keeps_open: false,
        }
    }

    /// Keeps the directory of each scan open, if one directory is watched.
    pub fn keep_open(mut self) -> Self {
        self.keeps_open = true;
        self
    }

    /// Whether every change since the last scan raises an event.
    pub fn has_events(&self) -> bool {
        self.has_events
    }

    /// Scans all directories. Unless the scan is `thorough`, a version that was verified once is
    /// not read again.
    ///
    /// # Errors
    /// Fails if a directory is missing, cannot be read, or is not what its manifest says.
    pub fn scan(&mut self, thorough: bool) -> Result<Scan> {
        let mut devices = HashMap::new();
        let roots = self.roots.clone();
        let scans: Result<Vec<Scan>> =
            roots.iter().map(|root| self.scan_root(root, thorough, &mut devices)).collect();
        let is_complete = self.watches.as_mut().is_some_and(Watches::end_scan);
        self.has_events = is_complete && devices.values().all(|has_events| *has_events);
        Ok(merged(&self.roots, scans?))
    }

    /// Scans one directory. `devices` gets each file system there, and whether it raises events.
    fn scan_root(
        &mut self,
        root: &Path,
        thorough: bool,
        devices: &mut HashMap<u64, bool>,
    ) -> Result<Scan> {
        let (watches, keeps_open) = (&mut self.watches, self.keeps_open);
        let mut watch = |directory: BorrowedFd<'_>| {
            if let Ok(stat) = fstat(directory) {
                devices.entry(stat.st_dev).or_insert_with(|| has_events(directory));
            }
            if let Some(watches) = watches {
                watches.add(directory);
            }
        };
        let opened = Dir::open(root);
        if let Ok(dir) = &opened {
            watch(dir.as_fd());
        }
        let scan = opened.and_then(|dir| {
            let volume = Volume::open(root)?;
            let published = volume.live_name().ok().flatten().and_then(|name| {
                let published = volume.published(&name).ok()?;
                Some((name, published))
            });
            let Some((name, published)) = published else {
                let scan = unpublished(&dir, self.limits, &mut watch)?;
                return if keeps_open { keep_unpublished_open(scan, dir) } else { Ok(scan) };
            };
            watch_published(&published, &mut watch);
            match self.verified.get(root) {
                Some(known) if known.name == name && !thorough => Ok(known.scan.clone()),
                _ => {
                    verify(&published, &Progress::default())
                        .context("the live version is damaged, or was replaced during the scan")?;
                    let mut scan = from_manifest(&published);
                    scan.root = keeps_open.then(|| Root::new(published.dir, b""));
                    self.verified.insert(root.to_owned(), Verified { name, scan: scan.clone() });
                    Ok(scan)
                }
            }
        });
        if let Some(watches) = &mut self.watches {
            watches.add_path(root);
        }
        scan
    }
}

/// The content of a directory that provisioner has not published.
fn unpublished(dir: &Dir, limits: Limits, watch: &mut dyn FnMut(BorrowedFd<'_>)) -> Result<Scan> {
    let tree = tree::read(dir, limits, watch)?;
    let digest = tree.digest();
    let Tree { entries, warnings } = tree;
    Ok(Scan { digest, is_verified: false, entries: entries.into(), warnings, root: None })
}

/// Keeps the directory of a scan open. In a ConfigMap volume, that is the live version; if another one
/// has gone live since the scan, its files do not have the hashes of the scan.
fn keep_unpublished_open(mut scan: Scan, dir: Dir) -> Result<Scan> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    scan.root = Some(match scan.entries.iter().any(|entry| entry.path.starts_with(LIVE)) {
        true => {
            let live = open_beneath(&dir, b"..data", flags);
            let live = live.map_err(|errno| dir.error("open", b"..data", errno))?;
            Root::new(dir.with_fd(live, b"..data"), LIVE)
        }
        false => Root::new(dir, b""),
    });
    Ok(scan)
}

fn watch_published(published: &Published, watch: &mut dyn FnMut(BorrowedFd<'_>)) {
    for directory in published.tree.directories() {
        if let Ok(fd) = published.dir.open_fd(directory.path()) {
            watch(fd.as_fd());
        }
    }
}

fn from_manifest(published: &Published) -> Scan {
    let mut entries = Vec::with_capacity(published.tree.len());
    for directory in published.tree.directories() {
        for (name, node) in directory.entries() {
            let (kind, hash) = match node {
                Node::Directory { .. } => (Kind::Directory, Hash::default()),
                Node::File { hash, .. } => (Kind::File, *hash),
                Node::Link { target } => (Kind::Link, Sha256::digest(target).into()),
            };
            let path = join(directory.path(), name).into();
            entries.push(Entry { path, kind, hash });
        }
    }
    let (digest, entries) = (published.digest, entries.into());
    Scan { digest, is_verified: true, entries, warnings: Vec::new(), root: None }
}

/// The content of all directories together. A single directory keeps its own digest.
fn merged(roots: &[PathBuf], mut scans: Vec<Scan>) -> Scan {
    if scans.len() == 1 {
        return scans.swap_remove(0);
    }
    let mut digest = Sha256::new();
    let (mut is_verified, mut entries, mut warnings) = (true, Vec::new(), Vec::new());
    for (root, scan) in roots.iter().zip(scans) {
        let root = root.as_os_str().as_bytes();
        digest.update((root.len() as u64).to_le_bytes());
        digest.update(root);
        digest.update(scan.digest);
        is_verified &= scan.is_verified;
        warnings.extend(scan.warnings);
        entries.extend(scan.entries.iter().map(|entry| {
            let path = [root, b"/", &entry.path].concat().into();
            Entry { path, ..entry.clone() }
        }));
    }
    let digest = digest.finalize().into();
    Scan { digest, is_verified, entries: entries.into(), warnings, root: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scan(path: &str, content: u8, is_verified: bool) -> Scan {
        let entry = Entry { path: path.as_bytes().into(), kind: Kind::File, hash: [content; 32] };
        let warnings = vec![format!("{path} is large")];
        let (digest, entries) = ([content; 32], [entry].into());
        Scan { digest, is_verified, entries, warnings, root: None }
    }

    #[test]
    fn one_directory_keeps_its_digest() {
        let one = scan("a", 1, true);
        assert_eq!(merged(&["/x".into()], vec![one.clone()]), one);
    }

    #[test]
    fn several_directories_share_a_digest_that_depends_on_each_and_on_its_name() {
        let roots = ["/x".into(), "/y".into()];
        let both = |second| merged(&roots, vec![scan("a", 1, true), second]);
        let merged_scan = both(scan("a", 2, true));
        assert!(merged_scan.is_verified && !both(scan("a", 2, false)).is_verified);
        let paths: Vec<_> = merged_scan.entries.iter().map(|entry| &*entry.path).collect();
        assert_eq!(paths, [b"/x/a", b"/y/a"]);
        assert_eq!(merged_scan.warnings.len(), 2);
        assert_ne!(merged_scan.digest, both(scan("a", 3, true)).digest);
        let elsewhere = ["/x".into(), "/z".into()];
        let renamed = merged(&elsewhere, vec![scan("a", 1, true), scan("a", 2, true)]);
        assert_ne!(merged_scan.digest, renamed.digest);
    }
}
