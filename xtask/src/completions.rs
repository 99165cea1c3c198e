//! Writes shell completions, with the file names under which bash, zsh and fish look for them.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context, Result};
use clap_complete::{Shell, generate};

use crate::programs;

/// Writes `bash/NAME`, `zsh/_NAME` and `fish/NAME.fish` for each program.
///
/// # Errors
/// Fails if a file cannot be written.
pub fn write(dir: &Path) -> Result<()> {
    for program in programs::all() {
        let name = program.command.get_name().to_owned();
        for (shell, file) in [
            (Shell::Bash, format!("bash/{name}")),
            (Shell::Zsh, format!("zsh/_{name}")),
            (Shell::Fish, format!("fish/{name}.fish")),
        ] {
            let path = dir.join(file);
            let parent = path.parent().unwrap_or(dir);
            fs::create_dir_all(parent)
                .with_context(|| format!("failed to create `{}`", parent.display()))?;
            let mut out = File::create(&path)
                .with_context(|| format!("failed to create `{}`", path.display()))?;
            generate(shell, &mut program.command.clone(), &name, &mut out);
        }
    }
    Ok(())
}
