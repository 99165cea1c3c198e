//! A directory server whose certificate comes from an authority that only a new truststore has.

use std::fs;

use e2e::slapd::{Setup, Slapd};

/// The server.
pub struct Directory {
    slapd: Slapd,
    /// Its `ldaps://` address.
    pub url: String,
}

impl Directory {
    pub fn start() -> Self {
        let slapd = Slapd::start(&Setup::default());
        Self { url: slapd.tls_url(), slapd }
    }

    /// The certificate of its authority.
    pub fn authority(&self) -> Vec<u8> {
        fs::read(self.slapd.ca_file()).expect("read")
    }
}
