//! Publications as others see them: readers at any moment, programs that die or fail at any system
//! call, full and broken disks, hostile sources.

mod full;
mod generated;
mod killed;
mod readers;
mod run;
mod targets;
mod tree;
mod unchanged;
