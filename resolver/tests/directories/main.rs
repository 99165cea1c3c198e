//! Tests with other servers than slapd: 389 Directory Server, and Samba as a domain controller for
//! Active Directory. They need more packages, root, and minutes to set up, so `make test-directories`
//! runs them.

mod active_directory;
mod agreement;
mod dirsrv;
mod listing;
