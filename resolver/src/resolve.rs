//! The stream: pairs in, owners out, in input order and in bounded memory.

use std::io::{Read, Write};

use anyhow::Result;
use owner_json::{ObjectWriter, Owners, Pair, PairReader};

use crate::answers::Answers;
use crate::cli::Format;

/// Reads ownership JSON from `input`, writes each path with its owners to `output`, and returns
/// how many paths there were.
///
/// What is known is written before anything that may take a while, be it reading or asking. The
/// object is closed only after everything went well.
///
/// # Errors
/// Bad input, an unanswered question, or unwritable output. What was known is written.
pub fn resolve(
    input: impl Read,
    output: impl Write,
    answers: &mut Answers<'_>,
    format: Format,
) -> Result<u64> {
    let mut reader = PairReader::new(input);
    let mut object = ObjectWriter::new(output);
    let mut paths = 0;
    loop {
        match resolve_next(&mut reader, &mut object, answers, format) {
            Ok(true) => paths += 1,
            Ok(false) => break,
            Err(error) => {
                // The error that ends the run is the one to tell.
                let _ = object.flush();
                return Err(error);
            }
        }
    }
    object.finish()?;
    Ok(paths)
}

fn resolve_next(
    reader: &mut PairReader<impl Read>,
    object: &mut ObjectWriter<impl Write>,
    answers: &mut Answers<'_>,
    format: Format,
) -> Result<bool> {
    let Some(pair) = reader.next_pair(&mut || object.flush())? else { return Ok(false) };
    for &uid in uids(&pair.owners) {
        if answers.get(uid).is_none() {
            object.flush()?;
            answers.look_up(uid)?;
        }
    }
    push_pair(object.member()?, &pair, answers, format);
    Ok(true)
}

fn uids<'a>(owners: &'a Owners<'_>) -> &'a [u32] {
    match owners {
        Owners::One(uid) => std::slice::from_ref(uid),
        Owners::Many(uids) => uids,
    }
}

fn push_pair(out: &mut Vec<u8>, pair: &Pair<'_>, answers: &Answers<'_>, format: Format) {
    let several = matches!(pair.owners, Owners::Many(_));
    let (open, close): (&[u8], &[u8]) = match (format, several) {
        (Format::Map, _) => (b"{", b"}"),
        (Format::Object, true) => (b"[", b"]"),
        (Format::Object, false) => (b"", b""),
    };
    out.extend_from_slice(pair.key);
    out.extend_from_slice(b": ");
    out.extend_from_slice(open);
    for (index, &uid) in uids(&pair.owners).iter().enumerate() {
        if index > 0 {
            out.extend_from_slice(b", ");
        }
        push_owner(out, uid, answers.get(uid).unwrap_or(b"\"\""), format);
    }
    out.extend_from_slice(close);
}

fn push_owner(out: &mut Vec<u8>, uid: u32, email: &[u8], format: Format) {
    let (before, between, after): (&[u8], &[u8], &[u8]) = match format {
        Format::Map => (b"\"", b"\": ", b""),
        Format::Object => (b"{\"uid\": ", b", \"email\": ", b"}"),
    };
    out.extend_from_slice(before);
    out.extend_from_slice(uid.to_string().as_bytes());
    out.extend_from_slice(between);
    out.extend_from_slice(email);
    out.extend_from_slice(after);
}
