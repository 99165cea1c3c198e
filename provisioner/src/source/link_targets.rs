//! Tells whether a symbolic link leads out of a tree, from the tree in memory, before it is on a volume.

use published_tree::tree::{Node, Tree, join};

/// The most links that one path may pass, as in the kernel (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

/// Whether a link in `directory` leads out of the tree, also through other links. A dangling link does
/// not. The result is that of `openat2(2)` with `RESOLVE_BENEATH`.
pub fn leads_out(tree: &Tree, directory: &[u8], target: &[u8]) -> bool {
    let mut here: Vec<Vec<u8>> = components(directory).map(<[u8]>::to_vec).collect();
    // The components that are left, the next one last.
    let mut ahead: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let mut target = Some(target.to_vec());
    loop {
        if let Some(target) = target.take() {
            links += 1;
            if target.starts_with(b"/") {
                return true;
            }
            if links > MAX_LINKS {
                return false;
            }
            ahead.extend(components(&target).rev().map(<[u8]>::to_vec));
        }
        let Some(name) = ahead.pop() else { return false };
        match &name[..] {
            b"." => {}
            b".." => {
                if here.pop().is_none() {
                    return true;
                }
            }
            name => match tree.find(&join(&here.join(&b'/'), name)).map(|at| tree.entry(at).1) {
                Some(Node::Directory { .. }) => here.push(name.to_vec()),
                Some(Node::Link { target: next }) => target = Some(next.to_vec()),
                Some(Node::File { .. }) | None => return false,
            },
        }
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use crate::source::scan::{check_copy, check_targets, scan_names};
    use published_tree::dir::Dir;

    #[test]
    fn links_resolve_as_in_the_kernel() {
        let root = tempfile::tempdir().unwrap();
        let links = [
            ("a/in", "../b"),
            ("a/top", ".."),
            ("a/out", "../.."),
            ("through", "a/top/../b"),
            ("through-in", "a/top/a/../b"),
            ("to-in", "a/in"),
            ("absolute", "/etc/passwd"),
            ("by-absolute", "absolute/x"),
            ("self", "self"),
            ("ping", "pong"),
            ("pong", "ping/.."),
            ("nowhere", "missing/../../.."),
            ("of-a-file", "file/../../.."),
            ("root", "."),
            ("root-up", "root/.."),
            ("slashes", "a//.///../b"),
            ("deep", "a/b/c/../../../.."),
            ("deep-in", "a/b/c/../../.."),
            ("a/b/c/far", "../../../../x"),
            ("via", "a/b/c/far"),
        ];
        fs::create_dir_all(root.path().join("a/b/c")).unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        for (name, target) in links {
            symlink(target, root.path().join(name)).unwrap();
        }
        let dir = Dir::open(root.path()).unwrap();
        let tree = scan_names(&dir, |_| true).unwrap();
        let by_kernel = check_copy(&dir, &tree).unwrap_err().to_string();
        assert_eq!(check_targets(&dir, &tree).unwrap_err().to_string(), by_kernel);
        assert_eq!(by_kernel.matches("leads out").count(), 8, "{by_kernel}");
    }
}
