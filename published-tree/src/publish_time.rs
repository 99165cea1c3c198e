//! When a version was published, and whether one of its files was changed after that. An unchanged file
//! need not be hashed again.
//!
//! The manifest of a version is written after its files, on the same file system and by the same
//! clock. A file whose change time (ctime), which no program can set, is later than the modification
//! time of the manifest was changed after the publication. Changing the owner or the mode of the
//! manifest does not move that time.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use serde_json::Value;

use crate::dir::Dir;
use crate::manifest::hex;
use crate::records;
use crate::tree::Hash;

/// The file of a version that holds its digest and the time of publication.
pub const VERSION_FILE: &str = "version";

/// When a version was complete, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishTime(i64, u32);

impl PublishTime {
    /// The publish time of a version, read from its open manifest. `None` unless the version file
    /// names the digest of that manifest.
    pub fn of(version: &Dir, manifest: &File, digest: &Hash) -> Option<Self> {
        let file = records::open(version, VERSION_FILE).ok()??;
        let version: Value = serde_json::from_reader(file).ok()?;
        if version.get("digest")?.as_str()? != hex(digest) {
            return None;
        }
        let time = times(manifest, StatxFlags::MTIME).ok()?.stx_mtime;
        Some(Self(time.tv_sec, time.tv_nsec))
    }

    /// Whether a file of the version has not changed since.
    pub fn is_unchanged(self, file: &File) -> bool {
        times(file, StatxFlags::CTIME)
            .is_ok_and(|found| Self(found.stx_ctime.tv_sec, found.stx_ctime.tv_nsec) <= self)
    }
}

fn times(file: impl AsFd, wanted: StatxFlags) -> Result<Statx, Errno> {
    statx(file, c"", AtFlags::EMPTY_PATH, wanted)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn every_change_of_a_file_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let changes: [fn(&std::path::Path); 4] = [
            |path| {
                let file = File::options().write(true).open(path).unwrap();
                let before = file.metadata().unwrap().modified().unwrap();
                (&file).write_all(b"other").unwrap();
                file.set_modified(before).unwrap();
            },
            |path| fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap(),
            |path| chown(path, Some(rustix::process::getuid().as_raw()), None).unwrap(),
            |path| {
                fs::copy(path, path.with_extension("new")).unwrap();
                fs::rename(path.with_extension("new"), path).unwrap();
            },
        ];
        for change in changes {
            fs::write(at("file"), "original").unwrap();
            let manifest = format!("{:?}", Instant::now());
            fs::write(at("manifest"), &manifest).unwrap();
            let digest: Hash = Sha256::digest(&manifest).into();
            fs::write(at(VERSION_FILE), format!(r#"{{"digest":"{}"}}"#, hex(&digest))).unwrap();
            let (dir, manifest) =
                (Dir::open(root.path()).unwrap(), File::open(at("manifest")).unwrap());
            assert_eq!(PublishTime::of(&dir, &manifest, &[0; 32]), None);
            let publish_time = PublishTime::of(&dir, &manifest, &digest).unwrap();
            assert!(publish_time.is_unchanged(&File::open(at("file")).unwrap()));
            // File systems count time in ticks of some milliseconds.
            let start = Instant::now();
            while publish_time.is_unchanged(&File::open(at("file")).unwrap()) {
                assert!(start.elapsed() < Duration::from_secs(30));
                sleep(Duration::from_millis(5));
                change(&at("file"));
            }
        }
    }
}
