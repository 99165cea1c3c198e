//! Directory servers of other makes than slapd, which takes packages and time of its own to set
//! up: 389 Directory Server and Samba as a domain controller for Active Directory.
//! `make test-directories` runs it, as root.

mod active_directory;
mod agreement;
mod dirsrv;
mod listing;
