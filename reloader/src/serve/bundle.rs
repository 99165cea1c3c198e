//! `--serve-bundle`: serves the live content of the watched directory to OPA, as a bundle over HTTP.
//!
//! 1. A reload makes a [`Bundle`] of the files that the scan found, and of the directory that the scan
//!    had opened. Another version that goes live does not change either.
//! 2. [`server`] answers requests with the bundle that was published last.
//! 3. [`archive`] reads the files while it sends them. A file that is not what the scan found cuts
//!    the response off, so OPA gets the whole content with this digest, or nothing.
//!
//! OPA reads files by name and ignores all others, as README.md. Left out are links, which OPA does not
//! follow in directories either, names at the top that begin with `..`, and provisioner's `SHA256SUMS`,
//! since OPA refuses a signed bundle with a file that the signature does not list.

mod archive;
mod preconditions;
mod server;
mod tar;

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use anyhow::{Result, bail};
use diagnostics::wording::one_line;
use hyper::header::HeaderValue;
use published_tree::dir::Dir;
use serde_json::json;
use tokio::sync::watch;

use crate::watch::{Entry, Files, Kind};

pub use server::{PATH, serve};

/// The checksums of a source of provisioner's.
const CHECKSUMS: &[u8] = b"SHA256SUMS";
/// How many links are listed.
const LISTED: usize = 5;

/// The content of a directory, as OPA gets it.
pub struct Bundle {
    /// The digest of the content, in hexadecimal.
    pub digest: String,
    /// The digest in quotation marks.
    etag: HeaderValue,
    files: Files,
    /// `.manifest` with the digest as revision; `None` if the content has a manifest or signatures.
    manifest: Option<String>,
    /// When the end of this content was first sent.
    sent: Arc<OnceLock<SystemTime>>,
    /// Whether a failure was reported.
    is_reported: OnceLock<()>,
}

impl Bundle {
    /// Makes a bundle of scanned files.
    ///
    /// # Errors
    /// Fails if the scan has not covered everything: the bundle would not be complete.
    pub fn new(files: Files, digest: &str) -> Result<Self> {
        if let Some(warning) = &files.warning {
            bail!("the bundle would not be complete: {warning}");
        }
        let has_own = served(&files).any(|(path, _)| {
            // OPA takes each file with such a name as the manifest, and refuses two.
            let is_manifest = path.ends_with(b".manifest") || path.ends_with(b".manifest.pb");
            is_manifest || path.rsplit(|&b| b == b'/').next() == Some(b".signatures.json")
        });
        let manifest = (!has_own).then(|| json!({ "revision": digest }).to_string());
        let etag = HeaderValue::from_str(&format!("\"{digest}\""))?;
        let (sent, is_reported) = (Arc::default(), OnceLock::new());
        Ok(Self { digest: digest.to_owned(), etag, files, manifest, sent, is_reported })
    }

    /// The same content in other files.
    fn with_files(&self, files: Files) -> Self {
        Self {
            digest: self.digest.clone(),
            etag: self.etag.clone(),
            files,
            manifest: self.manifest.clone(),
            sent: self.sent.clone(),
            is_reported: OnceLock::new(),
        }
    }

    /// The `ETag` of a response with this bundle.
    pub fn etag(&self) -> &str {
        self.etag.to_str().unwrap_or_default()
    }

    /// Whether the bundle has the digest as revision in a manifest that was added.
    pub fn has_added_manifest(&self) -> bool {
        self.manifest.is_some()
    }

    /// When a client could first have the whole bundle; `None` before.
    pub fn sent(&self) -> Option<SystemTime> {
        self.sent.get().copied()
    }

    /// The number of files, and the links that are left out: `3 files, without the links a, b`.
    pub fn describe(&self) -> String {
        let links = self.files.entries().filter(|(_, entry)| entry.kind == Kind::Link);
        let links: Vec<_> = links.map(|(path, _)| one_line(path)).collect();
        let count = served(&self.files).count();
        let files = format!("{count} file{}", if count == 1 { "" } else { "s" });
        let listed = links[..links.len().min(LISTED)].join(", ");
        match links.len().saturating_sub(LISTED) {
            _ if links.is_empty() => files,
            0 => format!("{files}, without the links {listed}"),
            more => format!("{files}, without the links {listed} and {more} more"),
        }
    }

    fn dir(&self) -> &Dir {
        self.files.dir()
    }
}

/// The files of a bundle, by their paths in it.
fn served(files: &Files) -> impl Iterator<Item = (&[u8], &Entry)> {
    files.entries().filter(|(path, entry)| {
        entry.kind == Kind::File && !path.starts_with(b"..") && *path != CHECKSUMS
    })
}

/// The bundle that is served, which reloads replace. Clones share it.
#[derive(Clone)]
pub struct Published(watch::Sender<Option<Arc<Bundle>>>);

impl Published {
    /// Nothing is published yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Publishes a bundle. If one with this digest is published, only its files are replaced. Returns the
    /// published one.
    pub fn publish(&self, bundle: Bundle) -> Arc<Bundle> {
        self.refresh(&bundle.files, &bundle.digest);
        if let Some(same) = self.0.borrow().as_ref().filter(|old| old.digest == bundle.digest) {
            return same.clone();
        }
        let bundle = Arc::new(bundle);
        self.0.send_replace(Some(bundle.clone()));
        bundle
    }

    /// Replaces the files of the published bundle by those of a later scan that has found the same content:
    /// the directory of the earlier ones is removed with its version. Clients that wait go on waiting.
    pub fn refresh(&self, files: &Files, digest: &str) {
        self.0.send_if_modified(|published| {
            if let Some(bundle) = published
                && bundle.digest == digest
                && files.warning.is_none()
            {
                *bundle = Arc::new(bundle.with_files(files.clone()));
            }
            false
        });
    }

    fn subscribe(&self) -> watch::Receiver<Option<Arc<Bundle>>> {
        self.0.subscribe()
    }
}
