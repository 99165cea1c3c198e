//! Checks the properties of the reader with input that is generated within a second. `make fuzz`
//! searches longer.

mod property;

use property::check;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Tokens of the grammar, and tokens that it refuses.
const TOKENS: [&str; 29] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\"a\"",
    "\"a\": ",
    "0",
    "1",
    "7]",
    "[7",
    "01",
    "-0",
    "+1",
    "4294967295",
    "4294967296",
    "-1",
    "1.0",
    "1e3",
    " ",
    "\n",
    "\\",
    "\\u00e4",
    "\\udcff",
    "\u{e4}",
    "\"\\ud83e\\udd80\": 7",
    "null",
];

fn tokens() -> impl Strategy<Value = Vec<u8>> {
    vec(select(&TOKENS[..]), 0..8).prop_map(|tokens| tokens.concat().into_bytes())
}

/// Documents with any text for keys.
fn documents() -> impl Strategy<Value = Vec<u8>> {
    let owners = prop_oneof![
        any::<u32>().prop_map(|uid| uid.to_string()),
        vec(any::<u32>(), 0..4).prop_map(|uids| format!("{uids:?}")),
    ];
    vec((any::<String>(), owners), 0..8).prop_map(|pairs| {
        let member = |(key, owners)| format!("{}: {owners}", serde_json::json!(key));
        format!("{{{}}}", pairs.into_iter().map(member).collect::<Vec<_>>().join(", ")).into()
    })
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_by_serde_json(input: Vec<u8>, cuts: Vec<u8>) {
        check(&input, &cuts);
    }

    #[test]
    fn any_tokens_are_read_as_by_serde_json(input in tokens(), cuts: Vec<u8>) {
        check(&input, &cuts);
        for (before, after) in [("{", "}"), ("{\"", "\": 1}"), ("{\"a\": ", "}"), ("{\"a\": [", "]}")] {
            check(&[before.as_bytes(), &input, after.as_bytes()].concat(), &cuts);
        }
    }

    #[test]
    fn any_value_is_read_as_by_serde_json(
        value in vec(select(&TOKENS[..]), 1..3), cuts: Vec<u8>
    ) {
        let input = format!("{{\"a\": {}}}", value.concat());
        check(input.as_bytes(), &cuts);
    }

    #[test]
    fn documents_with_a_wrong_byte_are_read_as_by_serde_json(
        document in documents(), at: Index, byte: u8, cuts: Vec<u8>
    ) {
        check(&document, &cuts);
        let mut document = document;
        let at = at.index(document.len());
        document[at] = byte;
        check(&document, &cuts);
    }
}
