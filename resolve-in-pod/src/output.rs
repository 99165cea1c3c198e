//! Publishes the result file: whole, or not at all.
//!
//! The result is written to a hidden file in the same directory, synced, and renamed over the
//! target. A run that is killed leaves its hidden file behind; it holds a lock as long as it
//! lives, so the next run can tell such leftovers from the files of runs still going on.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_failure, one_line};
use nix::fcntl::OFlag;
use nix::unistd::geteuid;
use tempfile::{Builder, NamedTempFile};

/// Marks the hidden files as ours; between name and suffix stand [`RANDOM`] characters.
const SUFFIX: &str = ".resolve-in-pod.part";
const RANDOM: usize = 6;
/// Longest part of the target's name that a hidden file repeats, in bytes, of the 255 there are.
const MAX_PREFIX: usize = 200;
/// Age up to which a hidden file may be one that its run is just about to lock.
const UNLOCKED_AT_FIRST: Duration = Duration::from_secs(60);

/// A result on its way to its file. Dropped unpublished, it leaves the old file as it was.
pub struct ResultFile {
    target: PathBuf,
    directory: PathBuf,
    part: NamedTempFile,
}

impl ResultFile {
    /// Prepares to write `target`: with the mode of the file that is there, or as the umask says.
    ///
    /// # Errors
    /// The directory does not exist or cannot be written, or `target` is not a file's name.
    pub fn create(target: &Path) -> Result<Self> {
        let target = &real_target(target)?;
        let Some(name) = target.file_name() else { return Err(not_a_file(target)) };
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        let prefix = prefix(name);
        remove_leftovers(&directory, &prefix);
        // An old file may be closed to others; the new one gets its mode when it is published.
        let mode = if target.exists() { 0o600 } else { 0o666 };
        let part = Builder::new()
            .prefix(&prefix)
            .suffix(SUFFIX)
            .rand_bytes(RANDOM)
            .permissions(Permissions::from_mode(mode))
            .tempfile_in(&directory)
            .map_err(|error| match error.kind() {
                ErrorKind::NotFound => misconfigured(io_failure("find", &directory, &error)),
                _ => io_failure("create a file beside", target, &error),
            })?;
        // Without locks on this file system, leftovers simply stay.
        let _ = part.as_file().try_lock();
        Ok(Self { target: target.to_owned(), directory, part })
    }

    /// A descriptor for the process that writes the result.
    ///
    /// # Errors
    /// No more descriptors.
    pub fn writer(&self) -> Result<File> {
        let file = self.part.as_file().try_clone();
        file.map_err(|error| io_failure("open", self.part.path(), &error))
    }

    /// Puts the result in place, on disk before this returns.
    ///
    /// # Errors
    /// It could not be synced or renamed; the old file is then untouched.
    pub fn publish(self) -> Result<()> {
        self.keep_permissions()
            .map_err(|error| io_failure("keep the permissions of", &self.target, &error))?;
        let synced = self.part.as_file().sync_all();
        synced.map_err(|error| io_failure("sync the result for", &self.target, &error))?;
        let persisted = self.part.persist(&self.target);
        persisted.map_err(|error| io_failure("replace", &self.target, &error.error))?;
        let synced = File::open(&self.directory).and_then(|directory| directory.sync_all());
        synced.map_err(|error| io_failure("sync the directory of", &self.target, &error))
    }
}

/// Where a link to the target leads, so that the link stays. Only a regular file is ever
/// replaced: renaming over `/dev/null`, say, would do lasting harm.
fn real_target(target: &Path) -> Result<PathBuf> {
    if target.as_os_str().as_bytes().ends_with(b"/") {
        return Err(not_a_file(target));
    }
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(target.to_owned()),
        Err(error) => return Err(io_failure("stat", target, &error)),
        Ok(_) => {}
    }
    let real = fs::canonicalize(target).map_err(|error| io_failure("stat", target, &error))?;
    if real.is_file() { Ok(real) } else { Err(not_a_file(target)) }
}

fn not_a_file(target: &Path) -> anyhow::Error {
    let shown = one_line(target.as_os_str().as_bytes());
    misconfigured(format_args!("`{shown}` is not a regular file"))
}

impl ResultFile {
    /// Gives the new file the mode of the old one, and its owner if we may: it names people,
    /// and somebody may have closed it to others.
    fn keep_permissions(&self) -> io::Result<()> {
        let old = match fs::metadata(&self.target) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            old => old?,
        };
        let part = self.part.as_file();
        let _ = fchown(part, Some(old.uid()), Some(old.gid()));
        part.set_permissions(Permissions::from_mode(old.mode() & 0o777))
    }
}

fn prefix(name: &OsStr) -> OsString {
    let name = name.as_bytes();
    let shortened = &name[..name.len().min(MAX_PREFIX)];
    OsString::from_vec([b".", shortened, b"."].concat())
}

/// Whether a name is one that we give to hidden files with this prefix.
fn is_ours(name: &OsStr, prefix: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
    let random = rest.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    random.is_some_and(|r| r.len() == RANDOM && r.iter().all(u8::is_ascii_alphanumeric))
}

/// Removes the hidden files of runs that were killed. Best effort: a leftover is a nuisance, no
/// reason to fail.
fn remove_leftovers(directory: &Path, prefix: &OsStr) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_ours = is_ours(&entry.file_name(), prefix);
        if is_ours && is_abandoned(&entry.path()).unwrap_or(false) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn is_abandoned(path: &Path) -> io::Result<bool> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    let age = metadata.modified()?.elapsed().unwrap_or_default();
    let is_mine = metadata.is_file() && metadata.uid() == geteuid().as_raw();
    Ok(is_mine && age > UNLOCKED_AT_FIRST && file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::time::SystemTime;
    use tempfile::TempDir;

    fn names(directory: &Path) -> Vec<OsString> {
        let mut names: Vec<_> =
            fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_old_result_stays_until_the_new_one_is_published() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("owners.json");
        fs::write(&target, "old").unwrap();
        let unpublished = ResultFile::create(&target).unwrap();
        unpublished.writer().unwrap().write_all(b"half").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"old");
        drop(unpublished);
        assert_eq!(names(dir.path()), ["owners.json"]);
        let result = ResultFile::create(&target).unwrap();
        result.writer().unwrap().write_all(b"new").unwrap();
        result.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(names(dir.path()), ["owners.json"]);
    }

    #[test]
    fn leftovers_of_killed_runs_go_and_those_of_running_ones_stay() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("owners.json");
        let running = ResultFile::create(&target).unwrap();
        let old = |name: &str| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * UNLOCKED_AT_FIRST).unwrap();
        };
        old(".owners.json.dead42.resolve-in-pod.part");
        let strangers = [
            ".other.json.dead42.resolve-in-pod.part",
            ".owners.json.dead42.part",
            ".owners.json.mine.part",
            ".owners.json.x.dead42.resolve-in-pod.part",
        ];
        strangers.iter().for_each(|name| old(name));
        let result = ResultFile::create(&target).unwrap();
        assert!(running.part.path().exists());
        result.publish().unwrap();
        running.publish().unwrap();
        let mut expected: Vec<_> = strangers.map(OsString::from).to_vec();
        expected.push("owners.json".into());
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn a_result_that_was_closed_to_others_stays_so() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join(format!("{}.json", "long".repeat(60)));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        ResultFile::create(&target).unwrap().publish().unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_to_the_result_stays_a_link() {
        let dir = TempDir::new().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink("real", &link).unwrap();
        let result = ResultFile::create(&link).unwrap();
        result.writer().unwrap().write_all(b"new").unwrap();
        result.publish().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(&real).unwrap(), b"new");
    }

    #[test]
    fn what_is_not_a_file_is_refused() {
        let dir = TempDir::new().unwrap();
        for target in
            [dir.path().to_owned(), "/".into(), "..".into(), "/dev/null".into(), "new/".into()]
        {
            assert!(ResultFile::create(&target).is_err(), "{}", target.display());
        }
        let nowhere = dir.path().join("no/owners.json");
        let error = ResultFile::create(&nowhere).err().unwrap();
        assert!(error.to_string().ends_with("no such file or directory"), "{error}");
        assert_eq!(diagnostics::exit::code_of(&error), 2);
    }
}
