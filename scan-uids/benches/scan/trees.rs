//! The trees to scan, made once and kept.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, mkdirat, openat};

/// A tree to scan.
pub struct Tree {
    /// Its name in the table.
    pub name: &'static str,
    /// A description.
    pub shape: &'static str,
    make: fn(&Path) -> io::Result<()>,
}

/// All trees.
pub const TREES: [Tree; 4] = [
    Tree {
        name: "many",
        shape: "101,101 directories with 1,000,000 files, ten in each of the lowest",
        make: make_many,
    },
    Tree { name: "wide", shape: "one directory with 300,000 files", make: make_wide },
    Tree { name: "deep", shape: "400 chains of 500 directories", make: make_deep },
    Tree { name: "small", shape: "1,011 directories with 10,000 files", make: make_small },
];

impl Tree {
    /// Makes the tree in `dir` unless it exists. A tree that exists is complete, since it is renamed
    /// last.
    pub fn prepare(&self, dir: &Path) -> io::Result<PathBuf> {
        let (path, unfinished) = (dir.join(self.name), dir.join(format!("{}.new", self.name)));
        if path.is_dir() {
            return Ok(path);
        }
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished)?;
        }
        fs::create_dir_all(&unfinished)?;
        (self.make)(&unfinished)?;
        fs::rename(&unfinished, &path)?;
        Ok(path)
    }
}

fn make_many(root: &Path) -> io::Result<()> {
    for a in 0..100 {
        for b in 0..10 {
            make_leaves(&root.join(format!("project-{a}/part-{b}")), 100)?;
        }
    }
    Ok(())
}

fn make_small(root: &Path) -> io::Result<()> {
    for a in 0..10 {
        make_leaves(&root.join(format!("project-{a}")), 100)?;
    }
    Ok(())
}

/// Directories with ten files each.
fn make_leaves(parent: &Path, count: usize) -> io::Result<()> {
    for leaf in 0..count {
        let leaf = parent.join(format!("run-{leaf}"));
        fs::create_dir_all(&leaf)?;
        for file in 0..10 {
            File::create(leaf.join(format!("file-{file}.dat")))?;
        }
    }
    Ok(())
}

fn make_wide(root: &Path) -> io::Result<()> {
    (0..300_000).try_for_each(|n| File::create(root.join(format!("file-{n}.dat"))).map(drop))
}

fn make_deep(root: &Path) -> io::Result<()> {
    for chain in 0..400 {
        let top = root.join(format!("chain-{chain}"));
        fs::create_dir(&top)?;
        let mut at: OwnedFd = File::open(&top)?.into();
        for level in 0..500 {
            // As long as walkers that use whole paths can handle (PATH_MAX).
            let name = format!("sub-{level:03}");
            mkdirat(&at, &name, Mode::from_raw_mode(0o755))?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            at = openat(at.as_fd(), &name, flags, Mode::empty())?;
        }
    }
    Ok(())
}
