//! Iterates over the directories to scan: the arguments, or NUL-terminated names in a file or on stdin
//! (`--files0-from`), which are scanned while the list is still being written.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use anyhow::{Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_failure, one_line};

/// The longest name in a list, in bytes.
const MAX_NAME: u64 = 1024 * 1024;

/// Calls `visit` for each directory in `args`, or in the file `list` if that is given (`-`: stdin).
/// Names are visited while the list is being read; `before_read` is called before each read, which
/// may block.
///
/// # Errors
/// Fails if the list cannot be opened (an error of configuration) or read, if a name in it is
/// longer than 1 MiB, or if `visit` or `before_read` fails.
pub fn for_each(
    args: &[OsString],
    list: Option<&Path>,
    before_read: impl FnMut() -> Result<()>,
    mut visit: impl FnMut(&OsStr) -> Result<()>,
) -> Result<()> {
    let Some(list) = list else { return args.iter().try_for_each(|dir| visit(dir)) };
    if list.as_os_str() == "-" {
        let name = Path::new("standard input");
        return for_each_listed(BufReader::new(io::stdin()), name, before_read, visit);
    }
    let file = File::open(list).map_err(|error| misconfigured(io_failure("open", list, &error)))?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        let list = one_line(list.as_os_str().as_encoded_bytes());
        return Err(misconfigured(format_args!(
            "`{list}` is a directory, not a list of directories"
        )));
    }
    for_each_listed(BufReader::new(file), list, before_read, visit)
}

fn for_each_listed(
    mut list: BufReader<impl Read>,
    name: &Path,
    mut before_read: impl FnMut() -> Result<()>,
    mut visit: impl FnMut(&OsStr) -> Result<()>,
) -> Result<()> {
    loop {
        let mut dir = Vec::new();
        if !list.buffer().contains(&0) {
            before_read()?;
        }
        let read = list.by_ref().take(MAX_NAME + 1).read_until(0, &mut dir);
        read.map_err(|error| io_failure("read", name, &error))?;
        if dir.is_empty() {
            return Ok(());
        }
        if dir.len() as u64 > MAX_NAME && dir.last() != Some(&0) {
            let (list, start) =
                (one_line(name.as_os_str().as_encoded_bytes()), one_line(&dir[..40]));
            let what = "is longer than 1 MiB; names must end in NUL bytes";
            return Err(anyhow!(
                "failed to read `{list}`: the name that starts with `{start}` {what}"
            ));
        }
        dir.pop_if(|last| *last == 0);
        visit(&OsString::from_vec(dir))?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(list: &[u8]) -> Result<Vec<OsString>> {
        let mut dirs = Vec::new();
        for_each_listed(
            BufReader::new(list),
            Path::new("list"),
            || Ok(()),
            |dir| {
                dirs.push(dir.to_owned());
                Ok(())
            },
        )?;
        Ok(dirs)
    }

    #[test]
    fn names_end_in_a_nul_byte_except_perhaps_the_last() {
        assert_eq!(listed(b"a\0b\nc\0\0d").unwrap(), ["a", "b\nc", "", "d"]);
        assert_eq!(listed(b"a\0").unwrap(), ["a"]);
        assert!(listed(b"").unwrap().is_empty());
    }

    #[test]
    fn a_list_of_lines_is_refused_with_a_hint() {
        let error = listed(&b"/srv/projects/alpha\n".repeat(100_000)).unwrap_err().to_string();
        let expected = "failed to read `list`: the name that starts with `/srv/projects/alpha\\n";
        assert!(error.starts_with(expected) && error.ends_with("must end in NUL bytes"), "{error}");
    }
}
