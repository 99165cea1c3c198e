//! Everything that can stand on stdin, at the reader of ownership JSON.

#![no_main]

#[path = "../../owner-json/tests/any_bytes/property.rs"]
mod property;

use libfuzzer_sys::fuzz_target;

// The first byte says how long the list of cuts is.
fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let Some((cuts, rest)) = rest.split_at_checked(usize::from(first) % 8) else { return };
    property::check(rest, cuts);
});
