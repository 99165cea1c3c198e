//! What makes an application use what is live, and proves that it does.

pub mod exec;
pub mod http;
pub mod rollout;
pub mod signal;
pub mod verify;

use anyhow::{Error, Result};

use crate::stop::Stop;

/// What an application is to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Its digest, in hexadecimal.
    pub digest: String,
    /// The volumes that it is on.
    pub directories: Vec<std::path::PathBuf>,
}

/// Something that makes an application use what is live.
pub trait Action: Send + Sync {
    /// What it does, in a few words without secrets: ``HUP to the process `nginx: master` ``.
    fn describe(&self) -> String;

    /// Does it, waits until that has had its effect, and says by what it knows: `4 workers
    /// replaced`. A stop ends the wait.
    ///
    /// # Errors
    /// It could not be done, or has had no effect.
    fn act(&self, content: &Content, stop: &Stop) -> Result<String, Failure>;

    /// Finds out what it would be done to, and says so, without doing anything: `HUP to process
    /// 42 (nginx: master process), of user 101`.
    ///
    /// # Errors
    /// It could not be done.
    fn rehearse(&self, content: &Content) -> Result<String>;
}

/// An action that has failed.
#[derive(Debug)]
pub struct Failure {
    /// Whether the application certainly runs on as before: it was not asked, or has refused.
    pub is_without_effect: bool,
    /// Why.
    pub error: Error,
}

impl Failure {
    /// One that leaves the application as it was.
    pub fn without_effect(error: impl Into<Error>) -> Self {
        Self { is_without_effect: true, error: error.into() }
    }

    /// One after which nobody knows what the application uses.
    pub fn in_doubt(error: impl Into<Error>) -> Self {
        Self { is_without_effect: false, error: error.into() }
    }
}
