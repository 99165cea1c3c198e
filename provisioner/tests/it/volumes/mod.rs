//! Publications as readers see them, at any moment: runs that are killed or fail at any system
//! call, full and broken disks, hostile sources.

mod damage;
mod disturbed;
mod durable;
mod failing;
mod full;
mod generated;
mod hostile;
mod killed;
mod many;
mod readers;
mod targets;
mod unchanged;
mod writers;
