//! All programs in one executable, as in busybox. It keeps the container image small, because shared code
//! is there only once.
//!
//! The name by which it is called selects the program, so the image has a link for each program.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use diagnostics::exit::{conclude, misconfigured};

/// A program: its name and its main function.
type Program = (&'static str, fn() -> ExitCode);

const PROGRAMS: [Program; 5] = [
    ("provisioner", provisioner::main),
    ("reloader", reloader::main),
    ("resolve-in-pod", resolve_in_pod::main),
    ("resolver", resolver::main),
    ("scan-uids", scan_uids::main),
];

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    match select(&called) {
        Some(run) => run(),
        None => conclude("multicall", Err(misconfigured(usage()))),
    }
}

/// The program of this name. The suffix of the shell scripts that the programs replace is ignored.
fn select(called: &OsString) -> Option<fn() -> ExitCode> {
    let name = Path::new(called).file_name()?.to_str()?;
    let name = name.strip_suffix(".sh").unwrap_or(name);
    PROGRAMS.iter().find(|(program, _)| *program == name).map(|(_, run)| *run)
}

fn usage() -> String {
    let names = PROGRAMS.map(|(name, _)| name).join(", ");
    format!("call it by the name of a program, through a link: {names}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_selects_the_program() {
        let is_selected = |called: &str| select(&OsString::from(called)).is_some();
        for (name, _) in PROGRAMS {
            assert!(is_selected(name));
            assert!(is_selected(&format!("/usr/local/bin/{name}.sh")));
        }
        for other in ["", "multicall", "/", "scan", "scan-uids.py"] {
            assert!(!is_selected(other), "{other}");
        }
    }
}
