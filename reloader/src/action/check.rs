//! `--check-exec`: runs a command that judges the content before the actions. It changes no application,
//! so its failure leaves all of them as they are.

use anyhow::Result;

use super::exec::Exec;
use super::{Action, Content, Failure};
use crate::stop::Stop;

/// A command that accepts content with exit code 0.
pub struct Check(pub Exec);

impl Action for Check {
    fn describe(&self) -> String {
        format!("check with {}", self.0)
    }

    fn run(&self, content: &Content, stop: &Stop) -> Result<String, Failure> {
        self.0.run(content, stop).map_err(|Failure { error, .. }| Failure::without_effect(error))
    }

    fn dry_run(&self, content: &Content) -> Result<String> {
        self.0.dry_run(content)
    }
}
