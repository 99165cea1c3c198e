//! Signed bundles: with `signing` in OPA's configuration, only bundles signed with the right key are loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pod::{self, Pod};
use super::refusals::{assert_refused, assert_used};
use super::version;
use crate::container::new_dir;
use crate::data::Volume;

/// Makes a private key, and `NAME.pub` with its public key.
fn key(dir: &Path, name: &str) {
    for args in [
        &["genrsa", "-out", name, "2048"][..],
        &["rsa", "-in", name, "-pubout", "-out", &format!("{name}.pub")],
    ] {
        let output = Command::new("openssl").current_dir(dir).args(args).output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// A version whose policies are signed with a key, as the guide says.
fn signed(number: usize, key: &Path) -> PathBuf {
    let tree = version(number);
    let key = key.to_str().expect("UTF-8");
    // OPA stores paths below the current directory.
    let args = ["sign", "--bundle", ".", "--signing-key", key, "--output-file-path", "."];
    pod::run(&tree.join("opa"), &args);
    tree
}

/// Uncomments `signing` and `keys` in OPA's configuration.
fn require_signatures(opa: &mut crate::container::Container, public: &str) {
    opa.replace(
        "    # signing:\n    #   keyid: policies\n",
        "    signing:\n      keyid: policies\n",
    );
    let key: String = public.lines().map(|line| format!("      {line}\n")).collect();
    opa.replace(
        "# keys:\n#   policies:\n#     algorithm: RS256\n#     key: |\n\
         #       -----BEGIN PUBLIC KEY-----\n#       ...\n",
        &format!("keys:\n  policies:\n    algorithm: RS256\n    key: |\n{key}"),
    );
}

#[test]
#[ignore = "run by make test-applications"]
fn only_bundles_with_the_right_signature_are_loaded() {
    let keys = new_dir("keys");
    key(&keys, "right");
    key(&keys, "foreign");
    let public = fs::read_to_string(keys.join("right.pub")).expect("a key");
    let volume = Volume::new();
    volume.publish(&signed(1, &keys.join("right")));
    let pod = Pod::start_with(&volume, |containers| {
        require_signatures(&mut containers.opa, &public);
    });
    assert_used(&pod, 1);

    volume.publish(&version(2));
    assert_refused(&pod, "bundle missing .signatures.json file", 1);
    volume.publish(&signed(3, &keys.join("foreign")));
    assert_refused(&pod, "failed to verify JWT signature", 1);
    let tampered = signed(4, &keys.join("right"));
    fs::write(tampered.join("opa/m3.rego"), "package m3\n\nv := 5\n").expect("written");
    volume.publish(&tampered);
    assert_refused(&pod, "m3.rego", 1);
    let longer = signed(5, &keys.join("right"));
    fs::write(longer.join("opa/more.rego"), "package more\n").expect("written");
    volume.publish(&longer);
    assert_refused(&pod, "not included in bundle signature", 1);
    let shorter = signed(6, &keys.join("right"));
    fs::remove_file(shorter.join("opa/m3.rego")).expect("removed");
    volume.publish(&shorter);
    assert_refused(&pod, "not found in the target bundle", 1);

    volume.publish(&signed(7, &keys.join("right")));
    assert_used(&pod, 7);
}
