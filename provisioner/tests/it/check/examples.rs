//! The checks in `examples/checks`, with nginx, openssl and opa themselves, on good and bad trees.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use e2e::certificates::Authority;
use e2e::programs::run;

use crate::support::places::Places;

/// The command line of a check. Words must not hold special characters.
fn check(name: &str, args: &[&str]) -> String {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let program = workspace.join("examples/checks").join(name);
    [&[program.to_str().expect("UTF-8")], args].concat().join(" ")
}

/// Writes a file of the source, and the directories above it.
fn put(places: &Places, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) {
    let path = places.path("source").join(name.as_ref());
    fs::create_dir_all(path.parent().expect("a directory")).expect("made");
    fs::write(path, content).expect("written");
}

/// Asserts that the check refuses the source with this reason, or accepts it if there is none.
fn assert_verdict(places: &Places, check: &str, reason: Option<&str>) {
    let outcome = places.run(&["--check", check]);
    let Some(reason) = reason else {
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        return;
    };
    assert_eq!(outcome.code, Some(2), "{reason}: {}", outcome.stderr);
    assert!(
        outcome.stderr.ends_with(&format!("refused the tree: exit code 1: {reason}\n")),
        "{reason}: {}",
        outcome.stderr
    );
}

#[test]
fn nginx_judges_a_tree_within_its_own_configuration() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    // As the base's nginx.conf does, but with files of this test.
    let configure = |places: &Places, data: &Path| {
        let own = places.path("own");
        fs::create_dir_all(&own).expect("made");
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {};", own.join(name).display()));
        fs::write(own.join("types"), "types { text/html html; }").expect("written");
        let text = format!(
            "pid {}; error_log stderr notice; events {{}}\nhttp {{ include types; access_log off; {}\n\
             include {}/nginx/*.conf; }}\n",
            own.join("pid").display(),
            paths.join(" "),
            data.display()
        );
        fs::write(own.join("nginx.conf"), text).expect("written");
        let config = own.join("nginx.conf");
        check("nginx-config", &[config.to_str().expect("UTF-8"), data.to_str().expect("UTF-8")])
    };
    let server = |more: &str| format!("server {{ listen 127.0.0.1:{port}; {more} }}\n");
    for is_link in [false, true] {
        let places = Places::new();
        let data = places.path("data");
        if is_link {
            symlink(places.path("staged"), &data).expect("made");
        }
        let check = configure(&places, &data);
        put(&places, "nginx/a b.conf", server("return 200;"));
        assert_verdict(&places, &check, None);
        put(&places, "nginx/a b.conf", server("retrun 200;"));
        let reason = "nginx refuses: unknown directive \"retrun\" in nginx/a b.conf:1";
        assert_verdict(&places, &check, Some(reason));
        put(&places, "nginx/a b.conf", server("return 200;"));
        let cut_off = "nginx refuses: unexpected end of file, expecting \"}\" in nginx/b.conf:1";
        put(&places, "nginx/b.conf", "server {");
        assert_verdict(&places, &check, Some(cut_off));
        // The data name a file of their own.
        let include = format!("include {}/nginx/parts/*;", data.display());
        put(&places, "nginx/parts/x", "return 204;");
        put(&places, "nginx/b.conf", server(&format!("server_name b; {include}")));
        let outcome = places.run(&["--check", &check]);
        assert_eq!(outcome.code, Some(if is_link { 0 } else { 1 }), "{}", outcome.stderr);
        assert!(is_link || outcome.stderr.contains("it must be a symbolic link"));
        put(&places, "nginx/parts/x", "bogus 204;");
        if is_link {
            let reason = "nginx refuses: unknown directive \"bogus\" in nginx/parts/x:1";
            assert_verdict(&places, &check, Some(reason));
        }
        // Without the part for nginx there is nothing to refuse.
        fs::remove_dir_all(places.path("source/nginx")).expect("removed");
        put(&places, "other", "");
        assert_verdict(&places, &check, None);
        assert!(fs::symlink_metadata(places.path("staged")).is_err(), "the link is removed");
        assert!(!places.path("own/checked.conf").exists());
    }
}

#[test]
fn pem_files_are_parsed_and_keys_belong_to_certificates() {
    let places = Places::new();
    let check = check("pem-files", &[]);
    let authority = Authority::new(&places.path(""), "ca");
    let read = |path: &Path| fs::read_to_string(path).expect("PEM");
    let pair = |name: &str| {
        let (certificate, key) = authority.issue(name, &["localhost"]);
        (read(&certificate), read(&key))
    };
    let ca = read(&places.path("ca.pem"));
    let ((certificate, key), (other, other_key)) = (pair("one"), pair("two"));
    let (expired, expired_key) = authority.issue_expired("old", &["localhost"]);
    let (expired, expired_key) = (read(&expired), read(&expired_key));
    let half = |text: &str| text[..text.len() / 2].to_owned();
    // Good: a pair, a chain, a key with another name than its certificate, text around blocks, and an
    // expired certificate without a key.
    put(&places, "tls/tls.crt", format!("{certificate}{ca}"));
    put(&places, "tls/tls.key", &key);
    put(&places, "le/fullchain.pem", format!("subject=x\r\n{}", other.replace('\n', "\r\n")));
    put(&places, "le/privkey.pem", &other_key);
    put(&places, "both.pem", format!("{key}{certificate}"));
    put(&places, "truststores/company", format!("{ca}{expired}"));
    put(&places, "truststores/keys.p12", "binary");
    put(&places, "README.md", "no certificate");
    put(&places, OsStr::from_bytes(b"-in a\nb \xff'.pem"), &ca);
    assert_verdict(&places, &check, None);

    for (name, content, reason) in [
        (
            "tls/tls.key",
            other_key.clone(),
            "tls/tls.key: the key does not belong to the certificate tls.crt",
        ),
        ("tls/tls.key", half(&key), "tls/tls.key: a PEM block is cut off: PRIVATE KEY"),
        ("tls/tls.crt", String::new(), "tls/tls.crt: it holds no PEM block"),
        (
            "tls/tls.crt",
            format!("{certificate}{}", half(&ca)),
            "tls/tls.crt: a PEM block is cut off: CERTIFICATE",
        ),
        ("truststores/company", "garbage".into(), "truststores/company: it holds no PEM block"),
        (
            "truststores/company",
            format!("{ca}{}", ca.replace("MII", "MIJ")),
            "truststores/company: PEM block 2 cannot be parsed",
        ),
        (
            "truststores/company",
            ca.replacen("-----END", "----END", 1),
            "truststores/company: a PEM block is cut off: CERTIFICATE",
        ),
        (
            "truststores/company",
            ca.replacen("-----BEGIN C", "-----BEGIN  c", 1),
            "truststores/company: a PEM block has a broken line: -----BEGIN  cERTIFICATE-----",
        ),
        (
            "le/privkey.pem",
            key.clone(),
            "le/privkey.pem: its directory holds no certificate of this key",
        ),
        ("new\nline/x.crt", "x".into(), "new?line/x.crt: it holds no PEM block"),
    ] {
        let path = places.path("source").join(name);
        let before = fs::read(&path).ok();
        put(&places, name, content);
        assert_verdict(&places, &check, Some(reason));
        match before {
            Some(before) => put(&places, name, before),
            None => fs::remove_dir_all(path.parent().expect("one")).expect("removed"),
        }
    }
    assert_verdict(&places, &check, None);
    put(&places, "tls/tls.crt", expired);
    put(&places, "tls/tls.key", expired_key);
    let reason = "tls/tls.crt: the certificate has expired, and has a key here";
    assert_verdict(&places, &check, Some(reason));
}

#[test]
#[ignore = "needs opa: make test-applications"]
fn opa_judges_policies_and_data() {
    let places = Places::new();
    let check = check("opa-bundle", &[]);
    put(&places, "nginx/x", "");
    assert_verdict(&places, &check, Some("opa: the tree has no such directory"));
    let policy = "package a\nallow if input.x == data.a.k[_]\n";
    put(&places, "opa/a b/p.rego", policy);
    put(&places, "opa/a/data.json", "{\"k\":[1,2]}");
    assert_verdict(&places, &check, None);
    for (name, content, part) in [
        ("opa/a b/p.rego", "package a\nallow if\n", "p.rego:3: rego_parse_error"),
        ("opa/a b/p.rego", "package a\nallow if nothing(1)\n", "undefined function nothing"),
        ("opa/a b/p.rego", "package a\nk := 1\n", "conflicting rule for data path a/k"),
        ("opa/a/data.json", "{\"k\":[1,", "opa/a/data.json: unexpected EOF"),
        ("opa/.manifest", "{\"roots\":[\"b\"]}", "manifest roots [b] do not permit"),
        ("opa/.manifest", "{", "manifest decode"),
    ] {
        let before = fs::read(places.path("source").join(name));
        put(&places, name, content);
        let outcome = places.run(&["--check", &check]);
        assert_eq!(outcome.code, Some(2), "{name}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("refused the tree: exit code 1: opa refuses: "));
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
        match before {
            Ok(before) => put(&places, name, before),
            Err(_) => fs::remove_file(places.path("source").join(name)).expect("removed"),
        }
    }
    assert_verdict(&places, &check, None);
}

#[test]
fn a_file_that_could_not_be_checked_is_no_refusal() {
    let places = Places::new();
    put(&places, "a.pem", "garbage");
    places.script("awk", "exit 2");
    let path = format!("{}:/usr/bin:/bin", places.path("").display());
    let mut provisioner = places.provisioner(&["--check", &check("pem-files", &[])]);
    let outcome = run(provisioner.env("PATH", path), b"");
    assert_eq!(outcome.code, Some(1), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("a.pem: it could not be split"), "{}", outcome.stderr);
}
