//! Writes a man page for each program and each of its subcommands.
//!
//! `clap_mangen` renders the command line. Sections for environment variables, exit codes,
//! examples and other pages are added here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clap::{Arg, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use crate::programs::{self, Program};

const CHANGELOG: &str = include_str!("../../CHANGELOG.md");

/// Writes the pages of all programs to a directory.
///
/// # Errors
/// Fails if a page cannot be written.
pub fn write(dir: &Path) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("failed to create `{}`", dir.display()))?;
    for program in programs::all() {
        let mut whole = program.command.clone().disable_help_subcommand(true);
        whole.build();
        let pages: Vec<Command> =
            [&whole].into_iter().chain(whole.get_subcommands()).cloned().collect();
        for page in &pages {
            let path = dir.join(format!("{}.1", name_of(page)));
            let text = render(page, &program, &pages)?;
            fs::write(&path, text)
                .with_context(|| format!("failed to write `{}`", path.display()))?;
        }
    }
    Ok(())
}

/// The name of a page: `provisioner`, `provisioner-status`.
fn name_of(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn render(command: &Command, program: &Program, pages: &[Command]) -> Result<Vec<u8>> {
    let version = program.command.get_version().unwrap_or_default();
    // Without this, clap_mangen leaves out the text of flags that -h does not show.
    let shown = command.clone().mut_args(|arg| arg.hide_short_help(false));
    let man = Man::new(shown)
        .title(name_of(command).to_uppercase())
        .date(last_release().context("the changelog has no release with a date")?)
        .source(format!("{} {version}", program.command.get_name()))
        .manual("User Commands");

    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut out)?;
    }
    let mut added = Roff::new();
    environment(&mut added, command, program);
    exit_status(&mut added, program);
    examples(&mut added, command);
    see_also(&mut added, command, pages);
    added.to_writer(&mut out)?;
    Ok(out)
}

/// The date of the last release, `YYYY-MM-DD`. It makes equal sources give equal pages.
fn last_release() -> Option<&'static str> {
    CHANGELOG.lines().find_map(|line| Some(line.strip_prefix("## ")?.split_once(" - ")?.1))
}

fn environment(roff: &mut Roff, command: &Command, program: &Program) {
    let mut variables: Vec<(String, String)> =
        command.get_arguments().filter_map(variable_of).collect();
    let added = program.variables.iter();
    variables.extend(added.map(|(name, text)| ((*name).to_owned(), (*text).to_owned())));
    variables.sort();
    if variables.is_empty() {
        return;
    }
    roff.control("SH", ["ENVIRONMENT"]);
    roff.text([roman(
        "A flag on the command line wins over its variable. An empty variable is not set.",
    )]);
    for (name, text) in variables {
        definition(roff, &name, &text);
    }
}

/// The environment variable of an argument, and what it stands for.
fn variable_of(arg: &Arg) -> Option<(String, String)> {
    let name = arg.get_env()?.to_str()?.to_owned();
    let takes_value = arg.get_num_args().is_some_and(|number| number.takes_values());
    let meaning = match arg.get_long() {
        Some(long) if takes_value => format!("As --{long}."),
        Some(long) => format!("As --{long} if it is true, yes, on or 1."),
        None => {
            let names = arg.get_value_names().unwrap_or_default();
            let names: Vec<&str> = names.iter().map(clap::builder::Str::as_str).collect();
            format!("As {}.", names.join(" "))
        }
    };
    Some((name, meaning))
}

fn exit_status(roff: &mut Roff, program: &Program) {
    roff.control("SH", ["EXIT STATUS"]);
    for (code, meaning) in program.exit_codes {
        definition(roff, code, meaning);
    }
}

/// The text that `--help` ends with, word for word.
fn examples(roff: &mut Roff, command: &Command) {
    let Some(text) = command.get_after_long_help() else { return };
    let text = text.to_string();
    let text = text.trim_end();
    let (heading, text) = text
        .split_once(":\n")
        .filter(|(first, _)| !first.contains('\n'))
        .unwrap_or(("Notes", text));
    roff.control("SH", [heading.to_uppercase().as_str()]);
    roff.control("nf", []);
    for line in text.lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
}

fn see_also(roff: &mut Roff, command: &Command, pages: &[Command]) {
    let own = name_of(command);
    let names: Vec<String> = pages.iter().map(|page| name_of(page).to_owned()).collect();
    let programs = programs::all().map(|program| program.command.get_name().to_owned());
    let others = names.into_iter().skip(1).chain(programs).filter(|name| name != own);
    roff.control("SH", ["SEE ALSO"]);
    let others: Vec<String> = others.map(|name| format!("{name}(1)")).collect();
    roff.text([roman(others.join(", "))]);
}

fn definition(roff: &mut Roff, term: &str, text: &str) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text([roman(text)]);
}
