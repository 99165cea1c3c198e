//! Notifications of plain files.

use std::fs;
use std::process::{Child, Stdio};

use e2e::programs::Outcome;
use e2e::wait_for;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::server::{Answer, Server};
use super::{Places, digest_of, traces};

/// Appends its environment variables to the file `calls`.
const WRITES: &str = r#"sh -c 'echo "$PROVISIONER_DIGEST $PROVISIONER_TARGET" >> calls'"#;

fn calls(places: &Places) -> Vec<String> {
    places.read("calls").lines().map(|line| line[..64].to_owned()).collect()
}

#[test]
fn plain_files_run_a_command_once_and_again_after_it_failed() {
    let places = Places::filled();
    let command = format!("{} && test ! -e broken'", WRITES.trim_end_matches('\''));
    let args = ["--layout", "files", "--then", &command];
    let first = places.publishes(&args);
    assert_eq!((calls(&places), places.pending()), (vec![first.clone()], 0));
    let before = traces(&places.path("volume"));
    assert_eq!(places.publishes(&args), first);
    assert_eq!(traces(&places.path("volume")), before);
    assert_eq!(calls(&places).len(), 1);

    places.write("two");
    fs::write(places.path("broken"), "").expect("written");
    for round in 2..4 {
        let outcome = places.run(&args);
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{outcome:?}");
        let word = if round == 2 { "published: " } else { "unchanged: " };
        assert!(outcome.stdout.starts_with(word), "{outcome:?}");
        assert_eq!(places.read("volume/a"), "two", "the publication stands");
        assert_eq!((calls(&places).len(), places.pending()), (round, 1));
    }
    fs::remove_file(places.path("broken")).expect("removed");
    let second = places.publishes(&args);
    assert_eq!((calls(&places).len(), places.pending()), (4, 0));
    assert!(calls(&places)[1..].iter().all(|digest| *digest == second));
    let before = traces(&places.path("volume"));
    assert_eq!(places.publishes(&args), second);
    assert_eq!(traces(&places.path("volume")), before);
    assert_eq!(calls(&places).len(), 4);
    // A repair is another publication, of the same digest.
    fs::write(places.path("volume/a"), "too").expect("written");
    assert_eq!(places.publishes(&args), second);
    assert_eq!(calls(&places).len(), 5);
}

#[test]
fn plain_files_are_posted_once_and_again_after_a_failure() {
    let places = Places::filled();
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    let fine = "HTTP/1.1 204 No Content\r\n\r\n";
    let server =
        Server::start(vec![Answer::Text(busy), Answer::Text(fine), Answer::Text(fine)], None);
    let url = server.url("http");
    let args = ["--layout", "files", "--then-post", &url];
    let outcome = places.run(&args);
    assert_eq!((outcome.code, places.pending()), (Some(1), 1), "{outcome:?}");
    let digest = places.publishes(&args);
    assert_eq!((&digest, places.pending()), (&digest_of(&outcome.stdout), 0));
    // Nothing is new: the third answer is for the third version.
    places.publishes(&args);
    places.write("two");
    let second = places.publishes(&args);
    for (digest, added) in [(&digest, 1), (&digest, 1), (&second, 0)] {
        let body: serde_json::Value = serde_json::from_str(&server.request().body).expect("JSON");
        assert_eq!(
            (body["digest"].as_str(), &body["counts"]["added"]),
            (Some(&digest[..]), &added.into())
        );
    }
}

#[test]
fn each_change_of_layout_is_notified() {
    let places = Places::filled();
    let digest = places.publishes(&["--then", WRITES]);
    for (number, layout) in ["files", "atomic", "files"].into_iter().enumerate() {
        assert_eq!(places.publishes(&["--then", WRITES, "--layout", layout]), digest);
        assert_eq!((calls(&places), places.pending()), (vec![digest.clone(); number + 2], 0));
        places.publishes(&["--then", WRITES, "--layout", layout]);
        assert_eq!(calls(&places).len(), number + 2, "{layout}");
    }
}

#[test]
fn plain_files_that_were_replaced_meanwhile_are_skipped() {
    let places = Places::filled();
    mkfifo(&places.path("gate"), Mode::S_IRWXU).expect("made");
    let waits = format!("sh -c 'echo > started; cat gate; {}", &WRITES["sh -c '".len()..]);
    let start = |command: &str| -> Child {
        let mut run = places.provisioner(&["--layout", "files", "--then", command]);
        run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let mut runs = vec![start(&waits)];
    wait_for("the command", || places.path("started").exists());
    // The record of the publication is written last.
    let published = || fs::read(places.path("volume/..provisioner/files/published")).ok();
    for content in ["two", "three"] {
        places.write(content);
        let before = published();
        runs.push(start(WRITES));
        wait_for("the version", || places.read("volume/a") == content && published() != before);
    }
    assert_eq!(places.read("calls"), "");
    fs::write(places.path("gate"), "").expect("opened");
    let digests = runs.into_iter().map(|child| {
        let outcome: Outcome = child.wait_with_output().expect("its end").into();
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        digest_of(&outcome.stdout)
    });
    let digests: Vec<_> = digests.collect();
    assert_eq!(calls(&places), [digests[0].clone(), digests[2].clone()]);
    assert_eq!(places.pending(), 0);
}
