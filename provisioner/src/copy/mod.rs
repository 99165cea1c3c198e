//! Copies a tree to a volume, for both layouts.
//!
//! 1. [`compare`] and [`wrong_owner`] find what has changed.
//! 2. [`space`] checks that the volume has space for it.
//! 3. [`stage`] copies the files to a [`destination`].
//! 4. [`durable`] syncs them to the disk.
//!
//! [`progress_line`] shows meanwhile how far this is.

pub mod compare;
pub mod destination;
pub mod durable;
pub mod progress_line;
pub mod space;
pub mod stage;
pub mod wrong_owner;
