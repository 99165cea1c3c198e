//! Generated server messages for the validator, and for ldap3 behind it. `make fuzz` generates for
//! longer.

mod property;

use property::{ANSWERS, answer, check, validate};
use proptest::collection::vec;
use proptest::prelude::*;

/// Recipes with many bytes that have a meaning in an answer.
fn recipes() -> impl Strategy<Value = Vec<u8>> {
    let meaningful = [0xff, 0x30, 0x31, 0x02, 0x04, 0x0a, 0x01, 0x00, 0xa0, 0xa3, 0x8a, 0x87, 0x65];
    vec(prop_oneof![4 => prop::sample::select(meaningful.to_vec()), 1 => any::<u8>()], 0..40)
}

/// Without this, the other tests could all be about bytes that never reach ldap3.
#[test]
fn the_answers_are_valid() {
    // A page needs a value for its control: a size and an empty cookie.
    let page = b"\x04\x07\x30\x05\x02\x01\x00\x04\x00";
    let inserted = |which| if which == 2 { &page[..] } else { b"" };
    for which in 0..ANSWERS.len() as u8 {
        let sent = answer(which, inserted(which));
        let (valid, verdict) = validate(std::iter::once(&sent[..]));
        assert_eq!((valid, verdict), (sent, Ok(())), "answer {which}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_do_not_harm_ldap3(sent: Vec<u8>, cuts: Vec<u8>) {
        check(&sent, &cuts);
    }

    #[test]
    fn answers_with_inserted_elements_do_not_harm_ldap3(which: u8, more in recipes(), cuts: Vec<u8>) {
        check(&answer(which, &more), &cuts);
    }

    #[test]
    fn answers_with_a_wrong_byte_do_not_harm_ldap3(
        which in vec(any::<u8>(), 1..4), at: prop::sample::Index, byte: u8, cuts: Vec<u8>
    ) {
        let mut sent: Vec<u8> = which.into_iter().flat_map(|which| answer(which, b"")).collect();
        if !sent.is_empty() {
            let at = at.index(sent.len());
            sent[at] = byte;
        }
        check(&sent, &cuts);
    }
}
