//! A client of the bundle server that shows what is on the wire.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

/// A response whose body has not been read.
pub struct Response {
    /// 0 if the connection ended without a response.
    pub status: u16,
    headers: Vec<(String, String)>,
    reader: BufReader<TcpStream>,
}

/// The end of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The last chunk came.
    Complete,
    /// The connection ended before.
    CutOff,
}

/// Sends `GET /bundle.tar.gz` with these header lines.
pub fn get(address: &str, headers: &[&str]) -> Response {
    request(address, "GET /bundle.tar.gz", headers, "")
}

/// Sends a request, as `GET /`, with header lines and a body.
pub fn request(address: &str, line: &str, headers: &[&str], body: &str) -> Response {
    let mut stream = TcpStream::connect(address).expect("connected");
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    write!(stream, "{line} HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}").expect("sent");
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines
        .first()
        .map_or(0, |line| line.split(' ').nth(1).expect("a status").parse().expect("a number"));
    let headers = lines.iter().skip(1).filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    Response { status, headers, reader }
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// The digest in the `ETag`.
    pub fn digest(&self) -> String {
        self.header("etag").expect("an ETag").trim_matches('"').to_owned()
    }

    /// Reads the rest of a chunked body.
    pub fn body(mut self) -> (Vec<u8>, End) {
        let mut body = Vec::new();
        loop {
            let mut size = String::new();
            if self.reader.read_line(&mut size).unwrap_or(0) == 0 {
                return (body, End::CutOff);
            }
            let size = u64::from_str_radix(size.trim_end(), 16).expect("the size of a chunk");
            if size == 0 {
                return (body, End::Complete);
            }
            let before = body.len() as u64;
            let read = (&mut self.reader).take(size).read_to_end(&mut body);
            let mut end = [0; 2];
            if read.is_err()
                || body.len() as u64 - before < size
                || self.reader.read_exact(&mut end).is_err()
            {
                return (body, End::CutOff);
            }
        }
    }

    /// Unpacks the body, which must be complete.
    pub fn unpack(self, directory: &Path) {
        let (body, end) = self.body();
        assert_eq!(end, End::Complete);
        std::fs::create_dir_all(directory).expect("made");
        let directory = directory.to_str().expect("UTF-8");
        assert!(tar(&["--extract", "--gzip", "--directory", directory], body));
    }
}

/// Whether tar succeeds with this archive.
pub fn tar(args: &[&str], archive: Vec<u8>) -> bool {
    let mut tar = Command::new("tar");
    tar.args(args).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut tar = tar.spawn().expect("tar");
    let mut stdin = tar.stdin.take().expect("a pipe");
    let feed = thread::spawn(move || drop(stdin.write_all(&archive)));
    let status = tar.wait().expect("an end");
    feed.join().expect("fed");
    status.success()
}
