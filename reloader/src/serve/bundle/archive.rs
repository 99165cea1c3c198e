//! Reads the files of a bundle, and sends them as a gzipped tar archive, in memory that does not depend
//! on their size.
//!
//! 1. A thread reads a file, writes its header and content through gzip, and compares its hash with
//!    that of the scan.
//! 2. Pieces go through a short queue to the connection, which takes them as fast as its reader does.
//! 3. The end of the archive is written after the last file was verified. After any failure the
//!    queue closes without it, and [`Pieces`] fails, which cuts the response off.

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, anyhow, bail};
use diagnostics::wording::{io_error, one_line};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::{Body, Bytes, Frame};
use published_tree::reader::Reader;
use published_tree::tree::Hash;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{Bundle, served, tar};
use crate::log::warn;

/// Pieces that wait for the connection.
const MAX_QUEUED: usize = 2;
/// The size of a piece, in bytes.
const PIECE_SIZE: usize = 64 * 1024;
/// How long a response may wait for its reader in all.
const MAX_WAIT: Duration = Duration::from_mins(5);

/// A piece of the archive, or its end.
type Piece = Option<Bytes>;

/// The pieces of an archive, as the body of a response.
pub struct Pieces(Receiver<Piece>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|piece| match piece {
            Some(Some(bytes)) => Some(Ok(Frame::data(bytes))),
            Some(None) => None,
            None => Some(Err(ErrorKind::UnexpectedEof.into())),
        })
    }
}

/// Starts a thread that sends the archive of a bundle. It holds `permit` until its end.
pub fn send(bundle: Arc<Bundle>, permit: impl Send + 'static) -> Pieces {
    let (queue, pieces) = channel(MAX_QUEUED);
    tokio::task::spawn_blocking(move || {
        let writer =
            PieceWriter { queue: queue.clone(), waited: Duration::ZERO, is_cut_off: false };
        match write(&bundle, writer) {
            Ok(()) => drop(queue.blocking_send(None)),
            // The client has gone.
            Err(_) if queue.is_closed() => {}
            Err(error) => {
                // OPA tries again and again.
                if bundle.is_reported.set(()).is_ok() {
                    warn(&format!("the bundle was cut off: {error:#}"));
                }
            }
        }
        drop(permit);
    });
    Pieces(pieces)
}

/// Writes the archive of a bundle.
fn write(bundle: &Bundle, out: PieceWriter) -> Result<()> {
    let out = BufWriter::with_capacity(PIECE_SIZE, out);
    let mut archive = GzEncoder::new(out, Compression::fast());
    let written = write_files(bundle, &mut archive);
    if written.is_err() {
        // The encoder would end the stream when it is dropped, so that a part looks like a whole.
        archive.get_mut().get_mut().is_cut_off = true;
        return written;
    }
    archive.finish().and_then(|mut out| out.flush()).context("failed to send the bundle")
}

fn write_files(bundle: &Bundle, archive: &mut impl Write) -> Result<()> {
    let mut reader = Reader::new(bundle.dir());
    if let Some(manifest) = &bundle.manifest {
        let size = manifest.len() as u64;
        let header = tar::header(b"/.manifest", size).context("the manifest is too large")?;
        write_all(archive, &header)?;
        write_all(archive, manifest.as_bytes())?;
        write_all(archive, tar::padding(size))?;
    }
    for (path, entry) in served(&bundle.files) {
        write_file(archive, &mut reader, path, &entry.hash)?;
    }
    // A client can have the whole bundle only after this.
    let _ = bundle.sent.set(SystemTime::now());
    write_all(archive, &tar::END)
}

fn write_file(
    archive: &mut impl Write,
    reader: &mut Reader<'_>,
    path: &[u8],
    hash: &Hash,
) -> Result<()> {
    let cut = path.iter().rposition(|&byte| byte == b'/');
    let (directory, name) = cut.map_or((&b""[..], path), |at| (&path[..at], &path[at + 1..]));
    let opened = reader.open(directory, name);
    let (mut file, found) = opened.map_err(|errno| reader.dir().error("open", path, errno))?;
    let header = tar::header(&[b"/", path].concat(), found.size);
    write_all(archive, &header.with_context(|| format!("`{}` is too large", one_line(path)))?)?;
    let mut digest = Sha256::new();
    let mut left = found.size;
    loop {
        let count = read(&mut file, &mut reader.buffer).map_err(|error| {
            anyhow!("failed to read `{}`: {}", one_line(path), io_error(&error))
        })?;
        // A file that has grown does not fit its header.
        if count == 0 || count as u64 > left {
            break;
        }
        left -= count as u64;
        digest.update(&reader.buffer[..count]);
        write_all(archive, &reader.buffer[..count])?;
    }
    let digest: Hash = digest.finalize().into();
    if left > 0 || digest != *hash {
        bail!("`{}` has changed", one_line(path));
    }
    write_all(archive, tar::padding(found.size))
}

fn read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

fn write_all(archive: &mut impl Write, bytes: &[u8]) -> Result<()> {
    archive.write_all(bytes).context("failed to send the bundle")
}

/// Writes pieces to the queue of a connection, and waits while it is full.
struct PieceWriter {
    queue: Sender<Piece>,
    /// How long it has waited for the reader.
    waited: Duration,
    /// Nothing more is sent.
    is_cut_off: bool,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_cut_off {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if self.waited > MAX_WAIT {
            return Err(ErrorKind::TimedOut.into());
        }
        let start = Instant::now();
        let sent = self.queue.blocking_send(Some(Bytes::copy_from_slice(bytes)));
        self.waited += start.elapsed();
        sent.map_err(|_| ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
