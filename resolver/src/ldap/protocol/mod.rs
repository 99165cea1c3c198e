//! LDAP messages (RFC 4511): their encoding, which of them ldap3 may see, and their meaning.

pub mod ber;
pub mod entry;
pub mod grammar;
pub mod result_code;
pub mod validator;
