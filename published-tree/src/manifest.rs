//! The manifest of a published tree: a line of JSON for each entry, in the order of the tree.
//!
//! ```text
//! {"path":".","type":"directory","mode":"0755"}
//! {"path":"a","type":"file","mode":"0644","size":3,"sha256":"9834876d..."}
//! {"path":"b","type":"link","target":"a"}
//! ```
//!
//! Directories come in the order of a depth-first walk, each followed by all of its entries, sorted by
//! name. Paths and targets that are not UTF-8 are in `path_base64` and `target_base64` instead. Each
//! tree has exactly one manifest, and the SHA-256 of the manifest is the digest of the version.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::tree::{Hash, Node, Tree, join};

/// Longest line that is read, in bytes.
const MAX_LINE: u64 = 64 * 1024;

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<Cow<'l, str>>,
    #[serde(borrow)]
    r#type: Cow<'l, str>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    mode: Option<Cow<'l, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    target: Option<Cow<'l, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    target_base64: Option<Cow<'l, str>>,
}

/// Writes the manifest of a tree, in which all files have their hashes, and returns its digest.
///
/// # Errors
/// Fails if `out` does.
pub fn write(tree: &Tree, mut out: impl Write) -> io::Result<Hash> {
    let mut digest = Sha256::new();
    let mut put = |line: &Line<'_>| -> io::Result<()> {
        let mut text = serde_json::to_vec(line)?;
        text.push(b'\n');
        digest.update(&text);
        out.write_all(&text)
    };
    for directory in tree.directories() {
        if directory.path().is_empty() {
            put(&line(b".", "directory", Some(directory.mode())))?;
        }
        for (name, node) in directory.entries() {
            put(&entry_line(&join(directory.path(), name), node))?;
        }
    }
    Ok(digest.finalize().into())
}

fn entry_line<'l>(path: &'l [u8], node: Node<'l>) -> Line<'l> {
    match node {
        Node::Directory { mode } => line(path, "directory", Some(mode)),
        Node::File { mode, size, hash } => {
            let (size, sha256) = (Some(size), Some(hex(hash).into()));
            Line { size, sha256, ..line(path, "file", Some(mode)) }
        }
        Node::Link { target } => {
            let (target, target_base64) = encode(target);
            Line { target, target_base64, ..line(path, "link", None) }
        }
    }
}

fn line<'l>(path: &'l [u8], kind: &'l str, mode: Option<u16>) -> Line<'l> {
    let (path, path_base64) = encode(path);
    let mode = mode.map(|mode| format!("{mode:04o}").into());
    Line { path, path_base64, r#type: kind.into(), mode, ..Line::default() }
}

fn encode(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes).into())),
    }
}

/// A hash as 64 hexadecimal digits.
pub fn hex(hash: &Hash) -> String {
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Reads a manifest, and returns the tree with the digest.
///
/// # Errors
/// Names the first line that does not belong into a manifest. Fails if `input` does.
pub fn read(input: impl BufRead) -> Result<(Tree, Hash)> {
    let mut lines = Lines { input, digest: Sha256::new(), number: 0, next: None };
    lines.advance()?;
    let Some((root, Parsed::Directory(mode))) = lines.next.take() else {
        bail!("line 1 of the manifest is not the root");
    };
    lines.expect(root == b".")?;
    lines.advance()?;
    let mut tree = Tree::default();
    let mut pending = vec![(Vec::new(), mode)];
    while let Some((path, mode)) = pending.pop() {
        lines.fits(tree.push_directory(&path, mode))?;
        let (first, mut last) = (pending.len(), Vec::new());
        while let Some((entry, parsed)) = lines.next.take_if(|(entry, _)| parent(entry) == path) {
            let name = &entry[entry.len() - name_of(&entry).len()..];
            lines.expect(name > &last[..] && name != b"." && name != b"..")?;
            lines.fits(tree.push_entry(name, parsed.node()))?;
            last = name.to_vec();
            if let Parsed::Directory(mode) = parsed {
                pending.push((entry, mode));
            }
            lines.advance()?;
        }
        pending[first..].reverse();
    }
    lines.expect(lines.next.is_none())?;
    Ok((tree, lines.digest.finalize().into()))
}

fn parent(path: &[u8]) -> &[u8] {
    path.iter().rposition(|&byte| byte == b'/').map_or(b"", |at| &path[..at])
}

fn name_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// The parsed content of a line, without its path.
enum Parsed {
    Directory(u16),
    File(u16, u64, Hash),
    Link(Vec<u8>),
}

impl Parsed {
    fn node(&self) -> Node<'_> {
        match self {
            Self::Directory(mode) => Node::Directory { mode: *mode },
            Self::File(mode, size, hash) => Node::File { mode: *mode, size: *size, hash },
            Self::Link(target) => Node::Link { target },
        }
    }
}

/// The lines of a manifest, with one line of lookahead.
struct Lines<R> {
    input: R,
    digest: Sha256,
    number: u64,
    next: Option<(Vec<u8>, Parsed)>,
}

impl<R: BufRead> Lines<R> {
    fn advance(&mut self) -> Result<()> {
        let mut text = Vec::new();
        let count = (&mut self.input).take(MAX_LINE).read_until(b'\n', &mut text);
        count.context("failed to read the manifest")?;
        if text.is_empty() {
            self.next = None;
            return Ok(());
        }
        self.number += 1;
        self.digest.update(&text);
        // A line without its newline may be cut off.
        let line = text.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
        self.next = line.and_then(|line| parse(&line));
        self.expect(self.next.is_some())
    }

    fn expect(&self, holds: bool) -> Result<()> {
        if !holds {
            bail!("line {} of the manifest is malformed or out of order", self.number);
        }
        Ok(())
    }

    fn fits(&self, pushed: Option<()>) -> Result<()> {
        self.expect(pushed.is_some())
    }
}

fn parse(line: &Line<'_>) -> Option<(Vec<u8>, Parsed)> {
    let path = decode(line.path.as_deref(), line.path_base64.as_deref())?;
    let mode = line.mode.as_ref().and_then(|mode| u16::from_str_radix(mode, 8).ok());
    let parsed = match &line.r#type[..] {
        "directory" => Parsed::Directory(mode?),
        "file" => Parsed::File(mode?, line.size?, unhex(line.sha256.as_ref()?)?),
        "link" => Parsed::Link(decode(line.target.as_deref(), line.target_base64.as_deref())?),
        _ => return None,
    };
    Some((path, parsed))
}

fn decode(text: Option<&str>, base64: Option<&str>) -> Option<Vec<u8>> {
    match (text, base64) {
        (Some(text), None) => Some(text.as_bytes().to_vec()),
        (None, Some(base64)) => STANDARD.decode(base64).ok(),
        _ => None,
    }
}

/// Parses a hash of 64 hexadecimal digits.
pub fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if text.len() != 2 * hash.len() {
        return None;
    }
    for (digit, index) in text.chars().zip(0..) {
        hash[index / 2] = hash[index / 2] << 4 | digit.to_digit(16)? as u8;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(lines: &[&str]) -> Result<(Tree, Hash)> {
        read(lines.join("\n").as_bytes())
    }

    const ROOT: &str = r#"{"path":".","type":"directory","mode":"0755"}"#;

    #[test]
    fn a_written_manifest_is_read_back() {
        let hash = [7; 32];
        let mut tree = Tree::default();
        tree.push_directory(b"", 0o755).unwrap();
        tree.push_entry(b"a-b", Node::Directory { mode: 0o700 }).unwrap();
        tree.push_entry(b"a\xff", Node::File { mode: 0o640, size: 3, hash: &hash }).unwrap();
        tree.push_entry(b"b\n", Node::Link { target: b"a\xff" }).unwrap();
        tree.push_entry(b"c", Node::Directory { mode: 0o755 }).unwrap();
        tree.push_directory(b"a-b", 0o700).unwrap();
        tree.push_directory(b"c", 0o755).unwrap();
        tree.push_entry(b"x", Node::Link { target: b"../b" }).unwrap();
        let mut text = Vec::new();
        let digest = write(&tree, &mut text).unwrap();
        let (again, same) = read(&text[..]).unwrap();
        assert_eq!(same, digest);
        assert_eq!(format!("{again:?}"), format!("{tree:?}"));
        assert_eq!(text.iter().filter(|&&byte| byte == b'\n').count(), 6);
    }

    #[test]
    fn errors_name_the_line() {
        let file = |path: &str| {
            let hash = "00".repeat(32);
            format!(r#"{{"path":"{path}","type":"file","mode":"0644","size":1,"sha256":"{hash}"}}"#)
        };
        let (a, b, dots, far) = (file("a"), file("b"), file(".."), file("x/y"));
        for (lines, number) in [
            (&[&a[..], ""][..], 1),
            (&[ROOT, &b, &a, ""], 3),
            (&[ROOT, &a, &a, ""], 3),
            (&[ROOT, &far, ""], 2),
            (&[ROOT, &dots, ""], 2),
            (&[ROOT, &a], 2),
            (&[ROOT, r#"{"path":"a","type":"link"}"#, ""], 2),
            (&[ROOT, r#"{"path":"a","type":"link","target":"b","more":1}"#, ""], 2),
            (&[ROOT, r#"{"path":"a","type":"pipe"}"#, ""], 2),
            (&[ROOT, "", ""], 2),
        ] {
            let error = manifest(lines).expect_err(lines[0]).to_string();
            assert!(error.starts_with(&format!("line {number} ")), "{lines:?}: {error}");
        }
        assert!(manifest(&[ROOT, &a, &b, ""]).is_ok());
        assert!(manifest(&[]).is_err());
    }
}
