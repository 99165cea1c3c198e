//! An HTTP server for tests, on a free port of loopback, with or without TLS.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it arrived.
pub struct Request {
    /// The request line and the headers.
    pub head: String,
    /// The body.
    pub body: String,
}

/// A server. Its threads end with the test program.
pub struct Server {
    /// The port where it listens.
    pub port: u16,
    requests: Receiver<Request>,
}

/// What the server does after it has read a request.
#[derive(Clone, Copy)]
pub enum Answer {
    /// Sends this text and closes the connection.
    Text(&'static str),
    /// Calls this function with the connection, then closes it.
    Act(fn(&mut dyn Write)),
}

impl Server {
    /// Starts a server that gives each connection the next answer, and closes further connections.
    pub fn start(answers: Vec<Answer>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (sender, requests) = channel();
        thread::spawn(move || {
            let mut answers = answers.into_iter();
            for connection in listener.incoming() {
                let (Ok(connection), Some(answer)) = (connection, answers.next()) else { return };
                let (sender, tls) = (sender.clone(), tls.clone());
                thread::spawn(move || {
                    let answered = |request| {
                        // The test may be over.
                        let _ = sender.send(request);
                    };
                    match tls {
                        None => serve(connection, answer, answered),
                        Some(config) => {
                            let server = ServerConnection::new(config).expect("a connection");
                            serve(StreamOwned::new(server, connection), answer, answered);
                        }
                    }
                });
            }
        });
        Self { port, requests }
    }

    /// The next request.
    pub fn request(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(60)).expect("a request")
    }

    /// Asserts that no other request has arrived.
    pub fn assert_quiet(&self) {
        assert!(self.requests.try_recv().is_err(), "another request");
    }

    /// A URL of the server with a secret in its query.
    pub fn url(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}/hook?key=in-the-url", self.port)
    }
}

fn serve(stream: impl Read + Write, answer: Answer, received: impl FnOnce(Request)) {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        // A handshake that failed, or a client that is gone.
        if !matches!(stream.read_line(&mut line), Ok(1..)) {
            return;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a length");
        }
        if line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body");
    received(Request { head, body: String::from_utf8(body).expect("UTF-8") });
    match answer {
        // The client may be gone.
        Answer::Text(text) => drop(stream.get_mut().write_all(text.as_bytes())),
        Answer::Act(act) => act(stream.get_mut()),
    }
}

/// Whether a client has connected to a listener.
pub fn has_connected(listener: &TcpListener) -> bool {
    listener.set_nonblocking(true).expect("set");
    listener.accept().is_ok()
}

/// TLS with this certificate and key.
pub fn tls((certificate, key): (impl AsRef<Path>, impl AsRef<Path>)) -> Arc<ServerConfig> {
    let certificate = CertificateDer::from_pem_file(certificate).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(key).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("versions");
    let config = config.with_no_client_auth().with_single_cert(vec![certificate], key);
    Arc::new(config.expect("a configuration"))
}
