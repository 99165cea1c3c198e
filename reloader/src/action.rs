//! The actions of a reload. Each makes an application use the live content, and proves that it does.

pub mod check;
pub mod exec;
pub mod http;
pub mod rollout;
pub mod serve_bundle;
pub mod signal;
pub mod verify_http;

use std::path::PathBuf;

use anyhow::{Error, Result};

use crate::stop::Stop;
use crate::watch::Files;

/// The live content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The digest in hexadecimal.
    pub digest: String,
    /// The watched directories.
    pub directories: Vec<PathBuf>,
    /// The files, if `--serve-bundle` needs them.
    pub files: Option<Files>,
}

/// Makes an application use the live content.
pub trait Action: Send + Sync {
    /// The action in a few words, without secrets: ``HUP to the process `nginx: master` ``.
    fn describe(&self) -> String;

    /// Runs the action and waits for its effect. Returns the proof, such as `4 workers replaced`.
    ///
    /// # Errors
    /// Fails if the action could not be run, its effect is not proved, or on a stop.
    fn run(&self, content: &Content, stop: &Stop) -> Result<String, Failure>;

    /// What the action would do now, and to what: `HUP to process 42 (nginx: master process), of user
    /// 101`. Nothing is changed.
    ///
    /// # Errors
    /// Fails if the action could not be run.
    fn dry_run(&self, content: &Content) -> Result<String>;
}

/// The failure of an action.
#[derive(Debug)]
pub struct Failure {
    /// Whether the application is known to be unchanged: it was not asked, or has refused.
    pub is_without_effect: bool,
    /// The reason.
    pub error: Error,
}

impl Failure {
    /// A failure that has left the application unchanged.
    pub fn without_effect(error: impl Into<Error>) -> Self {
        Self { is_without_effect: true, error: error.into() }
    }

    /// A failure after which the application may be changed or not.
    pub fn in_doubt(error: impl Into<Error>) -> Self {
        Self { is_without_effect: false, error: error.into() }
    }
}
