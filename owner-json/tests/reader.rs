//! Reads good input in pieces of any size, and every kind of bad input.

use std::io::{self, Read};

use owner_json::{InputError, ObjectWriter, Owners, PairReader, ReadAhead, Source, push_string};
use proptest::prelude::*;

type Parsed = Vec<(Vec<u8>, Vec<u32>)>;

fn parse(input: impl Source) -> anyhow::Result<Parsed> {
    let mut reader = PairReader::new(input);
    let mut pairs = Vec::new();
    while let Some(pair) = reader.next_pair(&mut || Ok(()))? {
        let owners = match pair.owners {
            Owners::One(uid) => vec![uid],
            Owners::Many(uids) => uids.to_vec(),
        };
        pairs.push((pair.key.to_vec(), owners));
    }
    Ok(pairs)
}

fn error(input: &str) -> (u64, String) {
    let error = parse(input.as_bytes()).expect_err(input);
    let error = error.downcast::<InputError>().expect("an input error");
    (error.offset, error.to_string())
}

/// Like [`parse`], with the input read by another thread.
fn parse_ahead(input: impl Read + Send + 'static) -> anyhow::Result<Parsed> {
    parse(ReadAhead::start(input).expect("a thread"))
}

/// Returns `data` in pieces of `step` bytes.
struct Pieces<R> {
    data: R,
    step: usize,
}

impl<R: Read> Read for Pieces<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.step.min(buffer.len());
        self.data.read(&mut buffer[..count])
    }
}

#[test]
fn keys_are_copied_as_they_were_spelt() {
    let input = br#" {"\u002fa\/b \udcff\ud800": 1 , "a":2,"a" :4294967295, "":0}"#;
    let keys: Vec<_> = parse(&input[..]).unwrap();
    let expected: [(&[u8], u32); 4] = [
        (br#""\u002fa\/b \udcff\ud800""#, 1),
        (br#""a""#, 2),
        (br#""a""#, u32::MAX),
        (br#""""#, 0),
    ];
    assert_eq!(keys, expected.map(|(key, uid)| (key.to_vec(), vec![uid])));
}

#[test]
fn several_owners_come_as_an_array() {
    let pairs = parse(&br#"{"a": [ 1 ,2], "b": [], "c": [7]}"#[..]).unwrap();
    let owners: Vec<_> = pairs.into_iter().map(|(_, owners)| owners).collect();
    assert_eq!(owners, [vec![1, 2], vec![], vec![7]]);
}

#[test]
fn an_empty_object_has_no_pairs() {
    assert!(parse(&b" { } \n"[..]).unwrap().is_empty());
}

#[test]
fn uids_that_are_not_numbers_of_32_bits_are_refused_with_their_offset() {
    for (value, what) in [
        ("-1", "negative"),
        ("1.0", "fractional"),
        ("1e3", "exponent"),
        ("1E3", "exponent"),
        ("\"1\"", "not a string"),
        ("4294967296", "32 bits"),
        ("99999999999999999999999999", "32 bits"),
        ("18446744073709551617", "32 bits"),
        ("007", "leading zero"),
        ("null", "expected a UID"),
        ("{}", "expected a UID"),
        ("[[1]]", "expected a UID"),
        ("[1,]", "expected a UID"),
        ("[,1]", "expected a UID"),
        ("", "expected a UID"),
    ] {
        let (offset, message) = error(&format!("{{\"a\": {value}}}"));
        assert!(message.contains(what), "{value}: {message}");
        let inside = if value.starts_with('[') { 7..=9 } else { 6..=6 };
        assert!(inside.contains(&offset), "{value}: {offset}");
        // Not the first, and with something behind it.
        let (later, same) = error(&format!("{{\"b\": 0,\"a\": {value}, \"c\": 0}}"));
        let what = if value.is_empty() { "expected a UID" } else { what };
        assert!(same.contains(what), "{value}: {same}");
        assert_eq!(later, offset + 7, "{value}");
    }
}

#[test]
fn anything_but_one_whole_object_is_refused_with_its_offset() {
    for (input, offset, what) in [
        ("", 0, "empty"),
        ("  \n", 3, "empty"),
        ("[]", 0, "expected `{`"),
        ("{", 1, "ends before"),
        ("{\"a\": 1", 7, "ends before"),
        ("{\"a\": 1,", 8, "ends before"),
        ("{\"a\": 1,}", 8, "expected a key"),
        ("{,}", 1, "expected a key"),
        ("{\"a\" 1}", 5, "expected `:`"),
        ("{\"a\": 1 \"b\": 2}", 8, "expected `,`"),
        ("{\"a\": 1} x", 9, "follows"),
        ("{} {}", 3, "follows"),
        ("{\"a", 3, "inside a string"),
        ("{\"a\"", 4, "after a key"),
        ("{\"a\": [1", 8, "inside an array"),
        ("{\"\u{1}\": 1}", 2, "control character"),
        ("{\"\\x\": 1}", 3, "unknown escape"),
        ("{\"\\u12g4\": 1}", 6, "four hexadecimal"),
    ] {
        let (at, message) = error(input);
        assert!(message.contains(what), "{input}: {message}");
        assert_eq!(at, offset, "{input}: {message}");
    }
}

#[test]
fn raw_bytes_outside_utf8_are_refused() {
    let error = parse(&b"{\"ab\xff\": 1}"[..]).unwrap_err();
    assert_eq!(error.downcast::<InputError>().unwrap().offset, 4);
}

#[test]
fn offsets_stay_right_past_the_first_buffer() {
    let filler = "\"k\": 1, ".repeat(200_000);
    let (offset, _) = error(&format!("{{{filler}\"z\": -1}}"));
    assert_eq!(offset, 1 + filler.len() as u64 + 5);
}

#[test]
fn a_key_without_end_is_refused_in_bounded_memory() {
    let input = io::Cursor::new(b"{\"".to_vec()).chain(io::repeat(b'a'));
    let error = parse(input).unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[test]
fn long_keys_are_read_ahead_in_pieces_of_any_size() {
    let name = |index: usize| "x".repeat(index * 7_919);
    let names: Vec<String> = (0..60).map(name).collect();
    let pairs: Vec<String> = names.iter().map(|name| format!("\"{name}\": 1")).collect();
    let text = format!("{{{}}}", pairs.join(", "));
    for step in [511, 16 * 1024, 100_000, usize::MAX] {
        let pieces = Pieces { data: io::Cursor::new(text.clone().into_bytes()), step };
        let keys: Vec<_> = parse_ahead(pieces).unwrap().into_iter().map(|(key, _)| key).collect();
        let expected: Vec<_> =
            names.iter().map(|name| format!("\"{name}\"").into_bytes()).collect();
        assert!(keys == expected, "in pieces of {step} bytes");
    }
    let cut = Pieces { data: io::Cursor::new(text.into_bytes()).take(9_000_000), step: 70_000 };
    let error = parse_ahead(cut).unwrap_err().downcast::<InputError>().unwrap();
    assert_eq!(error.offset, 9_000_000);
}

#[test]
fn an_error_of_the_input_comes_after_the_pairs_before_it() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::from_raw_os_error(5))
        }
    }
    let input = io::Cursor::new(b"{\"a\": 1, ".to_vec()).chain(Broken);
    let mut reader = PairReader::new(ReadAhead::start(input).unwrap());
    assert!(reader.next_pair(&mut || Ok(())).unwrap().is_some());
    let error = reader.next_pair(&mut || Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "failed to read the input: input/output error");
}

#[test]
fn before_read_is_called_before_every_read() {
    let mut reads = 0;
    let data = b"{\"a\": 1}";
    let mut reader = PairReader::new(Pieces { data: &data[..], step: 1 });
    while reader
        .next_pair(&mut || {
            reads += 1;
            Ok(())
        })
        .unwrap()
        .is_some()
    {}
    assert_eq!(reads, data.len() + 1);
}

fn documents() -> impl Strategy<Value = Parsed> {
    let owners = prop_oneof![
        any::<u32>().prop_map(|uid| vec![uid]),
        proptest::collection::vec(any::<u32>(), 0..4),
    ];
    proptest::collection::vec((proptest::collection::vec(any::<u8>(), 0..40), owners), 0..20)
}

/// Each document's expected parse and its text, one owner bare and the rest as arrays.
fn spell(document: &Parsed) -> (Parsed, Vec<u8>) {
    let (mut expected, mut text) = (Vec::new(), Vec::new());
    let mut object = ObjectWriter::new(&mut text);
    for (name, owners) in document {
        let mut key = Vec::new();
        push_string(&mut key, name);
        let member = object.member().expect("a vector takes everything");
        member.extend_from_slice(&key);
        member.extend_from_slice(b": ");
        match owners[..] {
            [uid] => member.extend_from_slice(uid.to_string().as_bytes()),
            _ => member.extend_from_slice(format!("{owners:?}").as_bytes()),
        }
        expected.push((key, owners.clone()));
    }
    object.finish().expect("a vector takes everything");
    (expected, text)
}

proptest! {
    #[test]
    fn written_documents_are_read_back_in_pieces_of_any_size(
        document in documents(), step in 1usize..64
    ) {
        let (expected, text) = spell(&document);
        prop_assert_eq!(&parse(Pieces { data: &text[..], step }).unwrap(), &expected);
        let pieces = Pieces { data: io::Cursor::new(text), step };
        prop_assert_eq!(parse_ahead(pieces).unwrap(), expected);
    }

    #[test]
    fn a_cut_off_document_is_always_an_error(document in documents(), cut in any::<prop::sample::Index>()) {
        let (_, text) = spell(&document);
        let closed = text.len() - 1; // without its last newline it is still complete
        prop_assert!(parse(&text[..cut.index(closed)]).is_err());
    }

    // Byte by byte, no pair is ever complete in the buffer, so the fast path is not taken.
    #[test]
    fn a_changed_byte_means_the_same_at_once_and_byte_by_byte(
        document in documents(), place in any::<prop::sample::Index>(), byte: u8
    ) {
        let (_, mut text) = spell(&document);
        let place = place.index(text.len());
        text[place] = byte;
        let outcome = |parsed: anyhow::Result<Parsed>| parsed.map_err(|error| error.to_string());
        let at_once = outcome(parse(&text[..]));
        prop_assert_eq!(at_once, outcome(parse(Pieces { data: &text[..], step: 1 })));
    }

    #[test]
    fn any_bytes_are_read_or_refused_within_their_length(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Err(error) = parse(&bytes[..]) {
            prop_assert!(error.downcast::<InputError>().unwrap().offset <= bytes.len() as u64);
        }
    }
}
