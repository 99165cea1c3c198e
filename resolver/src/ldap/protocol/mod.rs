//! LDAP's messages (RFC 4511): how they are spelt, which may pass, and what they mean.

pub mod ber;
pub mod entry;
pub mod grammar;
pub mod result_code;
pub mod validator;
