//! Replaces plain files and directories at the top of a volume, as `cp -r` leaves them, by links
//! through `..data`.
//!
//! Without a gap, readers see the same content at each name all the time:
//!
//! 1. Copy the plain files, and the live tree beside them, into a new version.
//! 2. Make that version live.
//! 3. Exchange each plain name for its link, in one rename each. Both show the same content.
//!
//! Only then does the publication switch to the new tree. With a gap (`--allow-gap`), each plain name
//! is moved away after the switch, before its link is added.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use anyhow::{Context, Result, bail};
use published_tree::dir::Dir;
use published_tree::progress::Progress;
use published_tree::tree::Tree;
use published_tree::volume::{LiveVersion, TREE, Volume};
use rustix::fs::{AtFlags, RenameFlags, renameat, renameat_with, symlinkat, unlinkat};

use crate::atomic::hooks::{Hooks, ensure_space};
use crate::atomic::undo::{Attempt, put_back, undo};
use crate::atomic::version::{NewVersion, VersionName};
use crate::copy::stage::{Origin, stage};
use crate::source::scan::scan_names;

/// The context of errors of plain files that cannot be copied.
const HINT: &str = "--allow-gap moves away instead what cannot be copied";

/// Plain names to be replaced by links.
pub struct Migration<'m> {
    /// The volume.
    pub volume: &'m Volume,
    /// The plain names at its top.
    pub names: &'m [Vec<u8>],
    /// Its live version.
    pub live: Option<&'m LiveVersion>,
    /// The tree that is published afterwards, for which there must be space too.
    pub next: &'m Tree,
    /// How many links it adds.
    pub links: usize,
}

impl Migration<'_> {
    /// Replaces the names without a gap (steps 1 to 3).
    ///
    /// # Errors
    /// Fails if a name cannot be copied or exchanged. Each name is then still plain, or a link to
    /// its copy.
    pub fn run(&self, hooks: &mut dyn Hooks, progress: &Progress) -> Result<()> {
        let volume = self.volume;
        let version = VersionName::unique();
        check_exchange(volume, &version.suffix)?;
        let mut parts = self.read().context(HINT)?;
        let trees: Vec<&Tree> = parts.iter().map(|part| &part.tree).chain([self.next]).collect();
        ensure_space(volume, &trees, self.links, hooks).context(HINT)?;
        let switched = copy_all(volume, &mut parts, &version, progress)
            .context(HINT)
            .and_then(|()| volume.switch(&version.name, &version.suffix));
        switched.map_err(|error| {
            let trees: Vec<&Tree> = parts.iter().map(|part| &part.tree).collect();
            let before = self.live.map(|live| &live.name[..]);
            let attempt =
                Attempt { version: &version, trees: &trees, before, added: &[], replaced: &[] };
            undo(volume, &attempt, error)
        })?;
        for (number, name) in self.names.iter().enumerate() {
            let link = Volume::old_name(&version.suffix, number);
            volume.add_link_as(name, &link)?;
            let name_os = OsStr::from_bytes(name);
            renameat_with(volume, &link, volume, name_os, RenameFlags::EXCHANGE)
                .map_err(|errno| volume.dir().error("exchange", name, errno))?;
        }
        volume.sync()
    }

    /// Reads the plain names, and the live tree without those names.
    fn read(&self) -> Result<Vec<Part>> {
        let plain: HashSet<&[u8]> = self.names.iter().map(|name| &name[..]).collect();
        let tree = scan_names(self.volume.dir(), |name| plain.contains(name))?;
        let mut parts = vec![Part { tree, dir: None }];
        if let Some(live) = self.live {
            let dir =
                self.volume.dir().open_dir(live.name.as_bytes())?.open_dir(TREE.as_bytes())?;
            let tree = scan_names(&dir, |name| !plain.contains(name))?;
            parts.push(Part { tree, dir: Some(dir) });
        }
        Ok(parts)
    }
}

/// A part of what readers see before the migration.
struct Part {
    tree: Tree,
    /// Its root; `None` for the volume itself.
    dir: Option<Dir>,
}

/// Moves plain names away and adds their links. Each name is missing for a moment. The moved names
/// end with `suffix`.
///
/// # Errors
/// Fails if a name cannot be moved or a link not added. All names are moved back, if possible.
pub fn replace_with_gap(volume: &Volume, names: &[Vec<u8>], suffix: &str) -> Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let replace = |(number, name): (usize, &Vec<u8>)| {
        let old = Volume::old_name(suffix, number);
        renameat(volume, OsStr::from_bytes(name), volume, &old)
            .map_err(|errno| volume.dir().error("move away", name, errno))?;
        volume.add_link(name)
    };
    let replaced = names.iter().enumerate().try_for_each(replace).and_then(|()| volume.sync());
    replaced.map_err(|error| match put_back(volume, names, suffix) {
        Ok(()) => error,
        Err(why) => error.context(format!("plain files are not where they were ({why:#})")),
    })
}

/// Checks with two temporary links that the file system can exchange names.
fn check_exchange(volume: &Volume, suffix: &str) -> Result<()> {
    let links = [0, 1].map(|number| format!("{}-try", Volume::old_name(suffix, number)));
    let made = links.iter().try_for_each(|link| symlinkat(".", volume, link));
    let tried = made
        .and_then(|()| renameat_with(volume, &links[0], volume, &links[1], RenameFlags::EXCHANGE));
    for link in &links {
        // A link that was not created cannot be removed.
        let _ = unlinkat(volume, link, AtFlags::empty());
    }
    if let Err(errno) = tried {
        let error = volume.dir().error("exchange names on", b"", errno);
        bail!("{error:#}: --allow-gap replaces them one after the other");
    }
    Ok(())
}

/// Copies all parts into a new version (step 1).
fn copy_all(
    volume: &Volume,
    parts: &mut [Part],
    version: &VersionName,
    progress: &Progress,
) -> Result<()> {
    let new = NewVersion::create(volume, version)?;
    let to = new.destination(None, progress);
    for part in parts {
        let source = part.dir.as_ref().unwrap_or(volume.dir());
        stage(&mut part.tree, &Origin { source, live: None }, &to)?;
    }
    new.open_without_manifest(volume)
}
