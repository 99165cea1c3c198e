//! nginx and its reloader.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::container::{Container, Running, new_port, wait_for};
use crate::data::{Volume, tree};

/// reloader finds nginx by its title among all processes, so only one pod may run at a time.
static ONE_POD: Mutex<()> = Mutex::new(());

/// A pod: nginx and its reloader.
struct Pod {
    // In this order: the reloader ends first, and another pod may start last.
    reloader: Running,
    nginx: Running,
    port: u16,
    metrics: u16,
    _alone: MutexGuard<'static, ()>,
}

impl Pod {
    /// Starts both containers as the manifest has them, and waits until nginx answers.
    fn start(volume: &Volume) -> Self {
        Self::start_with(volume, |_, _| {})
    }

    /// The same after more changes of both containers, reloader first.
    fn start_with(volume: &Volume, change: impl FnOnce(&mut Container, &mut Container)) -> Self {
        let alone = ONE_POD.lock().unwrap_or_else(PoisonError::into_inner);
        let (port, metrics) = (new_port(), new_port());
        let mut reloader = Container::of("Deployment", "nginx", "reloader", &[]);
        reloader.volume("provisioned-data", volume.dir());
        reloader.replace(":9533", &format!("127.0.0.1:{metrics}"));
        let mut nginx = Container::of("Deployment", "nginx", "nginx", &[]);
        nginx.volume("provisioned-data", volume.dir());
        nginx.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"));
        nginx.replace("listen [::]:8080;", &format!("listen [::1]:{port};"));
        change(&mut reloader, &mut nginx);
        let reloader = reloader.start();
        let mut nginx = nginx.start();
        wait_for("nginx", || {
            nginx.assert_runs();
            get(port, "/healthz").ok().filter(|body| body == "ok\n")
        });
        Self { reloader, nginx, port, metrics, _alone: alone }
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
    get_from(Ipv4Addr::LOCALHOST.into(), port, path)
}

fn get_from(address: IpAddr, port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((address, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::InvalidData)?;
    Ok(body.to_owned())
}

/// A tree with a server that answers with the number of a version.
fn version(port: u16, number: u32) -> PathBuf {
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

#[test]
#[ignore = "run by make test-applications"]
fn nginx_listens_on_both_families() {
    let volume = Volume::new();
    volume.publish(&version(new_port(), 1));
    let pod = Pod::start(&volume);
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    for address in addresses {
        assert_eq!(get_from(address, pod.port, "/healthz").expect("an answer"), "ok\n");
    }
}

#[test]
#[ignore = "run by make test-applications"]
fn a_held_connection_keeps_an_old_worker_only_for_a_time() {
    let (volume, site) = (Volume::new(), new_port());
    let slow = |number: u32| {
        let server = format!(
            "server {{ listen 127.0.0.1:{site}; limit_rate 1; return 200 '{number} {}'; }}\n",
            "x".repeat(600)
        );
        tree(&[("nginx/site.conf", server.as_bytes())])
    };
    volume.publish(&slow(1));
    let pod = Pod::start_with(&volume, |_, nginx| {
        nginx.replace("worker_shutdown_timeout 60s", "worker_shutdown_timeout 20s");
    });
    pod.wait_for_success(1.0);
    let mut held = TcpStream::connect((Ipv4Addr::LOCALHOST, site)).expect("a connection");
    held.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("sent");
    held.read_exact(&mut [0]).expect("the first byte of an answer that takes minutes");
    volume.publish(&slow(2));
    wait_for("the reload", || pod.reloader.log().contains(", 1 shutting down; ").then_some(()));
    let name = "reloader_nginx_workers_shutting_down";
    let (_, after) = wait_for(name, || pod.metric(name).filter(|value| *value == 0.0));
    println!("the old worker has ended {after:.2?} after the reload");
}

/// Between two requests of a client, so that the load leaves time for the reloads.
const PAUSE: Duration = Duration::from_millis(2);

/// New connections and kept ones under load: how many requests were answered, and how many were not.
#[derive(Default)]
struct Load {
    new: [AtomicU64; 2],
    kept: [AtomicU64; 2],
    is_over: AtomicBool,
}

impl Load {
    /// Runs `work` while two clients connect for each request and two keep their connections. Prints the
    /// counts, and returns how many requests on new connections were answered, and how many not.
    fn during(what: &str, site: u16, work: impl FnOnce()) -> [u64; 2] {
        let load = Self::default();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| load.connect_anew(site));
                scope.spawn(|| load.keep(site));
            }
            // A panic of the work must end the clients, too.
            let outcome = catch_unwind(AssertUnwindSafe(work));
            load.is_over.store(true, Ordering::Relaxed);
            outcome.unwrap_or_else(|panic| resume_unwind(panic));
        });
        let [new, kept] = [&load.new, &load.kept].map(|counts| counts.each_ref().map(count));
        println!(
            "{what}: new connections: {} answered, {} failed; requests on kept connections: {} answered, \
             {} cut off",
            new[0], new[1], kept[0], kept[1]
        );
        new
    }

    fn connect_anew(&self, site: u16) {
        while !self.is_over.load(Ordering::Relaxed) {
            let is_answered = get(site, "/").is_ok_and(|body| body.starts_with("version "));
            self.new[usize::from(!is_answered)].fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
    }

    fn keep(&self, site: u16) {
        while !self.is_over.load(Ordering::Relaxed) {
            let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, site)) else { continue };
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
            let mut reader = BufReader::new(stream);
            while !self.is_over.load(Ordering::Relaxed) {
                let is_answered = request(&mut reader).is_ok();
                self.kept[usize::from(!is_answered)].fetch_add(1, Ordering::Relaxed);
                if !is_answered {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// One request on a connection that stays open.
fn request(connection: &mut BufReader<TcpStream>) -> io::Result<()> {
    connection.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        if connection.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().map_err(|_| io::ErrorKind::InvalidData)?;
        }
    }
    connection.read_exact(&mut vec![0; length])
}

#[test]
#[ignore = "run by make test-applications"]
fn a_hundred_reloads_under_load_fail_no_new_connection() {
    let (volume, site) = (Volume::new(), new_port());
    volume.publish(&version(site, 0));
    let pod = Pod::start_with(&volume, |reloader, _| {
        // By default five seconds pass between reloads.
        reloader.env.insert("RELOADER_COOLDOWN".to_owned(), "0".to_owned());
    });
    pod.wait_for_success(1.0);
    let reloads = || pod.metric("reloader_reloads_total{result=\"success\"}").unwrap_or_default();
    let before = reloads();
    let (mut slowest, mut total) = (Duration::ZERO, Duration::ZERO);
    let new = Load::during("100 reloads by reloader", site, || {
        for number in 1..=100 {
            volume.publish(&version(site, number));
            let live = wait_for_version(site, number);
            (slowest, total) = (slowest.max(live), total + live);
            wait_for("the proof", || (reloads() >= before + f64::from(number)).then_some(()));
        }
    });
    println!("live after the end of provisioner: mean {:.2?}, slowest {slowest:.2?}", total / 100);
    assert_eq!(new[1], 0, "{}", pod.nginx.log());
    assert!(new[0] > 100, "no load");

    let new = Load::during("100 reloads by kill -HUP", site, || {
        for _ in 0..100 {
            let generation = workers(&pod);
            kill(pod.nginx.id(), Signal::SIGHUP).expect("sent");
            wait_for("new workers", || {
                let now = workers(&pod);
                (!now.is_empty() && now.iter().all(|id| !generation.contains(id))).then_some(())
            });
        }
    });
    assert_eq!(new[1], 0, "{}", pod.nginx.log());
}

/// The processes of nginx's workers.
fn workers(pod: &Pod) -> Vec<String> {
    let master = pod.nginx.id();
    let children = fs::read_to_string(format!("/proc/{master}/task/{master}/children"));
    children.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}
