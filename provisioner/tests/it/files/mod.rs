//! Publications of plain files (`--layout files`): readers at any moment, files of other programs, runs
//! that are killed or fail at any system call, full disks, hostile links, special file systems.

mod file_systems;
mod full_disk;
mod hostile_links;
mod killed_runs;
mod layout_changes;
mod other_files;
mod publications;
mod readers;
mod volume;
