//! Tests that mount file systems or need much storage: file systems of every kind, a million
//! directories, a tree that never ends. `make test-storage` runs them, as root.

mod bind_mounts;
mod cgroup;
mod changes;
mod compare;
mod deep;
mod file_systems;
mod fuse;
mod fuse_server;
mod link_counts;
mod scan;
mod trees;
mod wide;
