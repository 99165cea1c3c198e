//! Many publications, and many files.

use std::fs::{self, File};
use std::process::Command;

use e2e::mounts::{in_private_mounts, sh};

use crate::support::run::{Place, assert_publishes, assert_settled, names, provisioner};
use crate::support::tree::{directory, file};

const PUBLICATIONS: usize = 10_000;
const FILES: usize = 1_000_000;
/// In bytes: some hundred lines.
const MAX_HISTORY: u64 = 64 * 1024;
/// In KiB.
const MAX_PEAK: u64 = 200 * 1024;

#[test]
#[ignore = "heavy: run by make test-volumes"]
fn ten_thousand_publications_take_no_more_space_than_one() {
    let place = Place::new();
    let (trees, volume) = (["x", "y"].map(|name| place.at(name)), place.volume());
    for tree in &trees {
        directory(tree, 0o755);
        file(tree.join("file"), tree.as_os_str().as_encoded_bytes(), 0o644);
    }
    for number in 0..PUBLICATIONS {
        let tree = &trees[number % 2];
        if number % 100 == 0 {
            assert_publishes(tree, &volume);
            continue;
        }
        let status = provisioner(tree, &volume, &["--grace", "0"])
            .stdout(std::process::Stdio::null())
            .status();
        assert!(status.unwrap().success());
        // Its link, what it leads to, what is remembered, and the file.
        assert_eq!(names(&volume).len(), 4);
    }
    assert_settled(&trees[1], &volume);
    let history = fs::metadata(volume.join("..provisioner/history")).expect("the history").len();
    assert!(history < MAX_HISTORY, "{history} bytes");
}

#[test]
#[ignore = "heavy: run by make test-volumes"]
fn a_million_files_take_less_than_200_mib_of_memory() {
    in_private_mounts(|place| {
        sh(place, "mkdir memory; mount -t tmpfs -o size=90%,nr_inodes=0 tmpfs memory");
        let (tree, volume) = (place.join("memory/tree"), place.join("memory/volume"));
        fs::create_dir(&volume).unwrap();
        for number in 0..FILES {
            let dir = tree.join(format!("directory{}", number / 1000));
            if number % 1000 == 0 {
                fs::create_dir_all(&dir).unwrap();
            }
            File::create(dir.join(format!("file-{number}"))).unwrap();
        }
        for (change, word) in [
            ("true", "published"),
            ("touch tree/more", "published"),
            ("find tree -type f | xargs chmod 600", "published"),
        ] {
            sh(&place.join("memory"), change);
            // By way of a small program: what a process took before it became another counts too.
            let report = place.join("peak");
            let run = provisioner(&tree, &volume, &["--grace", "0"]);
            let mut measured = Command::new("python3");
            measured.args(["-I", "-S", "-c", MEASURE]).arg(&report);
            let output = measured.arg(run.get_program()).args(run.get_args()).output().unwrap();
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && stdout.starts_with(word), "{output:?}");
            let peak: u64 = fs::read_to_string(&report).unwrap().parse().unwrap();
            println!("peak: {peak} KiB; {stdout}");
            assert!(peak < MAX_PEAK, "{peak} KiB");
        }
    });
}

/// Writes to a file how much memory a command took at most, in KiB.
const MEASURE: &str = r#"
import os, sys
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"#;
