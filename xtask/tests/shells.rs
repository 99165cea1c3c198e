//! Completions in the shells that load them.

use std::path::PathBuf;
use std::process::Command;

use e2e::programs::run;
use tempfile::TempDir;

/// A flag of each program by its beginning, and whole.
const FLAGS: [(&str, &str, &str); 5] = [
    ("provisioner", "--allow-e", "--allow-empty"),
    ("reloader", "--deb", "--debounce"),
    ("resolve-in-pod", "--skip-t", "--skip-tls-verify"),
    ("resolver", "--enum", "--enumerate"),
    ("scan-uids", "--one-f", "--one-file-system"),
];

struct Completions(TempDir);

impl Completions {
    fn new() -> Self {
        let dir = TempDir::new().expect("a directory");
        let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"));
        let outcome = run(xtask.arg("completions").arg(dir.path()), b"");
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        Self(dir)
    }

    fn at(&self, name: &str) -> PathBuf {
        let path = self.0.path().join(name);
        assert!(path.is_file(), "{}", path.display());
        path
    }
}

/// What a shell prints that runs a script.
fn printed(shell: &mut Command) -> String {
    let outcome = run(shell.env("TERM", "dumb").env("HOME", "/nonexistent"), b"");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{shell:?}: {outcome:?}");
    outcome.stdout
}

#[test]
fn bash_completes_a_flag_of_each_program() {
    // As readline does: it calls the function that `complete` has registered.
    const SCRIPT: &str = r#"
        set -eu
        source "$1"
        COMP_WORDS=("$2" "$3") COMP_CWORD=1
        registered=$(complete -p "$2")
        [[ $registered =~ -F\ ([^ ]+) ]]
        "${BASH_REMATCH[1]}" "$2" "$3" "$2"
        printf '%s\n' "${COMPREPLY[@]}"
    "#;
    let completions = Completions::new();
    for (program, typed, flag) in FLAGS {
        let mut bash = Command::new("bash");
        bash.args(["--norc", "--noprofile", "-c", SCRIPT, "bash"]);
        bash.arg(completions.at(&format!("bash/{program}"))).args([program, typed]);
        assert_eq!(printed(&mut bash), format!("{flag}\n"), "{program}");
    }
}

#[test]
fn zsh_completes_a_flag_of_each_program() {
    // zsh completes only in its line editor, hence a second one on a pseudo-terminal. A function
    // stands in for the program and prints the completed line.
    const SCRIPT: &str = r#"
        zmodload zsh/zpty
        zpty inner zsh -f -i
        zpty -w inner "PS1= fpath=($1 \$fpath); autoload -Uz compinit; compinit -u -D"
        zpty -w inner "$2() { print -r -- \"<\$*>\" }; print READY\$((1))"
        zpty -r inner line '*READY1*'
        zpty -w inner "$2 $3"$'\t'
        zpty -r inner line '*<--*>*'
        print -r -- "$line"
        zpty -d inner
    "#;
    let completions = Completions::new();
    for (program, typed, flag) in FLAGS {
        let file = completions.at(&format!("zsh/_{program}"));
        let mut zsh = Command::new("timeout");
        zsh.args(["60", "zsh", "-f", "-c", SCRIPT, "zsh"]);
        zsh.arg(file.parent().expect("a directory")).args([program, typed]);
        let printed = printed(&mut zsh);
        assert!(printed.contains(&format!("<{flag}>")), "{program}: {printed}");
    }
}

#[test]
fn fish_completes_a_flag_of_each_program() {
    const SCRIPT: &str = "source $argv[1]; complete --do-complete \"$argv[2] $argv[3]\"";
    let completions = Completions::new();
    for (program, typed, flag) in FLAGS {
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c", SCRIPT]);
        fish.arg(completions.at(&format!("fish/{program}.fish"))).args([program, typed]);
        let printed = printed(&mut fish);
        let words: Vec<&str> = printed.lines().filter_map(|line| line.split('\t').next()).collect();
        assert_eq!(words, [flag], "{program}");
    }
}
