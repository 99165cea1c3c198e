//! Feeds arbitrary server messages to the validator, and those that it accepts to ldap3.

#![no_main]

#[path = "../../resolver/tests/validator/property.rs"]
mod property;

use libfuzzer_sys::fuzz_target;

// The first byte holds the number of cuts, and which answer the rest is inserted in; the last of these
// choices takes the rest as it is.
fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let Some((cuts, rest)) = rest.split_at_checked(usize::from(first % 8)) else { return };
    match first / 8 {
        31 => property::check(rest, cuts),
        which => property::check(&property::answer(which, rest), cuts),
    }
});
