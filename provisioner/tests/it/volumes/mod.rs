//! Publications as others see them: readers at any moment, programs that die or fail at any system
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
