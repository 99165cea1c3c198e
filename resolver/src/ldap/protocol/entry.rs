//! Search result entries. ldap3 has a parser for them too, but it panics on malformed ones and
//! sorts values into text and binary, which is of no use here.

use ldap3::ResultEntry;
use ldap3::asn1::StructureTag;

use crate::directory::owner::{Attributes, Claim};

/// Longest name and longest value taken, in bytes: OpenLDAP takes no longer names either, and what
/// is known of an owner is kept.
const MAX_TEXT: usize = 8192;

/// What a search returns one by one.
pub enum Item {
    /// An entry: its name, and what it says of UIDs and addresses.
    Entry(Vec<u8>, Claim),
    /// A pointer to another server.
    Referral,
    /// An entry with an attribute that was not asked for, under this name. A server that takes
    /// an alias or an OID answers with the attribute's own name, which we cannot know.
    Renamed(String),
    /// Something to pass over.
    Other,
    /// What no entry should be, in words.
    Unusable(&'static str),
}

const TOO_LONG: Item = Item::Unusable("an entry with a name or value that is too long");

/// Takes an item of a search apart.
pub fn read(item: ResultEntry, attributes: &Attributes) -> Item {
    if item.is_ref() {
        Item::Referral
    } else if item.is_intermediate() {
        Item::Other
    } else {
        entry(item.0, attributes).unwrap_or(Item::Unusable("a malformed entry"))
    }
}

/// `SearchResultEntry ::= SEQUENCE { objectName, SEQUENCE OF SEQUENCE { type, SET OF value } }`
fn entry(tag: StructureTag, attributes: &Attributes) -> Option<Item> {
    let mut parts = tag.expect_constructed()?.into_iter();
    let dn = parts.next()?.expect_primitive()?;
    if dn.len() > MAX_TEXT {
        return Some(TOO_LONG);
    }
    let mut claim = Claim::default();
    for attribute in parts.next()?.expect_constructed()? {
        let mut parts = attribute.expect_constructed()?.into_iter();
        let description = parts.next()?.expect_primitive()?;
        let description = String::from_utf8_lossy(&description).into_owned();
        if !attributes.include(&description) {
            return Some(Item::Renamed(description));
        }
        for value in parts.next()?.expect_constructed()? {
            let value = value.expect_primitive()?;
            if value.len() > MAX_TEXT {
                return Some(TOO_LONG);
            }
            claim.note(attributes, &description, &value);
        }
    }
    Some(Item::Entry(dn, claim))
}
