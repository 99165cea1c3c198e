//! A control group that limits memory, by either version of the interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const VERSION_1: &str = "/sys/fs/cgroup/memory";
const VERSION_2: &str = "/sys/fs/cgroup";

/// A group whose processes are killed if they use too much memory; removed when dropped.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// A group that may use `bytes`, including caches and kernel memory.
    pub fn of_memory(bytes: u64) -> Self {
        let name = format!("scan-uids-test-{}", std::process::id());
        if Path::new(VERSION_1).join("memory.limit_in_bytes").exists() {
            let group = Self::make(&Path::new(VERSION_1).join(name));
            group.set("memory.limit_in_bytes", &bytes.to_string());
            group.set_if_there("memory.memsw.limit_in_bytes", &bytes.to_string());
            return group;
        }
        let root = Path::new(VERSION_2);
        fs::write(root.join("cgroup.subtree_control"), "+memory")
            .expect("a cgroup that may limit memory");
        let group = Self::make(&root.join(name));
        group.set("memory.max", &bytes.to_string());
        group.set_if_there("memory.swap.max", "0");
        group
    }

    fn make(path: &Path) -> Self {
        fs::create_dir(path).expect("a cgroup");
        Self(path.to_owned())
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).unwrap_or_else(|error| panic!("{file}: {error}"));
    }

    /// The file of a swap limit exists only with swap accounting.
    fn set_if_there(&self, file: &str, value: &str) {
        if self.0.join(file).exists() {
            self.set(file, value);
        }
    }

    /// Shell code that enters the group.
    pub fn enter(&self) -> String {
        format!("echo $$ >'{}/cgroup.procs' || exit;", self.0.display())
    }
}

impl Drop for Cgroup {
    /// Retries for a while: processes that have ended may take a moment to leave the group.
    fn drop(&mut self) {
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(std::thread::panicking(), "left over: {}", self.0.display());
    }
}
