//! The ownership JSON contract, shared by the binaries that write and read it.
//!
//! * `{"path": uid}` (or `{"path": [uid, ...]}`), one pair a line: read by [`PairReader`].
//! * Any object of that layout, one member a line: written by [`ObjectWriter`].
//! * Names that are not UTF-8: written losslessly by [`push_string`].
//!
//! What the values mean is left to the callers.

mod quick;
mod reader;
mod source;
mod string;
mod writer;

pub use reader::{InputError, Owners, Pair, PairReader};
pub use source::{BeforeRead, ReadAhead, Source};
pub use string::{push_fragment, push_string};
pub use writer::{ObjectWriter, OutputClosed, SEPARATOR, unbuffered_stdout, write_error};
