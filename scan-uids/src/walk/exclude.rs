//! Globs of directories to leave out.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// What to leave out.
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

    /// Whether `name` is left out; `path` gives the whole path, and is only called when some
    /// glob needs it.
    pub fn matches(&self, name: &[u8], path: impl FnOnce() -> Vec<u8>) -> bool {
        (!self.names.is_empty() && self.names.is_match(OsStr::from_bytes(name)))
            || (!self.paths.is_empty() && self.paths.is_match(OsStr::from_bytes(&path())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(glob: &str, path: &[u8]) -> bool {
        let exclude = Exclude::new(&[glob.to_owned()]).unwrap();
        let name = path.rsplit(|&b| b == b'/').next().unwrap();
        exclude.matches(name, || path.to_vec())
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
