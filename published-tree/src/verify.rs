//! Verifies that a published tree on disk equals its manifest: every file is read and hashed, and every
//! directory must have exactly the listed entries.

use std::ffi::{CStr, CString};
use std::io::{ErrorKind, Read, Write, sink};
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, bail};
use diagnostics::wording::{io_error, one_line};
use rustix::fs::{FileType, readlinkat};
use sha2::{Digest, Sha256};

use crate::dir::{Dir, Metadata, names};
use crate::parallel::in_parallel;
use crate::progress::Progress;
use crate::reader::Reader;
use crate::tree::{DirectoryRef, Hash, Node, Tree, join};
use crate::volume::Published;

/// Verifies that a tree holds exactly what its manifest lists, reading all files.
///
/// # Errors
/// Names the first entry that differs or cannot be read.
pub fn verify(published: &Published, progress: &Progress) -> Result<()> {
    let tree = &published.tree;
    progress.begin("checking", tree.files());
    in_parallel(
        tree.len(),
        || Reader::new(&published.dir),
        |reader, mut range| {
            range.try_for_each(|index| copy_file(reader, tree, index, &mut sink(), progress))
        },
    )?;
    verify_directories(published)
}

/// Verifies a tree as [`verify`] does, and writes the content of its files to `out`, in the order
/// of the tree.
///
/// # Errors
/// Names the first entry that differs or cannot be read. Fails if `out` does.
pub fn copy_verified(
    published: &Published,
    out: &mut impl Write,
    progress: &Progress,
) -> Result<()> {
    verify_directories(published)?;
    let mut reader = Reader::new(&published.dir);
    (0..published.tree.len())
        .try_for_each(|index| copy_file(&mut reader, &published.tree, index, out, progress))
}

fn verify_directories(published: &Published) -> Result<()> {
    if !directories_match(&published.tree, &published.dir) {
        let path = published.dir.display_path(b"");
        bail!("the directories of `{}` are not what was published", path.display());
    }
    Ok(())
}

/// Copies the file at `index` to `out` and compares its hash. Other entries have no content.
fn copy_file(
    reader: &mut Reader<'_>,
    tree: &Tree,
    index: usize,
    out: &mut impl Write,
    progress: &Progress,
) -> Result<()> {
    let (name, node) = tree.entry(index);
    let Node::File { mode, size, hash } = node else { return Ok(()) };
    let directory = tree.directory_of(index).path();
    let path = join(directory, name);
    let opened = reader.open(directory, name);
    let (mut file, found) = opened.map_err(|errno| reader.dir().error("open", &path, errno))?;
    let changed = || anyhow!("`{}` is not what was published", one_line(&path));
    if (found.mode, found.size) != (mode, size) {
        return Err(changed());
    }
    let mut digest = Sha256::new();
    loop {
        let count = match file.read(&mut reader.buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => bail!("failed to read `{}`: {}", one_line(&path), io_error(&error)),
        };
        digest.update(&reader.buffer[..count]);
        progress.add_bytes(count as u64);
        out.write_all(&reader.buffer[..count]).context("failed to write the content")?;
    }
    progress.add_file();
    let digest: Hash = digest.finalize().into();
    if digest == *hash { Ok(()) } else { Err(changed()) }
}

/// Whether all directories hold exactly the entries that were published, with their types, the
/// modes of directories and the targets of links. File content and file modes are not compared.
pub fn directories_match(tree: &Tree, dir: &Dir) -> bool {
    tree.directories().all(|directory| {
        dir.open_fd(directory.path()).is_ok_and(|fd| directory_matches(&fd, directory))
    })
}

/// [`directories_match`] for one open directory.
pub fn directory_matches(fd: impl AsFd, directory: DirectoryRef<'_>) -> bool {
    let Ok(found) = names(fd.as_fd()) else { return false };
    let has_mode = |wanted| Metadata::at(&fd, c"").is_ok_and(|found| found.mode == wanted);
    // The modes of other directories are compared with the entries of their parents.
    let root_matches = !directory.path().is_empty() || has_mode(directory.mode());
    let entry_matches = |(found, (name, node)): (&CStr, (&[u8], Node<'_>))| {
        found.to_bytes() == name
            && match node {
                Node::Directory { mode } => Metadata::at(&fd, found)
                    .is_ok_and(|found| found.kind == FileType::Directory && found.mode == mode),
                // Compared by content, elsewhere.
                Node::File { .. } => true,
                Node::Link { target } => readlinkat(&fd, found, Vec::new())
                    .is_ok_and(|found: CString| found.to_bytes() == target),
            }
    };
    root_matches
        && found.len() == directory.range().len()
        && found.iter().map(|name| &**name).zip(directory.entries()).all(entry_matches)
}
