//! Restores the tree of an archive, file by file, in a new directory that no reader opens yet.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Result, bail};
use diagnostics::wording::{io_error, one_line};
use published_tree::progress::Progress;
use published_tree::reader::BUFFER_SIZE;
use published_tree::tree::{Hash, Node, Tree};

use crate::archive::Content;
use crate::copy::destination::{
    Destination, StagedFile, Writer, create_directories, finish_directories,
};
use sha2::{Digest, Sha256};

/// Restores the tree that follows in an archive, and returns the size of its files. The hash of each
/// file is verified.
///
/// # Errors
/// Fails if the archive is damaged or a file cannot be written.
pub fn unpack(tree: &Tree, content: &mut Content, to: &Destination<'_>) -> Result<u64> {
    to.progress.begin("unpacking", tree.files());
    create_directories(tree, to)?;
    let mut writer = Writer::new(*to);
    let mut bytes = 0;
    each_file(tree, content, to.progress, |staged, file| {
        bytes += staged.size;
        let mut copy = writer.create(staged)?;
        file.copy(|read| copy.write_all(read).map_err(|error| writer.write_error(staged, &error)))?;
        writer.finish(staged, &copy)
    })?;
    finish_directories(tree, to)?;
    Ok(bytes)
}

/// Verifies that an archive holds exactly the files of its tree.
///
/// # Errors
/// Fails if the archive is damaged or cannot be read.
pub fn verify(tree: &Tree, content: &mut Content, progress: &Progress) -> Result<()> {
    progress.begin("checking", tree.files());
    each_file(tree, content, progress, |_, file| file.copy(|_| Ok(())))
}

/// Calls `read` for each file of an archive, in the order of the tree. Then verifies that the archive
/// ends, which includes its checksum.
fn each_file(
    tree: &Tree,
    content: &mut Content,
    progress: &Progress,
    mut read: impl FnMut(&StagedFile<'_>, ArchivedFile<'_>) -> Result<()>,
) -> Result<()> {
    let mut buffer = vec![0; BUFFER_SIZE];
    for directory in tree.directories() {
        for (name, node) in directory.entries() {
            let Node::File { mode, size, hash } = node else { continue };
            let staged = StagedFile { directory: directory.path(), name, mode, size };
            let buffer = &mut buffer[..];
            read(&staged, ArchivedFile { staged: &staged, hash, content, buffer, progress })?;
        }
    }
    if !matches!(content.read(&mut buffer), Ok(0)) {
        bail!("the archive does not end where it should");
    }
    Ok(())
}

/// The next file in an archive.
struct ArchivedFile<'a> {
    staged: &'a StagedFile<'a>,
    hash: &'a Hash,
    content: &'a mut Content,
    buffer: &'a mut [u8],
    progress: &'a Progress,
}

impl ArchivedFile<'_> {
    /// Passes the content to `write`, and verifies its hash.
    fn copy(self, mut write: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut content, mut digest) = (self.content.take(self.staged.size), Sha256::new());
        loop {
            let count = match content.read(self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => bail!("failed to read the archive: {}", io_error(&error)),
            };
            digest.update(&self.buffer[..count]);
            self.progress.add_bytes(count as u64);
            write(&self.buffer[..count])?;
        }
        self.progress.add_file();
        let digest: Hash = digest.finalize().into();
        if digest != *self.hash {
            let path = one_line(&self.staged.path());
            bail!("the archive is damaged: `{path}` is not what was published");
        }
        Ok(())
    }
}
