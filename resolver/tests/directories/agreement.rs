//! The same data gives the same bytes from every server and from an export, with each way to read it.

use std::fs;

use e2e::dirsrv::{self, DirSrv};
use e2e::programs::{command, run};
use e2e::samba::TLS_URL;
use e2e::slapd::{self, Slapd};

use crate::active_directory::{reader, samba};
use crate::listing::{assert_resolved, entries, export, listing, resolver};

#[test]
#[ignore = "sets up three servers: run by `make test-directories`"]
fn every_server_and_an_export_give_the_same_bytes() {
    let (input, _) = listing();
    // By default, slapd limits a search to 500 entries, in pages too.
    let global = "sizelimit size.prtotal=unlimited".to_owned();
    let slapd =
        Slapd::start(&slapd::Setup { entries: entries(), global, ..slapd::Setup::default() });
    let setup = dirsrv::Setup { entries: entries(), ..dirsrv::Setup::default() };
    let (samba, dirsrv) = std::thread::scope(|scope| {
        let dirsrv = scope.spawn(|| DirSrv::start(&setup));
        (samba(), dirsrv.join().expect("started"))
    });
    for mode in [&[][..], &["--enumerate"]] {
        for (name, url) in [("slapd", slapd.url()), ("389ds", dirsrv.url())] {
            let outcome = run(resolver(&url).args(mode), input.as_bytes());
            assert_resolved(&outcome, name);
            assert_eq!(outcome.stderr.lines().count(), 3, "{name}: {}", outcome.stderr);
        }
        let outcome = samba.run(reader(TLS_URL, &samba).args(mode), input.as_bytes());
        assert_resolved(&outcome, "Samba");
        // One warning more than the others, about referrals.
        assert_eq!(outcome.stderr.lines().count(), 4, "Samba: {}", outcome.stderr);
    }
    let file = slapd.dir().join("export.ldif");
    fs::write(&file, export()).expect("written");
    let outcome = run(command("resolver").arg("--ldif").arg(file), input.as_bytes());
    assert_resolved(&outcome, "LDIF");
    for (name, searches) in [("slapd", slapd.searches()), ("389ds", dirsrv.searches())] {
        assert!((100..200).contains(&searches), "{name}: {searches} searches, not in batches");
    }
}
