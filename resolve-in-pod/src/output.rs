//! Replaces the result file in one step, once the result is complete.
//!
//! 1. Remove hidden files that killed runs have left behind. A run holds a lock on its own hidden
//!    file, so a file without a lock is a leftover.
//! 2. Create a hidden file in the directory of the target. The resolver writes the result to it.
//! 3. Give it the mode and the owner of the old file, and sync it.
//! 4. Rename it over the target, and sync the directory.

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

/// The end of the names of hidden files: `.NAME.` + [`RANDOM`] characters + suffix.
const SUFFIX: &str = ".resolve-in-pod.part";
const RANDOM: usize = 6;
/// How much of the target's name a hidden file repeats, in bytes. A name has at most 255.
const MAX_PREFIX: usize = 200;
/// A hidden file that is younger than this is not removed: its run may be about to lock it.
const MIN_LEFTOVER_AGE: Duration = Duration::from_secs(60);

/// A result that is being written. If it is dropped unpublished, the old file stays as it was.
pub struct ResultFile {
    target: PathBuf,
    directory: PathBuf,
    part: NamedTempFile,
}

impl ResultFile {
    /// Creates the hidden file for `target`.
    ///
    /// # Errors
    /// Fails if the directory does not exist or cannot be written, or if `target` exists and is not a
    /// regular file.
    pub fn create(target: &Path) -> Result<Self> {
        let target = &real_target(target)?;
        let Some(name) = target.file_name() else { return Err(not_a_file(target)) };
        let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = parent.unwrap_or(Path::new(".")).to_owned();
        let prefix = prefix(name);
        remove_leftovers(&directory, &prefix);
        // Other users may have no access to the old file. The new one gets its mode in `publish`.
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
        // On a file system without locks, leftovers are not removed.
        let _ = part.as_file().try_lock();
        Ok(Self { target: target.to_owned(), directory, part })
    }

    /// A descriptor for the process that writes the result.
    ///
    /// # Errors
    /// Fails if the process has no free descriptor.
    pub fn writer(&self) -> Result<File> {
        let file = self.part.as_file().try_clone();
        file.map_err(|error| io_failure("open", self.part.path(), &error))
    }

    /// Replaces the target. The result is on disk when this function returns.
    ///
    /// # Errors
    /// Fails if the result cannot be synced or renamed; the old file is unchanged then. Fails too if
    /// the directory cannot be synced after the rename.
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

/// Follows a symbolic link, so that its target is replaced and not the link. Refuses everything but
/// regular files: renaming over `/dev/null` would break the machine.
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
    /// Gives the new file the mode of the old one, and its owner if that is permitted. The result
    /// contains names of people, so an administrator may have restricted access to it.
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

/// Whether [`ResultFile::create`] gives such names to hidden files with this prefix.
fn is_hidden_name(name: &OsStr, prefix: &OsStr) -> bool {
    let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
    let random = rest.and_then(|rest| rest.strip_suffix(SUFFIX.as_bytes()));
    random.is_some_and(|r| r.len() == RANDOM && r.iter().all(u8::is_ascii_alphanumeric))
}

/// Removes the hidden files of killed runs. Errors are ignored: a leftover does no harm.
fn remove_leftovers(directory: &Path, prefix: &OsStr) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let is_hidden = is_hidden_name(&entry.file_name(), prefix);
        if is_hidden && is_leftover(&entry.path()).unwrap_or(false) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Whether a file is regular, owned by this user, old enough, and not locked.
fn is_leftover(path: &Path) -> io::Result<bool> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?;
    let metadata = file.metadata()?;
    let age = metadata.modified()?.elapsed().unwrap_or_default();
    let is_mine = metadata.is_file() && metadata.uid() == geteuid().as_raw();
    Ok(is_mine && age > MIN_LEFTOVER_AGE && file.try_lock().is_ok())
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
    fn leftovers_of_killed_runs_are_removed_and_files_of_running_ones_are_not() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join("owners.json");
        let running = ResultFile::create(&target).unwrap();
        let old = |name: &str| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_modified(SystemTime::now() - 2 * MIN_LEFTOVER_AGE).unwrap();
        };
        old(".owners.json.dead42.resolve-in-pod.part");
        let others = [
            ".other.json.dead42.resolve-in-pod.part",
            ".owners.json.dead42.part",
            ".owners.json.mine.part",
            ".owners.json.x.dead42.resolve-in-pod.part",
        ];
        others.iter().for_each(|name| old(name));
        let result = ResultFile::create(&target).unwrap();
        assert!(running.part.path().exists());
        result.publish().unwrap();
        running.publish().unwrap();
        let mut expected: Vec<_> = others.map(OsString::from).to_vec();
        expected.push("owners.json".into());
        expected.sort();
        assert_eq!(names(dir.path()), expected);
    }

    #[test]
    fn the_mode_of_the_old_result_is_kept() {
        let dir = TempDir::new().unwrap();
        let target = dir.path().join(format!("{}.json", "long".repeat(60)));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o600)).unwrap();
        ResultFile::create(&target).unwrap().publish().unwrap();
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_to_the_result_is_followed_and_stays() {
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
    fn a_target_that_is_not_a_regular_file_is_refused() {
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
