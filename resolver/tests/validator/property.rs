//! The property that must hold for all bytes that a server can send. The test beside this file and the
//! fuzz target `ldap_validator` include this module.

use std::os::unix::net::UnixStream as StdUnixStream;

use ldap3::controls::{Control, ControlType, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, Scope, SearchEntry, StdStream, parse_refs};
use resolver::{Validator, Violation};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

/// The requests: a bind, message 1, and a search, message 2.
const REQUESTS: &[u8] = b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00\
                           \x30\x05\x02\x01\x02\x63\x00";

/// Answers to these, as recipes for [`elements`]; `0xfe` marks the place for inserted elements.
pub const ANSWERS: [&[u8]; 7] = [
    b"\x30\x02\x01\x02\x64\x04\x01a\x30\x30\x04\x04mail\x31\x04\x03a@x\xfe",
    b"\x30\x02\x01\x02\x65\x0a\x01\x00\x04\x00\x04\x00\xfe",
    b"\x30\x02\x01\x02\x65\x0a\x01\x00\x04\x00\x04\x00\xff\xa0\x30\x04\x161.2.840.113556.1.4.319\xfe",
    b"\x30\x02\x01\x01\x61\x0a\x01\x00\x04\x00\x04\x00\xff\xfe",
    b"\x30\x02\x01\x02\x73\x04\x08ldap://h\xfe",
    b"\x30\x02\x01\x00\x78\x0a\x01\x34\x04\x00\x04\x00\xff\x8a\x011\xfe",
    b"\xfe",
];

thread_local! {
    static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
}

/// One of the answers with `more` inserted. `more` may close elements of the answer, and so continue
/// after it.
pub fn answer(which: u8, more: &[u8]) -> Vec<u8> {
    let recipe = ANSWERS[usize::from(which) % ANSWERS.len()];
    let place = recipe.iter().position(|&byte| byte == 0xfe).expect("a place");
    elements(&[&recipe[..place], more].concat())
}

/// Checks the property: the valid messages do not depend on where the stream was cut, they are an
/// unchanged prefix of it, and ldap3 reads all of them without a panic.
///
/// # Panics
/// If the property does not hold.
pub fn check(sent: &[u8], cuts: &[u8]) {
    let (valid, verdict) = validate(std::iter::once(sent));
    let in_pieces = validate(pieces(sent, cuts));
    assert_eq!((&valid, &verdict), (&in_pieces.0, &in_pieces.1), "{sent:02x?} cut by {cuts:?}");
    assert!(sent.starts_with(&valid), "{sent:02x?} became {valid:02x?}");
    if !valid.is_empty() {
        RUNTIME.with(|runtime| runtime.block_on(read_by_ldap3(&valid)));
    }
}

/// Builds elements from a recipe. It gives them correct lengths, which random bytes hardly ever have.
/// A recipe is a list of tags. The tag of a primitive element is followed by the length and the
/// content; a constructed element contains the following ones up to `0xff`.
pub fn elements(recipe: &[u8]) -> Vec<u8> {
    let mut open = vec![(0, Vec::new())];
    let mut recipe = recipe.iter().copied();
    while let Some(tag) = recipe.next() {
        if tag == 0xff {
            close(&mut open);
        } else if tag & 0x20 != 0 {
            open.push((tag, Vec::new()));
        } else {
            let length = recipe.next().unwrap_or_default() % 32;
            open.push((tag, recipe.by_ref().take(length.into()).collect()));
            close(&mut open);
        }
    }
    while open.len() > 1 {
        close(&mut open);
    }
    open.pop().expect("the outermost").1
}

/// Appends the innermost open element to the one around it.
fn close(open: &mut Vec<(u8, Vec<u8>)>) {
    if open.len() < 2 {
        return;
    }
    let ((tag, content), around) = (open.pop().expect("two"), open.last_mut().expect("one"));
    around.1.push(tag);
    match u8::try_from(content.len()) {
        Ok(length @ 0..=0x7f) => around.1.push(length),
        _ => {
            let length = u32::try_from(content.len()).expect("short");
            around.1.push(0x84);
            around.1.extend(length.to_be_bytes());
        }
    }
    around.1.extend(content);
}

/// The valid messages, and the validator's verdict.
pub fn validate<'s>(pieces: impl Iterator<Item = &'s [u8]>) -> (Vec<u8>, Result<(), Violation>) {
    let (mut validator, mut valid) = (Validator::default(), Vec::new());
    validator.record_requests(REQUESTS).expect("the requests are LDAP");
    let verdict = { pieces }.try_for_each(|piece| validator.check_responses(piece, &mut valid));
    (valid, verdict)
}

/// Cuts `sent` into pieces of these sizes, over and over.
fn pieces<'s>(sent: &'s [u8], cuts: &[u8]) -> impl Iterator<Item = &'s [u8]> {
    let (mut rest, sizes) = (sent, if cuts.is_empty() { &[0] } else { cuts });
    let mut sizes = sizes.iter().cycle();
    std::iter::from_fn(move || {
        let size = usize::from(*sizes.next()?) + 1;
        let (piece, after) = rest.split_at_checked(size).unwrap_or((rest, &[]));
        rest = after;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Lets ldap3 read these answers to [`REQUESTS`], and parses all that it returns.
async fn read_by_ldap3(answers: &[u8]) {
    let (near, far) = StdUnixStream::pair().expect("a socket pair");
    far.set_nonblocking(true).expect("not blocking");
    let mut far = UnixStream::from_std(far).expect("a socket");
    let settings = LdapConnSettings::new().set_std_stream(StdStream::Unix(near));
    let connection = LdapConnAsync::with_settings(settings, "ldapi:///").await;
    let (connection, ldap) = connection.expect("a conversation");
    let driver = tokio::spawn(connection.drive());
    let mut binding = ldap.clone();
    let bind = tokio::spawn(async move { binding.simple_bind("", "").await });
    // The bind comes first.
    tokio::task::yield_now().await;
    let search = search(ldap, async {
        far.write_all(answers).await.expect("written");
        far.shutdown().await.expect("ended");
    });
    search.await.expect("the search began");
    let _ = bind.await.expect("no panic in the bind");
    driver.await.expect("no panic in ldap3").expect("valid for ldap3 too");
}

/// Starts a search, sends `answers`, and reads the result.
async fn search(mut ldap: Ldap, answers: impl Future<Output = ()>) -> ldap3::result::Result<()> {
    let mut search = ldap.streaming_search("", Scope::Subtree, "(a=*)", vec!["a"]).await?;
    answers.await;
    while let Ok(Some(item)) = search.next().await {
        if item.is_ref() {
            parse_refs(item.0);
        } else if !item.is_intermediate() {
            SearchEntry::construct(item);
        }
    }
    for Control(kind, control) in search.finish().await.ctrls {
        if let Some(ControlType::PagedResults) = kind {
            control.parse::<PagedResults>();
        }
    }
    Ok(())
}
