//! Makes the tree of an archive again, file by file, where no reader looks yet.

use std::io::{ErrorKind, Read, Write};

use anyhow::{Result, bail};
use diagnostics::wording::{io_error, one_line};
use sha2::{Digest, Sha256};

use crate::archive::Content;
use crate::compare::Reader;
use crate::durable::Durability;
use crate::place::Place;
use crate::progress;
use crate::stage::{At, finish_directories, make_directory};
use crate::tree::{Hash, Node, Tree};

/// Bytes unpacked at a time.
const PIECE: usize = 128 * 1024;

/// Makes the tree in the empty directory `to` of what an archive holds, and returns how many bytes
/// its files have. Each is what was published.
///
/// # Errors
/// The archive is damaged, or something cannot be written.
pub fn unpack(tree: &Tree, content: &mut Content, to: &Place, disk: &Durability) -> Result<u64> {
    progress::begin("unpacking", tree.files());
    for directory in tree.directories() {
        make_directory(tree, directory, to)?;
    }
    let (mut to_reader, mut piece) = (Reader::new(to, 0), vec![0; PIECE]);
    let mut bytes = 0;
    for directory in tree.directories() {
        for (name, node) in directory.entries() {
            let Node::File { mode, size, hash } = node else { continue };
            let at = At { directory: directory.path(), name, mode, size, owner: tree.owner() };
            unpack_file(&at, hash, content, &mut piece, &mut to_reader, disk)?;
            bytes += size;
        }
    }
    conclude(content, &mut piece)?;
    finish_directories(tree, to, disk)?;
    Ok(bytes)
}

/// Makes sure that an archive holds all of its tree, and nothing else.
///
/// # Errors
/// It does not, or cannot be read.
pub fn check(tree: &Tree, content: &mut Content) -> Result<()> {
    progress::begin("checking", tree.files());
    let mut piece = vec![0; PIECE];
    for directory in tree.directories() {
        for (name, node) in directory.entries() {
            let Node::File { mode, size, hash } = node else { continue };
            let at = At { directory: directory.path(), name, mode, size, owner: None };
            read_file(&at, hash, content, &mut piece, |_| Ok(()))?;
        }
    }
    conclude(content, &mut piece)
}

/// Makes sure that an archive ends here. So the checksum of all is looked at too.
fn conclude(content: &mut Content, piece: &mut [u8]) -> Result<()> {
    if !matches!(content.read(piece), Ok(0)) {
        bail!("the archive does not end where it should");
    }
    Ok(())
}

fn unpack_file(
    at: &At<'_>,
    hash: &Hash,
    content: &mut Content,
    piece: &mut [u8],
    to: &mut Reader<'_>,
    disk: &Durability,
) -> Result<()> {
    let mut file = at.create(to)?;
    read_file(at, hash, content, piece, |piece| {
        file.write_all(piece).map_err(|error| at.write_error(to, &error))
    })?;
    at.finish(&file, to, disk)
}

/// Hands on what a file holds, and makes sure that it is what was published.
fn read_file(
    at: &At<'_>,
    hash: &Hash,
    content: &mut Content,
    piece: &mut [u8],
    mut write: impl FnMut(&[u8]) -> Result<()>,
) -> Result<()> {
    let (mut content, mut digest) = (content.take(at.size), Sha256::new());
    loop {
        let count = match content.read(piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => bail!("failed to read the archive: {}", io_error(&error)),
        };
        digest.update(&piece[..count]);
        progress::add_bytes(count as u64);
        write(&piece[..count])?;
    }
    progress::add_file();
    let digest: Hash = digest.finalize().into();
    if digest != *hash {
        bail!("the archive is damaged: `{}` is not what was published", one_line(&at.path()));
    }
    Ok(())
}
