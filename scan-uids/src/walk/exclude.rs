//! Matches directories against the globs of `--exclude`.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// The globs, compiled.
pub struct Exclude {
    names: GlobSet,
    paths: GlobSet,
}

impl Exclude {
    /// Compiles globs. One without `/` (except at its end) is matched against the last part of a
    /// path, one with `/` against the whole path. `*` and `?` do not match `/`, `**` does.
    ///
    /// # Errors
    /// Fails if a glob cannot be parsed.
    pub fn new(globs: &[String]) -> Result<Self, globset::Error> {
        let (mut names, mut paths) = (GlobSetBuilder::new(), GlobSetBuilder::new());
        for glob in globs {
            // Shells complete the name of a directory with a slash.
            let glob = glob.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(glob);
            let set = if glob.contains('/') { &mut paths } else { &mut names };
            set.add(GlobBuilder::new(glob).literal_separator(true).build()?);
        }
        Ok(Self { names: names.build()?, paths: paths.build()? })
    }

    /// Whether a glob is matched against whole paths.
    pub fn needs_paths(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Whether to leave out directory `name`. `push_path` appends its whole path; it is called only
    /// if a glob [needs that](Self::needs_paths).
    pub fn matches(&self, name: &[u8], push_path: impl FnOnce(&mut Vec<u8>)) -> bool {
        if !self.names.is_empty() && self.names.is_match(OsStr::from_bytes(name)) {
            return true;
        }
        let mut path = Vec::new();
        if self.needs_paths() {
            push_path(&mut path);
        }
        self.needs_paths() && self.paths.is_match(OsStr::from_bytes(&path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(glob: &str, path: &[u8]) -> bool {
        let exclude = Exclude::new(&[glob.to_owned()]).unwrap();
        let name = path.rsplit(|&b| b == b'/').next().unwrap();
        exclude.matches(name, |out| out.extend_from_slice(path))
    }

    #[test]
    fn a_glob_without_slash_is_matched_against_the_last_part() {
        assert!(excludes("*.tmp", b"/srv/a.tmp"));
        assert!(excludes(".snapshot", b"/srv/x/.snapshot"));
        assert!(!excludes("srv", b"/srv/x"));
        assert!(excludes("cache/", b"/srv/cache") && excludes("/srv/cache/", b"/srv/cache"));
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
    fn a_malformed_glob_is_an_error() {
        assert!(Exclude::new(&["a[".to_owned()]).is_err());
    }
}
