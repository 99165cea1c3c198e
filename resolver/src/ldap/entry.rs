//! Search result entries. ldap3 has a parser for them too, but it panics on malformed ones and
//! sorts values into text and binary, which is of no use here.

use ldap3::ResultEntry;
use ldap3::asn1::StructureTag;

use crate::owner::{Attributes, Claim};

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
    /// Not what RFC 4511 says.
    Malformed,
}

/// Takes an item of a search apart.
pub fn read(item: ResultEntry, attributes: &Attributes) -> Item {
    if item.is_ref() {
        Item::Referral
    } else if item.is_intermediate() {
        Item::Other
    } else {
        entry(item.0, attributes).unwrap_or(Item::Malformed)
    }
}

/// `SearchResultEntry ::= SEQUENCE { objectName, SEQUENCE OF SEQUENCE { type, SET OF value } }`
fn entry(tag: StructureTag, attributes: &Attributes) -> Option<Item> {
    let mut parts = tag.expect_constructed()?.into_iter();
    let dn = parts.next()?.expect_primitive()?;
    let mut claim = Claim::default();
    for attribute in parts.next()?.expect_constructed()? {
        let mut parts = attribute.expect_constructed()?.into_iter();
        let description = parts.next()?.expect_primitive()?;
        let description = String::from_utf8_lossy(&description).into_owned();
        if !attributes.include(&description) {
            return Some(Item::Renamed(description));
        }
        for value in parts.next()?.expect_constructed()? {
            claim.note(attributes, &description, &value.expect_primitive()?);
        }
    }
    Some(Item::Entry(dn, claim))
}
