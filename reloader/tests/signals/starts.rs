//! Signals to a server that is just starting.

use std::thread;
use std::time::Duration;

use e2e::nginx::{Nginx, Setup};
use e2e::wait_for;
use reloader::testing::{SendSignal, Target, Verify};

use crate::run::{hup, proof, run_action};

/// How often nginx is started. `SIGNALS_STARTS` sets another number.
const STARTS: usize = 32;

#[test]
fn a_master_that_is_just_starting_is_never_killed() {
    let starts = std::env::var("SIGNALS_STARTS").map_or(STARTS, |n| n.parse().unwrap());
    let mut nginx = Nginx::start(&Setup::default());
    for round in 0..starts {
        nginx.stop();
        nginx.launch();
        let (id, file) = (Target::Pid(nginx.master()), Target::PidFile(nginx.pid_file()));
        let (target, verify) = match round % 4 {
            0 => (id, Verify::Automatic),
            1 => (Target::Process(nginx.title()), Verify::Automatic),
            2 => (file, Verify::Automatic),
            // Without the title of nginx.
            _ => (id, Verify::Delivery),
        };
        let mut action = SendSignal { verify, ..hup(target) };
        action.timeout = Duration::from_secs(3);
        // From two threads, again and again while it starts.
        let come_up = thread::scope(|scope| {
            let again = || scope.spawn(|| (0..40).any(|_| run_action(&action).is_ok()));
            let (first, second) = (again(), again());
            let comes_up = nginx.comes_up();
            first.join().unwrap();
            second.join().unwrap();
            comes_up
        });
        assert!(come_up, "killed in round {round}: {}", nginx.error_log());
        // By then a HUP would have killed it.
        proof(&action);
        assert!(nginx.comes_up(), "killed in round {round}: {}", nginx.error_log());
        wait_for("an answer", || nginx.get("/").is_ok_and(|text| text == "first"));
    }
}
