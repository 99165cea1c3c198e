//! Everything that a server can send, at the guard and, past it, at ldap3.

#![no_main]

#[path = "../../resolver/tests/guard/property.rs"]
mod property;

use libfuzzer_sys::fuzz_target;

// The first byte says how long the list of cuts is, and which answer the rest is to be part of, or
// that it is no recipe but bytes.
fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let Some((cuts, rest)) = rest.split_at_checked(usize::from(first % 8)) else { return };
    match first / 8 {
        31 => property::check(rest, cuts),
        which => property::check(&property::answer(which, rest), cuts),
    }
});
