//! The same with serde_json: the whole input is in memory, so that keys need not be copied.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufWriter, Read, StdoutLock, Write};

use serde::de::{Deserializer as _, Error, MapAccess, Visitor};
use serde_json::Deserializer;

/// Prints the result of the resolver for the input on stdin, with owners that are known beforehand.
pub fn resolve(owners: &[(u32, &str)]) -> io::Result<()> {
    let mut input = Vec::new();
    io::stdin().read_to_end(&mut input)?;
    let value = |&(uid, email)| (uid, format!("\": {{\"{uid}\": \"{email}\"}}"));
    let values = owners.iter().map(value).collect();
    let out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    Deserializer::from_slice(&input).deserialize_map(Printer { values, out })?;
    Ok(())
}

/// Prints keys as they are: those of the input have no escapes.
struct Printer {
    values: HashMap<u32, String>,
    out: BufWriter<StdoutLock<'static>>,
}

impl Printer {
    fn print(&mut self, separator: &str, key: &str, uid: u32) -> io::Result<()> {
        let value = self.values.get(&uid).map_or("\": {}", String::as_str);
        for part in [separator, key, value] {
            self.out.write_all(part.as_bytes())?;
        }
        Ok(())
    }

    fn close(mut self) -> io::Result<()> {
        self.out.write_all(b"\n}\n")?;
        self.out.flush()
    }
}

impl<'de> Visitor<'de> for Printer {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        let mut separator = "{\n  \"";
        while let Some((key, uid)) = map.next_entry::<&str, u32>()? {
            self.print(separator, key, uid).map_err(Error::custom)?;
            separator = ",\n  \"";
        }
        self.close().map_err(Error::custom)
    }
}
