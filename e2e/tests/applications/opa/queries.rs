//! Asks OPA for all numbers of a version, again and again, in two threads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::Value;

use crate::opa::MODULES;

/// How OPA has answered.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub answers: usize,
    pub errors: usize,
    /// Without a result, or with a part of it.
    pub undefined: usize,
    /// With numbers of several versions.
    pub mixed: usize,
    /// Changes of the version.
    pub versions: usize,
}

/// The threads that ask.
pub struct Queries {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Counts>>,
}

impl Queries {
    /// Starts to ask the OPA at this port.
    pub fn start(port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let start = |_| {
            let is_over = is_over.clone();
            thread::spawn(move || ask_until(port, &is_over))
        };
        Self { threads: (0..2).map(start).collect(), is_over }
    }

    /// Stops, and returns the counts of all threads; `versions` is that of one.
    pub fn end(self) -> Counts {
        self.is_over.store(true, Ordering::Relaxed);
        let counts = self.threads.into_iter().map(|thread| thread.join().expect("its counts"));
        counts.fold(Counts::default(), |sum, one| Counts {
            answers: sum.answers + one.answers,
            errors: sum.errors + one.errors,
            undefined: sum.undefined + one.undefined,
            mixed: sum.mixed + one.mixed,
            versions: one.versions,
        })
    }
}

fn ask_until(port: u16, is_over: &AtomicBool) -> Counts {
    let mut counts = Counts::default();
    let mut connection = None;
    let mut version = Value::Null;
    while !is_over.load(Ordering::Relaxed) {
        let answer = ask(port, &mut connection);
        counts.answers += 1;
        let Ok(answer) = answer else {
            connection = None;
            counts.errors += 1;
            continue;
        };
        let numbers = answer["result"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(first) = numbers.first().filter(|_| numbers.len() == MODULES + 2) else {
            counts.undefined += 1;
            continue;
        };
        if numbers.iter().any(|number| number != first) {
            counts.mixed += 1;
            println!("mixed: {answer}");
        } else if *first != version {
            counts.versions += 1;
            version = first.clone();
        }
    }
    counts
}

/// Sends a query over a connection that is kept.
fn ask(port: u16, connection: &mut Option<BufReader<TcpStream>>) -> io::Result<Value> {
    if connection.is_none() {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        *connection = Some(BufReader::new(stream));
    }
    let reader = connection.as_mut().ok_or(io::ErrorKind::NotConnected)?;
    reader.get_mut().write_all(b"GET /v1/data/check/all HTTP/1.1\r\nHost: opa\r\n\r\n")?;
    let (mut length, mut line) = (0, String::new());
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        match line.trim_end().to_ascii_lowercase().split_once(": ") {
            Some(("content-length", text)) => length = text.parse().unwrap_or_default(),
            Some(_) => {}
            None if line.starts_with("HTTP/1.1 200") => {}
            None if line == "\r\n" => break,
            None => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}
