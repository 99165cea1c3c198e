//! inotify watches on the directories of the last scan, and on the way to each of them.
//!
//! An event only says that something may have changed. Only events for changes are requested. General
//! libraries such as notify also ask for opened files, so each scan would trigger the next one.
//!
//! 1. A scan adds a watch for each directory before it reads it, and for each name on the way there.
//! 2. [`end_scan`](Watches::end_scan) removes the watches that the scan has not added.
//! 3. A thread reads events and calls back for those that matter (`is_relevant`).

use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::mem::{MaybeUninit, replace, take};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result};
use rustix::fs::inotify::{
    CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init, remove_watch,
};
use rustix::io::Errno;

/// Events that come with a change.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Links that are followed on the way to a directory; as many as the kernel follows.
const MAX_LINKS: usize = 40;
/// Bytes of events that are read at a time.
const BUFFER_SIZE: usize = 16 * 1024;

/// Which events of a watched directory start a scan.
#[derive(Debug, PartialEq, Eq)]
enum Interest {
    /// All of them.
    All,
    /// Those of these names, and of the directory itself.
    Names(HashSet<OsString>),
}

/// By watch descriptor.
type Interests = HashMap<i32, Interest>;

/// Watches on directories.
pub struct Watches {
    inotify: Arc<OwnedFd>,
    interests: Arc<Mutex<Interests>>,
    /// The interests of the scan under way.
    next: Interests,
    /// Whether every directory that the scan added is watched.
    is_complete: bool,
}

impl Watches {
    /// Starts a thread that calls `changed` for events that matter. Nothing is watched yet.
    ///
    /// # Errors
    /// Fails if the user has too many inotify instances (`fs.inotify.max_user_instances`).
    pub fn start(changed: impl Fn() + Send + 'static) -> Result<Self> {
        let inotify = Arc::new(init(CreateFlags::CLOEXEC).context(
            "failed to watch for events (fs.inotify.max_user_instances may have been reached)",
        )?);
        let interests = Arc::new(Mutex::new(Interests::new()));
        let (events, shared_interests) = (inotify.clone(), interests.clone());
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || read_events(&events, &shared_interests, changed))
            .context("failed to start a thread")?;
        Ok(Self { inotify, interests, next: Interests::new(), is_complete: true })
    }

    /// Watches an open directory, until the end of a scan that does not add it again.
    pub fn add(&mut self, directory: BorrowedFd<'_>) {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        match add_watch(&*self.inotify, path, CHANGES) {
            Ok(watch) => {
                lock(&self.interests).insert(watch, Interest::All);
                self.next.insert(watch, Interest::All);
            }
            Err(_) => self.is_complete = false,
        }
    }

    /// Watches each name on the way to `path`, through symbolic links: if one of them is replaced,
    /// `path` leads to another directory.
    pub fn add_path(&mut self, path: &Path) {
        for Lookup { directory, name } in lookups(path) {
            let Ok(watch) = add_watch(&*self.inotify, &directory, CHANGES) else {
                // `path` does not lead through a directory that is missing or not accessible.
                continue;
            };
            for interests in [&mut *lock(&self.interests), &mut self.next] {
                let none = || Interest::Names(HashSet::new());
                if let Interest::Names(names) = interests.entry(watch).or_insert_with(none) {
                    names.insert(name.clone());
                }
            }
        }
    }

    /// Ends a scan: removes the watches that it has not added. Returns whether every directory
    /// that it added is watched.
    pub fn end_scan(&mut self) -> bool {
        let next = take(&mut self.next);
        let mut interests = lock(&self.interests);
        for watch in interests.keys().filter(|watch| !next.contains_key(watch)) {
            // The kernel has removed it already if the directory is gone.
            let _ = remove_watch(&*self.inotify, *watch);
        }
        *interests = next;
        replace(&mut self.is_complete, true)
    }
}

fn lock(interests: &Mutex<Interests>) -> MutexGuard<'_, Interests> {
    interests.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads events until the descriptor fails.
fn read_events(inotify: &OwnedFd, interests: &Mutex<Interests>, changed: impl Fn()) {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_SIZE];
    let mut events = Reader::new(inotify, &mut buffer);
    loop {
        match events.next() {
            Ok(event) => {
                let name = event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()));
                let is_relevant =
                    is_relevant(event.events(), lock(interests).get(&event.wd()), name);
                if is_relevant {
                    changed();
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// Whether an event may mean a change of content. `interest` is that in its directory, if it is
/// watched; `name` is missing in events of the directory itself.
fn is_relevant(events: ReadFlags, interest: Option<&Interest>, name: Option<&OsStr>) -> bool {
    if events.contains(ReadFlags::QUEUE_OVERFLOW) {
        // Events were lost, of any directory.
        return true;
    }
    if events.contains(ReadFlags::IGNORED) {
        // A watch has been removed.
        return false;
    }
    match interest {
        Some(Interest::All) => true,
        Some(Interest::Names(names)) => name.is_none_or(|name| names.contains(name)),
        None => false,
    }
}

/// A name that is looked up in a directory.
struct Lookup {
    directory: PathBuf,
    name: OsString,
}

/// The lookups that lead to `path`, including those of links on the way.
fn lookups(path: &Path) -> Vec<Lookup> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let names_of = |path: &Path| -> Vec<OsString> {
        let names =
            path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
        names.map(|name| name.as_os_str().to_owned()).collect()
    };
    let mut pending = names_of(&absolute);
    pending.reverse();
    let (mut directory, mut lookups, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    while let Some(name) = pending.pop() {
        if name == ".." {
            directory.pop();
            continue;
        }
        lookups.push(Lookup { directory: directory.clone(), name: name.clone() });
        match fs::read_link(directory.join(&name)) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    directory = PathBuf::from("/");
                }
                pending.extend(names_of(&target).into_iter().rev());
            }
            Ok(_) => break,
            Err(_) => directory.push(name),
        }
    }
    lookups
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn lookups_follow_links() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        symlink("a/../a", dir.join("link")).unwrap();
        let lookups = lookups(&dir.join("link/b"));
        let tail = lookups[lookups.len() - 4..].iter();
        let tail: Vec<_> = tail.map(|lookup| lookup.directory.join(&lookup.name)).collect();
        assert_eq!(tail, ["link", "a", "a", "a/b"].map(|name| dir.join(name)));
    }

    #[test]
    fn a_link_to_itself_ends_the_lookups() {
        let dir = tempfile::tempdir().unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        assert!(lookups(&dir.path().join("loop/a")).len() > MAX_LINKS);
    }

    #[test]
    fn lost_events_count_as_a_change_and_removed_watches_do_not() {
        let names = Interest::Names(HashSet::from(["data".into()]));
        let (data, other) = (Some(OsStr::new("data")), Some(OsStr::new("other")));
        let create = ReadFlags::CREATE;
        for (events, interest, name, expected) in [
            (create, Some(&Interest::All), other, true),
            (create, Some(&names), data, true),
            (create, Some(&names), other, false),
            (ReadFlags::DELETE_SELF, Some(&names), None, true),
            (create, None, data, false),
            // As the kernel sends it: without a watch and without a name.
            (ReadFlags::QUEUE_OVERFLOW, None, None, true),
            (ReadFlags::IGNORED, Some(&Interest::All), None, false),
        ] {
            let actual = is_relevant(events, interest, name);
            assert_eq!(actual, expected, "{events:?} {interest:?} {name:?}");
        }
    }

    #[test]
    fn only_changes_raise_events() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "1").unwrap();
        let (changed, changes) = mpsc::channel();
        let mut watches = Watches::start(move || changed.send(()).unwrap()).unwrap();
        let scan = |watches: &mut Watches| {
            watches.add_path(&root);
            watches.add(rustix::fd::AsFd::as_fd(&fs::File::open(&root).unwrap()));
            assert!(watches.end_scan());
        };
        scan(&mut watches);
        fs::read(root.join("file")).unwrap();
        fs::read_dir(&root).unwrap().count();
        fs::write(dir.path().join("beside"), "").unwrap();
        assert!(changes.recv_timeout(Duration::from_millis(200)).is_err(), "reading is no change");
        fs::write(root.join("file"), "2").unwrap();
        changes.recv_timeout(Duration::from_secs(30)).expect("a change");
        // Another directory in its place.
        fs::rename(&root, dir.path().join("old")).unwrap();
        changes.recv_timeout(Duration::from_secs(30)).expect("a rename");
        fs::create_dir(&root).unwrap();
        scan(&mut watches);
        while changes.recv_timeout(Duration::from_millis(100)).is_ok() {}
        fs::write(dir.path().join("old/file"), "3").unwrap();
        assert!(
            changes.recv_timeout(Duration::from_millis(200)).is_err(),
            "the old directory is not watched"
        );
        fs::write(root.join("new"), "").unwrap();
        changes.recv_timeout(Duration::from_secs(30)).expect("a change in the new directory");
    }
}
