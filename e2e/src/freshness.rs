//! Finds out whether a built program is older than its sources.
//!
//! Beside each program, Cargo writes a file that lists all sources of this workspace that the
//! program is built from: `target/debug/resolver.d` for `target/debug/resolver`. Its format is
//! that of a Makefile rule, `PROGRAM: SOURCE SOURCE ...`, with spaces in paths escaped by `\`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::SystemTime;

/// When this process verified its first program. Sources that are edited later cannot concern the
/// tests that are running already.
static START: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// Compares the program's time of modification with those of its sources.
///
/// # Errors
/// Fails if the program is older than a source, or if the program, its list of sources or a
/// source is missing.
pub fn verify(program: &Path) -> Result<(), String> {
    verify_at(program, *START)
}

fn verify_at(program: &Path, start: SystemTime) -> Result<(), String> {
    let built = modified(program)?;
    let list = program.with_extension("d");
    let list = fs::read_to_string(&list).map_err(|error| unreadable(&list, &error))?;
    for source in sources(&list) {
        let changed = modified(&source)?;
        if built < changed && changed < start {
            return Err(format!("`{}` is older than `{}`", program.display(), source.display()));
        }
    }
    Ok(())
}

fn modified(path: &Path) -> Result<SystemTime, String> {
    let metadata = fs::metadata(path).and_then(|metadata| metadata.modified());
    metadata.map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    format!("failed to read `{}`: {error}", path.display())
}

/// The sources in Cargo's list for one program.
fn sources(list: &str) -> Vec<PathBuf> {
    let rule = list.split_once(": ").map_or("", |(_program, sources)| sources);
    let mut sources = vec![String::new()];
    let mut characters = rule.trim_end().chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(' ')) => sources.last_mut().expect("never empty").extend(characters.next()),
            (' ', _) => sources.push(String::new()),
            _ => sources.last_mut().expect("never empty").push(character),
        }
    }
    sources.into_iter().filter(|source| !source.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn sources_are_split_at_spaces_that_are_not_escaped() {
        let list = "/a b/target/debug/x: /c/lib.rs /my\\ clone/main.rs\n";
        assert_eq!(sources(list), ["/c/lib.rs", "/my clone/main.rs"].map(PathBuf::from));
    }

    /// A program and the list of its one source, which does not exist yet.
    struct Built {
        dir: TempDir,
        program: PathBuf,
        built: SystemTime,
    }

    impl Built {
        fn new() -> Self {
            let dir = TempDir::new().unwrap();
            let program = dir.path().join("scan-uids");
            let source = dir.path().join("main.rs");
            fs::write(&program, "").unwrap();
            let list = format!("{}: {}\n", program.display(), source.display());
            fs::write(program.with_extension("d"), list).unwrap();
            let built = fs::metadata(&program).unwrap().modified().unwrap();
            Self { dir, program, built }
        }

        fn edit_source(&self, time: SystemTime) {
            let source = fs::File::create(self.dir.path().join("main.rs")).unwrap();
            source.set_modified(time).unwrap();
        }

        fn verify(&self) -> Result<(), String> {
            verify_at(&self.program, self.built + Duration::from_secs(100))
        }
    }

    #[test]
    fn a_program_older_than_its_source_is_refused() {
        let built = Built::new();
        built.edit_source(built.built - Duration::from_secs(1));
        assert_eq!(built.verify(), Ok(()));
        built.edit_source(built.built + Duration::from_secs(1));
        let problem = built.verify().unwrap_err();
        assert!(problem.contains("scan-uids` is older than `"), "{problem}");
        built.edit_source(built.built + Duration::from_secs(200));
        assert_eq!(built.verify(), Ok(()), "edited after the tests began");
    }

    #[test]
    fn a_missing_program_list_or_source_is_an_error() {
        let built = Built::new();
        assert!(built.verify().unwrap_err().contains("/main.rs`: No such file"));
        built.edit_source(built.built);
        fs::remove_file(built.program.with_extension("d")).unwrap();
        assert!(built.verify().unwrap_err().contains("/scan-uids.d`: No such file"));
        fs::remove_file(&built.program).unwrap();
        assert!(built.verify().unwrap_err().contains("/scan-uids`: No such file"));
    }
}
