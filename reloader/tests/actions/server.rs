//! An HTTP server for tests, on a free port of loopback, that can also break the protocol.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut all = self.headers.iter().filter(|(other, _)| other == name);
        let value = all.next().map(|(_, value)| value.as_str());
        assert!(all.next().is_none(), "{name} is there once");
        value
    }
}

/// Writes an answer. The connection stays open unless this fails.
type Answer = dyn Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync;

trait Connection: Read + Write {}
impl<T: Read + Write> Connection for T {}

/// A server. It ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    received: Arc<Mutex<Vec<Request>>>,
    ended: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    /// Answers requests on a free port of loopback.
    pub fn start(
        answer: impl Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listen("http", None, Arc::new(answer))
    }

    /// The same over TLS, with a certificate and its key in PEM files.
    pub fn start_tls(
        (certificate, key): &(impl AsRef<Path>, impl AsRef<Path>),
        answer: impl Fn(&Request, &mut dyn Write) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let certificate =
            CertificateDer::from_pem_slice(&fs::read(certificate).expect("a file")).expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(&fs::read(key).expect("a file")).expect("PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a key of the certificate");
        Self::listen("https", Some(Arc::new(config)), Arc::new(answer))
    }

    /// Answers each request with a status and a body.
    pub fn answering(status: u16, body: &'static str) -> Self {
        Self::start(move |_, stream| answer(stream, status, "", body))
    }

    fn listen(scheme: &'static str, tls: Option<Arc<ServerConfig>>, answer: Arc<Answer>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let address = listener.local_addr().expect("an address");
        let received = Arc::new(Mutex::new(Vec::new()));
        let ended = Arc::new(AtomicBool::new(false));
        let acceptor = {
            let (received, ended) = (received.clone(), ended.clone());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    if ended.load(Ordering::SeqCst) {
                        return;
                    }
                    let Ok(stream) = stream else { continue };
                    let (received, answer, tls) = (received.clone(), answer.clone(), tls.clone());
                    thread::spawn(move || serve(stream, tls, &received, &*answer));
                }
            })
        };
        Self { address, scheme, received, ended, acceptor: Some(acceptor) }
    }

    /// A URL of this server.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    /// The requests so far.
    pub fn received(&self) -> Vec<Request> {
        self.received.lock().expect("no panic").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        let ended = self.acceptor.take().expect("it runs").join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

fn serve(
    stream: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    received: &Mutex<Vec<Request>>,
    answer: &Answer,
) {
    // A client that hangs must not keep the thread for ever.
    stream.set_read_timeout(Some(Duration::from_secs(120))).expect("a time-out");
    let stream: Box<dyn Connection> = match tls {
        Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls).expect("TLS"), stream)),
        None => Box::new(stream),
    };
    let mut stream = BufReader::new(stream);
    while let Ok(request) = read(&mut stream) {
        received.lock().expect("no panic").push(request.clone());
        let answered = answer(&request, stream.get_mut());
        if answered.and_then(|()| stream.get_mut().flush()).is_err() {
            return;
        }
    }
}

fn read(stream: &mut impl BufRead) -> io::Result<Request> {
    let mut line = || {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").map(str::to_owned);
        line.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
    };
    let first = line()?;
    let mut words = first.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap_or_default(),
        path: words.next().unwrap_or_default(),
        ..Request::default()
    };
    loop {
        let line = line()?;
        let Some((name, value)) = line.split_once(": ") else { break };
        request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length =
        request.header("content-length").map_or(0, |length| length.parse().expect("a number"));
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body)?;
    Ok(request)
}

/// Writes a whole answer. `headers` are further header lines, each with its line end.
pub fn answer(stream: &mut dyn Write, status: u16, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
    stream.write_all(answer.as_bytes())
}

/// Sends nothing: the connection waits for another request, which never comes.
pub fn hang() -> io::Result<()> {
    Ok(())
}
