//! Verifies the files of a source against the file `SHA256SUMS` at its top, as `sha256sum` writes it.

use std::io::{ErrorKind, Read};

use anyhow::{Context, Result, bail};
use diagnostics::exit::misconfigured;
use diagnostics::wording::one_line;
use published_tree::dir::Dir;
use published_tree::manifest::unhex;
use published_tree::parallel::in_parallel;
use published_tree::progress::Progress;
use published_tree::reader::Reader;
use published_tree::tree::{Content, Hash, Node, Tree, join};

use sha2::{Digest, Sha256};

/// The name of the list.
const NAME: &[u8] = b"SHA256SUMS";
/// Largest list, in bytes: a million files fit.
const MAX_SIZE: u64 = 1 << 30;

/// The listed hashes of a tree's files.
pub struct Checksums(Vec<Checksum>);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Checksum {
    /// The index of the file in the tree.
    index: usize,
    hash: Hash,
}

impl Checksums {
    /// Reads the list of a source. Without a list, nothing is checked.
    ///
    /// # Errors
    /// Fails if the list cannot be parsed or names a missing file. If `require_all`, fails if there is
    /// no list or it does not name every file.
    pub fn read(tree: &Tree, source: &Dir, require_all: bool) -> Result<Self> {
        let shown = source.display_path(NAME);
        let Some(list) = tree.find(NAME) else {
            if require_all {
                return Err(misconfigured(format_args!("there is no `{}`", shown.display())));
            }
            return Ok(Self(Vec::new()));
        };
        let failure = |errno| source.error("read", NAME, errno);
        let (file, ..) = Reader::unbuffered(source).open(b"", NAME).map_err(failure)?;
        let mut text = Vec::new();
        let read = file.take(MAX_SIZE).read_to_end(&mut text);
        read.with_context(|| format!("failed to read `{}`", shown.display()))?;
        let mut checksums = Vec::new();
        for (number, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let at = || format!("line {} of `{}`", number + 1, shown.display());
            let Some((hash, path)) = parse(line) else {
                return Err(misconfigured(format_args!("{} is not `HASH  FILE`", at())));
            };
            match tree.find(&path).filter(|&index| is_file(tree, index)) {
                Some(index) => checksums.push(Checksum { index, hash }),
                None => {
                    let path = one_line(&path);
                    return Err(misconfigured(format_args!("{}: there is no `{path}`", at())));
                }
            }
        }
        checksums.sort_unstable();
        let is_listed =
            |index| checksums.binary_search_by_key(&index, |checksum| checksum.index).is_ok();
        let unlisted = (0..tree.len()).find(|&index| {
            require_all && index != list && is_file(tree, index) && !is_listed(index)
        });
        if let Some(index) = unlisted {
            let path = path(tree, index);
            return Err(misconfigured(format_args!("`{path}` is not in `{}`", shown.display())));
        }
        Ok(Self(checksums))
    }

    /// Verifies the files of the source. `known` returns the hashes of files that have been read
    /// already.
    ///
    /// # Errors
    /// Names all files with another hash. Fails if a file cannot be read.
    pub fn verify(
        &self,
        tree: &Tree,
        source: &Dir,
        known: impl Fn(usize) -> Option<Hash> + Sync,
        progress: &Progress,
    ) -> Result<()> {
        progress.begin("checking", self.0.len());
        let reader = || Reader::new(source);
        let wrong = in_parallel(self.0.len(), reader, |reader, range| {
            let mut wrong = Vec::new();
            for &Checksum { index, hash } in &self.0[range] {
                let found = known(index).map_or_else(
                    || content(tree, index, reader, progress).map(|content| content.hash),
                    Ok,
                )?;
                progress.add_file();
                wrong.extend((found != hash).then_some(index));
            }
            Ok(wrong)
        })?;
        report_wrong(tree, wrong.concat())
    }

    /// Verifies the hashes that were stored in `tree` when its files were copied.
    ///
    /// # Errors
    /// Names all files with another hash.
    pub fn verify_copied(&self, tree: &Tree) -> Result<()> {
        let is_wrong = |checksum: &&Checksum| !matches!(tree.entry(checksum.index).1, Node::File { hash, .. } if *hash == checksum.hash);
        report_wrong(tree, self.0.iter().filter(is_wrong).map(|checksum| checksum.index).collect())
    }
}

fn report_wrong(tree: &Tree, mut wrong: Vec<usize>) -> Result<()> {
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

/// Reads and hashes a file of a tree.
///
/// # Errors
/// Fails if it cannot be read.
pub fn content(
    tree: &Tree,
    index: usize,
    reader: &mut Reader<'_>,
    progress: &Progress,
) -> Result<Content> {
    let (directory, name) = (tree.directory_of(index).path(), tree.entry(index).0);
    let dir = reader.dir();
    let failure = |errno| dir.error("read", &join(directory, name), errno);
    let (mut file, ..) = reader.open(directory, name).map_err(failure)?;
    let (mut size, mut digest) = (0, Sha256::new());
    loop {
        match file.read(&mut reader.buffer) {
            Ok(0) => return Ok(Content { size, hash: digest.finalize().into() }),
            Ok(count) => {
                digest.update(&reader.buffer[..count]);
                size += count as u64;
                progress.add_bytes(count as u64);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                let errno = rustix::io::Errno::from_io_error(&error);
                return Err(failure(errno.unwrap_or(rustix::io::Errno::IO)));
            }
        }
    }
}

/// Parses `HASH  FILE` or `HASH *FILE`. After a leading backslash, the name has the escapes `\n`, `\r`
/// and `\\`.
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
    fn lines_of_sha256sum_are_parsed() {
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
