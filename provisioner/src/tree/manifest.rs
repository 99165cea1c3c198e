//! The manifest of a published tree: a line of JSON for each entry, in the order of the tree.
//!
//! ```text
//! {"path":".","type":"directory","mode":"0755"}
//! {"path":"a","type":"file","mode":"0644","size":3,"sha256":"9834876d..."}
//! {"path":"b","type":"link","target":"a"}
//! ```
//!
//! What is in a directory stands together, by name; the directories follow each other as a walk
//! takes them that goes down at once. What is not UTF-8 stands in `path_base64` or `target_base64`
//! instead. There is one spelling for each tree, and the SHA-256 of the manifest is the digest of the
//! version.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Hash, Node, Tree, join};

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

/// Writes the manifest of a tree whose files have their hashes, and returns its digest.
///
/// # Errors
/// Those of `out`.
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
            put(&spelt(&join(directory.path(), name), node))?;
        }
    }
    Ok(digest.finalize().into())
}

fn spelt<'l>(path: &'l [u8], node: Node<'l>) -> Line<'l> {
    match node {
        Node::Directory { mode } => line(path, "directory", Some(mode)),
        Node::File { mode, size, hash } => {
            let (size, sha256) = (Some(size), Some(hex(hash).into()));
            Line { size, sha256, ..line(path, "file", Some(mode)) }
        }
        Node::Link { target } => {
            let (target, target_base64) = spell(target);
            Line { target, target_base64, ..line(path, "link", None) }
        }
    }
}

fn line<'l>(path: &'l [u8], kind: &'l str, mode: Option<u16>) -> Line<'l> {
    let (path, path_base64) = spell(path);
    let mode = mode.map(|mode| format!("{mode:04o}").into());
    Line { path, path_base64, r#type: kind.into(), mode, ..Line::default() }
}

fn spell(bytes: &[u8]) -> (Option<Cow<'_, str>>, Option<Cow<'_, str>>) {
    match str::from_utf8(bytes) {
        Ok(text) => (Some(text.into()), None),
        Err(_) => (None, Some(STANDARD.encode(bytes).into())),
    }
}

/// A digest as people write it.
pub fn hex(hash: &Hash) -> String {
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

/// Reads a manifest, and its digest.
///
/// # Errors
/// It is no manifest, or cannot be read.
pub fn read(input: impl BufRead) -> Result<(Tree, Hash)> {
    let mut lines = Lines { input, digest: Sha256::new(), number: 0, next: None };
    lines.advance()?;
    let Some((root, Meaning::Directory(mode))) = lines.next.take() else {
        bail!("line 1 of the manifest is not the root");
    };
    lines.expect(root == b".")?;
    lines.advance()?;
    let mut tree = Tree::default();
    let mut pending = vec![(Vec::new(), mode)];
    while let Some((path, mode)) = pending.pop() {
        lines.fits(tree.push_directory(&path, mode))?;
        let (first, mut last) = (pending.len(), Vec::new());
        while let Some((entry, meaning)) = lines.next.take_if(|(entry, _)| parent(entry) == path) {
            let name = &entry[entry.len() - name_of(&entry).len()..];
            lines.expect(name > &last[..] && name != b"." && name != b"..")?;
            lines.fits(tree.push_entry(name, meaning.node()))?;
            last = name.to_vec();
            if let Meaning::Directory(mode) = meaning {
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

/// What a line says of its path.
enum Meaning {
    Directory(u16),
    File(u16, u64, Hash),
    Link(Vec<u8>),
}

impl Meaning {
    fn node(&self) -> Node<'_> {
        match self {
            Self::Directory(mode) => Node::Directory { mode: *mode },
            Self::File(mode, size, hash) => Node::File { mode: *mode, size: *size, hash },
            Self::Link(target) => Node::Link { target },
        }
    }
}

/// The lines of a manifest, one of which is looked at.
struct Lines<R> {
    input: R,
    digest: Sha256,
    number: u64,
    next: Option<(Vec<u8>, Meaning)>,
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
        // Without its end, it may be half of a line.
        let line = text.strip_suffix(b"\n").and_then(|line| serde_json::from_slice(line).ok());
        self.next = line.and_then(|line| meaning(&line));
        self.expect(self.next.is_some())
    }

    fn expect(&self, is_so: bool) -> Result<()> {
        if !is_so {
            bail!("line {} of the manifest is not as it should be", self.number);
        }
        Ok(())
    }

    fn fits(&self, pushed: Option<()>) -> Result<()> {
        self.expect(pushed.is_some())
    }
}

fn meaning(line: &Line<'_>) -> Option<(Vec<u8>, Meaning)> {
    let path = unspell(line.path.as_deref(), line.path_base64.as_deref())?;
    let mode = line.mode.as_ref().and_then(|mode| u16::from_str_radix(mode, 8).ok());
    let meaning = match &line.r#type[..] {
        "directory" => Meaning::Directory(mode?),
        "file" => Meaning::File(mode?, line.size?, unhex(line.sha256.as_ref()?)?),
        "link" => Meaning::Link(unspell(line.target.as_deref(), line.target_base64.as_deref())?),
        _ => return None,
    };
    Some((path, meaning))
}

fn unspell(text: Option<&str>, base64: Option<&str>) -> Option<Vec<u8>> {
    match (text, base64) {
        (Some(text), None) => Some(text.as_bytes().to_vec()),
        (None, Some(base64)) => STANDARD.decode(base64).ok(),
        _ => None,
    }
}

/// A digest out of its 64 hexadecimal digits.
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
    fn what_was_written_is_read_back() {
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
    fn what_is_no_manifest_is_refused_with_its_line() {
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
