//! The path of the current directory, kept as a stack of names: moving to another directory costs
//! only the part that differs.

/// Appends a name or a path, in the encoding of an output format. Encoding a path in parts, split
/// at slashes, must give the same as encoding it whole.
pub type PushPath = fn(&mut Vec<u8>, &[u8]);

/// Appends the bytes as they are.
pub fn push_raw(out: &mut Vec<u8>, path: &[u8]) {
    out.extend_from_slice(path);
}

/// The path of the current directory, in the encoding of an output format.
#[derive(Debug)]
pub struct PathStack {
    /// The encoded path, which ends in a slash.
    text: Vec<u8>,
    /// Where the path of each depth ends in `text`.
    ends: Vec<usize>,
    push_path: PushPath,
}

impl PathStack {
    /// An empty path, to be encoded by `push_path`.
    pub fn new(push_path: PushPath) -> Self {
        Self { text: Vec::new(), ends: Vec::new(), push_path }
    }

    /// Moves to directory `name` at `depth`: 0 for a root, at most one more than before.
    pub fn set(&mut self, depth: usize, name: &[u8]) {
        self.ends.truncate(depth);
        self.text.truncate(self.ends.last().copied().unwrap_or(0));
        (self.push_path)(&mut self.text, name);
        if !self.text.ends_with(b"/") {
            self.text.push(b'/');
        }
        self.ends.push(self.text.len());
    }

    /// Appends the path of the entry `name` of the current directory to `out`.
    pub fn push_child(&self, out: &mut Vec<u8>, name: &[u8]) {
        out.extend_from_slice(&self.text);
        (self.push_path)(out, name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_follow_the_walk() {
        let mut path = PathStack::new(push_raw);
        let child = |path: &PathStack, name: &[u8]| {
            let mut out = Vec::new();
            path.push_child(&mut out, name);
            String::from_utf8(out).unwrap()
        };
        path.set(0, b"/");
        assert_eq!(child(&path, b"x"), "/x");
        path.set(1, b"a");
        path.set(2, b"b");
        assert_eq!(child(&path, b"x"), "/a/b/x");
        path.set(1, b"c");
        assert_eq!(child(&path, b"x"), "/c/x");
        path.set(0, b"srv/");
        assert_eq!(child(&path, b"x"), "srv/x");
    }
}
