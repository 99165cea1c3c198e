//! Which directories there are, and who owns them. Knows nothing of JSON or arguments.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Result;
use diagnostics::wording::io_failure;
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use walkdir::{DirEntry, WalkDir};

/// What lies below the directories that are asked for.
#[derive(Default)]
pub struct Below {
    /// How many levels to go down; `None` for all.
    pub max_depth: Option<usize>,
    /// List mount points, but do not enter them.
    pub one_file_system: bool,
    /// What to leave out.
    pub exclude: Exclude,
}

/// One thing the walk came upon.
#[derive(Debug)]
pub enum Found<'a> {
    /// A directory and the UID of its own inode.
    Directory(&'a Path, u32),
    /// The path asked for is no directory, or is not there.
    NotADirectory,
    /// Something could not be read; the rest is walked all the same.
    Failure(anyhow::Error),
}

/// Looks at `root`, and with `below` at every directory under it, and hands each to `found` as
/// it is met. Symbolic links are followed for `root` alone.
///
/// # Errors
/// Only those of `found`, which end the walk.
pub fn walk(
    root: &Path,
    below: Option<&Below>,
    found: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    match fs::metadata(root) {
        Ok(metadata) if metadata.is_dir() => {
            found(Found::Directory(root, metadata.uid()))?;
        }
        Ok(_) => return found(Found::NotADirectory),
        Err(error) if is_absent(&error) => return found(Found::NotADirectory),
        Err(error) => return found(Found::Failure(io_failure("stat", root, &error))),
    }
    below.map_or(Ok(()), |below| descend(root, below, found))
}

fn descend(
    root: &Path,
    below: &Below,
    found: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    let entries = WalkDir::new(root)
        .max_depth(below.max_depth.unwrap_or(usize::MAX))
        .same_file_system(below.one_file_system)
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !below.leaves_out(entry));
    for entry in entries {
        match entry {
            Ok(entry) if entry.depth() == 0 || !entry.file_type().is_dir() => {}
            Ok(entry) => match fs::symlink_metadata(entry.path()) {
                // A directory replaced since it was read is no directory any more.
                Ok(metadata) if !metadata.is_dir() => {}
                Ok(metadata) => found(Found::Directory(entry.path(), metadata.uid()))?,
                Err(error) => fail("stat", entry.path(), &error, found)?,
            },
            Err(error) => {
                // walkdir does not say where reading a directory broke off half-way.
                let (operation, path) = match error.path() {
                    Some(path) => ("read", path.to_owned()),
                    None => ("read a directory below", root.to_owned()),
                };
                // Its only other kind is a loop of followed links; none are followed.
                let error = error.into_io_error().unwrap_or_else(|| io::Error::other("a loop"));
                fail(operation, &path, &error, found)?;
            }
        }
    }
    Ok(())
}

/// Reports a failure below the root, unless the entry has merely vanished meanwhile.
fn fail(
    operation: &str,
    path: &Path,
    error: &io::Error,
    found: &mut dyn FnMut(Found<'_>) -> Result<()>,
) -> Result<()> {
    if is_absent(error) {
        return Ok(());
    }
    found(Found::Failure(io_failure(operation, path, error)))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl Below {
    fn leaves_out(&self, entry: &DirEntry) -> bool {
        entry.file_type().is_dir() && self.exclude.matches(entry.path())
    }
}

/// Globs of directories to leave out.
#[derive(Default)]
pub struct Exclude {
    names: GlobSet,
    paths: GlobSet,
}

impl Exclude {
    /// Globs without `/` are matched against the last part of a path, the others against all
    /// of it; `*` and `?` do not match `/`, `**` does.
    ///
    /// # Errors
    /// A glob cannot be parsed.
    pub fn new(globs: &[String]) -> Result<Self, globset::Error> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for glob in globs {
            let set = if glob.contains('/') { &mut paths } else { &mut names };
            set.add(GlobBuilder::new(glob).literal_separator(true).build()?);
        }
        Ok(Self { names: names.build()?, paths: paths.build()? })
    }

    fn matches(&self, path: &Path) -> bool {
        // The bytes after the last `/`: `file_name` would be none for names such as `..`.
        let bytes = path.as_os_str().as_bytes();
        let name = bytes.rsplit(|&b| b == b'/').next().unwrap_or(bytes);
        self.names.is_match(OsStr::from_bytes(name)) || self.paths.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(glob: &str, path: &[u8]) -> bool {
        let exclude = Exclude::new(&[glob.to_owned()]).unwrap();
        exclude.matches(Path::new(OsStr::from_bytes(path)))
    }

    #[test]
    fn a_glob_without_slash_is_matched_against_the_last_part() {
        assert!(excludes("*.tmp", b"/srv/a.tmp"));
        assert!(excludes(".snapshot", b"/srv/x/.snapshot"));
        assert!(!excludes("srv", b"/srv/x"));
        assert!(excludes("x?y", b"/srv/x\xffy"), "a byte that is not UTF-8 is one character");
    }

    #[test]
    fn a_glob_with_slash_is_matched_against_the_whole_path() {
        assert!(excludes("/srv/*/cache", b"/srv/x/cache"));
        assert!(!excludes("/srv/*/cache", b"/srv/x/y/cache"));
        assert!(excludes("/srv/**/cache", b"/srv/x/y/cache"));
        assert!(!excludes("/srv/cache", b"/srv/cache2"));
    }

    #[test]
    fn a_broken_glob_is_an_error() {
        assert!(Exclude::new(&["a[".to_owned()]).is_err());
    }
}
