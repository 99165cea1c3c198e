//! Looks at single entries of an open directory on the volume, without following links.

use std::ffi::{CString, OsStr};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use published_tree::dir::{Metadata, open_noatime};
use published_tree::reader::BUFFER_SIZE;
use published_tree::tree::{Hash, Node};
use rustix::fs::{FileType, OFlags, readlinkat};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

/// The metadata of the entry `name`; `None` if it does not exist.
///
/// # Errors
/// Returns the system's error.
pub fn metadata(directory: impl AsFd, name: &[u8]) -> Result<Option<Metadata>, Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    match Metadata::at(directory, &name) {
        Err(Errno::NOENT) => Ok(None),
        found => found.map(Some),
    }
}

/// Whether the entry `name` has the type of `node`, and for a link its target.
///
/// # Errors
/// Returns the system's error.
pub fn has_type_of(directory: impl AsFd, name: &[u8], node: Node<'_>) -> Result<bool, Errno> {
    let Some(found) = metadata(&directory, name)? else { return Ok(false) };
    match node {
        Node::Directory { .. } => Ok(found.kind == FileType::Directory),
        Node::File { .. } => Ok(found.kind == FileType::RegularFile),
        Node::Link { target } => {
            Ok(found.kind == FileType::Symlink && has_target(directory, name, target)?)
        }
    }
}

/// Whether the entry `name` has the type and the content of `node`. Modes are not compared.
///
/// # Errors
/// Returns the system's error.
pub fn has_content_of(directory: impl AsFd, name: &[u8], node: Node<'_>) -> Result<bool, Errno> {
    let Node::File { size, hash, .. } = node else { return has_type_of(directory, name, node) };
    let Some(found) = metadata(&directory, name)? else { return Ok(false) };
    Ok(found.kind == FileType::RegularFile
        && found.size == size
        && content_hash(directory, name)? == *hash)
}

/// Whether the link `name` points to `target`.
///
/// # Errors
/// Returns the system's error, and `EINVAL` if the entry is no link.
pub fn has_target(directory: impl AsFd, name: &[u8], target: &[u8]) -> Result<bool, Errno> {
    let found = readlinkat(directory, OsStr::from_bytes(name), Vec::new())?;
    Ok(found.to_bytes() == target)
}

/// Hashes the content of the file `name`.
///
/// # Errors
/// Returns the system's error.
pub fn content_hash(directory: impl AsFd, name: &[u8]) -> Result<Hash, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open_noatime(directory, OsStr::from_bytes(name), flags)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; BUFFER_SIZE]);
    loop {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => return Ok(digest.finalize().into()),
            Ok(count) => digest.update(&buffer[..count]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_of_the_same_size_needs_the_same_content() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "one").unwrap();
        let opened = File::open(dir.path()).unwrap();
        let hash = content_hash(&opened, b"file").unwrap();
        let node = |hash| Node::File { mode: 0o600, size: 3, hash };
        assert_eq!(has_content_of(&opened, b"file", node(&hash)), Ok(true));
        assert_eq!(has_content_of(&opened, b"file", node(&[0; 32])), Ok(false));
        assert_eq!(has_type_of(&opened, b"file", node(&[0; 32])), Ok(true));
        let longer = Node::File { mode: 0o600, size: 4, hash: &hash };
        assert_eq!(has_content_of(&opened, b"file", longer), Ok(false));
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "one").unwrap();
        symlink("file", dir.path().join("link")).unwrap();
        let opened = File::open(dir.path()).unwrap();
        let file = Node::File { mode: 0o600, size: 3, hash: &[0; 32] };
        assert_eq!(has_type_of(&opened, b"link", file), Ok(false));
        assert_eq!(has_type_of(&opened, b"link", Node::Link { target: b"file" }), Ok(true));
        assert_eq!(has_type_of(&opened, b"link", Node::Link { target: b"other" }), Ok(false));
        assert_eq!(has_type_of(&opened, b"file", Node::Link { target: b"file" }), Ok(false));
        assert_eq!(content_hash(&opened, b"link"), Err(Errno::LOOP));
        assert_eq!(has_type_of(&opened, b"none", file), Ok(false));
    }
}
