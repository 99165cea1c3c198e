//! A certificate and its key are published together, or not at all.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::programs::run;
use nix::sys::signal::{Signal, kill};

use crate::container::new_dir;
use crate::data::{Volume, tree};
use crate::keycloak::server::pair;

/// Kills of provisioner.
const KILLS: u32 = 100;
/// Files between the certificate and the key in the order of names. They make the time longer in which a
/// publication file by file has only one of the two: with `--layout files` this test fails.
const BETWEEN: usize = 500;

#[test]
#[ignore = "run by make test-applications"]
fn a_killed_provisioner_leaves_no_torn_pair() {
    let volume = Volume::new();
    let dir = new_dir("pairs");
    let trees = [0, 1].map(|number| {
        let [certificate, key] = pair(&dir, &format!("authority-{number}"));
        let names: Vec<String> = (0..BETWEEN).map(|file| format!("tls/tls.d/{file}")).collect();
        let content = number.to_string();
        let mut files: Vec<(&str, &[u8])> =
            names.iter().map(|name| (name.as_str(), content.as_bytes())).collect();
        files.extend([("tls/tls.crt", &certificate[..]), ("tls/tls.key", &key[..])]);
        tree(&files)
    });
    volume.publish(&trees[0]);
    // How long a publication takes, to spread the kills over it.
    let start = Instant::now();
    volume.publish(&trees[1]);
    let whole = start.elapsed();
    let (mut killed, mut switched) = (0, 0);
    for number in 0..KILLS {
        let tree = &trees[usize::from(serves(&volume, &trees[0]))];
        let mut provisioner = volume.start(tree);
        if number % 2 == 0 {
            // A delay, not a wait: the moment of the kill.
            std::thread::sleep(whole * number / KILLS);
        } else {
            wait_for_certificate(&volume, tree);
        }
        killed +=
            u32::from(kill(provisioner.id(), Signal::SIGKILL).is_ok() && provisioner.was_killed());
        switched += u32::from(serves(&volume, tree));
        assert_pair(&volume.dir().join("tls"), number);
    }
    println!(
        "{KILLS} kills: {killed} before the end of provisioner; {switched} publications were live"
    );
    assert!(killed > KILLS / 4, "too few kills hit provisioner");
}

/// Waits until readers see the certificate of this tree: the worst moment for a kill. It looks all the time,
/// since the key may follow within a millisecond.
fn wait_for_certificate(volume: &Volume, tree: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !serves(volume, tree) {
        assert!(Instant::now() < deadline, "the certificate does not change");
    }
}

/// Whether readers see the certificate of this tree.
fn serves(volume: &Volume, tree: &Path) -> bool {
    let read = |dir: &Path| fs::read(dir.join("tls/tls.crt")).expect("read");
    read(volume.dir()) == read(tree)
}

/// Fails unless openssl finds the same public key in both files.
fn assert_pair(dir: &Path, number: u32) {
    let of_certificate = public_key(&["x509", "-noout", "-pubkey"], &dir.join("tls.crt"));
    let of_key = public_key(&["pkey", "-pubout"], &dir.join("tls.key"));
    assert_eq!(of_certificate, of_key, "kill {number} left a certificate with another key");
}

fn public_key(arguments: &[&str], file: &Path) -> String {
    let output = run(Command::new("openssl").args(arguments).arg("-in").arg(file), b"");
    assert_eq!(output.code, Some(0), "{}: {}", file.display(), output.stderr);
    output.stdout
}
