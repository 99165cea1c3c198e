//! Tells whether inotify sees every change on a file system: on local ones it does, on NFS, FUSE and
//! other shared ones it may miss changes.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

/// Superblock magic numbers (statfs(2)) of file systems that are written to through this kernel
/// alone. On all others - NFS, SMB, CephFS, Lustre, FUSE, 9p, the lower layers of overlays -
/// changes may raise no event.
const LOCAL: [u64; 5] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x0102_1994, // tmpfs
    0xf2f5_2010, // f2fs
];

/// Whether every change on the file system of a directory raises an event.
pub fn has_events(directory: impl AsFd) -> bool {
    // The field's type differs between architectures; magic numbers have 32 bits.
    fstatfs(directory).is_ok_and(|statfs| LOCAL.contains(&(statfs.f_type as u64 & 0xffff_ffff)))
}
