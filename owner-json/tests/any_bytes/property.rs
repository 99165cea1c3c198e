//! Properties of the reader that must hold for all inputs. The test beside this file and the fuzz
//! target `owner_json_reader` check them.

use std::fmt;
use std::io::{self, Read};

use owner_json::{InputError, ObjectWriter, Owners, PairReader};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// A key as it was spelt, its UIDs, and whether they came as an array.
type Pairs = Vec<(Vec<u8>, Vec<u32>, bool)>;

/// Checks the properties for one input:
///
/// 1. The result does not depend on the sizes of the reads.
/// 2. The offset of an error lies within the input.
/// 3. serde_json accepts the same inputs, except for keys with lone surrogates, and reads the same.
/// 4. Accepted pairs are read again as they were after they were written.
///
/// # Panics
/// Panics if a property does not hold.
pub fn check(input: &[u8], cuts: &[u8]) {
    let read = pairs(Pieces { rest: input, sizes: &[], at: 0 });
    assert_eq!(read, pairs(Pieces { rest: input, sizes: cuts, at: 0 }), "cut by {cuts:?}");
    if let Err((offset, message)) = &read {
        assert!(*offset <= input.len() as u64, "{message}");
    }
    let known = serde_json::from_slice::<Document>(input);
    match (&read, known) {
        (Ok(pairs), Ok(document)) => assert_eq!(decoded(pairs), Some(document.0)),
        (Ok(pairs), Err(error)) => assert_eq!(decoded(pairs), None, "serde_json: {error}"),
        (Err((_, message)), Ok(_)) => panic!("serde_json accepts it: {message}"),
        (Err(_), Err(_)) => {}
    }
    if let Ok(pairs) = read {
        let written = write(&pairs);
        assert_eq!(self::pairs(&written[..]), Ok(pairs), "{}", String::from_utf8_lossy(&written));
    }
}

/// The pairs that the reader reads, or its error with the offset.
fn pairs(input: impl Read) -> Result<Pairs, (u64, String)> {
    let mut reader = PairReader::new(input);
    let mut pairs = Vec::new();
    loop {
        match reader.next_pair(&mut || Ok(())) {
            Ok(None) => return Ok(pairs),
            Ok(Some(pair)) => pairs.push(match pair.owners {
                Owners::One(uid) => (pair.key.to_vec(), vec![uid], false),
                Owners::Many(uids) => (pair.key.to_vec(), uids.to_vec(), true),
            }),
            Err(error) => {
                let error = error.downcast::<InputError>().expect("an input error");
                return Err((error.offset, error.to_string()));
            }
        }
    }
}

fn write(pairs: &Pairs) -> Vec<u8> {
    let mut text = Vec::new();
    let mut object = ObjectWriter::new(&mut text);
    for (key, uids, is_array) in pairs {
        let member = object.member().expect("a vector takes everything");
        member.extend_from_slice(key);
        member.extend_from_slice(b": ");
        match is_array {
            true => member.extend_from_slice(format!("{uids:?}").as_bytes()),
            false => member.extend_from_slice(uids[0].to_string().as_bytes()),
        }
    }
    object.finish().expect("a vector takes everything");
    text
}

/// The pairs with decoded keys; `None` if a key has a lone surrogate.
fn decoded(pairs: &Pairs) -> Option<Vec<(String, Value)>> {
    let decode = |(key, uids, is_array): &(Vec<u8>, Vec<u32>, bool)| {
        let key = serde_json::from_slice(key).ok()?;
        Some((key, if *is_array { Value::Many(uids.clone()) } else { Value::One(uids[0]) }))
    };
    pairs.iter().map(decode).collect()
}

/// The document as serde_json reads it, with duplicate keys.
struct Document(Vec<(String, Value)>);

#[derive(Debug, PartialEq, serde::Deserialize)]
#[serde(untagged)]
enum Value {
    One(u32),
    Many(Vec<u32>),
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Self)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Vec<(String, Value)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(members)
    }
}

/// Returns `rest` in pieces of these sizes, which are repeated; in one piece if there are no sizes.
struct Pieces<'p> {
    rest: &'p [u8],
    sizes: &'p [u8],
    at: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes.get(self.at).map_or(usize::MAX, |&size| usize::from(size) + 1);
        self.at = (self.at + 1) % self.sizes.len().max(1);
        let count = size.min(self.rest.len());
        (&self.rest[..count]).read(buffer).inspect(|&count| self.rest = &self.rest[count..])
    }
}
