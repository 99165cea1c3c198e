//! Publishes trees with the container of the CronJob `data-provisioner`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::container::{Container, Running, give_to_group, new_dir};

/// The volume that provisioner writes to and all applications read.
pub struct Volume {
    dir: PathBuf,
}

impl Volume {
    /// An empty volume.
    pub fn new() -> Self {
        let dir = new_dir("volume");
        give_to_group(&dir, 65532);
        Self { dir }
    }

    /// Where readers find the published files.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Starts to publish a tree.
    pub fn start(&self, tree: &Path) -> Running {
        self.provisioner(tree).start()
    }

    /// Publishes a tree. Returns provisioner's output.
    ///
    /// # Panics
    /// Panics if provisioner fails.
    pub fn publish(&self, tree: &Path) -> String {
        let (code, output) = self.provisioner(tree).run();
        assert_eq!(code, Some(0), "{output}");
        output
    }

    /// Publishes the version before the live one.
    ///
    /// # Panics
    /// Panics if provisioner fails.
    pub fn roll_back(&self) -> String {
        let mut container = self.container();
        container.command.push("rollback".to_owned());
        let (code, output) = container.run();
        assert_eq!(code, Some(0), "{output}");
        output
    }

    fn provisioner(&self, tree: &Path) -> Container {
        let mut container = self.container();
        container.folder(tree.to_owned(), "/zeta-guard-provisioning");
        container
    }

    fn container(&self) -> Container {
        let mut container = Container::of("CronJob", "data-provisioner", "provisioner", &[]);
        container.volume("provisioned-data", &self.dir);
        // Otherwise the next publication would wait half a minute for this one's readers.
        container.env.insert("PROVISIONER_GRACE".to_owned(), "0".to_owned());
        container
    }
}

/// A tree to publish, with these files.
///
/// # Panics
/// Panics if it cannot be written.
pub fn tree(files: &[(&str, &[u8])]) -> PathBuf {
    let dir = new_dir("tree");
    for (name, content) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        fs::write(path, content).expect("written");
    }
    dir
}
