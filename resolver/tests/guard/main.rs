//! The guard before ldap3, with everything that generated input can find in a second; `make fuzz`
//! looks for longer.

mod property;

use property::{answer, check};
use proptest::collection::vec;
use proptest::prelude::*;

/// Bytes that mean something in an answer more often than others.
fn recipes() -> impl Strategy<Value = Vec<u8>> {
    let telling = [0xff, 0x30, 0x31, 0x02, 0x04, 0x0a, 0x01, 0x00, 0xa0, 0xa3, 0x8a, 0x87, 0x65];
    vec(prop_oneof![4 => prop::sample::select(telling.to_vec()), 1 => any::<u8>()], 0..40)
}

proptest! {
    #[test]
    fn any_bytes_do_no_harm(sent: Vec<u8>, cuts: Vec<u8>) {
        check(&sent, &cuts);
    }

    #[test]
    fn answers_with_more_in_them_do_no_harm(which: u8, more in recipes(), cuts: Vec<u8>) {
        check(&answer(which, &more), &cuts);
    }

    #[test]
    fn answers_with_a_wrong_byte_do_no_harm(
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
