//! FUSE file systems that a test serves itself: one with errors, one without end.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, Generation,
    INodeNo, MountOption, ReplyAttr, ReplyDirectory, ReplyEntry, Request, spawn_mount,
};

/// How long the kernel may cache an answer.
const LONG: Duration = Duration::from_secs(3600);
/// Requests that are answered concurrently.
const SERVERS: usize = 8;

/// A mounted file system, unmounted when dropped.
pub struct Mounted(Option<BackgroundSession>);

impl Mounted {
    /// Mounts a file system on a directory and serves it.
    pub fn on(dir: &Path, files: impl Filesystem) -> Self {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::RO, MountOption::FSName("served".to_owned())];
        config.n_threads = Some(SERVERS);
        Self(Some(spawn_mount(files, dir, &config).expect("a FUSE mount")))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let Some(session) = self.0.take() else { return };
        let unmounted = session.umount_and_join();
        assert!(unmounted.is_ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

/// The attributes of a file. All directories have a link count of 2.
fn attributes(ino: INodeNo, kind: FileType, uid: u32) -> FileAttr {
    FileAttr {
        ino,
        size: 0,
        blocks: 0,
        atime: UNIX_EPOCH,
        mtime: UNIX_EPOCH,
        ctime: UNIX_EPOCH,
        crtime: UNIX_EPOCH,
        kind,
        perm: 0o755,
        nlink: if kind == FileType::Directory { 2 } else { 1 },
        uid,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

/// The error that a file gives.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Reading its attributes fails.
    Attributes,
    /// Reading the directory fails after this many entries.
    ReadingAfter(usize),
}

struct Node {
    name: OsString,
    kind: FileType,
    uid: u32,
    children: Vec<usize>,
    fault: Option<Fault>,
}

/// A tree that does not change. Files are identified by numbers; the root is 0.
pub struct Tree(Vec<Node>);

impl Tree {
    /// A tree of a root alone.
    pub fn new() -> Self {
        let mut tree = Self(Vec::new());
        tree.push("", FileType::Directory, 0, None);
        tree
    }

    fn push(&mut self, name: &str, kind: FileType, uid: u32, fault: Option<Fault>) -> usize {
        self.0.push(Node { name: name.into(), kind, uid, children: Vec::new(), fault });
        self.0.len() - 1
    }

    /// Adds a file to a directory; returns its number.
    pub fn add(
        &mut self,
        parent: usize,
        name: &str,
        kind: FileType,
        uid: u32,
        fault: Option<Fault>,
    ) -> usize {
        let number = self.push(name, kind, uid, fault);
        self.0[parent].children.push(number);
        number
    }

    /// The number of files, including the root.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn node(&self, ino: INodeNo) -> &Node {
        &self.0[usize::try_from(ino.0 - 1).expect("a number given by this server")]
    }

    fn attributes(&self, number: usize) -> FileAttr {
        let node = &self.0[number];
        attributes(INodeNo(number as u64 + 1), node.kind, node.uid)
    }
}

impl Filesystem for Tree {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut children = self.node(parent).children.iter();
        match children.find(|&&child| self.0[child].name == name) {
            Some(&child) => {
                // Attributes that are not cached are requested by getattr.
                let is_faulty = self.0[child].fault == Some(Fault::Attributes);
                let ttl = if is_faulty { Duration::ZERO } else { LONG };
                reply.entry(&ttl, &self.attributes(child), Generation(0));
            }
            None => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if self.node(ino).fault == Some(Fault::Attributes) {
            return reply.error(Errno::EIO);
        }
        let number = usize::try_from(ino.0 - 1).expect("a number given by this server");
        reply.attr(&LONG, &self.attributes(number));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let node = self.node(ino);
        let mut end = node.children.len();
        if let Some(Fault::ReadingAfter(count)) = node.fault {
            if offset >= count as u64 {
                return reply.error(Errno::EIO);
            }
            end = count;
        }
        let start = usize::try_from(offset).expect("a number given by this server").min(end);
        for (index, &child) in node.children[start..end].iter().enumerate() {
            let next = (start + index + 1) as u64;
            let entry = &self.0[child];
            if reply.add(INodeNo(child as u64 + 1), next, entry.kind, &entry.name) {
                break;
            }
        }
        reply.ok();
    }
}

/// An endless tree of directories, each created when it is looked up. Every answer takes a while.
pub struct Endless {
    delay: Duration,
    next: AtomicU64,
}

impl Endless {
    /// A file system that delays every answer this long.
    pub fn new(delay: Duration) -> Self {
        Self { delay, next: AtomicU64::new(2) }
    }

    /// The number of subdirectories of each directory.
    const WIDTH: u64 = 10;

    fn wait(&self) {
        std::thread::sleep(self.delay);
    }
}

impl Filesystem for Endless {
    fn lookup(&self, _: &Request, _: INodeNo, _: &OsStr, reply: ReplyEntry) {
        self.wait();
        let ino = INodeNo(self.next.fetch_add(1, Ordering::Relaxed));
        reply.entry(&LONG, &attributes(ino, FileType::Directory, 30001), Generation(0));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        self.wait();
        reply.attr(&LONG, &attributes(ino, FileType::Directory, 30001));
    }

    fn readdir(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        self.wait();
        for number in offset..Self::WIDTH {
            let name = format!("d{number}");
            if reply.add(INodeNo(u64::MAX), number + 1, FileType::Directory, name) {
                break;
            }
        }
        reply.ok();
    }
}
