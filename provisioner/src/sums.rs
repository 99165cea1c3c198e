//! `SHA256SUMS` in a source, as `sha256sum` writes it: what the files must hold.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, bail};
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use sha2::{Digest, Sha256};

use crate::compare::Reader;
use crate::parallel::in_parallel;
use crate::place::Place;
use crate::progress;
use crate::tree::manifest::unhex;
use crate::tree::{Hash, Node, Tree, join};

/// The name of the list, at the top of the source.
const NAME: &[u8] = b"SHA256SUMS";
/// Largest list, in bytes: a million files fit.
const MAX_SIZE: u64 = 1 << 30;
/// Bytes read at a time.
const PIECE: usize = 128 * 1024;

/// What files of a tree must hold: their places in it, and their hashes.
pub struct Sums(Vec<(usize, Hash)>);

impl Sums {
    /// Reads the list of a source; an empty one if there is none.
    ///
    /// # Errors
    /// It is no such list, or names what is not there. If `all` are required: there is no list,
    /// or a file is not in it.
    pub fn read(tree: &Tree, source: &Place, all: bool) -> Result<Self> {
        let shown = source.shown(NAME);
        let Some(list) = tree.find(NAME) else {
            if all {
                return Err(misconfigured(format_args!("there is no `{}`", shown.display())));
            }
            return Ok(Self(Vec::new()));
        };
        let failure = |errno| source.failure("read", NAME, errno);
        let (file, ..) = Reader::new(source, 0).open(b"", NAME).map_err(failure)?;
        let mut text = Vec::new();
        let read = file.take(MAX_SIZE).read_to_end(&mut text);
        read.with_context(|| format!("failed to read `{}`", shown.display()))?;
        let mut sums = Vec::new();
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let at = || format!("line {} of `{}`", number + 1, shown.display());
            let Some((hash, path)) = parse(line) else {
                return Err(misconfigured(format_args!("{} is not `HASH  FILE`", at())));
            };
            match tree.find(&path).filter(|&index| is_file(tree, index)) {
                Some(index) => sums.push((index, hash)),
                None => {
                    let path = one_line(&path);
                    return Err(misconfigured(format_args!("{}: there is no `{path}`", at())));
                }
            }
        }
        sums.sort_unstable();
        let is_listed = |index| sums.binary_search_by_key(&index, |(index, _)| *index).is_ok();
        let unlisted = (0..tree.len())
            .find(|&index| all && index != list && is_file(tree, index) && !is_listed(index));
        if let Some(index) = unlisted {
            let path = path(tree, index);
            return Err(misconfigured(format_args!("`{path}` is not in `{}`", shown.display())));
        }
        Ok(Self(sums))
    }

    /// Makes sure that the files of the source hold what they must. `known` are the hashes of
    /// those that have been looked at already.
    ///
    /// # Errors
    /// Those that do not, or cannot be read.
    pub fn check(
        &self,
        tree: &Tree,
        source: &Place,
        known: impl Fn(usize) -> Option<Hash> + Sync,
    ) -> Result<()> {
        progress::begin("checking", self.0.len());
        let reader = || Reader::new(source, PIECE);
        let wrong = in_parallel(self.0.len(), reader, |reader, range| {
            let mut wrong = Vec::new();
            for &(index, expected) in &self.0[range] {
                let found = known(index)
                    .map_or_else(|| content(tree, index, reader).map(|(_, hash)| hash), Ok)?;
                progress::add_file();
                wrong.extend((found != expected).then_some(index));
            }
            Ok(wrong)
        })?;
        refuse(tree, wrong.concat())
    }

    /// Makes sure that what was copied holds it still.
    ///
    /// # Errors
    /// What does not.
    pub fn check_copied(&self, tree: &Tree) -> Result<()> {
        let is_wrong = |&(index, expected): &(usize, Hash)| !matches!(tree.entry(index).1, Node::File { hash, .. } if *hash == expected);
        refuse(tree, self.0.iter().copied().filter(is_wrong).map(|(index, _)| index).collect())
    }
}

fn refuse(tree: &Tree, mut wrong: Vec<usize>) -> Result<()> {
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort_unstable();
    let paths = wrong.iter().map(|&index| format!("`{}`", path(tree, index)));
    bail!("not what SHA256SUMS says: {}", paths.collect::<Vec<_>>().join(", "));
}

fn is_file(tree: &Tree, index: usize) -> bool {
    matches!(tree.entry(index).1, Node::File { .. })
}

fn path(tree: &Tree, index: usize) -> String {
    one_line(&join(tree.directory_of(index).path(), tree.entry(index).0))
}

/// Reads a file of a tree: how many bytes it holds, and their hash.
///
/// # Errors
/// It cannot be read.
pub fn content(tree: &Tree, index: usize, reader: &mut Reader<'_>) -> Result<(u64, Hash)> {
    let (directory, name) = (tree.directory_of(index).path(), tree.entry(index).0);
    let place = reader.place();
    let failure = |errno| place.failure("read", &join(directory, name), errno);
    let (mut file, ..) = reader.open(directory, name).map_err(failure)?;
    let (mut size, mut digest) = (0, Sha256::new());
    loop {
        match file.read(&mut reader.piece) {
            Ok(0) => return Ok((size, digest.finalize().into())),
            Ok(count) => {
                digest.update(&reader.piece[..count]);
                size += count as u64;
                progress::add_bytes(count as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let errno = rustix::io::Errno::from_io_error(&error);
                return Err(failure(errno.unwrap_or(rustix::io::Errno::IO)));
            }
        }
    }
}

/// `HASH  FILE` or `HASH *FILE`; after a backslash with `\n`, `\r` and `\\` in the name.
fn parse(line: &[u8]) -> Option<(Hash, Vec<u8>)> {
    let (line, is_escaped) = line.strip_prefix(b"\\").map_or((line, false), |line| (line, true));
    let (hash, rest) = line.split_at_checked(64)?;
    let name = rest.strip_prefix(b"  ").or_else(|| rest.strip_prefix(b" *"))?;
    let hash = unhex(std::str::from_utf8(hash).ok()?)?;
    let name = name.strip_prefix(b"./").unwrap_or(name);
    if !is_escaped {
        return Some((hash, name.to_vec()));
    }
    let mut path = Vec::with_capacity(name.len());
    let mut bytes = name.iter();
    while let Some(&byte) = bytes.next() {
        path.push(match byte {
            b'\\' => match bytes.next()? {
                b'n' => b'\n',
                b'r' => b'\r',
                b'\\' => b'\\',
                _ => return None,
            },
            byte => byte,
        });
    }
    Some((hash, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_sha256sum_writes_them() {
        let hash = "0a".repeat(32);
        let parsed = |rest: &str| parse(format!("{hash}{rest}").as_bytes()).map(|(_, path)| path);
        assert_eq!(parsed("  a b").unwrap(), b"a b");
        assert_eq!(parsed(" *./x/y").unwrap(), b"x/y");
        assert_eq!(parsed("  a\\n").unwrap(), b"a\\n");
        let escaped = parse(format!("\\{hash}  a\\n\\\\\\r").as_bytes()).unwrap();
        assert_eq!(escaped, ([10; 32], b"a\n\\\r".to_vec()));
        assert_eq!(parsed(" a"), None);
        assert_eq!(parse(&hash.as_bytes()[1..]), None);
        assert_eq!(parse(format!("\\{hash}  a\\x").as_bytes()), None);
    }
}
