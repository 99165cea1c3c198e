//! All programs, each with the parts of its man page that clap does not know: exit codes, and
//! environment variables without a flag.

use clap::{Command, CommandFactory};

/// A name, and what it means.
pub type Meaning = (&'static str, &'static str);

/// A program of this workspace.
pub struct Program {
    /// Its command line.
    pub command: Command,
    /// Its exit codes.
    pub exit_codes: &'static [Meaning],
    /// Environment variables that stand for no flag.
    pub variables: &'static [Meaning],
}

const PASSWORD: Meaning = (
    "LDAP_BIND_PASS",
    "The password of the bind DN. There is no flag for it, since command lines can be read by others.",
);

/// All programs, by name.
pub fn all() -> [Program; 5] {
    [
        Program {
            command: provisioner::cli::Cli::command(),
            exit_codes: &[
                ("0", "Done, or nothing to do: the same tree is live, or the volume is pinned."),
                ("1", "Failed. What was live is live, or the message says what is."),
                (
                    "2",
                    "Usage, configuration, or a source that must not be published: retrying will \
                     not help.",
                ),
            ],
            variables: &[],
        },
        Program {
            command: reloader::cli::Cli::command(),
            exit_codes: &[
                ("0", "Ended by SIGTERM or SIGINT; with --once, the actions had their effect."),
                ("1", "Failed; with --once, an action failed or had no effect."),
                ("2", "Usage or configuration: retrying will not help."),
            ],
            variables: &[],
        },
        Program {
            command: resolve_in_pod::cli::Cli::command(),
            exit_codes: &[
                ("0", "Done."),
                ("1", "Failed, or something could not be read or resolved."),
                ("2", "Usage or configuration: retrying will not help."),
                ("128 + N", "A stage was ended by signal N."),
            ],
            variables: &[PASSWORD],
        },
        Program {
            command: resolver::cli::Cli::command(),
            exit_codes: &[
                ("0", "Done, or the reader of stdout has gone away."),
                ("1", "Failed: the output is not complete."),
                ("2", "Usage or configuration: retrying will not help."),
            ],
            variables: &[PASSWORD],
        },
        Program {
            command: scan_uids::cli::Cli::command(),
            exit_codes: &[
                ("0", "Done, or the reader of stdout has gone away."),
                ("1", "Something could not be read. Everything else is printed."),
                ("2", "Usage or configuration: retrying will not help."),
            ],
            variables: &[("TMPDIR", "Where large results are sorted; /tmp by default.")],
        },
    ]
}
