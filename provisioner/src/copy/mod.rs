//! Copies a tree to a volume: what has changed, whether it fits, and when it is on the disk.

pub mod compare;
pub mod destination;
pub mod durable;
pub mod space;
pub mod stage;
pub mod wrong_owner;
