//! Proof of a reload by a real nginx, and failures that look like one.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use e2e::nginx::{Nginx, Setup};
use e2e::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reloader::testing::Action;
use reloader::testing::Process;
use reloader::testing::Stop;
use reloader::testing::{Target, Verify};

use crate::run::{content, failure, hup, proof, reload, run_action};

const KEPT: &str =
    "nginx kept its old workers: its configuration is probably wrong, see its error log";

fn answering(text: &str) -> Setup {
    Setup { server: format!("return 200 {text};"), ..Setup::default() }
}

#[test]
fn a_reload_is_proved_by_new_workers() {
    let nginx = Nginx::start(&Setup::default());
    let targets = [
        Target::Pid(nginx.master()),
        Target::Process(nginx.title()),
        Target::PidFile(nginx.pid_file()),
    ];
    for (n, target) in targets.into_iter().enumerate() {
        let before = nginx.workers();
        nginx.configure(&answering(&format!("again{n}")));
        assert_eq!(proof(&hup(target)), "2 workers replaced");
        assert_eq!(nginx.get("/").unwrap(), format!("again{n}"));
        assert!(nginx.workers().iter().all(|pid| !before.contains(pid)));
    }
}

#[test]
fn the_number_of_workers_may_change() {
    let nginx = Nginx::start(&Setup { workers: 4, ..Setup::default() });
    nginx.configure(&Setup { workers: 1, ..Setup::default() });
    assert!(
        ["4 workers replaced by 1", "1 worker replaced"].contains(&&proof(&reload(&nginx))[..])
    );
    nginx.configure(&Setup { workers: 3, ..Setup::default() });
    assert!(
        ["1 worker replaced by 3", "3 workers replaced"].contains(&&proof(&reload(&nginx))[..])
    );
}

#[test]
fn a_broken_configuration_is_a_failure_and_a_mended_one_a_success() {
    let nginx = Nginx::start(&Setup::default());
    let before = nginx.workers();
    nginx.break_configuration();
    assert_eq!(failure(&reload(&nginx)), (KEPT.to_owned(), false));
    assert_eq!((nginx.get("/").unwrap(), nginx.workers()), ("first".to_owned(), before));
    nginx.configure(&answering("mended"));
    assert_eq!(proof(&reload(&nginx)), "2 workers replaced");
    assert_eq!(nginx.get("/").unwrap(), "mended");
}

/// Kills the processes that `choose` returns, again and again until `until` has returned.
fn killing<T>(choose: impl Fn() -> Vec<u32> + Sync, until: impl FnOnce() -> T) -> T {
    /// Ends the killing, also when `until` panics.
    struct Over<'o>(&'o AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                for pid in choose() {
                    // It may have ended.
                    let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
                }
                thread::sleep(Duration::from_millis(1));
            }
        });
        let _over = Over(&is_over);
        until()
    })
}

/// Chooses `victims` once nginx has refused its configuration, and no process before.
fn once_refused(nginx: &Nginx, victims: Vec<u32>) -> impl Fn() -> Vec<u32> {
    let refusals = || nginx.error_log().matches("[emerg]").count();
    let before = refusals();
    move || if refusals() > before { victims.clone() } else { Vec::new() }
}

#[test]
fn workers_that_only_crash_are_a_failure() {
    for (workers, crash) in [(1, 1), (2, 1), (2, 2), (4, 4)] {
        let nginx = Nginx::start(&Setup { workers, ..Setup::default() });
        let before = nginx.workers();
        nginx.break_configuration();
        let victims: Vec<_> = before.iter().copied().take(crash).collect();
        let choose = once_refused(&nginx, victims);
        let (error, is_without_effect) = killing(choose, || failure(&reload(&nginx)));
        assert!(!is_without_effect && error.contains("nginx"), "{error}");
        wait_for("workers in place of those killed", || nginx.workers().len() == workers);
        assert_eq!(nginx.get("/").unwrap(), "first");
    }
}

#[test]
fn workers_that_go_on_crashing_are_a_failure() {
    let nginx = Nginx::start(&Setup::default());
    nginx.break_configuration();
    let mut reload = reload(&nginx);
    reload.timeout = Duration::from_secs(4);
    for _ in 0..3 {
        // One at a time, so that one always lives.
        let (error, _) =
            killing(|| nginx.workers().into_iter().take(1).collect(), || failure(&reload));
        assert!(error.contains("nginx"), "{error}");
    }
    assert_eq!(nginx.get("/").unwrap(), "first");
}

#[test]
fn new_workers_that_do_not_stay_up_are_a_failure() {
    let nginx = Nginx::start(&Setup::default());
    let before = nginx.workers();
    nginx.configure(&answering("second"));
    let mut short = reload(&nginx);
    short.timeout = Duration::from_secs(8);
    let new = || nginx.workers().into_iter().filter(|pid| !before.contains(pid)).collect();
    let (error, is_without_effect) = killing(new, || failure(&short));
    assert!(!is_without_effect && !error.contains("kept"), "{error}");

    // A worker that cannot start ends with a code for which the master does not replace it.
    nginx.configure(&Setup { main: "working_directory /nowhere;".into(), ..Setup::default() });
    wait_for("workers", || nginx.workers().len() == 2);
    let (error, is_without_effect) = failure(&short);
    assert_eq!(error, "no new worker of nginx stays up: see its error log");
    assert!(!is_without_effect && nginx.workers().is_empty());
    nginx.configure(&answering("third"));
    assert_eq!(proof(&reload(&nginx)), "2 workers started");
    assert_eq!(nginx.get("/").unwrap(), "third");
}

#[test]
fn an_old_worker_that_only_finishes_its_requests_counts_as_replaced() {
    let nginx = Nginx::start(&Setup { workers: 1, ..Setup::default() });
    let [old] = nginx.workers()[..] else { panic!("one worker") };
    let mut slow = nginx.connect().unwrap();
    write!(slow, "GET / HTTP/1.0\r\nX-Not: yet at the e").unwrap();
    // The worker has read that once it has answered a later request.
    assert_eq!(nginx.get("/").unwrap(), "first");
    nginx.configure(&Setup { workers: 1, ..answering("second") });
    assert_eq!(proof(&reload(&nginx)), "1 worker replaced, 1 shutting down");
    let title = Process::read(old).unwrap().expect("it is still there").title;
    assert_eq!(title, b"nginx: worker process is shutting down");
    assert_eq!(nginx.get("/").unwrap(), "second");

    // That worker proves nothing about the next reload.
    nginx.break_configuration();
    assert_eq!(failure(&reload(&nginx)), (KEPT.to_owned(), false));
    let serving = || nginx.workers().into_iter().filter(|pid| *pid != old).collect::<Vec<_>>();
    let victims = serving();
    killing(once_refused(&nginx, victims.clone()), || failure(&reload(&nginx)));
    wait_for("one in its place", || serving().len() == 1 && serving() != victims);
    assert!(Process::read(old).unwrap().is_some());
    nginx.configure(&Setup { workers: 1, ..answering("third") });
    assert_eq!(proof(&reload(&nginx)), "1 worker replaced, 1 shutting down");
}

#[test]
fn a_reload_by_another_process_does_no_harm() {
    let nginx = Nginx::start(&Setup::default());
    for n in 0..5 {
        nginx.configure(&answering(&format!("again{n}")));
        nginx.signal(Signal::SIGHUP);
        let proof = proof(&reload(&nginx));
        assert!(proof.ends_with("replaced") || proof.ends_with("replaced by 2"), "{proof}");
        assert_eq!(nginx.get("/").unwrap(), format!("again{n}"));
    }
}

#[test]
fn a_master_that_hangs_is_not_signalled() {
    let nginx = Nginx::start(&Setup::default());
    nginx.signal(Signal::SIGSTOP);
    let mut short = reload(&nginx);
    short.timeout = Duration::from_secs(1);
    let (error, is_without_effect) = failure(&short);
    assert!(error.starts_with("nginx does not become idle and was not signalled"), "{error}");
    assert!(is_without_effect);
    nginx.signal(Signal::SIGCONT);
    assert_eq!(proof(&reload(&nginx)), "2 workers replaced");
    assert_eq!(nginx.error_log().matches("(SIGHUP) received").count(), 1);
}

/// A server with another configuration to read, and a worker that hangs.
fn with_a_worker_that_hangs() -> (Nginx, Pid) {
    let nginx = Nginx::start(&Setup::default());
    let worker = Pid::from_raw(nginx.workers()[0].cast_signed());
    kill(worker, Signal::SIGSTOP).expect("a worker");
    nginx.configure(&answering("second"));
    (nginx, worker)
}

#[test]
fn an_old_worker_that_goes_on_serving_is_a_failure() {
    let (nginx, worker) = with_a_worker_that_hangs();
    let mut short = reload(&nginx);
    short.timeout = Duration::from_secs(5);
    let expected = "nginx has new workers, but old ones still serve".to_owned();
    assert_eq!(failure(&short), (expected, false));
    kill(worker, Signal::SIGCONT).unwrap();
    wait_for("its end", || nginx.workers().len() == 2);
    assert_eq!(proof(&reload(&nginx)), "2 workers replaced");
}

#[test]
fn a_master_that_dies_is_a_failure() {
    let (nginx, _) = with_a_worker_that_hangs();
    let master = nginx.master();
    let choose = || if nginx.workers().len() > 2 { vec![master] } else { Vec::new() };
    let (error, is_without_effect) = killing(choose, || failure(&reload(&nginx)));
    assert_eq!(error, format!("the master process of nginx, {master}, has ended"));
    assert!(!is_without_effect);
}

#[test]
fn a_stop_ends_the_wait() {
    let (nginx, _) = with_a_worker_that_hangs();
    let stop = Stop::default();
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            wait_for("the reload", || nginx.workers().len() > 2);
            stop.set();
        });
        reload(&nginx).run(&content(), &stop)
    });
    let failure = outcome.unwrap_err();
    assert_eq!(failure.error.to_string(), "interrupted: reloader is shutting down");
    assert!(!failure.is_without_effect);
}

#[test]
fn nginx_without_a_master_process_is_not_signalled_unless_delivery_is_enough() {
    let nginx = Nginx::start(&Setup { main: "master_process off;".into(), ..Setup::default() });
    let mut hup = hup(Target::Pid(nginx.master()));
    let (error, is_without_effect) = failure(&hup);
    let told = "is nginx without a master process, so that nothing would show whether it reloads";
    assert!(is_without_effect && error.ends_with(told), "{error}");
    hup.verify = Verify::Delivery;
    assert_eq!(run_action(&hup).unwrap(), "signal delivered");
    wait_for("the signal", || nginx.error_log().contains("signal 1 (SIGHUP) received"));
}

#[test]
fn a_worker_is_not_taken_for_its_master() {
    let nginx = Nginx::start(&Setup::default());
    let worker = nginx.workers()[0];
    let expected = format!(
        "process {worker} is a worker of nginx, not its master: name process {}",
        nginx.master()
    );
    assert_eq!(failure(&hup(Target::Pid(worker))), (expected, true));
}
