//! The nodes of the cluster as machines: stopping and starting one, and running programs on it.

use std::path::Path;
use std::process::Command;

use e2e::programs::{Outcome, run};

use crate::kubectl::{eventually, succeed};

/// A node of the cluster.
#[derive(Clone, Copy)]
pub struct Node(pub u8);

impl Node {
    /// Its name.
    pub fn name(self) -> String {
        format!("node{}", self.0)
    }

    /// Runs a program in the node's namespaces.
    ///
    /// # Panics
    /// Panics if the program fails.
    pub fn run(self, program: &[&str]) -> Outcome {
        let outcome = run(self.script("on-node").args(program), b"");
        assert_eq!(outcome.code, Some(0), "{program:?} on {}: {}", self.name(), outcome.stderr);
        outcome
    }

    /// Stops the node like a power cut.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn stop(self) {
        let outcome = run(&mut self.script("stop-node"), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }

    /// Starts the node again.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn start(self) {
        let outcome = run(&mut self.script("start-node"), b"");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }

    /// Waits until the condition `Ready` of the node has this status: `True`, `False` or `Unknown`.
    ///
    /// # Panics
    /// Panics if that takes longer than three minutes.
    pub fn wait_for_ready(self, status: &str) {
        let path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}";
        let query = ["get", "node", &self.name(), "--output", path];
        eventually(&format!("Ready={status} of {}", self.name()), || succeed(&query) == status);
    }

    fn script(self, name: &str) -> Command {
        let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/inside");
        let mut command = Command::new(scripts.join(name));
        command.arg(self.0.to_string());
        command
    }
}
