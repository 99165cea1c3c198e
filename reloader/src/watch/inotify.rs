//! Tells that something has happened in directories; what, only reading them shows.
//!
//! The kernel is asked for just the events that come with a change. (A watch for opened files,
//! too, as general libraries set, would be woken by each file that is read here.)

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::mem::{MaybeUninit, take};
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

/// What comes with a change.
const CHANGES: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MODIFY)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::ATTRIB)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);
/// Links that are followed on the way to a directory; as many as the kernel does.
const MAX_LINKS: usize = 40;
/// Room for events, in bytes.
const ROOM: usize = 16 * 1024;

/// What is of interest in a directory.
#[derive(Debug, PartialEq, Eq)]
enum Interest {
    All,
    /// Just these names.
    Names(HashSet<OsString>),
}

type Interests = HashMap<i32, Interest>;

/// Watches of directories.
pub struct Watches {
    inotify: Arc<OwnedFd>,
    interests: Arc<Mutex<Interests>>,
    /// Those of the scan that is under way.
    next: Interests,
    /// Whether each directory that was asked for is watched.
    is_complete: bool,
}

impl Watches {
    /// Starts to watch, nothing yet; `wake` is called for what happens, in another thread.
    ///
    /// # Errors
    /// The user has too many watchers already (`fs.inotify.max_user_instances`).
    pub fn start(wake: impl Fn() + Send + 'static) -> Result<Self> {
        let inotify = Arc::new(init(CreateFlags::CLOEXEC).context(
            "failed to watch for events (fs.inotify.max_user_instances may have been reached)",
        )?);
        let interests = Arc::new(Mutex::new(Interests::new()));
        let (events, of_interest) = (inotify.clone(), interests.clone());
        thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || hear(&events, &of_interest, wake))
            .context("failed to start a thread")?;
        Ok(Self { inotify, interests, next: Interests::new(), is_complete: true })
    }

    /// Watches a directory that is open, until a scan does not ask for it.
    pub fn arm(&mut self, directory: BorrowedFd<'_>) {
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        match add_watch(&*self.inotify, path, CHANGES) {
            Ok(watch) => {
                lock(&self.interests).insert(watch, Interest::All);
                self.next.insert(watch, Interest::All);
            }
            Err(_) => self.is_complete = false,
        }
    }

    /// Watches what decides which directory `path` is: each name on the way to it.
    pub fn arm_way(&mut self, path: &Path) {
        for (directory, name) in way(path) {
            let Ok(watch) = add_watch(&*self.inotify, &directory, CHANGES) else {
                // A directory that is missing or closed is one that `path` does not lead through.
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

    /// Ends a scan: what it has not asked for is not watched any more. Whether all of what it has
    /// asked for is.
    pub fn settle(&mut self) -> bool {
        let next = take(&mut self.next);
        let mut interests = lock(&self.interests);
        for watch in interests.keys().filter(|watch| !next.contains_key(watch)) {
            // The kernel may have removed it, with the directory.
            let _ = remove_watch(&*self.inotify, *watch);
        }
        *interests = next;
        std::mem::replace(&mut self.is_complete, true)
    }
}

fn lock(interests: &Mutex<Interests>) -> MutexGuard<'_, Interests> {
    interests.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for events for ever.
fn hear(inotify: &OwnedFd, interests: &Mutex<Interests>, wake: impl Fn()) {
    let mut room = [MaybeUninit::uninit(); ROOM];
    let mut events = Reader::new(inotify, &mut room);
    loop {
        match events.next() {
            // The end of a watch is nothing that has happened to a directory.
            Ok(event) if event.events().contains(ReadFlags::IGNORED) => {}
            Ok(event) => {
                let name = event.file_name().map(|name| name.to_bytes());
                let is_overflow = event.events().contains(ReadFlags::QUEUE_OVERFLOW);
                let is_of_interest = match lock(interests).get(&event.wd()) {
                    Some(Interest::All) => true,
                    Some(Interest::Names(names)) => {
                        name.is_none_or(|name| names.contains(std::ffi::OsStr::from_bytes(name)))
                    }
                    None => false,
                };
                if is_overflow || is_of_interest {
                    wake();
                }
            }
            Err(Errno::INTR) => {}
            Err(_) => return,
        }
    }
}

/// The directories that `path` leads through, with the name that is looked up in each, also
/// behind links.
fn way(path: &Path) -> Vec<(PathBuf, OsString)> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let names_of = |path: &Path| -> Vec<OsString> {
        let names =
            path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
        names.map(|name| name.as_os_str().to_owned()).collect()
    };
    let mut pending = names_of(&absolute);
    pending.reverse();
    let (mut at, mut way, mut links) = (PathBuf::from("/"), Vec::new(), 0);
    while let Some(name) = pending.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        way.push((at.clone(), name.clone()));
        match fs::read_link(at.join(&name)) {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                pending.extend(names_of(&target).into_iter().rev());
            }
            Ok(_) => break,
            Err(_) => at.push(name),
        }
    }
    way
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn the_way_to_a_directory_goes_through_links() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        fs::create_dir_all(dir.join("a/b")).unwrap();
        symlink("a/../a", dir.join("link")).unwrap();
        let way = way(&dir.join("link/b"));
        let tail: Vec<_> = way[way.len() - 4..].iter().map(|(at, name)| at.join(name)).collect();
        assert_eq!(tail, ["link", "a", "a", "a/b"].map(|name| dir.join(name)));
    }

    #[test]
    fn only_changes_wake() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(root.join("file"), "1").unwrap();
        let (wake, woken) = mpsc::channel();
        let mut watches = Watches::start(move || wake.send(()).unwrap()).unwrap();
        let arm = |watches: &mut Watches| {
            watches.arm_way(&root);
            watches.arm(rustix::fd::AsFd::as_fd(&fs::File::open(&root).unwrap()));
            assert!(watches.settle());
        };
        arm(&mut watches);
        fs::read(root.join("file")).unwrap();
        fs::read_dir(&root).unwrap().count();
        fs::write(dir.path().join("beside"), "").unwrap();
        assert!(woken.recv_timeout(Duration::from_millis(200)).is_err(), "reading wakes");
        fs::write(root.join("file"), "2").unwrap();
        woken.recv_timeout(Duration::from_secs(30)).expect("a change wakes");
        // Another directory in its place.
        fs::rename(&root, dir.path().join("old")).unwrap();
        woken.recv_timeout(Duration::from_secs(30)).expect("a rename wakes");
        fs::create_dir(&root).unwrap();
        arm(&mut watches);
        while woken.recv_timeout(Duration::from_millis(100)).is_ok() {}
        fs::write(dir.path().join("old/file"), "3").unwrap();
        assert!(woken.recv_timeout(Duration::from_millis(200)).is_err(), "the old one wakes");
        fs::write(root.join("new"), "").unwrap();
        woken.recv_timeout(Duration::from_secs(30)).expect("the new one wakes");
    }
}
