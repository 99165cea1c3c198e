//! Which files of a version are as they were published, for all that their times tell.
//!
//! The manifest of a version is written after its files, on the same file system and by the same
//! clock: a file whose time of change, which nobody can set, is later than that was touched since.
//! Neither a change of owner nor one of mode moves the manifest's own time.

use std::fs::File;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use serde_json::Value;

use crate::place::Place;
use crate::records;
use crate::tree::Hash;
use crate::tree::manifest::hex;

/// Since when it is live, and its digest.
pub const ABOUT: &str = "version";

/// When a version was complete, in seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seal(i64, u32);

impl Seal {
    /// The seal of a version; `None` if its manifest, of this digest, is not the one that it was
    /// published with.
    pub fn of(version: &Place, manifest: &File, digest: &Hash) -> Option<Self> {
        let about: Value = serde_json::from_reader(records::open(version, ABOUT).ok()??).ok()?;
        if about.get("digest")?.as_str()? != hex(digest) {
            return None;
        }
        let time = times(manifest, StatxFlags::MTIME).ok()?.stx_mtime;
        Some(Self(time.tv_sec, time.tv_nsec))
    }

    /// Whether nobody has touched a file of the version since.
    pub fn holds(self, file: &File) -> bool {
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
    fn whatever_is_done_to_a_file_breaks_its_seal() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let harms: [fn(&std::path::Path); 4] = [
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
        for harm in harms {
            fs::write(at("file"), "as it was").unwrap();
            let manifest = format!("{:?}", Instant::now());
            fs::write(at("manifest"), &manifest).unwrap();
            let digest: Hash = Sha256::digest(&manifest).into();
            fs::write(at(ABOUT), format!(r#"{{"digest":"{}"}}"#, hex(&digest))).unwrap();
            let (place, manifest) =
                (Place::open(dir.path()).unwrap(), File::open(at("manifest")).unwrap());
            assert_eq!(Seal::of(&place, &manifest, &[0; 32]), None);
            let seal = Seal::of(&place, &manifest, &digest).unwrap();
            assert!(seal.holds(&File::open(at("file")).unwrap()));
            // File systems count time in ticks.
            let start = Instant::now();
            while seal.holds(&File::open(at("file")).unwrap()) {
                assert!(start.elapsed() < Duration::from_secs(30));
                sleep(Duration::from_millis(5));
                harm(&at("file"));
            }
        }
    }
}
