//! A directory tree in memory: paths, types, modes, sizes, hashes and link targets, without file
//! content.
//!
//! A million entries take about 70 MB, so that two trees fit into a small pod: all names share one
//! buffer and all entries one list, in which the entries of a directory are adjacent.

mod subset;

use std::ops::Range;

/// A SHA-256.
pub type Hash = [u8; 32];

/// The content of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Content {
    /// In bytes.
    pub size: u64,
    /// Its SHA-256.
    pub hash: Hash,
}

/// The size of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Regular files and symbolic links.
    pub files: u64,
    /// Content of the regular files.
    pub bytes: u64,
}

/// A tree. Directories are in the order of a depth-first walk that sorts names by their bytes, and
/// the entries of a directory are sorted in the same way.
#[derive(Debug, Default)]
pub struct Tree {
    names: Vec<u8>,
    directories: Vec<Directory>,
    entries: Vec<Entry>,
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

/// A part of the buffer of names.
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

/// The type of an entry, with its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node<'t> {
    /// Also listed in [`Tree::directories`].
    Directory {
        /// Permission bits.
        mode: u16,
    },
    /// A regular file. Its hash is all zeros until its content has been read.
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
        /// Where it points.
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
    /// Its path below the root. The path of the root is empty.
    pub fn path(self) -> &'t [u8] {
        self.tree.text(self.directory.path)
    }

    /// Its permission bits.
    pub fn mode(self) -> u16 {
        self.directory.mode
    }

    /// The indices of its entries in the tree.
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

    /// The directory that holds the entry at `index`.
    pub fn directory_of(&self, index: usize) -> DirectoryRef<'_> {
        let after = self.directories.partition_point(|d| d.entries.start as usize <= index);
        // Directories without entries start where the next one does.
        let holder =
            self.directories[..after].iter().rev().find(|d| d.entries.end as usize > index);
        DirectoryRef { tree: self, directory: holder.unwrap_or(&self.directories[0]) }
    }

    /// The index of the entry at `path`.
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

    /// The number of entries, without the root.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the tree has no entry besides the root.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The name and the type of the entry at `index`.
    pub fn entry(&self, index: usize) -> (&[u8], Node<'_>) {
        let Entry { name, kind } = &self.entries[index];
        let node = match kind {
            Kind::Directory { mode } => Node::Directory { mode: *mode },
            Kind::File { mode, size, hash } => Node::File { mode: *mode, size: *size, hash },
            Kind::Link { target } => Node::Link { target: self.text(*target) },
        };
        (self.text(*name), node)
    }

    /// Replaces the modes of files and of directories (for which `change` gets `true`).
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

    /// The number of files and links, and the size of all files.
    pub fn totals(&self) -> Totals {
        self.entries.iter().fold(Totals::default(), |totals, entry| match entry.kind {
            Kind::Directory { .. } => totals,
            Kind::File { size, .. } => {
                Totals { files: totals.files + 1, bytes: totals.bytes.saturating_add(size) }
            }
            Kind::Link { .. } => Totals { files: totals.files + 1, ..totals },
        })
    }

    /// The number of regular files.
    pub fn files(&self) -> usize {
        self.entries.iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count()
    }

    /// Sets the size and the hash of a file.
    pub fn set_content(&mut self, index: usize, content: Content) {
        if let Kind::File { size, hash, .. } = &mut self.entries[index].kind {
            (*size, *hash) = (content.size, content.hash);
        }
    }

    /// Starts the next directory. Its entries follow. `None` if the names exceed 4 GiB.
    pub fn push_directory(&mut self, path: &[u8], mode: u16) -> Option<()> {
        let path = self.span(path)?;
        let end = self.entries.len() as u32;
        self.directories.push(Directory { path, mode, entries: end..end });
        Some(())
    }

    /// Adds an entry to the last directory. `None` if the names exceed 4 GiB.
    pub fn push_entry(&mut self, name: &[u8], node: Node<'_>) -> Option<()> {
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

/// The path of the entry `name` in `directory`.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() { name.to_vec() } else { [directory, b"/", name].concat() }
}
