//! Whether a tree is still what was published.

use std::io::{ErrorKind, Read, Write, sink};

use anyhow::{Context, Result, anyhow, bail};
use diagnostics::wording::{io_error, one_line};
use sha2::{Digest, Sha256};

use crate::compare::{Reader, is_sound};
use crate::parallel::in_parallel;
use crate::progress;
use crate::tree::{Hash, Node, Tree, join};
use crate::volume::Published;

/// Bytes read at a time.
const PIECE: usize = 128 * 1024;

/// Makes sure that a tree is what was published: nothing less, nothing else.
///
/// # Errors
/// What is wrong with it.
pub fn check(published: &Published) -> Result<()> {
    let tree = &published.tree;
    progress::begin("checking", tree.files());
    in_parallel(
        tree.len(),
        || Reader::new(&published.place, PIECE),
        |reader, mut range| range.try_for_each(|index| hand_on(reader, tree, index, &mut sink())),
    )?;
    check_directories(published)
}

/// [`check`], while what its files hold is handed on, in the order of the tree.
///
/// # Errors
/// What is wrong with it, or with `out`.
pub fn read_all(published: &Published, out: &mut impl Write) -> Result<()> {
    check_directories(published)?;
    let mut reader = Reader::new(&published.place, PIECE);
    (0..published.tree.len())
        .try_for_each(|index| hand_on(&mut reader, &published.tree, index, out))
}

fn check_directories(published: &Published) -> Result<()> {
    if !is_sound(&published.tree, &published.place) {
        let shown = published.place.shown(b"");
        bail!("the directories of `{}` are not what was published", shown.display());
    }
    Ok(())
}

/// Hands on what a file holds; whatever else is at `index` holds nothing.
fn hand_on(reader: &mut Reader<'_>, tree: &Tree, index: usize, out: &mut impl Write) -> Result<()> {
    let (name, node) = tree.entry(index);
    let Node::File { mode, size, hash } = node else { return Ok(()) };
    let directory = tree.directory_of(index).path();
    let path = join(directory, name);
    let opened = reader.open(directory, name);
    let (mut file, found_mode, found_size) =
        opened.map_err(|errno| reader.place().failure("open", &path, errno))?;
    let changed = || anyhow!("`{}` is not what was published", one_line(&path));
    if (found_mode, found_size) != (mode, size) {
        return Err(changed());
    }
    let mut digest = Sha256::new();
    loop {
        let count = match file.read(&mut reader.piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => bail!("failed to read `{}`: {}", one_line(&path), io_error(&error)),
        };
        digest.update(&reader.piece[..count]);
        progress::add_bytes(count as u64);
        out.write_all(&reader.piece[..count]).context("failed to hand it on")?;
    }
    progress::add_file();
    let digest: Hash = digest.finalize().into();
    if digest == *hash { Ok(()) } else { Err(changed()) }
}
