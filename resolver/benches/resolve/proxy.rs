//! A proxy that makes a server distant: it delays bytes, but does not limit their rate.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// Starts a proxy on loopback that delays all bytes by `delay` in each direction. It runs until this
/// program ends. Returns its port.
///
/// # Errors
/// Fails if no port is free.
pub fn start(server: String, delay: Duration) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let port = listener.local_addr()?.port();
    thread::spawn(move || {
        for client in listener.incoming() {
            // If a connection fails, the measured command fails too.
            let _ = client.and_then(|client| join(client, &server, delay));
        }
    });
    Ok(port)
}

fn join(client: TcpStream, server: &str, delay: Duration) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    pass(client.try_clone()?, server.try_clone()?, delay);
    pass(server, client, delay);
    Ok(())
}

/// Copies bytes with two threads: one reads, the other sleeps until they are due and writes.
fn pass(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let (sender, chunks) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut buffer = [0; 64 * 1024];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..count].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || {
        for (due, chunk) in chunks {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if to.write_all(&chunk).is_err() {
                break;
            }
        }
        // Fails if the other side has closed the connection already.
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}
