//! Generated trees of any shape.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use diagnostics::wording::one_line;
use e2e::programs::run;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::run::{Place, assert_publishes, provisioner, publish};
use crate::support::tree::{Entry, Seen, seen};

/// An entry that is made where nothing is yet, in one of the directories made before.
#[derive(Clone, Debug)]
struct Made {
    directory: usize,
    name: Vec<u8>,
    mode: u32,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Link(Vec<u8>),
}

/// Names that are close to each other, in order and in spelling, and those that programs break on.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let near = vec(prop::sample::select(&b"ab-./\n\xff~ \""[..]), 1..4);
    let any = vec(any::<u8>(), 1..20);
    prop_oneof![3 => near, 1 => any, 1 => Just(vec![b'n'; 255])].prop_map(|mut name| {
        name.retain(|byte| ![b'/', 0].contains(byte));
        if name.is_empty() || name == b"." || name.starts_with(b"..") {
            b"c".to_vec()
        } else {
            name
        }
    })
}

fn made() -> impl Strategy<Value = Made> {
    let content = prop_oneof![vec(any::<u8>(), 0..50), Just(vec![7; 140_000])];
    let kind = prop_oneof![
        3 => Just(Kind::Directory),
        5 => content.prop_map(Kind::File),
        2 => name().prop_map(Kind::Link),
    ];
    (0..20_usize, name(), 0..0o1000_u32, kind).prop_map(|(directory, name, mode, kind)| Made {
        directory,
        name,
        mode,
        kind,
    })
}

/// Makes it, as far as nothing is in the way.
fn make(root: &Path, all: &[Made]) {
    fs::create_dir(root).expect("made");
    let (mut directories, mut modes) = (vec![root.to_owned()], Vec::<(PathBuf, u32)>::new());
    for Made { directory, name, mode, kind } in all {
        let path = directories[directory % directories.len()].join(OsStr::from_bytes(name));
        if fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        match kind {
            Kind::Directory => {
                fs::create_dir(&path).expect("made");
                directories.push(path.clone());
                modes.push((path, mode | 0o700));
            }
            Kind::File(content) => {
                fs::write(&path, content).expect("written");
                modes.push((path, mode | 0o400));
            }
            Kind::Link(target) => symlink(OsStr::from_bytes(target), &path).expect("linked"),
        }
    }
    for (path, mode) in modes {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }
}

/// Asserts that GNU diff sees no difference.
fn assert_no_difference(source: &Path, live: &Path) {
    let mut diff = Command::new("diff");
    let output = diff.args(["-r", "--no-dereference"]).args([source, live]).output().expect("diff");
    let found = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && found.is_empty(), "{found:.1000}");
}

/// The counts and the digest in a result, without its first word and its time.
fn figures(said: &str) -> Option<&str> {
    Some(said.lines().last()?.split_once(": ")?.1.rsplit_once(", ")?.0)
}

/// Asserts that a dry run lists every difference that readers would see, and no others.
fn assert_plan(plan: &str, source: &Path, volume: &Path) {
    let new = seen(source);
    let live = volume.join("..data/");
    let mut old = if live.exists() { seen(&live) } else { Seen::new() };
    if old.is_empty() {
        // The top is there in any case.
        old.extend(new.get_key_value(&b""[..]).map(|(path, top)| (path.clone(), top.clone())));
    }
    let shown = |path: &[u8], entry: &Entry| {
        let path = if path.is_empty() { b"." } else { path };
        let end = if matches!(entry, Entry::Directory(_)) { "/" } else { "" };
        one_line(path) + end
    };
    let gone = old.iter().filter(|(path, _)| !new.contains_key(*path));
    let gone = gone.map(|(path, entry)| (path, '-', entry));
    let there = new.iter().filter_map(|(path, entry)| match old.get(path) {
        None => Some((path, '+', entry)),
        Some(old) => (old != entry).then_some((path, '~', entry)),
    });
    let mut expected: Vec<_> = gone.chain(there).collect();
    expected.sort_by_key(|(path, ..)| *path);
    let lines: Vec<_> = plan.lines().collect();
    let (_, lines) = lines.split_last().expect("a last line");
    assert_eq!(lines.len(), expected.len(), "{plan}");
    for (line, (path, sign, entry)) in lines.iter().zip(expected) {
        let start = format!("{sign} {}", shown(path, entry));
        let rest = line.strip_prefix(&start).unwrap_or_else(|| panic!("{line}: not {start}"));
        assert_eq!(sign == '~', rest.starts_with(" (") && rest.ends_with(')'), "{line}");
    }
}

proptest! {
    // Each is two trees.
    #![proptest_config(ProptestConfig { cases: 250, ..ProptestConfig::default() })]

    #[test]
    fn the_published_tree_equals_the_source_over_any_earlier_tree(
        trees in [vec(made(), 1..40), vec(made(), 1..40)]
    ) {
        let place = Place::in_memory();
        for (number, tree) in trees.iter().enumerate() {
            let source = place.at(&format!("tree{number}"));
            make(&source, tree);
            assert_publishes(&source, &place.volume());
            assert_no_difference(&source, &place.volume().join("..data/"));
            let again = publish(&source, &place.volume());
            prop_assert!(again.stdout.starts_with("unchanged: "), "{:?}", again);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_dry_run_lists_what_the_run_then_changes(trees in [vec(made(), 1..40), vec(made(), 1..40)]) {
        let place = Place::new();
        for (number, tree) in trees.iter().enumerate() {
            let source = place.at(&format!("tree{number}"));
            make(&source, tree);
            let planned = run(&mut provisioner(&source, &place.volume(), &["--dry-run"]), b"");
            prop_assert_eq!((planned.code, &planned.stderr[..]), (Some(0), ""));
            assert_plan(&planned.stdout, &source, &place.volume());
            let outcome = publish(&source, &place.volume());
            prop_assert_eq!(figures(&outcome.stdout), figures(&planned.stdout));
        }
    }
}
