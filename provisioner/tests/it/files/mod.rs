//! Publications of plain files (`--layout files`) as others see them: readers at any moment, files of
//! others beside them, programs that die or fail at any system call, full disks, hostile volumes.

mod beside;
mod full;
mod hostile;
mod killed;
mod layouts;
mod plain;
mod published;
mod readers;
mod targets;
