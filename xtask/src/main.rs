//! Makes man pages and shell completions from the programs' command lines.
//!
//! `make man completions` runs it. It is a program of its own, so that the programs need neither the
//! code for it nor a hidden flag.

mod completions;
mod man;
mod programs;

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;

/// Makes files from the command lines of all programs.
#[derive(Parser)]
enum Task {
    /// Writes man pages to a directory.
    Man {
        /// The directory, made if it is missing.
        dir: PathBuf,
    },
    /// Writes completions for bash, zsh and fish to directories below this one.
    Completions {
        /// The directory, made if it is missing.
        dir: PathBuf,
    },
}

fn main() -> Result<()> {
    match Task::parse() {
        Task::Man { dir } => man::write(&dir),
        Task::Completions { dir } => completions::write(&dir),
    }
}
