//! Creates certificate authorities and server certificates for one test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

/// A private authority. Its files are in a directory that the caller gives.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Creates an authority and writes its certificate to `dir`/`name`.pem.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        fs::write(dir.join(format!("{name}.pem")), certificate.pem()).expect("written");
        Self { dir: dir.to_owned(), issuer: Issuer::new(params, key) }
    }

    /// Issues a server certificate for these DNS names and IP addresses; returns the files of
    /// the certificate and of its key.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn issue(&self, name: &str, subjects: &[&str]) -> (PathBuf, PathBuf) {
        self.sign(name, &params(subjects))
    }

    /// Issues a server certificate that has expired.
    ///
    /// # Panics
    /// Panics if this fails.
    pub fn issue_expired(&self, name: &str, subjects: &[&str]) -> (PathBuf, PathBuf) {
        let mut params = params(subjects);
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
        self.sign(name, &params)
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let files = (self.dir.join(format!("{name}.crt")), self.dir.join(format!("{name}.key")));
        fs::write(&files.0, certificate.pem()).expect("written");
        fs::write(&files.1, key.serialize_pem()).expect("written");
        files
    }
}

fn params(subjects: &[&str]) -> CertificateParams {
    let subjects: Vec<_> = subjects.iter().map(|&subject| subject.to_owned()).collect();
    CertificateParams::new(subjects).expect("valid subjects")
}
