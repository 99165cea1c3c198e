//! Servers that send malformed, huge, endless or wrong answers. Every run must end soon, with one line on
//! stderr, and in little memory.

mod server;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use server::{
    Phase, element, end_of_page, entry, entry_of, message, message_with, read_request, refused,
    refused_bytes, refused_for_size, resolve, result, success,
};

/// The end of the message about bytes that are not LDAP.
fn not_ldap(phase: Phase) -> &'static str {
    match phase {
        Phase::StartTls => "StartTLS was answered by something that is not LDAP\n",
        _ => "the server sent data that is not LDAP\n",
    }
}

/// An element of 200,000 levels, as deep as its 1 MB allows.
fn deep() -> Vec<u8> {
    let heads = (0..200_000u32).rev().map(|depth| {
        let [_, a, b, c] = (depth * 5).to_be_bytes();
        [0x30, 0x83, a, b, c]
    });
    heads.flatten().collect()
}

#[test]
fn data_that_is_not_ldap_is_refused() {
    for phase in Phase::ALL {
        let (id, operation) = phase.request();
        let deep = deep();
        for (what, bytes) in [
            ("deep, within a limit", message(id, operation, &deep[deep.len() - 4000..])),
            ("deep, without lengths", b"\x30\x80".repeat(200_000)),
            ("empty", b"\x30\x00".to_vec()),
            ("without content", message(id, operation, b"")),
            (
                "truncated inside",
                b"\x30\x0c\x02\x01\x02\x65\x07\x0a\x01\x00\x04\x7f\x04\x00".to_vec(),
            ),
            ("another protocol", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        ] {
            let stderr = refused_bytes(phase, bytes);
            assert!(stderr.ends_with(not_ldap(phase)), "{phase:?}, {what}: {stderr}");
        }
        if phase != Phase::StartTls {
            let stderr = refused_bytes(phase, message(id, operation, &result(0, b"\xff", b"")));
            assert!(stderr.ends_with(not_ldap(phase)), "{phase:?}, DN: {stderr}");
        }
    }
    for phase in [Phase::Search, Phase::Enumerate] {
        for bytes in [entry(b"uid=\xff", b"30001", b"a@x"), message(2, 0x64, &deep()[800_000..])] {
            let stderr = refused_bytes(phase, bytes);
            assert!(stderr.ends_with(not_ldap(phase)), "{phase:?}: {stderr}");
        }
    }
}

#[test]
fn huge_messages_are_refused() {
    for phase in Phase::ALL {
        let (id, operation) = phase.request();
        let expected = |size: u64| match phase {
            Phase::StartTls => not_ldap(phase).to_owned(),
            _ => format!("sent a message of {size} bytes"),
        };
        let stderr = refused_bytes(phase, b"\x30\x84\xff\xff\xff\xff\x02\x01\x02".to_vec());
        assert!(stderr.contains(&expected(4_294_967_301)), "{phase:?}: {stderr}");
        let stderr = refused_bytes(phase, message(id, operation, &deep()));
        assert!(stderr.contains(&expected(1_000_019)), "{phase:?}: {stderr}");
        let stderr = refused(phase, |stream| {
            let head = b"\x30\x84\x0b\xeb\xc2\x00\x02\x01\x02";
            let sent = stream.write_all(head).and_then(|()| {
                (0..200).try_for_each(|_| stream.write_all(&vec![b'a'; 1024 * 1024]))
            });
            assert!(sent.is_err(), "the client took 200 MB");
        });
        assert!(stderr.contains(&expected(200_000_006)), "{phase:?}: {stderr}");
    }
}

#[test]
fn endless_answers_are_refused() {
    for (phase, bytes, expected) in [
        (Phase::StartTls, entry(b"uid=a", b"30001", b"a@x"), not_ldap(Phase::StartTls)),
        (Phase::Bind, entry(b"uid=a", b"30001", b"a@x"), "answered a request that was not sent\n"),
        (Phase::Search, entry(b"uid=a", b"30001", b"a@x"), "more than 100000 entries for one"),
        (Phase::Enumerate, entry(b"uid=a", b"30001", b"a@x"), "more than 100000 entries for one"),
        (
            Phase::Search,
            entry(b"uid=a", b"30001", &[b'a'; 8000]),
            "more than 67108864 bytes for one",
        ),
        (
            Phase::Enumerate,
            entry(b"uid=a", b"1", &[b'a'; 8000]),
            "more than 67108864 bytes for one",
        ),
    ] {
        let endless = bytes.repeat(1000);
        let stderr =
            refused_for_size(phase, move |stream| while stream.write_all(&endless).is_ok() {});
        assert!(stderr.contains(expected), "{phase:?}: {stderr}");
    }
}

#[test]
fn an_answer_that_comes_slowly_is_given_up() {
    let stderr = refused(Phase::Search, |stream| {
        let entry = entry(b"uid=b", b"30002", b"b@x");
        while stream.write_all(&entry).is_ok() {
            // Each part is within the timeout.
            thread::sleep(Duration::from_millis(500));
        }
    });
    assert!(stderr.ends_with("no end of the answer within 20s\n"), "{stderr}");
}

#[test]
fn a_server_that_stops_in_the_middle_is_given_up() {
    thread::scope(|scope| {
        for phase in Phase::ALL {
            let (id, operation) = phase.request();
            let whole = message(id, operation, &success());
            for end in [0, 1, whole.len() / 2, whole.len() - 1] {
                let part = whole[..end].to_vec();
                scope.spawn(move || {
                    let stderr = refused(phase, move |stream| {
                        stream.write_all(&part).expect("sent");
                        // Until the client gives up.
                        let _ = stream.read(&mut [0; 64]);
                    });
                    let expected = match phase {
                        // The server no longer listens when the client tries again.
                        Phase::StartTls | Phase::Bind => "dial after 5 retries: failed to connect",
                        Phase::Search | Phase::Enumerate => "no answer in time\n",
                    };
                    assert!(stderr.contains(expected), "{phase:?}: {stderr}");
                });
            }
        }
    });
}

#[test]
fn an_answer_to_another_request_is_refused() {
    for (phase, answer) in [
        (Phase::StartTls, message(7, 0x78, &success())),
        (Phase::StartTls, message(1, 0x61, &success())),
        (Phase::Bind, message(7, 0x61, &success())),
        (Phase::Bind, message(1, 0x65, &success())),
        (Phase::Search, message(7, 0x65, &success())),
        (Phase::Search, message(1, 0x61, &success())),
        (Phase::Enumerate, message(7, 0x65, &success())),
        (Phase::Enumerate, message(2, 0x61, &success())),
    ] {
        let stderr = refused_bytes(phase, answer);
        let expected = match phase {
            Phase::StartTls => not_ldap(phase),
            _ => "the server answered a request that was not sent\n",
        };
        assert!(stderr.ends_with(expected), "{phase:?}: {stderr}");
    }
}

#[test]
fn an_entry_with_another_uid_is_ignored() {
    for phase in [Phase::Search, Phase::Enumerate] {
        let outcome = resolve(phase, |stream| {
            let stray = entry(b"uid=mallory", b"30002", b"mallory@x");
            let right = entry(b"uid=alice", b"30001", b"alice@x");
            stream.write_all(&[stray, right, message(2, 0x65, &success())].concat()).expect("sent");
            let _ = stream.read(&mut [0; 64]);
        });
        assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""));
        assert_eq!(outcome.stdout, "{\n  \"a\": {\"30001\": \"alice@x\"}\n}\n");
    }
}

#[test]
fn long_texts_of_a_server_are_cut_and_stay_on_one_line() {
    let long = b"\x1b[2Jno\n".repeat(20_000);
    for phase in Phase::ALL {
        let (id, operation) = phase.request();
        let long = if phase == Phase::StartTls { &long[..4000] } else { &long };
        let stderr = refused_bytes(phase, message(id, operation, &result(49, b"", long)));
        assert!(stderr.contains(r"(\u{1b}[2Jno\n"), "{phase:?}: {stderr}");
    }
    let referral = [result(10, b"", b""), element(0xa3, &element(4, &long))].concat();
    refused_bytes(Phase::Search, message(2, 0x65, &referral));
    refused_bytes(Phase::Search, entry_of(&[2], b"uid=a", &[(&long, b"30001")]));
    for entry in [entry(&long, b"30001", b"a@x"), entry(b"uid=a", b"30001", &long)] {
        let stderr = refused_bytes(Phase::Search, entry);
        assert!(
            stderr.ends_with("sent an entry with a name or value that is too long\n"),
            "{stderr}"
        );
    }
}

#[test]
fn malformed_page_controls_are_refused() {
    for value in [None, Some(&b""[..]), Some(b"\x30\x00"), Some(b"\x30\x03\x02\x01\x00")] {
        let stderr = refused_bytes(Phase::Enumerate, end_of_page(&[2], value));
        assert!(stderr.ends_with(not_ldap(Phase::Enumerate)), "{value:?}: {stderr}");
    }
}

#[test]
fn a_notice_of_disconnection_with_controls_is_refused() {
    let more = [element(0x8a, b"1.3.6.1.4.1.1466.20036"), element(0xa0, b"\x04\x00")].concat();
    for phase in [Phase::Bind, Phase::Search, Phase::Enumerate] {
        let stderr = refused_bytes(phase, message_with(&[0], 0x78, &success(), &more));
        assert!(stderr.ends_with(not_ldap(phase)), "{phase:?}: {stderr}");
    }
}

/// Answers all requests for pages with these entries, and a cookie for one more page.
fn turn_pages(stream: &mut TcpStream, mut entries: impl FnMut(&[u8]) -> Vec<u8>) {
    let mut id = vec![2];
    loop {
        let end = end_of_page(&id, Some(b"\x30\x09\x02\x01\x00\x04\x04more"));
        if stream.write_all(&[entries(&id), end].concat()).is_err() {
            return;
        }
        match read_request(stream) {
            Some(next) => id = next,
            None => return,
        }
    }
}

#[test]
fn endless_pages_are_refused() {
    let stderr = refused_for_size(Phase::Enumerate, |stream| turn_pages(stream, |_| Vec::new()));
    assert!(stderr.ends_with("sent 10000 pages and had more\n"), "{stderr}");
    let stderr = refused_for_size(Phase::Enumerate, |stream| {
        let mut uids = 0u32..;
        turn_pages(stream, |id| {
            let entries = uids.by_ref().take(10_000).map(|uid| {
                let (dn, mail) = (format!("uid=u{uid},ou=people,dc=x"), format!("u{uid}@x"));
                let uid = uid.to_string();
                let attributes = [(&b"uidNumber"[..], uid.as_bytes()), (b"mail", mail.as_bytes())];
                entry_of(id, dn.as_bytes(), &attributes)
            });
            entries.collect::<Vec<_>>().concat()
        });
    });
    assert!(stderr.contains("has more owners than fit into memory"), "{stderr}");
}
