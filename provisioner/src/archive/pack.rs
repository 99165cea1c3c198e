//! Packs a version into an archive.
//!
//! 1. Count the length of the manifest, which the header holds.
//! 2. Write header, manifest and files through gzip into a temporary file. Verify the hash of each
//!    file meanwhile.
//! 3. Stop if the volume is nearly full, or a signal has come.
//! 4. Sync the file, and give it its name.

use std::fs::File;
use std::io::{self, BufWriter, Write};

use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::GzEncoder;
use published_tree::dir::Dir;
use published_tree::manifest::{self, hex};
use published_tree::progress::Progress;
use published_tree::records;
use published_tree::tree::Totals;
use published_tree::verify::copy_verified;
use published_tree::volume::Published;
use rustix::fs::fstatvfs;

use crate::archive::{Archives, Header};
use crate::shutdown::Shutdown;

/// Bytes that are written between two checks of the free space.
const CHECK_INTERVAL: u64 = 256 * 1024;
/// The part of the volume that archives leave free: a twentieth, as ext4 reserves for root.
const RESERVED_PART: u64 = 20;

impl Archives {
    /// Packs a version.
    ///
    /// # Errors
    /// Fails if a file is not what was published, there is not enough space, or a signal has come. An
    /// archive of the version from before stays.
    pub fn pack(&self, published: &Published, shutdown: &Shutdown) -> Result<()> {
        records::replace(self.dir(), &hex(&published.digest), |file| {
            // Step 1.
            let mut manifest = ByteCounter(0);
            manifest::write(&published.tree, &mut manifest)?;
            let Totals { files, bytes } = published.tree.totals();
            let header = Header { files, bytes, manifest: manifest.0 };

            // Steps 2 and 3.
            let file = ArchiveWriter { volume: self.dir(), file, shutdown, until_check: 0 };
            let encoder = GzEncoder::new(file, Compression::fast());
            let mut out = BufWriter::with_capacity(64 * 1024, encoder);
            writeln!(out, "{}", serde_json::json!(header)).context("failed to write the header")?;
            manifest::write(&published.tree, &mut out)?;
            copy_verified(published, &mut out, &Progress::default())?;
            let encoder = out.into_inner().map_err(io::IntoInnerError::into_error);
            encoder.and_then(GzEncoder::finish).map(drop).context("failed to write the last block")
        })
    }
}

/// Counts the bytes that are written.
struct ByteCounter(u64);

impl Write for ByteCounter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes to a file until the volume is nearly full or a signal has come.
struct ArchiveWriter<'a> {
    volume: &'a Dir,
    file: &'a mut File,
    shutdown: &'a Shutdown,
    /// Bytes until the next check of the free space.
    until_check: u64,
}

impl Write for ArchiveWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.shutdown.has_come() {
            return Err(io::Error::other("interrupted by a signal"));
        }
        if self.until_check == 0 {
            let found = fstatvfs(self.volume)?;
            let reserved = (found.f_blocks / RESERVED_PART).saturating_mul(found.f_frsize);
            let free = found.f_bavail.saturating_mul(found.f_frsize);
            if free < reserved.saturating_add(CHECK_INTERVAL) {
                return Err(io::Error::other("an archive leaves a twentieth of the volume free"));
            }
            self.until_check = CHECK_INTERVAL;
        }
        let limit = usize::try_from(self.until_check).unwrap_or(usize::MAX);
        let count = self.file.write(&bytes[..limit.min(bytes.len())])?;
        self.until_check -= count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
