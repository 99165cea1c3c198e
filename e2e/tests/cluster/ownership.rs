//! The ownership pipeline: a scan against slapd with TLS, whose log is the result, and the exit codes as the
//! real Job controller treats them.

use std::fs;
use std::net::Ipv4Addr;

use e2e::slapd::{BASE_DN, READER, Setup, Slapd};
use serde_json::{Value, json};

use crate::kubectl::{Namespace, tools_pod};
use crate::site::Site;

/// The address of the control plane's host, which pods reach.
const HOST: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const CRON_JOB: &str = "data-owner-resolver";
/// A directory of the nodes, which a Job of the tests creates.
const DATA: &str = "/var/lib/scanned";

/// A deployed scan and its directory server.
struct Scan {
    namespace: Namespace,
    slapd: Slapd,
    _site: Site,
}

impl Scan {
    /// Deploys the base in `namespace` with this password. The network policy allows the server's port.
    fn deploy(namespace: &str, password: &str) -> Self {
        let access = Some(format!("access to * by dn.base=\"{}\" read by * auth", READER.0));
        let slapd =
            Slapd::start(&Setup { host: Some(("172.30.0.1", HOST)), access, ..Setup::default() });
        let namespace = Namespace::create(namespace);
        let site = Site::new("k8s/ownership/base", &namespace.name, &settings(&slapd));
        fs::write(site.dir().join("password"), password).expect("written");
        fs::copy(slapd.ca_file(), site.dir().join("ca.pem")).expect("copied");
        create_data(&namespace);
        site.apply();
        site.assert_unchanged();
        Self { namespace, slapd, _site: site }
    }

    /// Starts a Job of the CronJob.
    fn start(&self, name: &str) {
        self.namespace.kubectl(&["create", "job", name, &format!("--from=cronjob/{CRON_JOB}")]);
    }

    /// The exit code of each pod of a Job.
    fn exit_codes(&self, job: &str) -> Vec<Value> {
        let selector = format!("--selector=batch.kubernetes.io/job-name={job}");
        let pods = self.namespace.json(&["get", "pods", &selector]);
        let code = |pod: &Value| {
            pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"].clone()
        };
        pods["items"].as_array().expect("pods").iter().map(code).collect()
    }
}

/// The settings of the test site. A second failure ends a Job, so that its test is short.
fn settings(slapd: &Slapd) -> String {
    format!(
        "configMapGenerator:
- name: data-owner-resolver-config
  behavior: merge
  literals:
  - LDAP_URL={}
  - LDAP_BASE_DN={BASE_DN}
  - LDAP_BIND_DN={}
  - LDAP_CA_FILE=/etc/data-owner-resolver/ca.pem
secretGenerator:
- name: data-owner-resolver-secret
  behavior: replace
  files:
  - LDAP_BIND_PASS=password
  - ca.pem
generatorOptions:
  disableNameSuffixHash: true
patches:
- target: {{kind: CronJob}}
  patch: |-
    - {{op: replace, path: /spec/jobTemplate/spec/backoffLimit, value: 1}}
    - {{op: replace, path: /spec/jobTemplate/spec/template/spec/volumes/0/hostPath/path, value: {DATA}}}
- target: {{kind: NetworkPolicy, name: data-owner-resolver}}
  patch: |-
    - {{op: replace, path: /spec/egress/1/to, value: [{{ipBlock: {{cidr: {HOST}/32}}}}]}}
    - {{op: replace, path: /spec/egress/1/ports, value: [{{protocol: TCP, port: {}}}]}}
",
        slapd.tls_url(),
        READER.0,
        slapd.tls_port(),
    )
}

/// Creates directories of several owners on each node.
fn create_data(namespace: &Namespace) {
    let script = format!(
        "cd {DATA}; mkdir -p a b shut; chown 30001 a; chown 30002 b; chown 30003 shut; chmod 700 shut"
    );
    for node in ["node1", "node2"] {
        let pod = format!("data-{node}");
        let mut object = tools_pod(&pod, &script);
        object["spec"]["nodeName"] = node.into();
        object["spec"]["volumes"] = json!([{
            "name": "data", "hostPath": {"path": DATA, "type": "DirectoryOrCreate"},
        }]);
        object["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "data", "mountPath": DATA}]);
        namespace.apply(&object);
        namespace.kubectl(&[
            "wait",
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=120s",
            &format!("pod/{pod}"),
        ]);
    }
}

#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn a_scan_prints_the_owners_as_json_alone() {
    let scan = Scan::deploy("data-owner-resolver", READER.1);
    scan.start("first");
    assert_eq!(scan.namespace.end_of_job("first"), None);
    let log = scan.namespace.kubectl(&["logs", "job/first"]);
    let result: Value = serde_json::from_str(&log).expect("JSON");
    let expected = json!({
        "/mnt/data": {"0": ""},
        "/mnt/data/a": {"30001": "alice.johnson@example.com"},
        "/mnt/data/b": {"30002": "bob.smith@example.com"},
        "/mnt/data/shut": {"30003": "charlie.brown@example.com"},
    });
    assert_eq!(result, expected);
}

/// Exit code 2: a second bind with the wrong password might lock the account.
#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn a_wrong_password_fails_the_job_after_one_pod() {
    let scan = Scan::deploy("wrong-password", "wr0ng");
    scan.start("first");
    assert_eq!(scan.namespace.end_of_job("first").as_deref(), Some("PodFailurePolicy"));
    assert_eq!(scan.exit_codes("first"), [2]);
}

/// Exit code 1: the server may come back, so the controller tries again.
#[test]
#[ignore = "runs a cluster: make test-cluster"]
fn an_unreachable_server_is_tried_again() {
    let mut scan = Scan::deploy("unreachable", READER.1);
    scan.slapd.crash();
    scan.start("first");
    assert_eq!(scan.namespace.end_of_job("first").as_deref(), Some("BackoffLimitExceeded"));
    assert_eq!(scan.exit_codes("first"), [1, 1]);
}
