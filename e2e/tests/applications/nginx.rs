//! nginx and its reloader.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::container::{Container, Running, new_port, wait_for};
use crate::data::{Volume, tree};

/// reloader finds nginx by its title among all processes, so only one pod may run at a time.
static ONE_POD: Mutex<()> = Mutex::new(());

/// A pod: nginx and its reloader.
struct Pod {
    // In this order: the reloader ends first, and another pod may start last.
    reloader: Running,
    _nginx: Running,
    metrics: u16,
    _alone: MutexGuard<'static, ()>,
}

impl Pod {
    /// Starts both containers as the manifest has them, and waits until nginx answers.
    fn start(volume: &Volume) -> Self {
        let alone = ONE_POD.lock().unwrap_or_else(PoisonError::into_inner);
        let (port, metrics) = (new_port(), new_port());
        let mut reloader = Container::of("Deployment", "nginx", "reloader", &[]);
        reloader.volume("provisioned-data", volume.dir());
        reloader.replace(":9533", &format!("127.0.0.1:{metrics}"));
        let mut nginx = Container::of("Deployment", "nginx", "nginx", &[]);
        nginx.volume("provisioned-data", volume.dir());
        nginx.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
        let reloader = reloader.start();
        let mut nginx = nginx.start();
        wait_for("nginx", || {
            nginx.assert_runs();
            get(port, "/healthz").ok().filter(|body| body == "ok\n")
        });
        Self { reloader, _nginx: nginx, metrics, _alone: alone }
    }

    /// Waits until the last reload is reported as successful (1) or failed (0).
    fn wait_for_success(&self, expected: f64) -> Duration {
        let name = "reloader_last_reload_successful";
        wait_for(name, || self.metric(name).filter(|value| *value == expected)).1
    }

    /// The value of a metric of reloader.
    fn metric(&self, name: &str) -> Option<f64> {
        let text = get(self.metrics, "/metrics").ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.parse().ok()
    }
}

/// The body of the answer to a GET.
fn get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok(body.to_owned())
}

/// A tree with a server that answers with the number of a version.
fn version(port: u16, number: u32) -> std::path::PathBuf {
    let server = format!(
        "server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"version {number}\\n\"; }} }}\n"
    );
    tree(&[("nginx/site.conf", server.as_bytes())])
}

/// Waits until the server of a site answers with this version.
fn wait_for_version(site: u16, number: u32) -> Duration {
    let expected = format!("version {number}\n");
    wait_for(&expected, || get(site, "/").ok().filter(|body| *body == expected)).1
}

#[test]
#[ignore = "run by make test-applications"]
fn a_broken_configuration_leaves_the_old_version_until_a_rollback() {
    let (volume, site) = (Volume::new(), new_port());
    volume.publish(&version(site, 1));
    let pod = Pod::start(&volume);
    wait_for_version(site, 1);
    volume.publish(&version(site, 2));
    let after = wait_for_version(site, 2);
    println!("nginx serves a version {after:.2?} after the end of provisioner");
    pod.wait_for_success(1.0);

    volume.publish(&tree(&[("nginx/site.conf", b"server { listen nonsense; }\n")]));
    let after = pod.wait_for_success(0.0);
    println!("reloader reports the broken configuration after {after:.2?}");
    assert_eq!(get(site, "/").expect("an answer"), "version 2\n");

    volume.roll_back();
    let after = pod.wait_for_success(1.0);
    println!("reloader reports success {after:.2?} after the rollback");
    assert_eq!(get(site, "/").expect("an answer"), "version 2\n");
    let log = pod.reloader.log();
    assert!(log.contains("workers replaced") || log.contains("worker replaced"), "{log}");
}
