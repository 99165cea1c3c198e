//! Reads and writes the ownership JSON that the programs exchange.
//!
//! * [`PairReader`] reads `{"path": uid}` or `{"path": [uid, ...]}` as a stream.
//! * [`ObjectWriter`] writes an object with one member a line. Callers write the values.
//! * [`push_string`] writes names losslessly that are not UTF-8.

mod fast_path;
mod reader;
mod source;
mod string;
mod writer;

pub use reader::{InputError, Owners, Pair, PairReader};
pub use source::{BeforeRead, ReadAhead, Source};
pub use string::{push_fragment, push_string};
pub use writer::{ObjectWriter, OutputClosed, SEPARATOR, unbuffered_stdout, write_error};
