//! Recognises file systems by their type: whether link counts can be trusted, whether the kernel
//! generates the content (`/proc`), and whether opening a directory may mount another one.

use std::os::fd::AsFd;

use rustix::fs::fstatfs;

/// The properties of the file system that a directory lies on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// The link count of a directory is two more than the number of its subdirectories.
    pub counts_links: bool,
    /// The kernel generates its content (as of `/proc`): it holds no stored data.
    pub is_pseudo: bool,
    /// Opening a directory may mount another file system on it.
    pub may_automount: bool,
}

/// Superblock magic numbers (statfs(2)) of file systems whose directories have a link for each
/// subdirectory, as in traditional Unix. Others report 1 for "unknown" (btrfs, overlayfs). FUSE
/// and network file systems report what their server says.
const COUNTS_LINKS: [u64; 3] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x0102_1994, // tmpfs
];

/// Magic numbers of file systems whose content the kernel generates.
const PSEUDO: [u64; 19] = [
    0x1980_0202, // mqueue
    0x6759_6969, // rpc_pipefs
    0x6e66_7364, // nfsd
    0x6e73_6673, // nsfs
    0xf97c_ff8c, // selinuxfs
    0x9fa0,      // proc
    0x6265_6572, // sysfs
    0x0027_e0eb, // cgroup
    0x6367_7270, // cgroup2
    0x6462_6720, // debugfs
    0x7472_6163, // tracefs
    0x7363_6673, // securityfs
    0xcafe_4a11, // bpf
    0x6165_676c, // pstore
    0x6265_6570, // configfs
    0xde5e_81e4, // efivarfs
    0x4249_4e4d, // binfmt_misc
    0x1cd1,      // devpts
    0x6573_5543, // fusectl
];

const AUTOFS: u64 = 0x187;

impl FileSystem {
    /// The file system of an open directory; without any property if fstatfs(2) fails.
    pub fn of(directory: impl AsFd) -> Self {
        fstatfs(directory).map_or(Self::default(), |statfs| {
            // The field's type differs between architectures; magic numbers have 32 bits.
            let magic = statfs.f_type as u64 & 0xffff_ffff;
            Self {
                counts_links: COUNTS_LINKS.contains(&magic),
                is_pseudo: PSEUDO.contains(&magic),
                may_automount: magic == AUTOFS,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn proc_is_pseudo_and_counts_no_links() {
        let proc = FileSystem::of(File::open("/proc").unwrap());
        assert!(proc.is_pseudo && !proc.counts_links && !proc.may_automount);
    }
}
