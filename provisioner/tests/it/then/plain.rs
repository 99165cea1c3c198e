//! Whoever is told of plain files.

use std::fs;
use std::process::{Child, Stdio};

use e2e::programs::Outcome;
use e2e::wait_for;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::server::{Answer, Server};
use super::{Places, digest_of, traces};

/// Writes down what it is told.
const WRITES: &str = r#"sh -c 'echo "$PROVISIONER_DIGEST $PROVISIONER_TARGET" >> told'"#;

fn told(places: &Places) -> Vec<String> {
    places.read("told").lines().map(|line| line[..64].to_owned()).collect()
}

#[test]
fn a_command_is_told_once_and_again_after_it_has_failed() {
    let places = Places::filled();
    let command = format!("{} && test ! -e broken'", WRITES.trim_end_matches('\''));
    let args = ["--layout", "files", "--then", &command];
    let first = places.publishes(&args);
    assert_eq!((told(&places), places.notes()), (vec![first.clone()], 0));
    let before = traces(&places.path("volume"));
    assert_eq!(places.publishes(&args), first);
    assert_eq!(traces(&places.path("volume")), before);
    assert_eq!(told(&places).len(), 1);

    places.write("two");
    fs::write(places.path("broken"), "").expect("written");
    for round in 2..4 {
        let outcome = places.run(&args);
        assert_eq!((outcome.code, outcome.stderr.lines().count()), (Some(1), 1), "{outcome:?}");
        let word = if round == 2 { "published: " } else { "unchanged: " };
        assert!(outcome.stdout.starts_with(word), "{outcome:?}");
        assert_eq!(places.read("volume/a"), "two", "the publication stands");
        assert_eq!((told(&places).len(), places.notes()), (round, 1));
    }
    fs::remove_file(places.path("broken")).expect("removed");
    let second = places.publishes(&args);
    assert_eq!((told(&places).len(), places.notes()), (4, 0));
    assert!(told(&places)[1..].iter().all(|digest| *digest == second));
    let before = traces(&places.path("volume"));
    assert_eq!(places.publishes(&args), second);
    assert_eq!(traces(&places.path("volume")), before);
    assert_eq!(told(&places).len(), 4);
    // A repair is another publication, of the same digest.
    fs::write(places.path("volume/a"), "too").expect("written");
    assert_eq!(places.publishes(&args), second);
    assert_eq!(told(&places).len(), 5);
}

#[test]
fn a_server_is_told_once_and_again_after_it_has_failed() {
    let places = Places::filled();
    let busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy";
    let fine = "HTTP/1.1 204 No Content\r\n\r\n";
    let server =
        Server::start(vec![Answer::Text(busy), Answer::Text(fine), Answer::Text(fine)], None);
    let url = server.url("http");
    let args = ["--layout", "files", "--then-post", &url];
    let outcome = places.run(&args);
    assert_eq!((outcome.code, places.notes()), (Some(1), 1), "{outcome:?}");
    let digest = places.publishes(&args);
    assert_eq!((&digest, places.notes()), (&digest_of(&outcome.stdout), 0));
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
fn each_way_from_one_layout_to_the_other_is_told() {
    let places = Places::filled();
    let digest = places.publishes(&["--then", WRITES]);
    for (number, layout) in ["files", "atomic", "files"].into_iter().enumerate() {
        assert_eq!(places.publishes(&["--then", WRITES, "--layout", layout]), digest);
        assert_eq!((told(&places), places.notes()), (vec![digest.clone(); number + 2], 0));
        places.publishes(&["--then", WRITES, "--layout", layout]);
        assert_eq!(told(&places).len(), number + 2, "{layout}");
    }
}

#[test]
fn the_newest_files_are_told_last_and_those_that_are_gone_by_then_are_not() {
    let places = Places::filled();
    mkfifo(&places.path("gate"), Mode::S_IRWXU).expect("made");
    let waits = format!("sh -c 'echo > started; cat gate; {}", &WRITES["sh -c '".len()..]);
    let start = |command: &str| -> Child {
        let mut run = places.provisioner(&["--layout", "files", "--then", command]);
        run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started")
    };
    let mut runs = vec![start(&waits)];
    wait_for("the command", || places.path("started").exists());
    // What was published is remembered last of all.
    let published = || fs::read(places.path("volume/..provisioner/files/published")).ok();
    for content in ["two", "three"] {
        places.write(content);
        let before = published();
        runs.push(start(WRITES));
        wait_for("the version", || places.read("volume/a") == content && published() != before);
    }
    assert_eq!(places.read("told"), "");
    fs::write(places.path("gate"), "").expect("opened");
    let digests = runs.into_iter().map(|child| {
        let outcome: Outcome = child.wait_with_output().expect("its end").into();
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        digest_of(&outcome.stdout)
    });
    let digests: Vec<_> = digests.collect();
    assert_eq!(told(&places), [digests[0].clone(), digests[2].clone()]);
    assert_eq!(places.notes(), 0);
}
