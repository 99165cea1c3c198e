//! A directory tree as data: what is in it, not what it is for.
//!
//! A million entries take some 70 MB, so that two trees fit into a small pod: names stand one
//! after another in one buffer, entries in one list, those of a directory together.

pub mod links;
pub mod manifest;
pub mod part;
pub mod scan;

use std::ops::Range;

use crate::owner::Owner;

/// A SHA-256.
pub type Hash = [u8; 32];

/// A tree. Directories stand in the order of a walk that takes names bytewise and goes down at
/// once; so do the entries of each.
#[derive(Debug, Default)]
pub struct Tree {
    names: Vec<u8>,
    directories: Vec<Directory>,
    entries: Vec<Entry>,
    owner: Option<Owner>,
}

#[derive(Debug)]
struct Directory {
    path: Span,
    mode: u16,
    entries: Range<u32>,
}

#[derive(Debug)]
struct Entry {
    name: Span,
    kind: Kind,
}

/// A piece of the names.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    len: u16,
}

#[derive(Debug)]
enum Kind {
    Directory { mode: u16 },
    File { mode: u16, size: u64, hash: Hash },
    Link { target: Span },
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'t> {
    /// Listed again among the directories.
    Directory {
        /// Permission bits.
        mode: u16,
    },
    /// A regular file; its hash is all zero as long as nobody has read it.
    File {
        /// Permission bits.
        mode: u16,
        /// In bytes.
        size: u64,
        /// Of the content.
        hash: &'t Hash,
    },
    /// A symbolic link.
    Link {
        /// What it holds.
        target: &'t [u8],
    },
}

/// A directory of a tree.
#[derive(Clone, Copy)]
pub struct DirectoryRef<'t> {
    tree: &'t Tree,
    directory: &'t Directory,
}

impl<'t> DirectoryRef<'t> {
    /// Its path below the root, which itself has an empty one.
    pub fn path(self) -> &'t [u8] {
        self.tree.text(self.directory.path)
    }

    /// Its permission bits.
    pub fn mode(self) -> u16 {
        self.directory.mode
    }

    /// Where its entries stand among those of the tree.
    pub fn range(self) -> Range<usize> {
        self.directory.entries.start as usize..self.directory.entries.end as usize
    }

    /// Its entries, by name.
    pub fn entries(self) -> impl Iterator<Item = (&'t [u8], Node<'t>)> {
        self.range().map(move |index| self.tree.entry(index))
    }
}

impl Tree {
    /// All directories, the root first.
    pub fn directories(&self) -> impl Iterator<Item = DirectoryRef<'_>> {
        self.directories.iter().map(|directory| DirectoryRef { tree: self, directory })
    }

    /// The directory that holds an entry, by the entry's place.
    pub fn directory_of(&self, index: usize) -> DirectoryRef<'_> {
        let after = self.directories.partition_point(|d| d.entries.start as usize <= index);
        // Directories without entries start where the next one does.
        let holder =
            self.directories[..after].iter().rev().find(|d| d.entries.end as usize > index);
        DirectoryRef { tree: self, directory: holder.unwrap_or(&self.directories[0]) }
    }

    /// The place of an entry.
    pub fn find(&self, path: &[u8]) -> Option<usize> {
        let cut = path.iter().rposition(|&byte| byte == b'/');
        let (parent, name) = cut.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
        let components = |path| <[u8]>::split(path, |&byte: &u8| byte == b'/');
        let directory = self.directories.binary_search_by(|directory| {
            components(self.text(directory.path)).cmp(components(parent))
        });
        let Range { start, end } = self.directories[directory.ok()?].entries.clone();
        let entries = &self.entries[start as usize..end as usize];
        let at = entries.binary_search_by(|entry| self.text(entry.name).cmp(name)).ok()?;
        Some(start as usize + at)
    }

    /// How many entries there are, the root not among them.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is nothing but the root.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// An entry by its place: its name and what it is.
    pub fn entry(&self, index: usize) -> (&[u8], Node<'_>) {
        let Entry { name, kind } = &self.entries[index];
        let node = match kind {
            Kind::Directory { mode } => Node::Directory { mode: *mode },
            Kind::File { mode, size, hash } => Node::File { mode: *mode, size: *size, hash },
            Kind::Link { target } => Node::Link { target: self.text(*target) },
        };
        (self.text(*name), node)
    }

    /// Gives files and directories (`true`) other modes.
    pub fn change_modes(&mut self, change: impl Fn(u16, bool) -> u16) {
        for directory in &mut self.directories {
            directory.mode = change(directory.mode, true);
        }
        for entry in &mut self.entries {
            match &mut entry.kind {
                Kind::Directory { mode } => *mode = change(*mode, true),
                Kind::File { mode, .. } => *mode = change(*mode, false),
                Kind::Link { .. } => {}
            }
        }
    }

    /// Whom all of it is to belong to, if that is to be anybody in particular.
    pub fn owner(&self) -> Option<Owner> {
        self.owner
    }

    /// Says whom all of it is to belong to.
    pub fn set_owner(&mut self, owner: Option<Owner>) {
        self.owner = owner;
    }

    /// How many files and links there are, and how many bytes the files hold.
    pub fn totals(&self) -> (u64, u64) {
        let add = |(files, bytes): (u64, u64), entry: &Entry| match entry.kind {
            Kind::Directory { .. } => (files, bytes),
            Kind::File { size, .. } => (files + 1, bytes.saturating_add(size)),
            Kind::Link { .. } => (files + 1, bytes),
        };
        self.entries.iter().fold((0, 0), add)
    }

    /// How many files there are.
    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count()
    }

    /// Notes what a file holds.
    pub fn set_content(&mut self, index: usize, content: (u64, Hash)) {
        if let Kind::File { size, hash, .. } = &mut self.entries[index].kind {
            (*size, *hash) = content;
        }
    }

    /// Starts the next directory; its entries follow. `None` if there is no room for its name.
    fn push_directory(&mut self, path: &[u8], mode: u16) -> Option<()> {
        let path = self.span(path)?;
        let end = self.entries.len() as u32;
        self.directories.push(Directory { path, mode, entries: end..end });
        Some(())
    }

    /// Adds an entry to the last directory. `None` if there is no room for its name.
    fn push_entry(&mut self, name: &[u8], node: Node<'_>) -> Option<()> {
        let name = self.span(name)?;
        let kind = match node {
            Node::Directory { mode } => Kind::Directory { mode },
            Node::File { mode, size, hash } => Kind::File { mode, size, hash: *hash },
            Node::Link { target } => Kind::Link { target: self.span(target)? },
        };
        self.entries.push(Entry { name, kind });
        if let Some(directory) = self.directories.last_mut() {
            directory.entries.end = u32::try_from(self.entries.len()).ok()?;
        }
        Some(())
    }

    fn span(&mut self, text: &[u8]) -> Option<Span> {
        let start = u32::try_from(self.names.len()).ok()?;
        let len = u16::try_from(text.len()).ok()?;
        self.names.extend_from_slice(text);
        Some(Span { start, len })
    }

    fn text(&self, span: Span) -> &[u8] {
        &self.names[span.start as usize..][..usize::from(span.len)]
    }
}

/// The path of an entry.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
