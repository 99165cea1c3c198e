//! Starts Keycloak as the manifest has it, with its certificate and truststores from a published tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use e2e::certificates::Authority;
use serde_json::{Value, json};

use crate::container::{Container, Running, new_dir, new_port, wait_long_for};
use crate::data::{Volume, tree};
use crate::postgres::{self, Postgres};

/// The host name of the manifest.
pub const HOST: &str = "keycloak.example.com";
/// The first administrator, and its password.
pub const ADMIN: (&str, &str) = ("admin", "s3cret of the administrator");

/// What all instances of a test share: the database, the volume, the authority of the certificates.
pub struct Site {
    database: Postgres,
    volume: Volume,
    dir: PathBuf,
    authority: Authority,
}

impl Site {
    /// Starts the database, and publishes a first certificate and a truststore.
    pub fn new() -> Self {
        let dir = new_dir("certificates");
        let authority = Authority::new(&dir, "site");
        let site = Self { database: Postgres::start(), volume: Volume::new(), dir, authority };
        site.publish(&[]);
        site
    }

    /// Publishes a new certificate with its key, and more files.
    pub fn publish(&self, more: &[(&str, &[u8])]) {
        let (certificate, key) = self.authority.issue("server", &[HOST]);
        let [certificate, key] = [certificate, key].map(|file| fs::read(file).expect("read"));
        let own = fs::read(self.dir.join("site.pem")).expect("read");
        let mut files: Vec<(&str, &[u8])> = vec![
            ("tls/tls.crt", &certificate),
            ("tls/tls.key", &key),
            ("truststores/site.pem", &own),
        ];
        files.extend(more);
        self.volume.publish(&tree(&files));
    }

    /// The serial number of the published certificate.
    pub fn serial(&self) -> String {
        let certificate = fs::read(self.volume.dir().join("tls/tls.crt")).expect("read");
        serial_of(&certificate).expect("a certificate")
    }

    /// Starts an instance.
    pub fn start(&self) -> Keycloak {
        let [https, management] = [(); 2].map(|()| new_port());
        let mut container =
            Container::of("Deployment", "keycloak", "keycloak", &["/opt/keycloak/bin/kc.sh"]);
        let program = std::env::var_os("KEYCLOAK").expect("run `make test-applications`");
        container.folder(PathBuf::from(program), "/opt/keycloak");
        container.volume("provisioned-data", self.volume.dir());
        // A Secret in the manifest: here a publication, so that provisioner delivers the pair.
        container.volume("tls", self.volume.dir());
        container.secret(
            "keycloak-database",
            &[("username", postgres::USER.0), ("password", postgres::USER.1)],
        );
        let database = format!("127.0.0.1:{}", self.database.port());
        container.replace("keycloak-database.example.com:5432", &database);
        container.replace("/etc/keycloak/tls/tls.", "/etc/keycloak/tls/tls/tls.");
        container.replace("10m", "30s");
        for (name, value) in [
            ("KC_HTTP_HOST", "127.0.0.1".to_owned()),
            ("KC_HTTPS_PORT", https.to_string()),
            ("KC_HTTP_MANAGEMENT_PORT", management.to_string()),
            ("KC_BOOTSTRAP_ADMIN_USERNAME", ADMIN.0.to_owned()),
            ("KC_BOOTSTRAP_ADMIN_PASSWORD", ADMIN.1.to_owned()),
        ] {
            container.env.insert(name.to_owned(), value);
        }
        Keycloak {
            running: container.start(),
            https,
            management,
            authority: self.dir.join("site.pem"),
        }
    }
}

/// The tokens of a login.
pub struct Session {
    access: String,
    refresh: String,
}

/// A running instance.
pub struct Keycloak {
    pub running: Running,
    pub https: u16,
    pub management: u16,
    authority: PathBuf,
}

impl Keycloak {
    /// Waits until the readiness probe of the manifest succeeds. `/health/started` does so before the
    /// bootstrap has ended.
    pub fn wait_until_ready(&mut self) -> Duration {
        wait_long_for("Keycloak to be ready", || {
            self.running.assert_runs();
            let (status, _) = self.request(self.management, "/health/ready", &[]);
            (status == 200).then_some(())
        })
        .1
    }

    /// Logs the administrator in.
    pub fn log_in(&self) -> Session {
        let form = format!("grant_type=password&username={}&password={}", ADMIN.0, ADMIN.1);
        self.token(&form)
    }

    /// Gets a new access token with the refresh token.
    pub fn refresh(&self, session: &Session) -> Session {
        self.token(&format!("grant_type=refresh_token&refresh_token={}", session.refresh))
    }

    fn token(&self, form: &str) -> Session {
        let path = "/realms/master/protocol/openid-connect/token";
        let form = format!("client_id=admin-cli&{}", form.replace(' ', "+"));
        let (status, body) = self.request(self.https, path, &["--data", &form]);
        assert_eq!(status, 200, "{body}");
        let body: Value = serde_json::from_str(&body).expect("JSON");
        let [access, refresh] = ["access_token", "refresh_token"]
            .map(|name| body[name].as_str().expect("a token").to_owned());
        Session { access, refresh }
    }

    /// The status of Keycloak's own test of a connection to a directory with TLS, which uses its truststores.
    pub fn test_directory(&self, session: &Session, url: &str) -> u16 {
        // An access token lives for a minute only.
        let session = self.refresh(session);
        let body = json!({
            "action": "testConnection", "connectionUrl": url, "useTruststoreSpi": "always",
            "connectionTimeout": "60000", "authType": "none", "startTls": "false",
        });
        let authorization = format!("Authorization: Bearer {}", session.access);
        let options = ["--header", &authorization, "--json", &body.to_string()];
        self.request(self.https, "/admin/realms/master/testLDAPConnection", &options).0
    }

    /// Sends a request with curl, which verifies the certificate. Returns status and body.
    pub fn request(&self, port: u16, path: &str, options: &[&str]) -> (u16, String) {
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "60", "--write-out", "\n%{http_code}", "--cacert"])
            .arg(&self.authority)
            .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")])
            .args(options)
            .arg(format!("https://{HOST}:{port}{path}"))
            .stdin(Stdio::null())
            .output()
            .expect("curl is installed");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap_or_default();
        (status.parse().unwrap_or(0), body.to_owned())
    }
}

/// A certificate of a new authority, and its key.
pub fn pair(dir: &Path, authority: &str) -> [Vec<u8>; 2] {
    let (certificate, key) = Authority::new(dir, authority).issue(authority, &[HOST]);
    [certificate, key].map(|file| fs::read(file).expect("read"))
}

/// The serial number of the certificate that a server presents.
pub fn serial(port: u16) -> Option<String> {
    let output = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-servername", HOST])
        .stdin(Stdio::null())
        .output()
        .expect("openssl is installed");
    serial_of(&output.stdout)
}

/// The serial number of a certificate in PEM.
fn serial_of(pem: &[u8]) -> Option<String> {
    let output =
        e2e::programs::run(Command::new("openssl").args(["x509", "-noout", "-serial"]), pem);
    (output.code == Some(0)).then(|| output.stdout.trim().to_owned())
}
