//! A published directory tree: what is in it, its manifest, and where it lies on a volume.
//!
//! `provisioner` writes such trees and `reloader` reads them. [`tree`] holds a tree as data and
//! [`manifest`] its text form. [`volume`] knows the layout of a volume, after the convention of
//! ConfigMap volumes. [`verify`] compares a tree on disk with its manifest. [`dir`] and [`reader`] reach
//! files through open directories, so that no symbolic link is followed. [`records`] replaces small
//! state files.

pub mod dir;
pub mod disk_full;
pub mod manifest;
pub mod parallel;
pub mod progress;
pub mod publish_time;
pub mod reader;
pub mod records;
pub mod tree;
pub mod verify;
pub mod volume;
