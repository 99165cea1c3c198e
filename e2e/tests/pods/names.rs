//! Name resolution in pods: cluster DNS with search domains, and `/etc/hosts`.

use std::fs;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use serde_json::json;

use crate::pod::Pod;
use crate::podman::podman;

/// The address of the DNS server; many clusters have this one.
const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Name and address of the directory server: the Service `ldap` in the namespace `directory`.
pub const LDAP: (&str, Ipv4Addr) = ("ldap.directory", Ipv4Addr::new(10, 96, 0, 20));

/// Adds the addresses of the DNS and directory servers to the loopback interface, once.
pub fn services() {
    static ADDED: OnceLock<()> = OnceLock::new();
    ADDED.get_or_init(|| {
        for address in [DNS, LDAP.1] {
            let mut ip = Command::new("ip");
            ip.args(["address", "add", &format!("{address}/32"), "dev", "lo"]);
            assert!(ip.status().expect("ip").success());
        }
    });
}

/// A DNS server with a record for one Service. Dropping it ends the process.
struct Dns(Child);

impl Dns {
    fn start() -> Self {
        let mut dnsmasq = Command::new("dnsmasq");
        dnsmasq.args([
            "--keep-in-foreground",
            "--no-resolv",
            "--no-hosts",
            "--conf-file=/dev/null",
        ]);
        dnsmasq.args(["--bind-interfaces", "--user=root", "--pid-file", "--log-queries=extra"]);
        dnsmasq.arg("--log-facility").arg(podman().dir().join("dns.log"));
        dnsmasq.args([&format!("--listen-address={DNS}"), "--local=/cluster.local/"]);
        dnsmasq.arg(format!("--host-record={}.svc.cluster.local,{}", LDAP.0, LDAP.1));
        Self(dnsmasq.stdin(Stdio::null()).spawn().expect("dnsmasq is installed"))
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        // If dnsmasq has ended already, the test's assertions fail.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The scan's pod, configured for the directory server at `url`, with TLS required.
fn job(url: &str, slapd: &Slapd, data: &std::path::Path) -> Pod {
    let mut pod = Pod::from_manifest("k8s/ownership/base/cronjob.yaml", "CronJob");
    fs::write(data.join("password"), READER.1).expect("written");
    fs::copy(slapd.ca_file(), data.join("ca.pem")).expect("copied");
    pod.set_volume("data", data);
    pod.set_volume("ldap", data);
    let settings = [
        ("LDAP_URL", url),
        ("LDAP_BASE_DN", BASE_DN),
        ("LDAP_BIND_DN", READER.0),
        ("LDAP_BIND_PASS_FILE", "/etc/data-owner-resolver/password"),
        ("LDAP_CA_FILE", "/etc/data-owner-resolver/ca.pem"),
        ("LDAP_REQUIRE_TLS", "true"),
    ];
    pod.config_map("data-owner-resolver-config", &settings);
    pod.container("data-owner-resolver")["args"] = json!(["/mnt/data/project"]);
    pod
}

#[test]
#[ignore = "runs pods: make e2e"]
fn service_names_resolve_by_search_domains() {
    services();
    let _dns = Dns::start();
    let slapd = Slapd::start(&Setup { host: Some(LDAP), ..Setup::default() });
    let data = podman().dir().join("names");
    fs::create_dir_all(data.join("project")).expect("made");
    std::os::unix::fs::chown(data.join("project"), Some(30001), None).expect("given away");
    let mut pod = job(&slapd.tls_url(), &slapd, &data);
    // The DNS settings that the kubelet writes for `dnsPolicy: ClusterFirst`.
    pod.spec()["dnsPolicy"] = "None".into();
    pod.spec()["dnsConfig"] = json!({
        "nameservers": [DNS.to_string()],
        "searches": ["data-owner-resolver.svc.cluster.local", "svc.cluster.local", "cluster.local"],
        "options": [{"name": "ndots", "value": "5"}],
    });
    let pod = pod.play();
    let outcome = pod.outcome("data-owner-resolver");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.contains("alice.johnson@example.com"), "{outcome:?}");
    // The first name that was looked up has the first search domain.
    let log = fs::read_to_string(podman().dir().join("dns.log")).expect("dnsmasq's log");
    let first = format!("{}.data-owner-resolver.svc.cluster.local", LDAP.0);
    assert!(log.contains(&first), "{log}");
}

#[test]
#[ignore = "runs pods: make e2e"]
fn names_in_the_hosts_file_of_a_pod_resolve() {
    services();
    let slapd = Slapd::start(&Setup { host: Some(LDAP), ..Setup::default() });
    let data = podman().dir().join("hosts");
    fs::create_dir_all(data.join("project")).expect("made");
    std::os::unix::fs::chown(data.join("project"), Some(30002), None).expect("given away");
    let mut pod = job(&slapd.tls_url(), &slapd, &data);
    pod.spec()["hostAliases"] = json!([{"ip": LDAP.1.to_string(), "hostnames": [LDAP.0]}]);
    let outcome = pod.play().outcome("data-owner-resolver");
    assert_eq!((outcome.code, &outcome.stderr[..]), (Some(0), ""), "{outcome:?}");
    assert!(outcome.stdout.contains("bob.smith@example.com"), "{outcome:?}");
}
