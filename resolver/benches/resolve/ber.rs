//! A client that does as little as possible: its searches are encoded beforehand, and it only counts the
//! answers.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;

/// UIDs in a search, as many as the resolver has.
const BATCH: usize = 32;
/// Searches at the same time, as many as the resolver runs on a near server.
const WINDOW: usize = 8;

/// Searches for all `uids` on the server at `address`.
///
/// # Errors
/// Fails if the connection or a search fails, or if not every UID has one entry.
pub fn ask(address: &str, base: &str, uids: &[u32]) -> Result<(), Box<dyn Error>> {
    let searches: Vec<Vec<u8>> =
        uids.chunks(BATCH).zip(2..).map(|(uids, id)| message(id, &search(base, uids))).collect();
    let mut connection = TcpStream::connect(address)?;
    connection.set_nodelay(true)?;
    let mut answers = Answers { connection: connection.try_clone()?, bytes: Vec::new() };
    // Version 3, an anonymous bind.
    connection.write_all(&message(1, &element(0x60, &[2, 1, 3, 4, 0, 0x80, 0])))?;
    answers.until_done(0x61)?;
    let mut entries = 0;
    connection.write_all(&searches[..WINDOW.min(searches.len())].concat())?;
    for number in 0..searches.len() {
        entries += answers.until_done(0x65)?;
        if let Some(search) = searches.get(number + WINDOW) {
            connection.write_all(search)?;
        }
    }
    if entries != uids.len() {
        return Err(format!("{entries} entries for {} UIDs", uids.len()).into());
    }
    Ok(())
}

struct Answers {
    connection: TcpStream,
    /// Bytes that were read and not yet parsed.
    bytes: Vec<u8>,
}

impl Answers {
    /// Reads up to the next message with `tag`, which must be a success. Returns the number of messages
    /// before it.
    fn until_done(&mut self, tag: u8) -> Result<usize, Box<dyn Error>> {
        let (mut others, mut at) = (0, 0);
        loop {
            let Some((header, end)) = whole_message(&self.bytes[at..]) else {
                self.bytes.drain(..at);
                at = 0;
                self.read_more()?;
                continue;
            };
            let content = &self.bytes[at + header..at + end];
            at += end;
            // Tag and length of the id, the id; tag and length of the operation.
            let operation = &content[2 + usize::from(content[1])..];
            if operation[0] != tag {
                others += 1;
                continue;
            }
            // The result code: an enumeration of one byte, right after a short length.
            let is_success = operation[2..5] == [10, 1, 0];
            self.bytes.drain(..at);
            return if is_success { Ok(others) } else { Err("the server refused a search".into()) };
        }
    }

    fn read_more(&mut self) -> Result<(), Box<dyn Error>> {
        let mut buffer = [0; 64 * 1024];
        let count = self.connection.read(&mut buffer)?;
        if count == 0 {
            return Err("the server closed the connection".into());
        }
        self.bytes.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}

/// Start and end of the content of the first message, if it is complete.
fn whole_message(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = usize::from(*bytes.get(1)?);
    let (header, length) = if first < 0x80 {
        (2, first)
    } else {
        let header = 2 + (first & 0x7f);
        let length =
            bytes.get(2..header)?.iter().fold(0, |length, &b| length << 8 | usize::from(b));
        (header, length)
    };
    (bytes.len() >= header + length).then_some((header, header + length))
}

fn message(id: u32, operation: &[u8]) -> Vec<u8> {
    // Two bytes: the sign must not be set.
    let [.., high, low] = id.to_be_bytes();
    element(0x30, &[&[2, 2, high, low], operation].concat())
}

/// RFC 4511, 4.5.1: the whole subtree, no aliases, no limits, UID and address.
fn search(base: &str, uids: &[u32]) -> Vec<u8> {
    let equals = |uid: &u32| {
        let sides = [element(4, b"uidNumber"), element(4, uid.to_string().as_bytes())];
        element(0xa3, &sides.concat())
    };
    let any = element(0xa1, &uids.iter().flat_map(equals).collect::<Vec<u8>>());
    let attributes = element(0x30, &[element(4, b"uidNumber"), element(4, b"mail")].concat());
    let rest = [10, 1, 2, 10, 1, 0, 2, 1, 0, 2, 1, 0, 1, 1, 0];
    element(0x63, &[element(4, base.as_bytes()), rest.to_vec(), any, attributes].concat())
}

fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let [.., high, low] = content.len().to_be_bytes();
    let header: &[u8] = if content.len() < 0x80 { &[tag, low] } else { &[tag, 0x82, high, low] };
    [header, content].concat()
}
