//! File systems with wrong link counts, I/O errors or slow answers, served by FUSE.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use e2e::programs::command;
use fuser::FileType::{Directory, RegularFile};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::compare::{MODES, assert_equal, assert_equal_but};
use crate::fuse_server::{Endless, Fault, Mounted, Tree};
use crate::scan::{excerpt, scan, scanned};
use crate::trees::Random;
use e2e::mounts::in_private_mounts;

/// The delay of every answer of the slow file system.
const DELAY: Duration = Duration::from_millis(20);
/// The longest time on a busy machine for what must happen at once.
const AT_ONCE: Duration = Duration::from_secs(2);

fn serve(place: &Path, files: impl fuser::Filesystem) -> Mounted {
    let dir = place.join("served");
    fs::create_dir(&dir).expect("made");
    Mounted::on(&dir, files)
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn wrong_link_counts_are_trusted_only_when_asked() {
    in_private_mounts(|place| {
        let mut tree = Tree::new();
        let (mut random, mut dirs) = (Random::new(1), vec![0]);
        for number in 0..500 {
            let (parent, uid) = (dirs[random.below(dirs.len())], 30001 + number % 7);
            dirs.push(tree.add(parent, &format!("d{number}"), Directory, uid, None));
            tree.add(parent, &format!("f{number}"), RegularFile, uid, None);
        }
        let count = tree.len();
        let _served = serve(place, tree);
        assert_eq!(assert_equal(place, "served", &[]), count);
        let args = ["--recursive", "--trust-nlink=always", "served"];
        assert_eq!(scanned(place, &args).len(), 1, "the root says that it has no subdirectories");
    });
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn unreadable_entries_are_reported_and_the_rest_is_listed() {
    in_private_mounts(|place| {
        let mut tree = Tree::new();
        tree.add(0, "before", Directory, 1, None);
        let torn = tree.add(0, "torn", Directory, 2, Some(Fault::ReadingAfter(3)));
        for name in ["a", "b", "c", "d", "e"] {
            let below = tree.add(torn, name, Directory, 3, None);
            tree.add(below, "file", RegularFile, 4, None);
        }
        let bad = tree.add(0, "bad", Directory, 5, Some(Fault::Attributes));
        tree.add(bad, "hidden", RegularFile, 6, None);
        let after = tree.add(0, "after", Directory, 7, None);
        tree.add(after, "file", RegularFile, 8, None);
        let _served = serve(place, tree);
        let stderr = [
            "scan-uids: failed to read `served/torn`: input/output error",
            "scan-uids: failed to stat `served/bad`: input/output error",
        ];
        assert_equal_but(place, "served", &stderr);
        for (mode, _) in MODES {
            let outcome = scan(place, &[mode, "--summary", "summary", "served"]);
            assert_eq!(outcome.code, Some(1), "{}", excerpt(&outcome.stderr));
            let summary = fs::read_to_string(place.join("summary")).unwrap();
            assert!(summary.contains(r#""unreadable":2"#), "{}", excerpt(&summary));
            let text = format!("{summary}{}", outcome.stderr);
            assert!(text.contains("served/torn") || text.contains("served/bad"), "{text:.500}");
        }
    });
}

/// A running scan, killed when dropped: a file system in use cannot be unmounted.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> Self {
        // A scan inherits from the caller which signals it ignores.
        e2e::signals::reset_for_children();
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        Self(child.expect("started"))
    }

    /// Waits for output to contain `mark`.
    fn wait_for_output(&mut self, mark: &'static [u8]) {
        let mut stdout = self.0.stdout.take().expect("stdout");
        let (found, is_found) = mpsc::channel();
        std::thread::spawn(move || {
            let (mut output, mut chunk) = (Vec::new(), [0; 4096]);
            // Read to the end: a full or closed pipe would also stop the scan.
            while let Ok(count @ 1..) = stdout.read(&mut chunk) {
                output.extend_from_slice(&chunk[..count]);
                if output.windows(mark.len()).any(|part| part == mark) {
                    let _ = found.send(());
                }
            }
        });
        is_found.recv_timeout(10 * AT_ONCE).expect("output");
    }

    fn end_by(&mut self, signal: Signal) {
        let id = Pid::from_raw(self.0.id().try_into().expect("an id"));
        kill(id, signal).expect("a signal sent");
        e2e::wait_for("the end of the scan", || self.0.try_wait().expect("waited").is_some());
    }
}

#[test]
#[ignore = "heavy: run by make test-storage"]
fn a_slow_tree_without_end_is_listed_from_the_start_and_a_signal_ends_it_at_once() {
    in_private_mounts(|place| {
        let _served = serve(place, Endless::new(DELAY));
        let formats: [(_, &[u8]); 2] =
            [("json", b"\"served\": 30001"), ("tsv", b"served\t30001\n")];
        for (format, first) in formats {
            for (mode, _) in MODES {
                for signal in [Signal::SIGTERM, Signal::SIGKILL] {
                    let start = Instant::now();
                    let mut scan = command("scan-uids");
                    scan.current_dir(place).args([mode, "--format", format, "served"]);
                    let mut running = Running::start(&mut scan);
                    running.wait_for_output(first);
                    let listed = start.elapsed();
                    running.end_by(signal);
                    let ended = start.elapsed() - listed;
                    println!("{format} {mode}: listed after {listed:?}, {signal} took {ended:?}");
                    assert!(listed < AT_ONCE, "the first record came after {listed:?}");
                    assert!(ended < AT_ONCE, "{signal} took {ended:?}");
                }
            }
        }
    });
}
