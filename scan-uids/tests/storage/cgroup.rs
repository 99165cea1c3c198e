//! A control group that bounds memory, of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const VERSION_1: &str = "/sys/fs/cgroup/memory";
const VERSION_2: &str = "/sys/fs/cgroup";

/// A group whose processes are killed when they take too much; removed at the end.
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// A group that may take so many bytes, caches and the kernel's memory included.
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
            .expect("a cgroup that may bound the memory of those in it");
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

    /// Without swap, nothing can be limited.
    fn set_if_there(&self, file: &str, value: &str) {
        if self.0.join(file).exists() {
            self.set(file, value);
        }
    }

    /// What a shell must do to enter it.
    pub fn enter(&self) -> String {
        format!("echo $$ >'{}/cgroup.procs' || exit;", self.0.display())
    }
}

impl Drop for Cgroup {
    /// Those who have ended may take a moment to leave.
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
